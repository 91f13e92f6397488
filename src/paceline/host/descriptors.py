"""Descriptors: how many this process may have and has, some kept in reserve, those that were left open for it.

Any thread may call these.
"""

import contextlib
import fcntl
import os
import resource
import threading
from collections.abc import Container, Iterator

_NO_LIMIT = 1 << 20
"""What "unlimited" means for descriptors: the kernel's own default ceiling (proc(5), fs.nr_open)."""


def limit() -> int:
    """How many descriptors may be open at once; their numbers are all below it (soft RLIMIT_NOFILE, getrlimit(2))."""
    soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _NO_LIMIT if soft == resource.RLIM_INFINITY else soft


def most_allowed() -> int:
    """How many may be allowed at most (hard RLIMIT_NOFILE)."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _NO_LIMIT if hard == resource.RLIM_INFINITY else hard


@contextlib.contextmanager
def allowed(needed: int) -> Iterator[None]:
    """Processes that are started meanwhile may have so many, or as many as can be allowed (hard RLIMIT_NOFILE)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        yield
        return
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed if hard == resource.RLIM_INFINITY else min(needed, hard), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def open_count() -> int:
    """How many descriptors this process has open.  Needs none itself where Linux is 6.2 or newer."""
    size = os.stat("/proc/self/fd").st_size  # since 6.2 the number of entries, before that 0 (proc_pid_fd(5))
    if size:
        return size
    try:
        return len(os.listdir("/proc/self/fd")) - 1  # the listing's own
    except OSError:  # not even one left for the listing
        return limit()


def close_inherited(keep: Container[int]) -> list[int]:
    """Close what whoever started us has left open, but for the standard ones and `keep`; returns the numbers.

    They are those without close-on-exec: what was open with it did not get through the exec (execve(2)), and all that
    this program opens has it (PEP 446).
    """
    try:
        numbers = sorted(int(name) for name in os.listdir("/proc/self/fd"))
    except OSError:  # no /proc
        return []
    closed = []
    for fd in numbers:
        if fd > 2 and fd not in keep:
            with contextlib.suppress(OSError):  # the listing's own, which is closed by now
                if not fcntl.fcntl(fd, fcntl.F_GETFD) & fcntl.FD_CLOEXEC:
                    os.close(fd)
                    closed.append(fd)
    return closed


class Spare:
    """Descriptors kept in reserve: given back when they are needed and there are none, taken again when there are.

    They are eventfds: files of their own, so that giving one back helps against the system's limit (ENFILE), too.
    """

    __slots__ = ("_count", "_fds", "_lock")

    def __init__(self, count: int = 1) -> None:
        self._lock = threading.Lock()
        self._count = count
        self._fds: list[int] = []  # guarded by lock
        self.take_back()

    @property
    def is_held(self) -> bool:
        """There is one to give."""
        return bool(self._fds)

    def give(self) -> bool:
        """Make room for one descriptor.  False: all have been given already.

        Another thread may take the room; whoever needs it must be able to bear that.
        """
        with self._lock:
            if not self._fds:
                return False
            fd = self._fds.pop()
        os.close(fd)
        return True

    def take_back(self) -> bool:
        """Hold all of them in reserve again.  False: there are not enough left."""
        with self._lock:
            while len(self._fds) < self._count:
                try:
                    self._fds.append(os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK))
                except OSError:
                    return False
            return True

    def close(self) -> None:
        """Hold none any more, at the end."""
        while self.give():
            pass
