"""Messages that end in a delimiter of one or more bytes.  Pure.

A delimiter may arrive in two pieces, so the search goes on a little before the seam, never from the start.  The first
delimiter in the order of the bytes counts, and delimiters do not overlap: with b"aa", b"xaaa" is the message b"x" and
an unfinished b"a".
"""

from collections.abc import Sequence

from paceline.errors import UsageError
from paceline.wire.framing import BadReply, Broken, Rest, checked_limit, grow, size_text, too_large

LONGEST = 256
"""Bytes of the longest delimiter.  The search at a seam costs up to as many for each piece."""


class Delimited:
    r"""Messages end in `delimiter` (b"\0", b"\r\n.\r\n", …) and are delivered without it; `limit` counts them so.

    A reply that holds the delimiter raises BadReply: the peer would read several messages.
    """

    __slots__ = ("delimiter", "limit")

    def __init__(self, delimiter: bytes, *, limit: int) -> None:
        if not isinstance(delimiter, bytes):
            raise UsageError(f"Delimited({delimiter!r}): a delimiter is bytes, such as b'\\0'")
        if not 1 <= len(delimiter) <= LONGEST:
            raise UsageError(f"Delimited: a delimiter has 1 to {LONGEST} bytes, this one has {len(delimiter)}")
        self.delimiter = delimiter
        self.limit = checked_limit(limit, "Delimited")

    def __repr__(self) -> str:
        return f"Delimited({self.delimiter!r}, limit={self.limit})"

    def cut(self, rest: Rest, data: bytes, /) -> tuple[Sequence[bytes], Rest]:
        """The complete messages, without the delimiter, and the unfinished one.  Broken when one is too long."""
        if rest is not None or len(data) > self.limit:
            return self._cut_with_care(rest, data)
        messages = data.split(self.delimiter)
        return messages, messages.pop() or None

    def _cut_with_care(self, rest: Rest, data: bytes) -> tuple[Sequence[bytes], Rest]:
        delimiter, limit, longest = self.delimiter, self.limit, len(data)
        if rest is None:
            messages = data.split(delimiter)
        elif isinstance(rest, Broken):
            return (), rest
        else:
            longest += len(rest)
            if self._is_across(rest, data):
                messages = b"".join((rest, data)).split(delimiter)
            else:
                messages = data.split(delimiter)
                if len(messages) == 1:
                    return (), self._judged(grow(rest, data))
                messages[0] = b"".join((rest, messages[0]))
        tail = messages.pop()
        if longest > limit:
            for at, message in enumerate(messages):
                if len(message) > limit:
                    return messages[:at], Broken(too_large("a message", limit, message))
        return messages, self._judged(tail) if tail else None

    def _is_across(self, rest: bytes | bytearray, data: bytes) -> bool:
        """Whether a delimiter lies across the seam of the two: they hold some of it each, and neither the whole."""
        most = len(self.delimiter) - 1
        return most > 0 and self.delimiter in rest[-most:] + data[:most]

    def _judged(self, tail: bytes | bytearray) -> Rest:
        """An unfinished message, or Broken as soon as no further bytes can end it within the limit."""
        limit, longest_start = self.limit, len(self.delimiter) - 1
        if len(tail) <= limit:
            return tail
        if any(self.delimiter.startswith(tail[at:]) for at in range(max(0, len(tail) - longest_start), limit + 1)):
            return tail
        return Broken(too_large("a message", limit, tail))

    def join(self, replies: Sequence[bytes], /) -> bytes:
        """The replies, each with the delimiter behind it.  Raises BadReply when the peer would cut them otherwise."""
        parts = [*replies, b""]
        joined = self.delimiter.join(parts)
        # Cut again rather than searched: with b"aa", the reply b"a" holds no delimiter and yet would be read as b"".
        if joined.split(self.delimiter) != parts:
            raise self._bad_reply(replies)
        return joined

    def _bad_reply(self, replies: Sequence[bytes]) -> BadReply:
        delimiter = self.delimiter
        index = next(i for i, reply in enumerate(replies) if bytes(reply + delimiter).find(delimiter) != len(reply))
        return BadReply(
            f"the handler returned a reply of {size_text(len(replies[index]))} with the delimiter {delimiter!r} in it, "
            f"which the peer would read as several messages; return several replies, or encode them without it",
            index,
        )
