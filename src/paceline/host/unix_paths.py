"""Listening at a path: the file that a Unix socket needs, and what may lie in its way.  Used by listeners.py.

A socket's file outlives its process.  A dead one is replaced; one that a process holds is never touched, nor is a file
that is no socket; and of two servers that start at the same path one gives way.

Where nothing is in the way, bind(2) makes the file.  A dead one is replaced in one step, by rename(2), with a socket
that listens already: a client that tries again and again is refused until then, and served from then on, but never
told that there is no such path.  The kernel goes on calling that socket by the name it was bound to, PATH.new (`ss -xl`
shows it); what we say ourselves is PATH.  Where that name would be too long, or is taken by what is alive or no socket,
the dead file is removed first, and for a moment there is no such path.

Who may write to the file may connect (unix(7)).  A mode that is asked for is the socket's own before it is bound, so
that bind(2) makes the file with it, or with less (the umask); what is still missing, and the owner, are set before
listen(2), and looked at afterwards.  Until then whoever connects is refused, so nobody ever gets in who should not.
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
class FileRights:
    """With which rights a file is made."""

    mode: int | None = None
    """None: what the umask leaves."""
    uid: int = -1
    """-1, also of `gid`: as the file is made (chown(2))."""
    gid: int = -1
    owner: str = ""
    """As it was asked for, for messages."""


AS_MADE = FileRights()


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
        with self.held() as file:
            if file is not None:
                os.chown(file, uid, gid)

    @contextlib.contextmanager
    def held(self) -> Iterator[str | None]:
        """A name that means this very file, whatever lies at the path by now; None: another one does.

        Only right after it was made, as long as it is our user's.  Raises OSError.
        """
        fd = os.open(self.path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            found = os.fstat(fd)
            is_it = (found.st_dev, found.st_ino) == (self.device, self.inode) and _is_ours(found)
            yield f"/proc/self/fd/{fd}" if is_it else None
        finally:
            os.close(fd)


def listen_at_path(path: str, backlog: int, rights: FileRights = AS_MADE) -> tuple[socket.socket, Made]:
    """A socket that listens at this path, and its file.  Raises HostError; then nothing is left behind."""
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
                return _listen_if_free(path, path, backlog, rights)
            except _TakenError:
                with contextlib.suppress(FileNotFoundError, _TakenError):
                    return _replace_dead(path, backlog, rights)
    except OSError as error:
        raise HostError(_why_no_path(error, path)) from error
    raise HostError("other processes keep taking this path; stop them, or choose another path")


class _TakenError(Exception):
    """There is a file where the socket's would be."""


def _listen_if_free(bound: str, path: str, backlog: int, rights: FileRights) -> tuple[socket.socket, Made]:
    """Bind to `bound`, where nothing may be, listen, and have the file at `path`.

    Raises OSError, _TakenError, and HostError for rights that cannot be had.
    """
    with contextlib.ExitStack() as undo:
        opened = undo.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        if rights.mode is not None:
            os.fchmod(opened.fileno(), rights.mode)  # bind takes the file's from it (net/unix/af_unix.c, unix_bind_bsd)
        try:
            opened.bind(bound)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise _TakenError from None
            raise
        found = _file_of(opened, bound)
        made = Made(os.path.abspath(bound), found.st_dev, found.st_ino, os.getpid())
        undo.callback(made.remove)
        if rights != AS_MADE:
            _set_rights(made, found, rights)
        opened.listen(backlog)
        if bound != path:
            os.rename(bound, path)
        undo.pop_all()
    return opened, Made(os.path.abspath(path), found.st_dev, found.st_ino, os.getpid())


