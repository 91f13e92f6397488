"""What a test asks for: the settings and the times, checked before anything is started.  Pure."""

from collections.abc import Mapping
from dataclasses import dataclass

from paceline.errors import SettingError
from paceline.settings import Settings
from paceline.settings.rights import NO_SOCKET_FILE, SOCKET_FILES, makes_files
from paceline.settings.sources import Arguments, Resolved, lay
from paceline.settings.table import BY_KEY
from paceline.settings.values import Seconds, WrongValueError

DEFAULTS: Mapping[str, object] = {"bind": "127.0.0.1:0", "drain_timeout": 5.0}
"""Where they are others than the server's: a free port, and a call that is stuck fails the test soon."""
WORKERS = 2
"""Where the server runs in processes: the same on every machine, and what they do not share shows."""
MORE_S = 10.0
"""What is given to the server beyond its own time limits, so that it is the one to say what was too slow."""

_TIME = Seconds(low=0.01, high=8 * 86_400.0)


@dataclass(frozen=True, slots=True)
class Terms:
    """Times in seconds.  `framing` is a framing object; a text is among the settings."""

    resolved: Resolved
    framing: object
    start_timeout_s: float
    stop_timeout_s: float

    @property
    def settings(self) -> Settings:
        return self.resolved.settings

    def options(self) -> list[str]:
        """The settings as words of the command line, without the target."""
        words = []
        for key in self.resolved.sources:
            row = BY_KEY[key]
            value = getattr(self.settings, row.name)
            if row.name == "bind":
                words += [f"{row.option}={text}" for text in value]
            elif row.name != "target":
                words.append(f"{row.option}={row.kind.show(value)}")
        return words


def agree(
    target: str | None, framing: object, start_timeout: object, stop_timeout: object, settings: Mapping[str, object]
) -> Terms:
    """The terms.  `target` None: it will be served in this process.  Raises SettingError, naming the argument."""
    if "target" in settings:
        raise SettingError(f"target={settings['target']!r}: the target is the first argument of running()")
    given: dict[str, object] = {**DEFAULTS, **settings}
    if target is not None:
        given = {"workers": WORKERS, **given, "target": target}
        if "max_workers" in settings and "workers" not in settings:
            del given["workers"]  # the fewer of the two would be wrong
    if isinstance(framing, str):
        given["framing"], framing = framing, None
    if framing is not None and target is not None:
        raise SettingError(
            f"framing={framing!r}: a framing object cannot be given to other processes; give the handler itself, not "
            f"the text {target!r}, or let it say its framing: @paceline.message(framing=…)"
        )
    resolved = lay([Arguments(given)])
    chosen = resolved.settings
    for key in SOCKET_FILES:
        if getattr(chosen, key) is not None and not makes_files(chosen.bind):
            raise resolved.refused(key, NO_SOCKET_FILE)
    if target is None:
        _refuse_processes(resolved, "this framing object" if framing is not None else "this handler")
    return Terms(
        resolved,
        framing,
        _time("start_timeout", start_timeout, chosen.boot_timeout + MORE_S),
        _time("stop_timeout", stop_timeout, chosen.drain_timeout + MORE_S),
    )


def _refuse_processes(resolved: Resolved, what: str) -> None:
    """What means nothing for a handler that is served in this process, by one worker."""
    why = (
        f"no other process can import {what}, so one worker in this process serves it; leave the setting out, or "
        f"define a handler at the top of a module and mark it with what it needs"
    )
    if (resolved.settings.workers or 1) > 1:
        raise resolved.refused("workers", why)
    for key in ("chdir", "user", "group", "umask", "no_new_privs"):
        if getattr(resolved.settings, key) is not None:
            raise resolved.refused(key, why)


def _time(name: str, raw: object, default_s: float) -> float:
    if raw is None:
        return default_s
    try:
        seconds: float = _TIME.read(raw)
    except WrongValueError as wrong:
        raise SettingError(f"{name}={raw!r}: must be {wrong.rule}; the default here is {default_s:g}") from None
    return seconds
