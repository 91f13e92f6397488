"""Messages that somebody sends to a connection beside the replies: `connection.send(message)`, from any thread.

A connection belongs to whoever serves it (tables.py), so a message for it is laid beside it, and an entry at the tail
of `ready` sees to it that somebody looks: the one who leads takes the connection out and puts the message on the wire,
or, when another thread has it, makes a note for that one.  Messages keep their order, and come between replies, never
inside one; so what a handler sends to its own peer comes behind its reply.

The lock is a leaf: it is held for a few steps, and while a connection is passed to another worker, so that no message
is laid beside one that is on its way.
"""

import threading
from collections.abc import Callable

from paceline.worker.connection import GONE, Connection
from paceline.worker.lifecycle import State
from paceline.worker.tables import MORE, Tables

_OVER = frozenset({State.CLOSING, State.LINGERING, State.CLOSED})
_SILENT = frozenset({State.LINGERING, State.HELD})
"""Nothing is put on the wire any more, or not by us."""


class Pushing:
    """The messages that wait beside the connections of one worker."""

    def __init__(self, tables: Tables, wake: Callable[[], object], most_bytes: int) -> None:
        """`most_bytes` may wait for one connection; `wake` wakes whoever polls."""
        self.lock = threading.Lock()
        self.tables = tables
        self.wake = wake
        self.most_bytes = most_bytes

    def push(self, c: Connection, message: bytes) -> None:
        """Lay it beside the connection.  Raises BrokenPipeError and BlockingIOError, as `Connection.send` says."""
        with self.lock:
            if c.pushed_bytes == GONE or c.phase in _OVER:
                raise BrokenPipeError("this connection is closed, or has moved to another worker")
            if c.phase is State.HELD:
                raise BrokenPipeError("a handler has the socket of this connection to itself: write to that")
            out = c.out  # its owner's, who may be at work: what matters is the size
            waiting = c.pushed_bytes + (len(out) if out is not None else 0)
            if waiting + len(message) > self.most_bytes:
                raise BlockingIOError(
                    f"{waiting:,} bytes wait for {c.peer} already, which does not read them, and --max-buffer is "
                    f"{self.most_bytes:,}"
                )
            is_first = c.pushed is None
            if c.pushed is None:
                c.pushed = [message]
            else:
                c.pushed.append(message)
            c.pushed_bytes += len(message)
        if is_first:
            self.tables.ready.append((c.fd, MORE))
            self.wake()

    def take(self, c: Connection) -> list[bytes]:
        """All that lie beside it.  Its owner's."""
        with self.lock:
            taken, c.pushed = c.pushed or [], None
            if c.pushed_bytes != GONE:
                c.pushed_bytes = 0
        return [] if c.phase in _SILENT else taken

    def end(self, c: Connection) -> None:
        """Nothing more is laid beside it.  Its owner's."""
        with self.lock:
            c.pushed = None
            c.pushed_bytes = GONE
