"""Standard error without waiting: one write per record, taken at once or dropped and counted.

A pipe that nobody empties, a full disk, a terminal stopped with Ctrl-S must not stop a server.  What it takes not to
wait depends on what standard error is:

    pipe, terminal   opened again through /proc/self/fd: O_NONBLOCK belongs to an open file description, and the one
                     that was inherited is shared with the shell and with others who did not ask for it.  Where that is
                     refused (made by another user, before the rights were dropped): /dev/tty, or a plain duplicate
                     and more care with each write
    socket           (systemd's journal) MSG_DONTWAIT with each send
    regular file     a plain duplicate, set to O_APPEND.  Opened again it would have a position of its own, and those
                     who write to the inherited one (children, the C library, a crash) would overwrite our lines.
                     O_NONBLOCK means nothing for files: a disk that hangs stalls the writer, a full one loses lines
    not open         nothing is written, and /dev/null takes the number, before a client's connection could get it

A regular file is opened anew by `reopen_file`, when somebody has moved it away (logrotate): by the path that it had
when the first process of ours began, for /proc tells where a file is now, not where it was.

Whole lines, with several processes on one pipe: a record of up to PIPE_BUF bytes (4,096) is taken whole or not at all
(pipe(7)); a longer one goes in pieces of whole lines, between which others may write.  Only a single line above
PIPE_BUF, or a record for a full disk, can be torn; its rest is dropped and our next record begins on a new line.

Threads: all may call everything.  The lock is held for writes that do not wait, and one thread may take it twice (a
__del__ that prints may run at any time).  Fork: the supervisor has one thread when it forks, so its locks are free; in
a process that a handler forks they are made anew, for another thread may have held them.
"""

import contextlib
import errno
import fcntl
import functools
import os
import select
import socket
import stat
import threading
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from paceline.errors import HostError

_TORN = object()

_outlets: "weakref.WeakSet[Outlet]" = weakref.WeakSet()

_paths: dict[int, str] = {}
"""By descriptor: the path of the regular file that it led to when it was opened first; forked children inherit it."""


def _renew_locks() -> None:
    for outlet in list(_outlets):
        outlet.lock = threading.RLock()


os.register_at_fork(after_in_child=_renew_locks)


@dataclass(frozen=True, slots=True)
class _Way:
    """An open descriptor of ours, close-on-exec and never 0, 1 or 2, and how to write to it."""

    fd: int
    write_nowait: Callable[[memoryview], int]
    """How many bytes were taken; OSError: none."""
    close: Callable[[], None]
    is_pipe: bool = False


class Outlet:
    """One process's way to standard error, or to where another descriptor leads."""

    def __init__(self, way: _Way | None) -> None:
        self.lock = threading.RLock()
        self.dropped = 0  # guarded by lock
        """Records that did not get through, or not whole, since this process began."""
        self._untold = 0  # guarded by lock
        self._unended: object = None  # guarded by lock
        """Who wrote the beginning of a line that has no end yet."""
        self._way = way  # None: there is nowhere to write to
        _outlets.add(self)

    @classmethod
    def open(cls, fd: int = 2) -> "Outlet":
        """A way of our own to where `fd` leads.  Raises HostError when there is no descriptor left for it.

        Call it before anything else is opened: a standard descriptor that is closed has its number taken here.
        """
        try:
            mode = os.fstat(fd).st_mode
        except OSError:
            mode = None
        if mode is not None and stat.S_ISREG(mode) and fd not in _paths:
            with contextlib.suppress(OSError):  # no /proc
                _paths[fd] = _path_of(fd)
        try:
            _hold_standard_numbers()
            return cls(None if mode is None else _open_way(fd, mode))
        except OSError as error:
            raise HostError(
                f"cannot get a descriptor for the log: {error.strerror}; raise the limit on open files (ulimit -n)"
            ) from error

    def share(self) -> "Outlet":
        """The same descriptor with counts of its own: for the child after a fork."""
        return Outlet(self._way)

    @property
    def is_terminal(self) -> bool:
        return self._way is not None and os.isatty(self._way.fd)

    def put_nowait(self, record: bytes, by: object = None, told: int = 0) -> bool:
        """Write `record` now or never.  False: it was dropped, or its end was.

        `by` names a writer who may go on with a line that he left without its end; before anybody else's record that
        line is ended.  `told` is how many lost records this one tells of; they stay untold if it is lost itself.
        """
        with self.lock:
            if self._unended not in (None, by):
                record = b"\n" + record
            written = sum(_taken(self._way, record)) if self._way is not None else 0
            whole = written == len(record)
            if written:
                author = by if whole and by is not None else _TORN
                self._unended = None if record[written - 1] == 0x0A else author
            if not whole:
                self.dropped += 1
                self._untold += told + 1
            return whole

    def take_untold(self) -> int:
        """How many records were lost and not told of; whoever asks tells."""
        with self.lock:
            untold, self._untold = self._untold, 0
        return untold

    def close(self) -> None:
        """Give the descriptor back; all who share it must be done.  What comes later is dropped."""
        with self.lock:
            way, self._way = self._way, None
        if way is not None:
            way.close()


