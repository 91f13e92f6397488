"""From settings to a running server: the way that `paceline serve` and `paceline.serve` have in common.

Called on the main thread, once.  What is still to be checked here is what the table cannot see: the system, the
framing, the folder.  The supervisor is imported last, so that whoever only asks or errs does not wait for it.
"""

import os
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing, suppress
from dataclasses import replace
from importlib.util import find_spec
from typing import TYPE_CHECKING, NamedTuple

from paceline.cli import config
from paceline.cli.streams import close_inherited, open_missing_standard_descriptors
from paceline.errors import HostError, SettingError, TargetError, UsageError
from paceline.host import activation, notify
from paceline.settings import Settings
from paceline.settings.secrecy import PASSWORD_VARIABLE
from paceline.settings.sources import Arguments, Environment, Resolved, Source, lay, unknown_variables
from paceline.settings.table import changed

if TYPE_CHECKING:
    from paceline.supervisor.testament import Testament

RUNTIME_VARIABLE = "PACELINE_RUNTIME_DIR"
"""That of host/runtime.py, which is imported later."""
UPGRADE_VARIABLES = ("PACELINE_UPGRADE_FD", "PACELINE_UPGRADE_TRY")
"""Those of supervisor/start.py, which is imported later."""


def checked(resolved: Resolved) -> Settings:
    """The settings, if what the table could not see is right as well.  Raises SettingError."""
    settings = resolved.settings
    if settings.framing is not None:
        from paceline.wire.parse import framing_from_text

        try:
            framing_from_text(settings.framing, settings.max_message)
        except SettingError as error:
            why = str(error).removeprefix(f"framing {settings.framing!r}: ")  # refused() says that by itself
            raise resolved.refused("framing", why) from None
    for key in ("probe", "probe_reply"):
        text = getattr(settings, key)
        if text is not None:
            from paceline.wire.escapes import NotAnEscapeError, unescaped

            try:
                unescaped(text)
            except NotAnEscapeError as wrong:
                there_are = r"there are \r \n \t \0 \\ and \xHH (two hex digits), a backslash is \\"
                raise resolved.refused(key, rf"\{wrong.letter} is no escape; {there_are}") from None
    if any(key in resolved.sources for key in ("user", "group", "socket_mode", "socket_owner")):
        from paceline.cli.rights import require_rights

        require_rights(resolved)
    if settings.probe_reply is not None and settings.probe is None:
        raise resolved.refused("probe_reply", "there is no --probe that it could be the answer to; give that, too")
    return settings


def launch(
    resolved: Resolved,
    target: object = None,
    *,
    check: bool = False,
    again: "Again | None" = None,
    is_command: bool = False,
    dev: bool = False,
    left: "Left | None" = None,
) -> int:
    """Serve until the end, or only see whether the target can be served; returns the exit code.

    `target` is the handler itself; None: the text in the settings.  `again` finds out what the settings are now, for a
    reload; without it they stay as they are.  `is_command`: the command line of this process says all of it, so that an
    upgrade can execute it once more.  `dev`: a file that changes is a reload.  `left` is from `Again.first`.

    Raises SettingError, HostError, TargetError, and UsageError for what `dev` lacks.
    """
    if sys.platform != "linux":
        raise HostError(f"Paceline serves on Linux only, and this is {sys.platform}; use a Linux machine or container")
    begun_in = _working_folder()
    settings = _entered(resolved, checked(resolved))
    if is_command and left is None:
        close_inherited(settings, resolved.file)
    from paceline.supervisor import loop
    from paceline.supervisor.start import NO_COMMAND, Start, origin_of_this_process

    if check:
        return loop.check(settings, target)
    if left is None:
        passed = activation.take(os.environ, os.getpid())
    else:
        passed = activation.Passed({int(fd): name for fd, name in left.testament.passed.items()})
    settings = _with_passed(resolved, settings, passed, is_start=left is None)
    if left is not None and left.is_rehearsal:
        from paceline.supervisor.upgrade import examine

        examine(left.testament, settings)
        return loop.check(settings, target)
    manager = notify.take(os.environ, os.getpid())
    origin = origin_of_this_process(begun_in, manager.variables) if is_command else NO_COMMAND
    if again is not None:
        again.begin(resolved, begun_in, passed)
        if is_command and again.read_once:
            origin = (
                f"settings came from {again.read_once}, which is no regular file and cannot be read once more; start "
                f"the server with --config and a file to upgrade it in place"
            )
    start = Start(
        origin,
        manager,
        passed.names,
        _watched(settings.target) if dev else (),
        (lambda: "") if again is None else lambda: again.resolved.file,
        None if left is None else left.testament,
        None if again is None else again.boot_timeout,
    )
    return loop.serve(settings, target, again, start)


