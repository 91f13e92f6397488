"""Whether the worker accepts.  The listeners are in its epoll set exactly while no reason speaks against it.

An EPOLLEXCLUSIVE entry cannot be modified, only removed and added (epoll_ctl(2)); adding re-checks readiness, so that
what queued up meanwhile is seen at once.  Taken out, the listeners wake the siblings instead of us.  Where the kernel
has no memory to add one (ENOMEM, ENOSPC), it stays out until the next `nudge`.

Called from any thread of the worker.  The lock is held across epoll_ctl, so that no two changes overtake each other; it
is a leaf.
"""

import contextlib
import threading
from collections.abc import Iterable
from enum import Enum
from typing import Protocol


class Shut(Enum):
    """A reason not to accept."""

    STARTING = "starting"
    STANDBY = "standby"
    """The supervisor has not let it serve yet: others of its generation may still fail to start."""
    SATURATED = "saturated"
    """All threads are inside calls: the work belongs to a sibling."""
    FULL = "full"
    """As many connections are open as may be."""
    PAUSED = "paused"
    """For a while: the machine has no descriptors or memory for another, or too many came within too short a time."""
    DRAINING = "draining"


class _Poller(Protocol):
    def add_listener(self, fd: int, /) -> None: ...
    def remove(self, fd: int, /) -> None: ...


class Gate:
    """The listeners of one worker, in or out; it begins shut, with `Shut.STARTING`."""

    def __init__(self, poller: _Poller, fds: Iterable[int]) -> None:
        self.lock = threading.Lock()
        self.reasons: set[Shut] = {Shut.STARTING}  # guarded by lock; read without it as a hint
        self.poller = poller
        self.fds = tuple(fds)

    def shut(self, reason: Shut) -> None:
        """Take the listeners out of the epoll set, for this reason."""
        with self.lock:
            if not self.reasons:
                for fd in self.fds:
                    self.poller.remove(fd)
            self.reasons.add(reason)

    def open(self, reason: Shut) -> None:
        """This reason is gone; the listeners are in again if it was the last."""
        with self.lock:
            if reason in self.reasons:
                self.reasons.discard(reason)
                if not self.reasons:
                    self._let_in()

    def nudge(self) -> None:
        """Look at the listeners anew: somebody else may have swallowed a wake-up without serving it."""
        with self.lock:
            if not self.reasons:
                for fd in self.fds:
                    self.poller.remove(fd)
                self._let_in()

    def _let_in(self) -> None:
        assert self.lock.locked()
        for fd in self.fds:
            with contextlib.suppress(OSError):  # a thread that leads must not die of it
                self.poller.add_listener(fd)
