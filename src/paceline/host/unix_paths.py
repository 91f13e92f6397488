"""Listening at a path: the file that a Unix socket needs, and what may lie in its way.  Used by listeners.py.

A socket's file outlives its process.  A dead one is replaced; one that a process holds is never touched, nor is a file
that is no socket; and of two servers that start at the same path one gives way.

Where nothing is in the way, bind(2) makes the file.  A dead one is replaced in one step, by rename(2), with a socket
that listens already: a client that tries again and again is refused until then, and served from then on, but never
told that there is no such path.  The kernel goes on calling that socket by the name it was bound to, PATH.new (`ss -xl`
shows it); what we say ourselves is PATH.
"""

import contextlib
import errno
import os
import socket
import stat
from collections.abc import Iterator
from dataclasses import dataclass

from paceline.errors import HostError
from paceline.host.holders import THIS_PROCESS, holder_of_path
from paceline.host.refusals import sort_of_file, why_not

PATH_BYTES = 107
"""The longest path: sun_path has 108 bytes, the last of them zero (unix(7))."""
BESIDE = ".new"
"""Added to the path, it is where a socket waits that is about to replace a dead one."""


@dataclass(frozen=True, slots=True)
class Made:
    """The file of a Unix socket that we made: which one, and which process may remove it."""

    path: str
    device: int
    inode: int
    pid: int

    def remove(self) -> None:
        """Remove the file, if this process made it and it is still that one.  Call it before closing the socket."""
        if self.pid == os.getpid():
            with contextlib.suppress(OSError):  # gone already, or no longer ours to remove
                found = os.lstat(self.path)  # the open socket keeps its inode number from being given to another file
                if (found.st_dev, found.st_ino) == (self.device, self.inode):
                    os.unlink(self.path)

    def give_to(self, uid: int, gid: int) -> None:
        """Make it that user's, and no other file that lies at the path by now.  Raises OSError."""
        fd = os.open(self.path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            found = os.fstat(fd)
            if (found.st_dev, found.st_ino) == (self.device, self.inode) and _is_ours(found):
                os.chown(f"/proc/self/fd/{fd}", uid, gid)
        finally:
            os.close(fd)


def listen_at_path(path: str, backlog: int) -> tuple[socket.socket, Made]:
    """A socket that listens at this path, and its file.  Raises HostError; then nothing is left behind.

    Who may connect is the umask's choice: connecting needs the right to write to the file (unix(7)).
    """
    length = len(os.fsencode(path))
    if length > PATH_BYTES:
        raise HostError(
            f"the path has {length} bytes, and a Unix socket's may have at most {PATH_BYTES}; "
            f"choose a shorter one, such as unix:/run/{os.path.basename(path)[:20]}"
        )
    if not path or "\0" in path:
        raise HostError("that is no path of a file; write unix:/run/NAME.sock")
    try:
        for _ in range(3):  # a file may go, or come, while we look
            try:
                return _listen_if_free(path, path, backlog)
            except _TakenError:
                with contextlib.suppress(FileNotFoundError, _TakenError):
                    return _replace_dead(path, backlog)
    except OSError as error:
        raise HostError(_why_no_path(error, path)) from error
    raise HostError("other processes keep taking this path; stop them, or choose another path")


class _TakenError(Exception):
    """There is a file where the socket's would be."""


def _listen_if_free(bound: str, path: str, backlog: int) -> tuple[socket.socket, Made]:
    """Bind to `bound`, where nothing may be, listen, and have the file at `path`.  Raises OSError, _TakenError."""
    with contextlib.ExitStack() as undo:
        opened = undo.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        try:
            opened.bind(bound)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise _TakenError from None
            raise
        found = os.lstat(bound)
        if not _is_ours(found):
            raise _TakenError  # where others may write, they may be quick
        undo.callback(Made(os.path.abspath(bound), found.st_dev, found.st_ino, os.getpid()).remove)
        opened.listen(backlog)
        if bound != path:
            os.rename(bound, path)
        undo.pop_all()
    return opened, Made(os.path.abspath(path), found.st_dev, found.st_ino, os.getpid())


def _is_ours(found: os.stat_result) -> bool:
    """A socket of ours with no other name, as one is that was made a moment ago."""
    return stat.S_ISSOCK(found.st_mode) and found.st_uid == os.geteuid() and found.st_nlink == 1


def _replace_dead(path: str, backlog: int) -> tuple[socket.socket, Made]:
    """Listen at a path where a file is, if that is a socket that no process holds."""
    found = os.lstat(path)
    if not stat.S_ISSOCK(found.st_mode):
        raise HostError(
            f"{sort_of_file(found.st_mode)} of that name is in the way and is left alone; "
            f"move it away, or choose another path"
        )
    with _sole_remover(found):
        again = os.lstat(path)
        if (again.st_dev, again.st_ino) != (found.st_dev, found.st_ino):
            raise _TakenError  # another one took its place meanwhile; look again
        if is_held(path):
            holder = holder_of_path(path) or holder_of_path(path + BESIDE) or "another process"
            if holder == THIS_PROCESS:
                raise HostError("another of the addresses to be served is the same; leave one of them out")
            raise HostError(f"{holder} serves there; stop that one, or choose another path")
        beside = path + BESIDE
        if len(os.fsencode(beside)) <= PATH_BYTES and _clear(beside):
            return _listen_if_free(beside, path, backlog)
        os.unlink(path)  # for a moment there is no such path
    return _listen_if_free(path, path, backlog)


def _clear(beside: str) -> bool:
    """Remove what a server left there that died as it replaced a dead file.  False: something else is there."""
    try:
        if not stat.S_ISSOCK(os.lstat(beside).st_mode) or is_held(beside):
            return False
        os.unlink(beside)
    except FileNotFoundError:
        pass
    except HostError:  # it may not be asked
        return False
    return True


@contextlib.contextmanager
def _sole_remover(found: os.stat_result) -> Iterator[None]:
    """Of two servers that find the same dead file, one removes it; else the slower would remove the quicker's new one.

    The lock is an abstract name (unix(7)) made of the file's inode: it leaves nothing behind, however we end.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as lock:
        try:
            lock.bind(f"\0paceline-removes-{found.st_dev}-{found.st_ino}")
        except OSError as error:
            raise HostError("another server is just starting there; stop that one, or choose another path") from error
        yield


def is_held(path: str) -> bool:
    """Whether a process has the socket open that is bound to this file.  The process notices nothing.

    Connecting with a socket of *another type* never completes: with ECONNREFUSED when nobody holds the file's socket,
    with EPROTOTYPE when somebody does, and has not yet called listen, too (net/unix/af_unix.c, unix_find_bsd).  A
    datagram socket that lives there is connected to, which it does not see.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(path)
        except PermissionError as error:
            if error.errno == errno.EPERM:  # a datagram socket that talks to another
                return True
            raise HostError(
                "a socket is there, and this user may not ask whether a server answers it; remove the file if none "
                "does, or choose another path"
            ) from error
        except ConnectionRefusedError:
            return False
        except FileNotFoundError:
            raise
        except OSError:
            return True
        return True


def _why_no_path(error: OSError, path: str) -> str:
    folder = os.path.dirname(path) or "."
    match error.errno:
        case errno.ENOENT:
            return f"the folder {folder} does not exist; make it first (mkdir -p), or choose another path"
        case errno.ENOTDIR:
            return f"{folder} is not a folder, or a part of it is none; choose another path"
        case errno.EACCES | errno.EPERM:
            return (
                f"the user (uid {os.geteuid()}) may not make or replace files in the folder {folder}; "
                f"give it the right to, or choose another path"
            )
        case errno.EROFS:
            return f"the folder {folder} is on a read-only file system; choose another path"
        case _:
            return why_not(error)