def _watched(target: str) -> tuple[str, ...]:
    """The folders in which the user's code is.  Raises UsageError."""
    if find_spec("watchfiles") is None:
        raise UsageError("--dev needs watchfiles, which tells when a file changes: pip install 'paceline[watch]'")
    here = os.environ["PWD"]
    place = target.rpartition(":")[0]
    beside = os.path.dirname(os.path.join(here, place)) if place.endswith(".py") else here
    return (here,) if os.path.commonpath((here, beside)) == here else (here, beside)


class Left(NamedTuple):
    """What the program left that was in this process before."""

    testament: "Testament"
    is_rehearsal: bool
    """It is only tried whether this program could go on from there (supervisor/upgrade.py)."""


def _left_to_us() -> Left | None:
    """None: nothing was.  To be called before anything is opened.  Raises HostError."""
    if UPGRADE_VARIABLES[0] not in os.environ:
        return None
    from paceline.supervisor import upgrade

    testament, is_rehearsal = upgrade.take(os.environ)
    assert testament is not None, "the variable is there"
    return Left(testament, is_rehearsal)


def _with_passed(
    resolved: Resolved, settings: Settings, passed: activation.Passed, *, is_start: bool = False
) -> Settings:
    """The sockets that were passed to us, where `bind` means them; at the start the log says what becomes of them."""
    is_given = "bind" in resolved.sources
    if passed == activation.NONE and not (is_given and any(text.startswith("fd://") for text in settings.bind)):
        return settings
    from paceline.cli.sockets import tell_of_sockets, with_sockets
    from paceline.host.output import Log

    settings = with_sockets(settings, passed, is_bind_given=is_given)
    if is_start:
        with closing(Log("paceline", settings.log_format)) as log:
            tell_of_sockets(settings, passed, log.say, is_bind_given=is_given)
    return settings


class Again:
    """Where the settings come from, at the start and again at each reload."""

    def __init__(self, look: Callable[[], Resolved], file: config.ConfigFile | None = None) -> None:
        self._look = look
        self._file = file
        self._is_told = False

    def first(self) -> tuple[Resolved, Left | None]:
        """What they are at the start, and what was left to us.  To be called before anything is opened.

        In the rehearsal of an upgrade, settings that have gone are refused.  Once this program has taken over it is too
        late for that: it goes on with those of the running server, and the reload is refused that follows.  Raises
        SettingError, HostError.
        """
        left, before = _left_to_us(), None
        if left is not None:
            from paceline.supervisor.upgrade import settings_left

            before = settings_left(left.testament)
        try:
            resolved = self._look()
            if left is not None and before is not None:
                _require_as_before(resolved, before.settings.target, left.testament.config)
                checked(resolved)
        except SettingError:
            if left is None or before is None or left.is_rehearsal:
                raise
            return before, left
        self._settle()
        return resolved, left

    def begin(self, resolved: Resolved, begun_in: str, passed: activation.Passed) -> None:
        """The server starts with these settings."""
        self.resolved = resolved
        """What was found at the last time."""
        self._begun_in = begun_in
        self._passed = passed

    @property
    def read_once(self) -> str:
        """As `ConfigFile` says it."""
        return "" if self._file is None else self._file.read_once

    def _settle(self) -> None:
        if self._file is not None:
            self._file.settle()

    def boot_timeout(self) -> float:
        """What it is by now, in seconds.  Raises SettingError."""
        return self._look_from_there().settings.boot_timeout

    def _look_from_there(self) -> Resolved:
        """As at the start, in the folder where that was."""
        try:
            os.chdir(self._begun_in)  # by its textual name: behind a symbolic link there may be another folder by now
        except OSError as error:
            raise SettingError(
                f"the folder {self._begun_in}, where the server was started, cannot be entered: {error.strerror}"
            ) from None
        return self._look()

    def __call__(self, before: Settings) -> Settings:
        """Raises SettingError for what is wrong, or cannot change without a restart."""
        begun_in = self._begun_in
        self._tell_of_read_once(before.log_format)
        resolved = self._look_from_there()
        _require_as_before(resolved, before.target, self.resolved.file)
        settings = _with_passed(resolved, checked(resolved), self._passed)
        if settings.chdir is not None:
            settings = replace(settings, chdir=os.path.join(begun_in, settings.chdir))
        for row in changed(before, settings):
            if row.reload == "restart":
                shown = row.kind.show(getattr(before, row.name))
                raise resolved.refused(row.key, f"a reload cannot change it, only a restart can; it stays {shown}")
        self.resolved = resolved
        self._settle()
        return settings

    def _tell_of_read_once(self, log_format: str) -> None:
        if self.read_once and not self._is_told:
            self._is_told = True
            from paceline.host.output import Log

            with suppress(HostError), closing(Log("supervisor", log_format)) as log:
                log.say("config-read-once", name=self.read_once)


