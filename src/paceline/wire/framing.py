"""The rule that cuts bytes into messages: what every framing owes, and what they share.  Pure.

A connection brings bytes in pieces of any size; a protocol speaks in messages.  A framing stands between them.  It is
one object for all connections, and it keeps nothing about any of them: what is left of an unfinished message goes out
as `rest` and comes back with the next piece.

    rest = None
    for piece in what_arrives:
        messages, rest = framing.cut(rest, piece)
        send(framing.join([handler(message) for message in messages]))

The worker calls both methods on its fast path, from many threads, for one connection never from two at a time.  They
work on whole batches because a Python call for each message would cost more than cutting it.

The framings in the box also promise, and one of your own should:

* a message does not depend on how its bytes arrived (`Raw` excepted, which has no messages of its own);
* the work is linear, and a message of 1 MiB that arrives byte by byte is still quick: `rest` grows in place, and what
  was searched once is not searched again;
* `rest` is never longer than the limit and a few bytes, whatever the peer does, and no bytes make `cut` raise;
* `rest` is the unfinished bytes themselves, so a connection can move to another process with them:
  `cut(None, bytes(rest))` puts it into the same state there.
"""

from collections.abc import Sequence
from typing import Any, Protocol

from paceline.errors import MessageTooLarge, PeerError, Truncated, UsageError

SHOWN = 16
"""How many bytes of a bad message its error shows."""


class Framing(Protocol):
    """What the worker asks of a framing; write these two methods and you have one (examples/own_framing.py)."""

    def cut(self, rest: Any, data: bytes, /) -> tuple[Sequence[Any], Any]:
        """The messages that are complete now that `data` came in behind `rest`, and the new rest.

        `rest` is what the last call for this connection returned, None at first; None means that no part of a message
        is kept.  It belongs to this one connection and may be changed in place.  Keep builtin values in it, which can
        move to another process: bytes or a bytearray that are what arrived, and then any version of the code can go on
        with them (see above); or anything else (int, list, ...), which only the same code can.

        Messages are bytes in all framings of the box.  One of your own may give whatever its handlers take: the worker
        passes them on and does not look into them.

        A peer that breaks the rules is no exception but the rest `Broken(error)`: the messages before it are answered,
        then the connection is closed and the error logged.  An exception is taken for a bug of the framing.
        """
        ...

    def join(self, replies: Sequence[bytes], /) -> bytes:
        """The bytes to send for these replies, in order; b"" for none.

        Raises BadReply when one of them cannot be sent as a message of this framing.
        """
        ...


class Broken:
    """The rest of a peer that broke the protocol: nothing more is cut from what it sends."""

    __slots__ = ("error",)

    def __init__(self, error: PeerError) -> None:
        self.error = error

    def __repr__(self) -> str:
        return f"Broken({self.error!r})"


Rest = bytes | bytearray | Broken | None
"""The rest of the framings in the box: the bytes of an unfinished message; a bytearray from their first growth on."""


class BadReply(UsageError):
    """The handler returned a reply that its framing cannot write.  The handler is at fault, not the peer.

    `index` is its place among the replies given to `join`: those before it are good and can be sent.
    """

    def __init__(self, text: str, index: int) -> None:
        super().__init__(text)
        self.index = index


def sends_as_is(framing: Framing) -> bool:
    """Whether replies go out as they are."""
    try:
        return bytes(framing.join([b"a", b"b"])) == b"ab"
    except BaseException:  # noqa: BLE001 - of the user's, which may refuse such replies
        return False


def truncated(rest: object) -> PeerError:
    """The error for a peer that ended the connection while `rest`, which is not None, was kept."""
    if isinstance(rest, Broken):
        return rest.error
    part = f", after {size_text(len(rest))} of it" if isinstance(rest, bytes | bytearray) else ""
    return Truncated(f"the peer ended the connection inside a message{part}; that part was dropped")


def grow(rest: bytes | bytearray, data: bytes) -> bytearray:
    """`rest` with `data` behind it, in place from the second time on: so that the work stays linear."""
    if type(rest) is not bytearray:
        rest = bytearray(rest)
    rest += data
    return rest


def pieces(data: bytes, size: int, at: int, end: int) -> list[bytes]:
    """`data` from `at` to `end` in pieces of `size` bytes; the last one may be shorter if `end` is the end of it all.

    Apart from the methods that use it: up to Python 3.11 a comprehension makes cells of the locals that it shares, and
    each use of `data` in the whole method slower.
    """
    return [data[start : start + size] for start in range(at, end, size)]


def checked_limit(limit: int, framing: str) -> int:
    """`limit`, if it can be the size limit of a framing, in bytes.  Raises UsageError."""
    if type(limit) is not int:
        raise UsageError(f"{framing}(limit={limit!r}): the limit is a whole number of bytes, such as limit=65536")
    if limit < 1:
        raise UsageError(f"{framing}(limit={limit}): the limit is at least 1 byte; a usual one is limit=65536")
    return limit


def too_large(what: str, limit: int, start: bytes | bytearray) -> MessageTooLarge:
    """The error for a message over the limit, of which `start` has arrived.

    It shows only bytes that have arrived however the message was split: the same peer gets the same error each time.
    """
    shown = bytes(start[: min(SHOWN, limit + 1)])
    return MessageTooLarge(f"the peer sent {what} over {limit_text(limit)}; it begins {shown!r}")


def limit_text(limit: int) -> str:
    """A limit, and where to change it."""
    return f"the limit of {size_text(limit)} (--max-message, or limit= where the framing is made)"


def size_text(size: int) -> str:
    """`1 byte`, `65,536 bytes`."""
    return f"{size:,} byte{'' if size == 1 else 's'}"