def reopen_file(fd: int = 2) -> str | None:
    """Open the file that `fd` leads to by its path, which may lead to another one by now, and let everything of this
    process that led to the old one lead there: `fd`, standard output, and all outlets.  Returns the path.

    No record is lost or torn by it: each goes whole to the old file or to the new one.  None: `fd` leads to no regular
    file, and nothing has to be done.  Raises OSError, and then nothing has changed.
    """
    path = _paths.get(fd)
    old = os.fstat(fd)
    if path is None or not stat.S_ISREG(old.st_mode):
        return None
    opened = _open_file(path, old)
    try:
        with contextlib.ExitStack() as locks:
            ways = []
            for outlet in list(_outlets):
                locks.enter_context(outlet.lock)
                if outlet._way is not None and _leads_to(outlet._way.fd, old):
                    outlet._unended = None
                    ways.append(outlet._way.fd)
            standard = [number for number in {1, 2, fd} if _leads_to(number, old)]
            for number in (*ways, *standard):
                os.dup2(opened, number, inheritable=number in standard)
    finally:
        os.close(opened)
    return path


def give_file(uid: int, fd: int = 2) -> None:
    """The regular file that `fd` leads to, if it is root's, becomes that user's, so that it may open it anew later.

    Its group and mode stay; a tool that replaces the file (logrotate, `create`) gives the next one the same owner.
    """
    with contextlib.suppress(OSError):  # not open; or a file system that has no owners
        found = os.fstat(fd)
        if fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            return
        if stat.S_ISREG(found.st_mode) and found.st_uid == 0 and found.st_nlink == 1:
            os.fchown(fd, uid, -1)


def _leads_to(fd: int, file: os.stat_result) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), file)
    except OSError:
        return False


def _open_file(path: str, old: os.stat_result) -> int:
    """A new description of the file, at its end.  Where there is none it is made, with the old one's mode and owner.

    Several processes do this at once, and only one of them makes it.
    """
    flags = os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC  # of a pipe it must not wait
    while True:
        try:
            fd = os.open(path, flags)
            break
        except FileNotFoundError:
            with contextlib.suppress(FileExistsError):
                fd = os.open(path, flags | os.O_CREAT | os.O_EXCL, stat.S_IMODE(old.st_mode) & 0o666)
                with contextlib.suppress(OSError):  # not everybody may: then it is as the umask makes it
                    os.fchmod(fd, stat.S_IMODE(old.st_mode))
                    os.fchown(fd, old.st_uid, old.st_gid)
                break
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "it is no regular file any more", path)
    return fd


def _path_of(fd: int) -> str:
    path = os.readlink(f"/proc/self/fd/{fd}")
    return path if os.fstat(fd).st_nlink else path.removesuffix(" (deleted)")


def _taken(way: _Way, record: bytes) -> Iterator[int]:
    """Writes, and tells how much each took, until all is written or one is refused."""
    for piece in _pieces(record) if way.is_pipe else (memoryview(record),):
        rest = piece
        while rest:
            try:
                count = way.write_nowait(rest)
            except OSError:  # full, nobody reads, no space left, hung up: it comes to the same
                return
            if not count:
                return
            yield count
            rest = rest[count:]


