"""The file with our process id in it (--pid).  Called by the supervisor, after it has bound its addresses.

The file appears whole, or not at all: it is written beside its place and then linked or renamed there.  While its owner
lives it holds a record lock on it (fcntl(2), F_SETLK): the kernel gives that back with the process, however it ends;
forked children do not inherit it; an exec in place keeps it, as long as the descriptor is kept.  So a file whose lock
is free was left behind by a server that died, and is replaced; one whose lock is held belongs to a living one, and
F_GETLK says who that is.  A file that another program wrote, which does not lock, is respected while its process lives,
unless that one began after the file was written: then the number was given to somebody else meanwhile.

Nobody else in this process may open and close the file: that would give the lock back.
"""

import contextlib
import errno
import fcntl
import os
import re
import stat
import struct
from dataclasses import dataclass

from paceline.errors import HostError
from paceline.host.processes import start_ticks
from paceline.host.refusals import sort_of_file

_FLOCK = struct.Struct("hhqqi4x")
"""struct flock of 64-bit Linux: type, whence, start, length, pid."""
_SLACK_S = 2.0
"""The clocks of files and of processes are as fine as a tick, and /proc/stat's btime as a second."""


@dataclass(slots=True)
class PidFile:
    """The file, locked by us.  Made by `claim`, or by `adopt` after an exec in place."""

    path: str
    """Absolute."""
    fd: int
    device: int
    inode: int
    pid: int

    def remove(self) -> None:
        """Remove the file if this process made it and it is still that one, and give the lock back.  Never raises.

        Where the rights on the folder forbid it (--user), it is emptied, so that nobody takes our number from it.
        """
        if self.fd < 0:
            return
        if self.pid == os.getpid():
            with contextlib.suppress(OSError):
                found = os.lstat(self.path)  # we have it open: its inode number is nobody else's
                if (found.st_dev, found.st_ino) == (self.device, self.inode):
                    self._unlink()
        fd, self.fd = self.fd, -1
        os.close(fd)

    def _unlink(self) -> None:
        try:
            os.unlink(self.path)
        except PermissionError:
            os.ftruncate(self.fd, 0)


def claim(path: str) -> PidFile:
    """The file at this path, with our number in it.  Raises HostError when it is a living other server's."""
    path = os.path.abspath(path)
    beside = f"{path}.{os.getpid()}"
    try:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(beside)  # one with our own number, which died
        fd = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        try:
            try:
                fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.write(fd, b"%d\n" % os.getpid())
                _put_in_place(beside, path)
            finally:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(beside)
            made = os.fstat(fd)
        except BaseException:
            os.close(fd)
            raise
    except OSError as error:
        raise HostError(f"--pid {path}: the file cannot be written: {error.strerror}; {_remedy(error)}") from error
    return PidFile(path, fd, made.st_dev, made.st_ino, os.getpid())


def adopt(path: str, fd: int) -> PidFile:
    """The file that this process had claimed before it executed itself anew.  Raises OSError."""
    os.set_inheritable(fd, False)
    made = os.fstat(fd)
    return PidFile(path, fd, made.st_dev, made.st_ino, os.getpid())


def _put_in_place(beside: str, path: str) -> None:
    for _ in range(3):  # it may go, or come, while we look
        try:
            _name_it(beside, path)
        except FileExistsError:
            with contextlib.suppress(FileNotFoundError):
                if _replace_dead(beside, path):
                    return
        else:
            return
    raise HostError(f"--pid {path}: other processes keep writing this file; stop them, or choose another file")


def _name_it(beside: str, path: str) -> None:
    """Give the file its name, if nobody has that.  Raises FileExistsError, OSError."""
    try:
        os.link(beside, path)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP):
            raise
        if os.path.lexists(path):
            raise FileExistsError(path) from None
        os.rename(beside, path)  # a file system without links: two that start at the same moment do not see each other


def _replace_dead(beside: str, path: str) -> bool:
    """Replace the file if its owner is dead.  False: it is another one by now.  Raises HostError for a living owner."""
    found = os.lstat(path)
    if not stat.S_ISREG(found.st_mode):
        raise HostError(
            f"--pid {path}: {sort_of_file(found.st_mode)} of that name is in the way and is left alone; "
            f"move it away, or choose another file"
        )
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        holder = _lock_or_holder(fd)
        there = os.lstat(path)
        if (there.st_dev, there.st_ino) != (found.st_dev, found.st_ino):
            return False
        if holder is not None:
            raise _held(path, holder)
        # Whoever comes second finds it locked from here on.
        owner = _number_in(os.pread(fd, 64, 0))
        if owner and owner != os.getpid() and _is_older_than(owner, found.st_mtime):
            raise _held(path, owner)
        os.rename(beside, path)
        return True
    finally:
        os.close(fd)


def _held(path: str, pid: int) -> HostError:
    who = f"process {pid}" if pid > 0 else "a process that cannot be seen from here"
    return HostError(
        f"--pid {path}: the file belongs to a running server, {who}; stop that one, or choose another file"
    )


def _lock_or_holder(fd: int) -> int | None:
    """Lock it.  If somebody has the lock, who; 0: nobody any more, or nobody that this process namespace shows."""
    try:
        fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EAGAIN):
            raise
        wanted = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        kind, _, _, _, pid = _FLOCK.unpack(fcntl.fcntl(fd, fcntl.F_GETLK, wanted))
        return 0 if kind == fcntl.F_UNLCK else int(pid)
    return None


def _number_in(text: bytes) -> int:
    """The process id that the file holds; 0 when that is none."""
    found = re.fullmatch(rb"\s*([0-9]{1,10})\s*", text)
    return int(found[1]) if found else 0


def _is_older_than(pid: int, written_at: float) -> bool:
    """The process lives, and began before the file was written, so that it may well be the one that is meant."""
    try:
        began_at = _boot_time() + start_ticks(pid) / os.sysconf("SC_CLK_TCK")
    except (ProcessLookupError, OSError, ValueError):
        return False
    return began_at <= written_at + _SLACK_S


def _boot_time() -> float:
    """When the machine was started, in seconds since the epoch (proc_stat(5)).  Raises OSError, ValueError."""
    with open("/proc/stat", "rb") as lines:
        for line in lines:
            if line.startswith(b"btime "):
                return float(line.split()[1])
    raise ValueError("/proc/stat has no btime")


def _remedy(error: OSError) -> str:
    match error.errno:
        case errno.ENOENT:
            return "make the folder first (mkdir -p; systemd: RuntimeDirectory=), or choose another file"
        case errno.EACCES | errno.EPERM:
            return f"give the user (uid {os.geteuid()}) the right to make files there, or choose another file"
        case _:
            return "choose another file"
