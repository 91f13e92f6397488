"""What a process writes to standard error: its log, and what the user's code prints.

Both go through an `Outlet`: whole records that are written at once or dropped and counted; the next one that gets
through says how many were lost.  Nothing here waits, whoever reads, and nothing here raises because of what is written.

`Log` says events of the table in events.py, from any thread.  `redirect_prints` gives a worker streams that write whole
lines: what several threads print at the same time comes out line by line, and the same goes for `logging`, whose
handlers write to sys.stderr.  A line whose end has not come is kept for its thread, up to `PART_BYTES`.
"""

import io
import os
import sys
import weakref
from collections.abc import Callable
from threading import get_ident
from time import gmtime, localtime, strftime  # conversions only: the clock is read in clock.py
from typing import TYPE_CHECKING

from paceline import clock
from paceline.events import TABLE, Kind, Level, json_line, text_line
from paceline.host.outlet import Outlet, reopen_file

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

PART_BYTES = 64 * 1024
"""The most that is kept of a printed line whose end has not come; then it is written without its end."""


class Log:
    """What a process says about itself: `log.say("saturated", threads=64, waiting="")`."""

    def __init__(
        self,
        who: str,
        fmt: str = "text",
        *,
        fd: int = 2,
        debug: bool = False,
        outlet: Outlet | None = None,
        now: Callable[[], float] = clock.now,
        wall_seconds: Callable[[], float] = clock.wall_seconds,
    ) -> None:
        """`fmt` is "text" or "json"; `debug` says the events of that level too.

        A process makes its first one before it opens anything else: see `Outlet.open`, which may raise HostError.
        """
        self.who = who
        self.fmt = fmt
        self.debug = debug
        self.outlet = outlet or Outlet.open(fd)
        self._now = now
        self._wall_seconds = wall_seconds
        self._limits: dict[str, tuple[float, int, int]] = {}  # guarded by outlet.lock
        """By event: until when its time goes, how many were said in it, and how many were held back since the last."""
        refused = bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"  # https://no-color.org
        self._color = not refused and self.outlet.is_terminal

    @property
    def dropped(self) -> int:
        """How many records of this process did not get through (prints included, if they were given this log)."""
        return self.outlet.dropped

    def say(self, event: str, /, **fields: object) -> None:
        """Write the event's line if its level and its rate allow.  Never waits; KeyError: there is no such event."""
        kind = TABLE[event]
        if kind.level <= Level.DEBUG and not self.debug:
            return
        held_back = self._admit(kind) if kind.every_s else 0
        if held_back is None:
            return
        seconds = self._wall_seconds()
        told = self.outlet.take_untold()
        if self.fmt == "json":
            line = json_line(utc_stamp(seconds), self.who, kind, fields, held_back=held_back, dropped=told)
        else:
            stamp = local_stamp(seconds)
            line = text_line(stamp, self.who, kind, fields, held_back=held_back, dropped=told, color=self._color)
        whole = self.outlet.put_nowait(line.encode("utf-8", "backslashreplace"), told=told)
        if held_back and not whole:
            self._hold_back(kind, held_back)

    def child(self, who: str) -> "Log":
        """The same log for somebody else, with counts and limits of its own: for the child after a fork."""
        return Log(
            who,
            self.fmt,
            debug=self.debug,
            outlet=self.outlet.share(),
            now=self._now,
            wall_seconds=self._wall_seconds,
        )

    def reopen(self) -> bool:
        """The file that standard error goes to was moved away: go on in a new one of its name, prints and all.

        Called by one thread; the others may write meanwhile.  False: nothing was done, because it is no file (then
        there is nothing to do), or because it cannot be opened, which is said where the log went until now.
        """
        try:
            path = reopen_file(2)
        except OSError as error:
            self.say("log-reopen-failed", path=error.filename, error=error.strerror)
            return False
        if path is None:
            self.say("log-not-a-file")
            return False
        self.say("log-reopened", path=path)
        return True

    def close(self) -> None:
        """Give the descriptor back; its children must be done.  What is said later is dropped."""
        self.outlet.close()

    def _admit(self, kind: Kind) -> int | None:
        """How many were held back before this one, which may be said; None: it is held back too."""
        now = self._now()
        with self.outlet.lock:
            until, said, held_back = self._limits.get(kind.name, (now, 0, 0))
            if now >= until:
                until, said = now + kind.every_s, 0
            admitted = said < kind.burst
            self._limits[kind.name] = (until, said + 1, 0) if admitted else (until, said, held_back + 1)
        return held_back if admitted else None

    def _hold_back(self, kind: Kind, count: int) -> None:
        with self.outlet.lock:
            until, said, held_back = self._limits[kind.name]
            self._limits[kind.name] = (until, said, held_back + count)


def local_stamp(seconds: float) -> str:
    """`2026-11-24 17:22:01.123`, in the machine's time zone."""
    return f"{strftime('%Y-%m-%d %H:%M:%S', localtime(seconds))}.{int(seconds * 1000) % 1000:03}"


def utc_stamp(seconds: float) -> str:
    """`2026-11-24T16:22:01.123Z` (RFC 3339)."""
    return f"{strftime('%Y-%m-%dT%H:%M:%S', gmtime(seconds))}.{int(seconds * 1000) % 1000:03}Z"