def _pieces(record: bytes) -> Iterator[memoryview]:
    """The record in pieces of whole lines, each of at most PIPE_BUF bytes unless a line is longer."""
    view, start = memoryview(record), 0
    while len(record) - start > select.PIPE_BUF:
        end = record.rfind(b"\n", start, start + select.PIPE_BUF) + 1
        end = end or record.find(b"\n", start + select.PIPE_BUF) + 1 or len(record)
        yield view[start:end]
        start = end
    yield view[start:]


def _hold_standard_numbers() -> None:
    """Let 0, 1 and 2 lead to /dev/null where they are closed, in our children too."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest free number: this one (open(2))


def _open_way(fd: int, mode: int) -> _Way:
    if stat.S_ISSOCK(mode):
        return _socket_way(fd)
    if stat.S_ISREG(mode):
        return _file_way(fd)
    if stat.S_ISFIFO(mode) or os.isatty(fd):
        return _open_again(fd, is_pipe=stat.S_ISFIFO(mode))
    return _plain_way(_duplicate(fd))  # /dev/null, /dev/full: they answer at once


def _duplicate(fd: int) -> int:
    return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)


def _plain_way(own: int, *, is_pipe: bool = False) -> _Way:
    return _Way(own, functools.partial(os.write, own), functools.partial(os.close, own), is_pipe)


def _file_way(fd: int) -> _Way:
    own = _duplicate(fd)
    with contextlib.suppress(OSError):
        fcntl.fcntl(own, fcntl.F_SETFL, fcntl.fcntl(own, fcntl.F_GETFL) | os.O_APPEND)
    return _plain_way(own)


def _socket_way(fd: int) -> _Way:
    stream = socket.socket(fileno=_duplicate(fd))
    flags = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL
    return _Way(stream.fileno(), lambda piece: stream.send(piece, flags), stream.close)


def _open_again(fd: int, *, is_pipe: bool) -> _Way:
    """A non-blocking description of our own for a pipe or a terminal; a careful duplicate where that is refused."""
    is_master = os.fstat(fd).st_rdev == os.makedev(5, 2)  # of a terminal: opening it would make another terminal
    for path in () if is_master else (f"/proc/self/fd/{fd}", "/dev/tty"):
        try:
            if path == "/dev/tty":
                os.tcgetpgrp(fd)  # ENOTTY unless it is our controlling terminal, which everybody may open as /dev/tty
            opened = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        except OSError:  # ENXIO: a pipe that nobody reads; EACCES: another user's; ENOENT: no /proc
            continue
        try:
            return _plain_way(_duplicate(opened), is_pipe=is_pipe)
        finally:
            os.close(opened)
    return _careful_pipe(_duplicate(fd)) if is_pipe else _careful_terminal(_duplicate(fd))


def _careful_pipe(own: int) -> _Way:
    """Writes to a description that waits, without waiting.

    RWF_NOWAIT is exact, but older kernels do not know it for pipes.  POLLOUT promises PIPE_BUF bytes; only a sibling
    that fills them between the look and the write can make us wait, until the reader takes something.
    """
    poll = select.poll()
    poll.register(own, select.POLLOUT)

    def write_nowait(piece: memoryview) -> int:
        try:
            return os.pwritev(own, [piece], -1, os.RWF_NOWAIT)  # -1: where the description stands (pwritev2(2))
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ESPIPE, errno.ENOSYS):
                raise
        return os.write(own, piece[: select.PIPE_BUF]) if poll.poll(0) else 0

    return _Way(own, write_nowait, functools.partial(os.close, own), is_pipe=True)


def _careful_terminal(own: int) -> _Way:
    """The same for a terminal that is another user's and does not control us, where POLLOUT promises a single byte.

    What is left is to make the shared description non-blocking for the moment of the write; a sibling that ends such a
    moment during ours can make us wait, while the terminal is stopped.
    """
    flags = fcntl.fcntl(own, fcntl.F_GETFL)

    def write_nowait(piece: memoryview) -> int:
        fcntl.fcntl(own, fcntl.F_SETFL, flags | os.O_NONBLOCK)
        try:
            return os.write(own, piece)
        finally:
            fcntl.fcntl(own, fcntl.F_SETFL, flags)

    return _Way(own, write_nowait, functools.partial(os.close, own))
