"""Waiting for many descriptors: epoll(7) for a worker's connections, poll(2) for the few that a watcher listens to.

`Poller` is shared by the threads of a worker; any of them may call any method.  Connections are registered once, edge-
triggered; the kernel then reports a change once, to one thread.  Flags are hints: an event may be stale, and only ever
causes a read.  `Waiter` belongs to one thread.
"""

import errno
import select

IN = select.EPOLLIN
OUT = select.EPOLLOUT
MOST_EVENTS = 128
"""The most events one `wait` of a Poller returns; what is left comes first the next time."""

_CONNECTION = select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLET
_LISTENER = select.EPOLLIN | select.EPOLLEXCLUSIVE
_WAKEUP = select.EPOLLIN | select.EPOLLET


class Poller:
    """An epoll set.  `wait(timeout_s, most)` is epoll_wait(2); None as time-out waits for ever."""

    __slots__ = ("_epoll", "wait")

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self.wait = self._epoll.poll

    @property
    def fd(self) -> int:
        return self._epoll.fileno()

    def add_connection(self, fd: int) -> None:
        """Report input and end-of-file, edge-triggered; what is there already is reported at once."""
        self._epoll.register(fd, _CONNECTION)

    def want_output(self, fd: int, wanted: bool) -> None:
        """Report room to write, too, or no longer; readiness is checked anew either way (EPOLL_CTL_MOD)."""
        self._epoll.modify(fd, _CONNECTION | OUT if wanted else _CONNECTION)

    def add_listener(self, fd: int) -> None:
        """Report connections to accept, level-triggered, to one waiter of all processes (EPOLLEXCLUSIVE)."""
        self._epoll.register(fd, _LISTENER)

    def add_wakeup(self, fd: int) -> None:
        """Report each write to an eventfd; edge-triggered, so that nobody has to read it."""
        self._epoll.register(fd, _WAKEUP)

    def remove(self, fd: int) -> None:
        """Report it no longer.  Nothing happens if it is not in the set."""
        try:
            self._epoll.unregister(fd)
        except (FileNotFoundError, OSError) as error:
            if error.errno not in (errno.ENOENT, errno.EBADF):
                raise

    def close(self) -> None:
        self._epoll.close()


class Waiter:
    """A few descriptors to read from, and a time-out."""

    __slots__ = ("_poll",)

    def __init__(self, *fds: int) -> None:
        self._poll = select.poll()
        for fd in fds:
            self.add(fd)

    def add(self, fd: int) -> None:
        self._poll.register(fd, select.POLLIN)

    def remove(self, fd: int) -> None:
        self._poll.unregister(fd)

    def wait(self, timeout_s: float) -> list[int]:
        """The descriptors that are readable, at end-of-file or broken; empty when the time is up."""
        # poll counts whole milliseconds and a rounded-down wait would spin, so it is rounded up.
        return [fd for fd, _flags in self._poll.poll(max(0, int(timeout_s * 1000 + 0.999)))]
