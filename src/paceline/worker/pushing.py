"""Messages that somebody sends to a connection beside the replies: `connection.send(message)`, from any thread.

A connection belongs to whoever serves it (tables.py), so a message for it is laid beside it, and an entry at the tail
of `ready` sees to it that somebody looks: the one who leads takes the connection out and puts the message on the wire,
or, when another thread has it, makes a note for that one.  Messages keep their order, and come between replies, never
inside one; so what a handler sends to its own peer comes behind its reply.

The lock is a leaf: it is held for a few steps, and while a connection is passed to another worker, so that no message
is laid beside one that is on its way.  The thread that has it may come again, because Python runs `__del__` and signal
handlers between any two calls: so under it nothing is made and nothing called that would leave a step half done.
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
        self.lock = threading.RLock()
        self.tables = tables
        self.wake = wake
        self.most_bytes = most_bytes
        self.forked = False
        """True only in a process that a handler forked: its copies of the connections are not its own."""

    def push(self, c: Connection, message: bytes) -> None:
        """Lay it beside the connection.  Raises what `Connection.send` says."""
        size, first = len(message), [message]
        if size > self.most_bytes:
            raise ValueError(
                f"connection.send() was given {size:,} bytes, more than the {self.most_bytes:,} of --max-buffer"
            )
        if self.forked:
            raise BrokenPipeError("this process was forked by a handler, and the connection is its parent's")
        is_over = is_full = is_first = False
        with self.lock:
            out = c.out  # its owner's, who may be at work: what matters is the size
            waiting = c.pushed_bytes + (0 if out is None else len(out))
            if c.pushed_bytes == GONE or c.phase in _OVER or c.phase is State.HELD:
                is_over = True
            elif waiting + size > self.most_bytes:
                is_full = True
            elif c.pushed is None:
                c.pushed = first
                c.pushed_bytes += size
                is_first = True
            else:
                c.pushed_bytes += size
                c.pushed.append(message)
        if is_over and c.phase is State.HELD:
            raise BrokenPipeError("a handler has the socket of this connection to itself: write to that")
        if is_over:
            raise BrokenPipeError("this connection is closed, or has moved to another worker")
        if is_full:
            raise BlockingIOError(
                f"{waiting:,} bytes wait for {c.peer} already, which does not read them, and --max-buffer is "
                f"{self.most_bytes:,}"
            )
        if is_first:
            self.tables.ready.append((c.fd, MORE))
            self.wake()

    def take(self, c: Connection) -> list[bytes]:
        """All that lie beside it.  Its owner's."""
        with self.lock:
            taken = c.pushed
            c.pushed = None
            if c.pushed_bytes != GONE:
                c.pushed_bytes = 0
        return [] if taken is None or c.phase in _SILENT else taken

    def end(self, c: Connection) -> None:
        """Nothing more is laid beside it.  Its owner's."""
        with self.lock:
            c.pushed = None
            c.pushed_bytes = GONE
