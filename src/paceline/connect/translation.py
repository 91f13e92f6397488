"""What a pipe sends for its input, and what it writes for the replies.  Pure.

Both are fed with bytes however they come, and hold back only what is not whole yet: of the input a line, of the replies
a message, a character, a row of a hex dump.
"""

from collections.abc import Callable
from enum import Enum
from typing import Any, Protocol

from paceline.connect.escapes import Dump, Stream, safe, shown, typed
from paceline.connect.framed import Framed
from paceline.errors import PacelineError, UsageError
from paceline.wire.framing import size_text


class Written(Enum):
    """How replies are written.

    VERBATIM   as they are; each framed one with a line end behind it
    SAFE       the same for a terminal: what could harm it as escapes
    ESCAPED    as escapes, each framed one on a line of its own
    HEX        raw: a hex dump; framed: each one as digits on a line of its own
    """

    VERBATIM = "verbatim"
    SAFE = "safe"
    ESCAPED = "escaped"
    HEX = "hex"


class Outward(Protocol):
    """Input on its way to the server."""

    broken: UsageError | None
    """What is wrong with the last input; nothing more is made of what is fed then."""

    @property
    def kept(self) -> int:
        """How many bytes were fed and are held back, until their line ends."""
        ...

    def feed(self, data: bytes) -> bytes:
        """What is to be sent now."""
        ...

    def end(self) -> bytes:
        """What is to be sent last."""
        ...


class Verbatim:
    """The bytes as they are."""

    broken: UsageError | None = None
    kept = 0

    def feed(self, data: bytes) -> bytes:
        return data

    def end(self) -> bytes:
        return b""


class ByLine:
    """Each line a message, without its LF; at the end also a last line without one.

    With `is_typed` escapes are understood and `ending` is put behind each.  A line may have as many bytes as a message.
    """

    def __init__(self, framed: Framed, limit: int, *, is_typed: bool, ending: bytes = b"") -> None:
        self.broken: UsageError | None = None
        self._framed = framed
        self._limit = limit
        self._message: Callable[[bytes], bytes] = (lambda line: _typed(line) + ending) if is_typed else bytes
        self._most_kept = 4 * limit if is_typed else limit  # \x41 is four bytes for one
        self._kept = bytearray()
        self._number = 0

    @property
    def kept(self) -> int:
        return len(self._kept)

    def feed(self, data: bytes) -> bytes:
        *lines, rest = data.split(b"\n")
        made = []
        try:
            for line in lines:
                self._kept += line
                made.append(self._sent())
            self._kept += rest
            self._check(len(self._kept), self._most_kept)
        except UsageError as error:
            self._break(error)
        return b"".join(made)

    def end(self) -> bytes:
        try:
            return self._sent() if self._kept and self.broken is None else b""
        except UsageError as error:
            self._break(error)
            return b""

    def _sent(self) -> bytes:
        line = bytes(self._kept)
        self._kept.clear()
        message = self._message(line)
        self._check(len(message), self._limit)
        wire = self._framed.joined(message)
        self._number += 1
        return wire

    def _check(self, size: int, most: int) -> None:
        if size > most:
            raise UsageError(f"it is longer than {size_text(self._limit)}; --max-message allows more")

    def _break(self, error: UsageError) -> None:
        self.broken = UsageError(f"line {self._number + 1:,} of standard input: {error}")
        self.broken.__cause__ = error.__cause__


def _typed(line: bytes) -> bytes:
    return typed(line.decode("utf-8", "surrogateescape"))


class Inward(Protocol):
    """Replies on their way to standard output."""

    broken: PacelineError | None
    """What is wrong with the last bytes; nothing more is made of what is fed then."""
    rest: Any
    """What is kept of an unfinished reply; None: nothing."""

    def feed(self, data: bytes) -> bytes:
        """What is to be written now."""
        ...

    def end(self) -> bytes:
        """What is to be written last."""
        ...


class RawReplies:
    """The stream of an unframed connection."""

    def __init__(self, how: Written) -> None:
        self.broken: PacelineError | None = None
        self.rest: Any = None
        self._stream: Dump | Stream | None = None
        if how is Written.HEX:
            self._stream = Dump()
        elif how is not Written.VERBATIM:
            self._stream = Stream(exactly=how is Written.ESCAPED)

    def feed(self, data: bytes) -> bytes:
        return data if self._stream is None else self._stream.feed(data).encode()

    def end(self) -> bytes:
        return b"" if self._stream is None else self._stream.end().encode()


_LINE: dict[Written, Callable[[bytes], bytes]] = {
    Written.VERBATIM: bytes,
    Written.SAFE: lambda reply: safe(reply).encode(),
    Written.ESCAPED: lambda reply: shown(reply).encode(),
    Written.HEX: lambda reply: reply.hex().encode(),
}


class FramedReplies:
    """Each reply on a line."""

    def __init__(self, how: Written, framed: Framed, peer: str) -> None:
        self.broken: PacelineError | None = None
        self.rest: Any = None
        self._line = _LINE[how]
        self._framed = framed
        self._peer = peer

    def feed(self, data: bytes) -> bytes:
        if self.broken is not None:
            return b""
        try:
            replies, self.rest = self._framed.cut(self.rest, data)
        except UsageError as error:
            self.broken = error
            return b""
        self.broken = self._framed.complaint(self._peer, self.rest)
        line = self._line
        return b"".join([line(reply) + b"\n" for reply in replies])

    def end(self) -> bytes:
        return b""


def inward(how: Written, framed: Framed, peer: str) -> Inward:
    """For a framing."""
    return RawReplies(how) if framed.is_raw else FramedReplies(how, framed, peer)
