"""Messages of one size.  Pure.  There is nothing in them that a peer could get wrong, so it is never broken."""

from collections.abc import Sequence

from paceline.errors import UsageError
from paceline.wire.framing import BadReply, grow, pieces, size_text


class Fixed:
    """Every message has `size` bytes, which is the limit as well; so has every reply, else BadReply."""

    __slots__ = ("size",)

    def __init__(self, size: int) -> None:
        if type(size) is not int or size < 1:
            raise UsageError(f"Fixed({size!r}): the size is a whole number of bytes, at least 1")
        self.size = size

    def __repr__(self) -> str:
        return f"Fixed({self.size})"

    @property
    def limit(self) -> int:
        """The size."""
        return self.size

    def cut(self, rest: bytes | bytearray | None, data: bytes, /) -> tuple[Sequence[bytes], bytes | bytearray | None]:
        """The messages that are complete, and the unfinished one."""
        size = self.size
        if rest is None:
            if len(data) == size:
                return (data,), None
            messages, at = [], 0
        else:
            at = size - len(rest)
            if len(data) < at:
                return (), grow(rest, data)
            messages = [b"".join((rest, data[:at]))]
        end = len(data) - (len(data) - at) % size
        messages += pieces(data, size, at, end)
        return messages, data[end:] or None

    def join(self, replies: Sequence[bytes], /) -> bytes:
        """The replies, one behind the other.  Raises BadReply when one has another size."""
        size = self.size
        for index, reply in enumerate(replies):
            if len(reply) != size:
                raise BadReply(
                    f"the handler returned a reply of {size_text(len(reply))}; with Fixed({size}) every reply has "
                    f"{size_text(size)}: pad it, or choose a framing that can tell sizes",
                    index,
                )
        return b"".join(replies)