def _require_as_before(resolved: Resolved, target: str, file: str) -> None:
    """A server that goes on does not change its target, or lose its settings, because a file has gone or is half there.

    Raises SettingError.
    """
    if file and resolved.file != file:
        now = f"from {resolved.file}" if resolved.file else "from no file, or an empty one"
        raise SettingError(
            f"the running server has settings from {file}, and now they would come {now}; put it back, or restart the "
            f"server"
        )
    if target and "target" not in resolved.sources and resolved.settings.target != target:
        raise SettingError(
            f"nothing names the target any more, which was {target}; name it in the file or on the command line, or "
            f"restart the server to serve the built-in {resolved.settings.target}"
        )


def _entered(resolved: Resolved, settings: Settings) -> Settings:
    """Go to --chdir, and leave in $PWD where we are, as it was written: workers started later go there again, and find
    where a symbolic link points by then."""
    if settings.chdir is None:
        with suppress(OSError):  # the folder is gone: whoever needs it will say so
            os.environ["PWD"] = _working_folder()
        return settings
    try:
        path = os.path.join(_working_folder(), settings.chdir)
        os.chdir(path)
    except OSError as error:
        raise resolved.refused("chdir", f"{error.strerror}; it must be a folder that may be entered") from None
    os.environ["PWD"] = path
    return replace(settings, chdir=path)


def _working_folder() -> str:
    """Where we are, as the shell wrote it: with symbolic links, if it wrote any."""
    written = os.environ.get("PWD", "")
    try:
        return written if os.path.isabs(written) and os.path.samefile(written, ".") else os.getcwd()
    except OSError:
        return os.getcwd()


def warn_of_unknown(environment: Iterable[str], log_format: str) -> None:
    """Say which PACELINE_* variables have no effect; they may be somebody else's, so it is no error."""
    known = {config.VARIABLE, RUNTIME_VARIABLE, PASSWORD_VARIABLE, *UPGRADE_VARIABLES}
    texts = unknown_variables(environment, known)
    if texts:
        from paceline.host.output import Log

        with closing(Log("paceline", log_format)) as log:
            for text in texts:
                log.say("setting-unknown", text=text)


def serve(target: object, file: "str | os.PathLike[str] | None", keywords: Mapping[str, object]) -> int:
    """`paceline.serve`, which documents it; returns the exit code."""
    open_missing_standard_descriptors()
    if threading.current_thread() is not threading.main_thread():
        raise UsageError(
            "paceline.serve was called in a thread; it forks and handles signals, so call it in the main thread"
        )
    if target is None:
        raise TargetError("paceline.serve(None): the target must be a handler, or a text such as 'module:attribute'")
    if not isinstance(keywords.get("framing"), str | None):
        raise SettingError(
            f"framing={keywords['framing']!r}: must be a text such as 'line'; a framing object belongs to the handler: "
            f"@paceline.message(framing=…)"
        )
    named = {"target": target if isinstance(target, str) else _name_of(target)}
    counting = None if file is None else config.ConfigFile(os.fsdecode(file), f"config={os.fsdecode(file)!r}")

    def look() -> Resolved:
        sources: list[Source] = [Arguments({**keywords, **named})]
        if counting is not None:
            sources += [Environment(os.environ), *filter(None, [counting.read()])]
        return lay(sources)

    again = Again(look, counting)
    resolved, left = again.first()
    if file is not None:
        warn_of_unknown(os.environ, resolved.settings.log_format)
    return launch(resolved, None if isinstance(target, str) else target, again=again, left=left)


def _name_of(handler: object) -> str:
    """What the log calls a handler that was given as an object."""
    name = getattr(handler, "__qualname__", type(handler).__qualname__)
    return name if isinstance(name, str) and name else repr(type(handler))
