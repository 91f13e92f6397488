"""Netstrings: `5:hello,`.  Pure.

Strict, as D. J. Bernstein wrote it down (https://cr.yp.to/proto/netstrings.txt): the length is ASCII digits without a
leading zero (`0:,` is the empty one), then a colon, the bytes, a comma.  A parser that forgives more sees other
messages than its neighbour does, and that is how requests are smuggled.
"""

import re
from collections.abc import Sequence

from paceline.errors import BadFrame, MessageTooLarge, PeerError
from paceline.wire.framing import Broken, Rest, checked_limit, grow, limit_text, size_text

_COMMA = ord(",")


class Netstring:
    """Messages are netstrings, delivered without length and comma; `limit` counts the bytes between colon and comma."""

    __slots__ = ("_digits", "_head", "limit")

    def __init__(self, *, limit: int) -> None:
        self.limit = checked_limit(limit, "Netstring")
        self._digits = len(str(limit))
        # No length within the limit has more digits than the limit: the match looks at no more than that.
        self._head = re.compile(rb"(0|[1-9][0-9]{0,%d}):" % (self._digits - 1)).match

    def __repr__(self) -> str:
        return f"Netstring(limit={self.limit})"

    def cut(self, rest: Rest, data: bytes, /) -> tuple[Sequence[bytes], Rest]:
        """The strings that are complete, and the unfinished one.  Broken when one is too long or is no netstring."""
        match_head, limit = self._head, self.limit
        messages: list[bytes] = []
        at = 0
        if rest is not None:
            if isinstance(rest, Broken):
                return (), rest
            head = match_head(rest)
            if head is None:  # a few digits so far
                data = b"".join((rest, data))
            else:
                start = head.end()
                missing = start + int(head[1]) - len(rest)
                if len(data) <= missing:
                    return (), grow(rest, data)
                if data[missing] != _COMMA:
                    return (), Broken(_no_comma(head[1], data[missing]))
                messages.append(b"".join((memoryview(rest)[start:], data[:missing])))
                at = missing + 1
        size = len(data)
        while at < size:
            head = match_head(data, at)
            if head is None or (length := int(head[1])) > limit:
                error = self._fault(data[at : at + self._digits + 1])
                return messages, data[at:] if error is None else Broken(error)
            start = head.end()
            end = start + length
            if end >= size:
                return messages, data[at:]
            if data[end] != _COMMA:
                return messages, Broken(_no_comma(head[1], data[end]))
            messages.append(data[start:end])
            at = end + 1
        return messages, None

    def _fault(self, head: bytes) -> PeerError | None:
        """What is wrong with the first bytes of a netstring, told at the first byte that makes it certain; or None."""
        for at, byte in enumerate(head):
            seen = head[: at + 1]
            # A colon is never found behind a good length: the pattern would have matched.
            if not 48 <= byte <= 57:
                expected = "a digit or a colon" if at else "the length of a netstring"
                return BadFrame(f"the peer sent {seen!r}, where {expected} must stand: that is no netstring")
            if at and head[0] == 48:
                return BadFrame(f"the peer sent a netstring whose length begins {seen!r}: no leading zeros")
            if int(seen) > self.limit:
                return MessageTooLarge(
                    f"the peer announced a netstring whose length begins {seen!r}, over {limit_text(self.limit)}"
                )
        return None

    def join(self, replies: Sequence[bytes], /) -> bytes:
        """The replies as netstrings."""
        return b"".join([b"%d:%b," % (len(reply), reply) for reply in replies])


def _no_comma(length: bytes, byte: int) -> BadFrame:
    found = bytes([byte])
    return BadFrame(
        f"the peer sent {found!r} behind a netstring of {size_text(int(length))}, where a comma must stand: "
        f"its length is wrong"
    )
