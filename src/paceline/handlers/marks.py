"""What a user writes around a handler: the decorators and what they note, the hooks, a reply that closes.  Pure."""

import reprlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, overload

from paceline.errors import TargetError

_Any = TypeVar("_Any", bound=Callable[..., Any])

HOOKS = {
    "start": 0,
    "stop": 0,
    "thread_start": 0,
    "thread_stop": 0,
    "connected": 1,
    "arrived": 1,
    "disconnected": 1,
}
"""The optional methods of a handler class and how many arguments Paceline calls each with.

start / stop: once per worker process, on its main thread, before the first and after the last call.
thread_start / thread_stop: once per thread, on that thread; threads come and go with the load (database handles).
connected / disconnected: once per connection, with the connection; what `connected` returns is sent as a greeting.
arrived: with a connection that has moved here from another worker; what it returns is sent, too.
"""

MARK = "__paceline__"

AUTO = "auto"

REPR = reprlib.Repr()
REPR.maxstring = REPR.maxother = 72


class Close:
    """A reply after which the connection is closed: `return Close(b"bye")`.  Without bytes it says nothing."""

    __slots__ = ("reply",)

    def __init__(self, reply: "bytes | File | Iterable[bytes | File] | None" = None) -> None:
        self.reply = reply

    def __repr__(self) -> str:
        return f"Close({self.reply!r})"


class _Path(Protocol):
    """A pathlib.Path, or what else stands for the name of a file."""

    def __fspath__(self) -> str | bytes: ...


class File:
    """A reply, or a piece of one, that is a file: `return File("large.bin")`.  It never passes through Python.

    path     of a regular file; a relative one is looked up from the working folder of the worker
    offset   from which byte on
    count    how many bytes; None: all to the end, as long as the file is when the reply is taken

    For framings that send replies as they are (raw, or one of your own).  Raises TypeError or ValueError.
    """

    __slots__ = ("count", "offset", "path")

    def __init__(self, path: str | bytes | _Path, offset: int = 0, count: int | None = None) -> None:
        if not isinstance(path, str | bytes) and not hasattr(path, "__fspath__"):
            raise TypeError(f"File: path is the name of a file, and not {described(path)}")
        self.path: str | bytes = path if isinstance(path, str | bytes) else path.__fspath__()
        for name, value in (("offset", offset), ("count", count)):
            if type(value) is not int and (name == "offset" or value is not None):
                raise TypeError(f"File: {name} is a whole number of bytes, and not {described(value)}")
            if value is not None and value < 0:
                raise ValueError(f"File: {name} is {value:,}; it is 0 or more")
        self.offset = offset
        self.count = count

    def __repr__(self) -> str:
        return f"File({self.path!r}, offset={self.offset}, count={self.count})"


Reply = bytes | File | Iterable["bytes | File"] | Close | None
"""What a message handler may return."""


@dataclass(frozen=True, slots=True)
class Marks:
    """What a decorator notes on a handler; the command line, the environment and the file override it."""

    kind: str | None = None
    framing: object = None
    start: str | None = None
    timeout: object = AUTO
    """How long a call may take, as for `--timeout`: seconds, a text, None (as long as it likes), or AUTO: not said."""


@overload
def message(handler: _Any, /) -> _Any: ...
@overload
def message(*, framing: object = None, timeout: float | str | None = AUTO) -> Callable[[_Any], _Any]: ...
def message(handler: Any = None, /, *, framing: object = None, timeout: float | str | None = AUTO) -> Any:
    """Mark a function or class as a message handler, and say which framing it speaks unless told otherwise.

    `framing` is a framing object (`paceline.Lines(limit=65536)`, your own) or a text as for `--framing`.  `timeout` is
    how long a call may take unless told otherwise: seconds, a text as for `--timeout`, or None for as long as it likes.
    """
    if isinstance(handler, str):
        raise TargetError(f"@message({handler!r}): give the framing by name, @message(framing={handler!r})")
    return _mark(handler, Marks("message", framing=framing, timeout=timeout))


@overload
def connection(handler: _Any, /) -> _Any: ...
@overload
def connection(*, start: str | None = None, timeout: float | str | None = AUTO) -> Callable[[_Any], _Any]: ...
def connection(handler: Any = None, /, *, start: str | None = None, timeout: float | str | None = AUTO) -> Any:
    """Mark a function or class as a whole-connection handler: it gets a blocking socket and a thread of its own.

    `start` says when the thread is spent: "accept" (as soon as somebody connects) or "data" (when something arrives).
    `timeout` is how long it may take between two waits for its peer, unless told otherwise; as for `@message`.
    """
    if isinstance(handler, str) or start not in (None, "accept", "data"):
        given = repr(handler) if isinstance(handler, str) else f"start={start!r}"
        raise TargetError(f"@connection({given}): write @connection, or say when: start='accept' or start='data'")
    return _mark(handler, Marks("connection", start=start, timeout=timeout))


def _mark(handler: Any, marks: Marks) -> Any:
    if handler is None:
        return lambda later: _mark(later, marks)
    if not callable(handler):
        raise TargetError(f"@{marks.kind} stands before a function or a class, not before {described(handler)}")
    # a staticmethod is unwrapped on its way out of the class, and what was noted on the wrapper stays behind
    noted = handler.__func__ if isinstance(handler, staticmethod) else handler
    try:
        setattr(noted, MARK, marks)
    except (AttributeError, TypeError):
        raise TargetError(
            f"@{marks.kind} cannot note anything on {described(handler)}; wrap it in a function of your own"
        ) from None
    return handler


def echo(message: bytes) -> bytes:
    """The built-in target: every message is its own reply."""
    return message


def described(thing: object) -> str:
    """The type and a repr of bounded length; reprlib survives a __repr__ that raises."""
    shown = REPR.repr(thing)
    kind = type(thing).__name__
    return shown if shown.lstrip("<").startswith(kind) or thing is None else f"{article(kind)} ({shown})"


def article(word: str) -> str:
    return f"an {word}" if word[:1].lower() in "aeiou" else f"a {word}"
