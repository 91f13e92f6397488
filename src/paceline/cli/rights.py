"""The settings `user` and `group`, as far as the table cannot see: whether there are such."""

from paceline.host import rights
from paceline.settings.sources import Resolved


def require_accounts(resolved: Resolved) -> None:
    """Raises SettingError, which names what comes nearest."""
    settings = resolved.settings
    try:
        rights.account(settings.user, settings.group)
    except rights.NoAccountError as wrong:
        raise resolved.refused(wrong.setting, str(wrong)) from None
