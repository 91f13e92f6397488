"""The rights that the server was started with, and what becomes of them (--user, --group, --no-new-privs).

Addresses, the pid file and the control socket that was named are opened as whoever started us; then, before the first
worker is made, the supervisor becomes the user for good.  No code of the handler's ever runs with more.  There is no
second process that keeps the rights: what only root may do cannot be done later, and what that is, the log says.

    `successor`   who is to serve, found out and tried in a child before anything is opened
    `hand_over`   what is needed afterwards is given to it
    `give_up`     the step itself

An upgrade in place begins as the user already, and asks no more.
"""

import os
import sys
from collections.abc import Callable, Iterable, Mapping

import paceline
from paceline.errors import HostError, SettingError
from paceline.host import outlet, rights, runtime
from paceline.host.rights import Account
from paceline.settings import Settings

FORGOTTEN = ("XDG_RUNTIME_DIR",)
"""Variables that name what belongs to whoever started us; HOME, USER and LOGNAME are set to the new user's."""


def successor(settings: Settings) -> Account | None:
    """Whom the server is to become; None: it stays what it is.  Raises HostError when that cannot be, SettingError."""
    if settings.user is None and settings.group is None:
        return None
    try:
        who = rights.account(settings.user, settings.group)
    except rights.NoAccountError as wrong:  # it was there when the settings were checked
        raise SettingError(f"--{wrong.setting}: {wrong}") from None
    if rights.is_ours(who):
        return None
    why_not = rights.why_not(who)
    if not why_not:
        why_not = rights.rehearse(who, _needed())
        if "cannot read" in why_not:
            why_not += (
                "; Paceline and its Python must be installed where that user may read them: make the virtual "
                "environment outside of private folders such as /root, from a Python outside of them"
            )
    if why_not:
        raise HostError(f"{asked(settings)}: {why_not}")
    return who


def asked(settings: Settings) -> str:
    """As it was asked for: `--user www-data --group adm`."""
    given = (("--user", settings.user), ("--group", settings.group))
    return " ".join(f"{option} {value}" for option, value in given if value is not None)


def forbids_new(settings: Settings) -> bool:
    """Whether nothing may gain rights later."""
    if settings.no_new_privs is None:
        return settings.user is not None or settings.group is not None
    return settings.no_new_privs == "on"


def hand_over(who: Account) -> None:
    """What must be the user's already when it takes over: the log's file, if root made it, and a runtime folder."""
    outlet.give_file(who.uid)
    runtime.make_for(who.uid, who.gid)


def give_up(settings: Settings, who: Account | None) -> None:
    """Be `who` from now on, if anybody, and gain no rights later, if that is so set.  Raises HostError."""
    if who is not None:
        rights.become(who)
        os.environ.update(who.variables())
        for name in FORGOTTEN:
            os.environ.pop(name, None)
    if forbids_new(settings):
        rights.forbid_new()


def tell(
    settings: Settings, who: Account, say: Callable[..., None], files: Iterable[str], config: str, before: str
) -> None:
    """Say with which rights it goes on, and what cannot be done with them: remove `files`, read `config` again."""
    forbidden = "; no program that it starts gains rights (--no-new-privs)" if forbids_new(settings) else ""
    say("rights-dropped", before=before, user=who.text, forbidden=forbidden)
    stay = [path for path in files if not rights.may_remove(path)]
    if stay:
        say("files-stay", user=who.text, files=", ".join(stay))
    is_file = os.path.isabs(config) if settings.chdir is not None else config
    if is_file and not config.startswith(("/dev/", "/proc/")) and not os.access(config, os.R_OK):
        say("settings-unreadable", user=who.text, file=config)


def _needed() -> list[str]:
    """What the user must be able to read: more of it is imported later, and an upgrade executes it."""
    found = [os.path.dirname(paceline.__file__), os.path.dirname(os.__file__)]
    return [*found, *([sys.executable] if sys.executable else [])]


def started_as(environment: Mapping[str, str] = os.environ) -> str:
    """Who started us, for the log."""
    uid = os.geteuid()
    return "root" if uid == rights.ROOT else f"uid {uid} ({environment.get('USER', '?')})"