def _file_of(opened: socket.socket, bound: str) -> os.stat_result:
    """The file that it was bound to a moment ago.

    Raises _TakenError when another one is there, or none: where others may write, they may be quick.  Raises HostError
    when the file system has given ours to another user, as those do that know of one user, or trust no root (NFS); then
    it is removed, and `opened` is closed: whose a file is that nobody holds any more, nobody else can say.
    """
    try:
        found = os.lstat(bound)
        if _is_ours(found):
            return found
        if not stat.S_ISSOCK(found.st_mode) or found.st_uid == os.geteuid():
            raise _TakenError
        opened.close()
        left = ""
        try:
            if is_held(bound):
                raise _TakenError  # by somebody else
            Made(os.path.abspath(bound), found.st_dev, found.st_ino, os.getpid()).remove()
        except HostError:  # it may not be asked, so it may be anybody's
            left = f"; remove the file {bound} if no server answers there"
    except FileNotFoundError:
        raise _TakenError from None
    folder = os.path.dirname(bound) or "."
    raise HostError(
        f"the file system of the folder {folder} gives what this user (uid {os.geteuid()}) makes to another one "
        f"(uid {found.st_uid}), so nobody can say who may connect; choose a folder on another one{left}"
    )


def _set_rights(made: Made, found: os.stat_result, rights: FileRights) -> None:
    """What `found` has not yet.  Raises HostError, and _TakenError when another file is at the path by now."""
    if _has(found, rights):
        return
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(made.held())
        except FileNotFoundError:
            raise _TakenError from None
        if file is None:
            raise _TakenError
        doing = "mode"
        try:
            if rights.mode is not None and rights.mode != stat.S_IMODE(found.st_mode):
                os.chmod(file, rights.mode)
            doing = "owner"
            if not _has_owner(found, rights):
                os.chown(file, rights.uid, rights.gid)
            found = os.stat(file)
        except OSError as error:
            raise HostError(_why_no_rights(error, doing, rights)) from error
    if not _has(found, rights):
        has = f"mode {stat.S_IMODE(found.st_mode):03o}, uid {found.st_uid}, gid {found.st_gid}"
        raise HostError(
            f"its file system does not keep the rights of a file: it was to have {_text_of(rights)}, and has {has}; "
            f"choose a folder on another one, or leave --socket-mode and --socket-owner out, if they ask for it"
        )


def _has(found: os.stat_result, rights: FileRights) -> bool:
    return rights.mode in (None, stat.S_IMODE(found.st_mode)) and _has_owner(found, rights)


def _has_owner(found: os.stat_result, rights: FileRights) -> bool:
    return rights.uid in (-1, found.st_uid) and rights.gid in (-1, found.st_gid)


def _is_ours(found: os.stat_result) -> bool:
    """A socket of ours with no other name, as one is that was made a moment ago."""
    return stat.S_ISSOCK(found.st_mode) and found.st_uid == os.geteuid() and found.st_nlink == 1


def _replace_dead(path: str, backlog: int, rights: FileRights) -> tuple[socket.socket, Made]:
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
            return _listen_if_free(beside, path, backlog, rights)
        os.unlink(path)  # for a moment there is no such path
    return _listen_if_free(path, path, backlog, rights)


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


def _why_no_rights(error: OSError, doing: str, rights: FileRights) -> str:
    what = f"its file cannot be given the rights that were asked for ({_text_of(rights)})"
    user = f"the user (uid {os.geteuid()})"
    match error.errno:
        case errno.EPERM if doing == "owner" and rights.uid not in (-1, os.geteuid()):
            return (
                f"{what}: only root, or who has the capability CAP_CHOWN, gives a file to another user, and this is "
                f"{user}; start as root, name a group alone (--socket-owner :GROUP), or leave the owner out"
            )
        case errno.EPERM if doing == "owner":
            groups = ", ".join(map(str, sorted({os.getegid(), *os.getgroups()})))
            return (
                f"{what}: {user} is not in that group, but in {groups}, and only root, or who has the capability "
                f"CAP_CHOWN, gives a file to another one; start as root, or name one of these groups"
            )
        case errno.EINVAL if doing == "owner":
            return (
                f"{what}: no such number is known here; in a container, its user namespace must know it "
                f"(user_namespaces(7)), or leave the owner out"
            )
        case errno.ENOENT:
            return f"{what}: that needs /proc, which is not there; mount it, or use --umask instead"
        case _:
            return f"{what}: {why_not(error)}"


def _text_of(rights: FileRights) -> str:
    mode = "" if rights.mode is None else f"mode {rights.mode:03o}"
    return ", ".join(filter(None, (mode, rights.owner and f"owner {rights.owner}")))
