"""Messages that wait behind a reply which their peer does not read: all bytes in one piece, and their lengths.  Pure.

A message of two bytes is an object of 48, and eight kilobytes of such messages are 230: a peer that sends them and does
not read would keep them for as long as it may be slow.  Packed they take what they are, and four bytes each.
"""

from array import array
from collections import deque

FEW = 64
"""So many are not worth it."""
MESSAGE_BYTES = 48
"""What a message in a queue takes besides its bytes: an object of bytes, and its place."""


class Packed:
    """They are taken from it as from a deque.  Owned as the connection is."""

    __slots__ = ("_bytes", "_lengths", "_next", "_start")

    def __init__(self, messages: "deque[bytes]") -> None:
        self._bytes = b"".join(messages)
        self._lengths = array("I", map(len, messages))
        self._next = self._start = 0

    def __len__(self) -> int:
        return len(self._lengths) - self._next

    def popleft(self) -> bytes:
        """The next one.  Raises IndexError."""
        start = self._start
        end = start + self._lengths[self._next]
        self._next += 1
        self._start = end
        return self._bytes[start:end]

    @property
    def kept_bytes(self) -> int:
        return len(self._bytes) + self._lengths.itemsize * len(self._lengths)


def packed(queue: "deque[bytes] | Packed") -> "deque[bytes] | Packed":
    """The same messages in less memory; as they are where that is not worth it, or they are not of bytes."""
    if isinstance(queue, Packed) or len(queue) <= FEW or any(type(message) is not bytes for message in queue):
        return queue
    return Packed(queue)


def kept_by(queue: "deque[bytes] | Packed") -> int:
    """How much memory they take, about."""
    if isinstance(queue, Packed):
        return queue.kept_bytes
    return sum(map(len, queue)) + MESSAGE_BYTES * len(queue)
