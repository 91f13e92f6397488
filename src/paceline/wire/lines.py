r"""Lines, ended by LF or CRLF.  Pure.

The ending is one byte, so an unfinished line never has to be searched again: only the new piece can hold its end.  A CR
belongs to the ending exactly when the LF follows it; anywhere else it is content.
"""

from collections.abc import Sequence

from paceline.errors import UsageError
from paceline.wire.framing import Broken, Rest, checked_limit, grow, too_large

_LF, _CR = 10, 13


class Lines:
    r"""Messages are lines, delivered without their ending; `limit` counts the bytes without it.

    LF and CRLF both end a line, one as good as the other.  A reply is written with `end` behind it, b"\n" or b"\r\n".
    A reply that holds line endings is legal: the peer simply reads several lines (one that ends in a line ending is
    followed by an empty line).
    """

    __slots__ = ("end", "limit")

    def __init__(self, *, limit: int, end: bytes = b"\n") -> None:
        self.limit = checked_limit(limit, "Lines")
        if end not in (b"\n", b"\r\n"):
            raise UsageError(rf"Lines(end={end!r}): a line ends in b'\n' or b'\r\n'; for another ending use Delimited")
        self.end = end

    def __repr__(self) -> str:
        return f"Lines(limit={self.limit}, end={self.end!r})"

    def cut(self, rest: Rest, data: bytes, /) -> tuple[Sequence[bytes], Rest]:
        """The lines that are complete, without their endings, and the unfinished one.  Broken when one is too long."""
        # Nothing is kept, no CR is there, and what is shorter than the limit holds no line over it: one split is all.
        # An int is searched for in a seventh of the time that bytes are.
        if rest is not None or _CR in data or len(data) > self.limit:
            return self._cut_with_care(rest, data)
        lines = data.split(b"\n")
        return lines, lines.pop() or None

    def _cut_with_care(self, rest: Rest, data: bytes) -> tuple[Sequence[bytes], Rest]:
        has_cr, longest = _CR in data, len(data)
        if rest is None:
            lines = data.split(b"\n")
        elif isinstance(rest, Broken):
            return (), rest
        elif _LF not in data:
            return (), self._judged(grow(rest, data))
        else:
            has_cr, longest = has_cr or rest[-1] == _CR, longest + len(rest)
            lines = data.split(b"\n")
            lines[0] = b"".join((rest, lines[0]))
        tail = lines.pop()
        if has_cr:
            lines = [line.removesuffix(b"\r") for line in lines]
        limit = self.limit
        if longest > limit:
            for at, line in enumerate(lines):
                if len(line) > limit:
                    return lines[:at], Broken(too_large("a line", limit, line))
        return lines, self._judged(tail) if tail else None

    def _judged(self, tail: bytes | bytearray) -> Rest:
        """An unfinished line, or Broken as soon as no ending can save it."""
        over = len(tail) - self.limit
        if over > 1 or (over == 1 and tail[-1] != _CR):
            return Broken(too_large("a line", self.limit, tail))
        return tail

    def join(self, replies: Sequence[bytes], /) -> bytes:
        """The replies, each with `end` behind it."""
        return self.end.join([*replies, b""])
