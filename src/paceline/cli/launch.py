"""From settings to a running server: the way that `paceline serve` and `paceline.serve` have in common.

Called on the main thread, once.  What is still to be checked here is what the table cannot see: the system, the
framing, the folder.  The supervisor is imported last, so that whoever only asks or errs does not wait for it.
"""

import os
import sys
import threading
from collections.abc import Iterable, Mapping
from contextlib import closing, suppress
from dataclasses import replace
from typing import TypedDict

from paceline.cli import config
from paceline.cli.streams import open_missing_standard_descriptors
from paceline.errors import HostError, SettingError, TargetError, UsageError
from paceline.settings import Settings
from paceline.settings.sources import Arguments, Environment, Resolved, Source, lay, unknown_variables


class Keywords(TypedDict, total=False):
    """The keyword arguments of `paceline.serve`, for type checkers and editors: the rows of the table."""

    bind: str | list[str] | tuple[str, ...]
    as_: str | None
    framing: str | None
    start: str | None
    workers: int | str | None
    max_workers: int | str | None
    threads: int
    switch_interval: float | str
    max_connections: int | str | None
    backlog: int
    max_message: int | str
    max_buffer: int | str
    first_byte_timeout: float | str | None
    message_timeout: float | str | None
    min_rate: int | str | None
    write_timeout: float | str
    idle_timeout: float | str | None
    keepalive: float | str | None
    boot_timeout: float | str
    drain_timeout: float | str
    heartbeat: float | str
    chdir: "str | os.PathLike[str] | None"
    log_format: str


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
    return settings


def launch(resolved: Resolved, target: object = None, *, check: bool = False) -> int:
    """Serve until the end, or only see whether the target can be served; returns the exit code.

    `target` is the handler itself; None: the text in the settings.  Raises SettingError, HostError, TargetError.
    """
    if sys.platform != "linux":
        raise HostError(f"Paceline serves on Linux only, and this is {sys.platform}; use a Linux machine or container")
    settings = _entered(resolved, checked(resolved))
    from paceline.supervisor import loop

    return loop.check(settings, target) if check else loop.serve(settings, target)


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
    texts = unknown_variables(environment, known={config.VARIABLE})
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
    sources: list[Source] = [Arguments({**keywords, **named})]
    if file is not None:
        sources.append(Environment(os.environ))
        sources.append(config.named(os.fsdecode(file), f"config={os.fsdecode(file)!r}"))
    resolved = lay(sources)
    if file is not None:
        warn_of_unknown(os.environ, resolved.settings.log_format)
    return launch(resolved, None if isinstance(target, str) else target)


def _name_of(handler: object) -> str:
    """What the log calls a handler that was given as an object."""
    name = getattr(handler, "__qualname__", type(handler).__qualname__)
    return name if isinstance(name, str) and name else repr(type(handler))