class LineBytes(io.BufferedIOBase):
    """The `.buffer` of a `LineStream`: bytes in, whole lines out.

    Each thread touches only its own entry of `_parts`; entries come and go by single steps of dict (set, pop).
    """

    def __init__(self, outlet: Outlet, name: str, fd: int) -> None:
        self._outlet = outlet
        self._parts: dict[int, bytearray] = {}
        """By thread: the line it has begun.  A thread that gets the number of one that ended goes on with its line."""
        self.name = name
        self._fd = fd
        _streams.add(self)

    def write(self, data: "ReadableBuffer", /) -> int:
        """Write the lines that `data` ends, keep what follows.  Returns the size of `data`, even if lines are lost."""
        data = memoryview(data).tobytes()  # bytes(5) would be five zeros
        me = get_ident()
        part = self._parts.pop(me, None)
        end = data.rfind(b"\n") + 1
        if end:
            self._put(data[:end] if part is None else bytes(part) + data[:end], me)
            part = bytearray(data[end:]) if end < len(data) else None
        elif part is None:
            part = bytearray(data)
        else:
            part += data
        if part and len(part) >= PART_BYTES:
            self._put(bytes(part), me)
        elif part:
            self._parts[me] = part
        return len(data)

    def flush(self) -> None:
        """Write what the calling thread has begun, without its end."""
        me = get_ident()
        part = self._parts.pop(me, None)
        if part:
            self._put(bytes(part), me)

    def flush_all(self) -> None:
        """Write what every thread has begun, each as a line: at the end of the process."""
        for thread in list(self._parts):
            part = self._parts.pop(thread, None)
            if part:
                self._put(bytes(part) + b"\n", thread)

    def forget(self) -> None:
        """In a process that a handler forks: what the threads here had begun, they finish in the parent."""
        self._parts.clear()

    def _put(self, record: bytes, thread: int) -> None:
        by: object = (self.name, thread)
        told = self._outlet.take_untold()
        if told:
            loss = f"paceline: {told} lines before this one were lost: standard error did not take them\n"
            record, by = loss.encode() + record, None  # not None's line: the notice begins a new one
        self._outlet.put_nowait(record, by, told)

    def close(self) -> None:
        """Flush only: a wrapper that goes out of scope must not take standard error with it."""
        self.flush()

    def fileno(self) -> int:
        return self._fd

    def isatty(self) -> bool:
        return os.isatty(self._fd)

    def writable(self) -> bool:
        return True


_streams: "weakref.WeakSet[LineBytes]" = weakref.WeakSet()


def _forget_parts() -> None:
    for stream in list(_streams):
        stream.forget()


os.register_at_fork(after_in_child=_forget_parts)


class LineStream(io.TextIOBase):
    """What sys.stdout and sys.stderr are in a worker.  Characters that cannot be encoded are written as \\udc80."""

    encoding = "utf-8"
    errors = "backslashreplace"
    newlines = None
    line_buffering = True
    write_through = False
    mode = "w"

    def __init__(self, outlet: Outlet, name: str, fd: int) -> None:
        self.buffer = LineBytes(outlet, name, fd)
        self.name = name

    def write(self, text: str, /) -> int:
        """Write the lines that `text` ends, keep what follows.  TypeError: it is no str."""
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        self.buffer.write(str.encode(text, "utf-8", "backslashreplace"))
        return len(text)

    def flush(self) -> None:
        """Write what the calling thread has begun, without its end."""
        self.buffer.flush()

    def reconfigure(self, **_options: object) -> None:
        """Accepted as by io.TextIOWrapper, without effect: encoding, errors and buffering are what they are."""

    def close(self) -> None:
        """Flush only."""
        self.flush()

    def fileno(self) -> int:
        return self.buffer.fileno()

    def isatty(self) -> bool:
        return self.buffer.isatty()

    def writable(self) -> bool:
        return True


class Prints:
    """The two streams that `redirect_prints` has set."""

    def __init__(self, outlet: Outlet) -> None:
        self.stdout = LineStream(outlet, "<stdout>", 1)
        self.stderr = LineStream(outlet, "<stderr>", 2)

    def flush(self) -> None:
        """Write what the calling thread has begun: for a thread that ends."""
        self.stdout.flush()
        self.stderr.flush()

    def flush_all(self) -> None:
        """Write what every thread has begun: for a process that ends."""
        self.stdout.buffer.flush_all()
        self.stderr.buffer.flush_all()


_replaced: list[object] = []
"""The streams from before: kept, for they would write when they are freed.  What they hold is the parent's to write."""


def redirect_prints(log: Log | None = None) -> Prints:
    """Let everything that is printed in this process go to standard error, in whole lines, without waiting.

    Descriptor 1 becomes a duplicate of 2, for children and C code (they do wait when it is full).  With `log`, prints
    share its outlet: what is lost of either is told by the next of either.  Called once, in a worker, before the user's
    code is imported.
    """
    prints = Prints(log.outlet if log is not None else Outlet.open(2))
    os.dup2(2, 1)
    _replaced.extend((sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__))
    sys.stdout = sys.__stdout__ = prints.stdout  # type: ignore[misc,assignment]
    sys.stderr = sys.__stderr__ = prints.stderr  # type: ignore[misc,assignment]
    return prints
