"""No framing: what arrived is the message.  Pure.

TCP keeps no boundaries, so neither does this: one `send` of the peer may arrive as two messages, two as one.  Only the
bytes and their order are certain.  Right for echo and for streams; a protocol with messages wants one of the others.
"""

from collections.abc import Sequence

from paceline.wire.framing import checked_limit, pieces


class Raw:
    """Messages of whatever arrived, at most `limit` bytes each: more is cut into several.  It never breaks the peer."""

    __slots__ = ("limit",)

    def __init__(self, *, limit: int) -> None:
        self.limit = checked_limit(limit, "Raw")

    def __repr__(self) -> str:
        return f"Raw(limit={self.limit})"

    def cut(self, _rest: object, data: bytes, /) -> tuple[Sequence[bytes], None]:
        """`data` itself; nothing is ever kept."""
        if 0 < len(data) <= self.limit:
            return (data,), None
        return pieces(data, self.limit, 0, len(data)), None

    # The method of bytes itself, so that a call of it runs no Python at all.
    join = staticmethod(b"".join)
