"""Who owns which connection.

A parked connection belongs to nobody; it belongs to whoever took it out of `parked`, until put back.  There is no lock:
the only operations relied on are single steps of dict and deque (pop, set, append, appendleft, popleft, one by its
index, add, discard).

An event for a connection that somebody else owns is remembered in `pending`.  Both sides look twice:

    the poller   pending.add(fd), then parked.pop(fd) again     (worker/loop.py, `_serve_odd`)
    the owner    parked[fd] = connection, then fd in pending    (`park`)

Whichever order the four steps fall in, one of the two finds the connection in `parked` *after* the event was noted, and
reads.  A note is erased only by the owner, who reads after that, or when the descriptor is nobody's.  Descriptors are
reused by the kernel: a stale event or note therefore only ever causes a read that finds nothing.
"""

from collections import deque
from collections.abc import Callable

from paceline.worker.connection import Connection

MORE = 1 << 30
"""A flag of our own beside epoll's: read on until there is nothing more."""

EXPIRED = 1 << 29
"""Another: the watcher found that a deadline of this connection has passed."""


NOBODY = (-1, 0)
"""An entry of `ready` that is no connection's: whoever takes it looks up from the fast path."""


class Tables:
    """The connections of one worker."""

    __slots__ = ("on_left", "open", "parked", "pending", "ready", "timed")

    def __init__(self, on_left: Callable[[int], None] | None = None) -> None:
        self.on_left = on_left
        """Told of each descriptor that is taken off the books, before it is closed; by any thread."""
        self.open: dict[int, Connection] = {}
        """Every connection that has a descriptor, owned or not."""
        self.parked: dict[int, Connection] = {}
        self.pending: set[int] = set()
        self.ready: deque[tuple[int, int]] = deque()
        """The polled batch, (descriptor, flags): it belongs to the worker, not to the leader's stack."""
        self.timed: dict[int, Connection] = {}
        """Those that owe something (the rest of a message, room to write): the watcher looks at them and takes out
        whoever owes nothing any more."""

    def enter(self, connection: Connection) -> None:
        """A new connection; it belongs to the caller.  A `pending` of its number is older than it."""
        fd = connection.fd
        self.pending.discard(fd)
        self.open[fd] = connection

    def forget(self, fd: int) -> None:
        """Its owner is about to close it.  Before the descriptor is closed: afterwards the number may be another's."""
        self.open.pop(fd, None)
        self.timed.pop(fd, None)
        self.pending.discard(fd)
        if self.on_left is not None:
            self.on_left(fd)

    def park(self, connection: Connection) -> Connection | None:
        """Give it up.  Returns it again, owned, when an event came meanwhile: the caller must read on."""
        fd = connection.fd
        self.parked[fd] = connection
        if self.pending and fd in self.pending:
            again = self.parked.pop(fd, None)
            if again is not None:
                self.pending.discard(fd)
            # None: somebody else has it.  The note stays, for it may be younger than what that one reads.
            return again
        return None

    def requeue(self, connection: Connection) -> None:
        """Give it up, and let it be served behind the others.  Whoever does this and does not lead wakes the poller."""
        fd = connection.fd
        self.pending.discard(fd)  # what came meanwhile is read then
        self.parked[fd] = connection
        self.ready.append((fd, MORE))
