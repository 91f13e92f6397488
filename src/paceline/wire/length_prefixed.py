"""Messages behind their length.  Pure.

The length says at once how much is to come, so a message over the limit is refused before any of it is kept.  The peer
chooses the number: nothing is set aside for it, memory grows only with what arrives.
"""

import struct
from collections.abc import Sequence
from typing import Literal

from paceline.errors import MessageTooLarge, UsageError
from paceline.wire.framing import BadReply, Broken, Rest, checked_limit, grow, limit_text, size_text

WIDTHS = {1: "B", 2: "H", 4: "I", 8: "Q"}
ORDERS = {"big": ">", "little": "<"}


class LengthPrefixed:
    """Each message comes behind a prefix of `width` bytes (1, 2, 4, 8), its length as an unsigned number in `order`.

    The length counts the message without the prefix, and so does `limit`.  A reply that is too long for the prefix
    raises BadReply.
    """

    __slots__ = ("_pack", "_unpack", "limit", "order", "width")

    def __init__(self, width: int, order: Literal["big", "little"] = "big", *, limit: int) -> None:
        if type(width) is not int or width not in WIDTHS:
            raise UsageError(f"LengthPrefixed({width!r}): the prefix is 1, 2, 4 or 8 bytes wide")
        if order not in ("big", "little"):
            raise UsageError(f"LengthPrefixed({width}, {order!r}): the order is 'big' (network order) or 'little'")
        self.width = width
        self.order = order
        self.limit = checked_limit(limit, "LengthPrefixed")
        number = struct.Struct(ORDERS[order] + WIDTHS[width])
        self._pack = number.pack
        self._unpack = number.unpack_from

    def __repr__(self) -> str:
        return f"LengthPrefixed({self.width}, {self.order!r}, limit={self.limit})"

    def cut(self, rest: Rest, data: bytes, /) -> tuple[Sequence[bytes], Rest]:
        """The complete messages, without prefixes, and the unfinished one.  Broken when a length is over the limit."""
        width, unpack, limit = self.width, self._unpack, self.limit
        messages: list[bytes] = []
        at = 0
        if rest is not None:
            if isinstance(rest, Broken):
                return (), rest
            if len(rest) < width:
                data = b"".join((rest, data))
            else:
                missing = width + unpack(rest)[0] - len(rest)
                if len(data) < missing:
                    return (), grow(rest, data)
                messages.append(b"".join((memoryview(rest)[width:], data[:missing])))
                at = missing
        size = len(data)
        last = size - width
        while at <= last:
            start = at + width
            (length,) = unpack(data, at)
            if length > limit:
                return messages, Broken(self._too_large(data[at:start], length))
            at = start + length
            messages.append(data[start:at])
        if at == size:
            return messages, None
        if at > size:  # the last one is not all there
            messages.pop()
            at = start - width
        return messages, data[at:]

    def _too_large(self, prefix: bytes, length: int) -> MessageTooLarge:
        other: Literal["big", "little"] = "little" if self.order == "big" else "big"
        swapped = int.from_bytes(prefix, other)
        hint = f"; read as {other}-endian it would be {size_text(swapped)}: which order does the peer use?"
        return MessageTooLarge(
            f"the peer announced a message of {size_text(length)} (its prefix is {prefix!r}), over "
            f"{limit_text(self.limit)}{hint if swapped <= self.limit else ''}"
        )

    def join(self, replies: Sequence[bytes], /) -> bytes:
        """The replies, each behind its length.  Raises BadReply when one is too long for the prefix."""
        pack = self._pack
        parts: list[bytes] = []
        try:
            for reply in replies:
                parts += (pack(len(reply)), reply)
        except struct.error:
            index = len(parts) // 2
            raise BadReply(
                f"the handler returned a reply of {size_text(len(replies[index]))}; a prefix of "
                f"{size_text(self.width)} can announce at most {256**self.width - 1:,}: return several replies, or "
                f"choose a wider prefix",
                index,
            ) from None
        return b"".join(parts)
