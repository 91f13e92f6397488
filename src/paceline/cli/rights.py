"""The settings of rights, as far as the table cannot see: whether there are such users, and files for them."""

from paceline.host import rights
from paceline.settings.rights import NO_SOCKET_FILE, SOCKET_FILES, makes_files
from paceline.settings.sources import Resolved


def require_rights(resolved: Resolved) -> None:
    """Raises SettingError, which names what comes nearest."""
    settings = resolved.settings
    try:
        rights.account(settings.user, settings.group)
    except rights.NoAccountError as wrong:
        raise resolved.refused(wrong.setting, str(wrong)) from None
    try:
        rights.owner(settings.socket_owner)
    except rights.NoAccountError as wrong:
        raise resolved.refused("socket_owner", str(wrong)) from None
    for key in SOCKET_FILES:
        if getattr(settings, key) is not None and not makes_files(settings.bind):
            raise resolved.refused(key, NO_SOCKET_FILE)
