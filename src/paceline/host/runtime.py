"""The runtime folder: where running servers say that they run, and where their control sockets are.

A server leaves one file there, PID.json, from the moment it says that it listens until its end; `paceline ctl`, `top`
and others find it by that.  The folder is, of those that can be had, the first of

    /run/paceline              if it is ours, or we are root and make it
    /run/paceline-UID          if root has made it, for a server that it started as that user (--user)
    $XDG_RUNTIME_DIR/paceline  the user's own (XDG Base Directory Specification)
    paceline-UID               in the temporary directory ($TMPDIR, else /tmp)

or, where PACELINE_RUNTIME_DIR names one, that one alone (`off`: none at all).  It is ours, and nobody else may write
there: who could might have us speak to a server of theirs.

What a server leaves that was killed is harmless: with the process's number stands when it started, so that nobody is
taken for it, and whoever looks next removes it.  A file of another process namespace (a container that shares the
folder) is none of our business.
"""

import contextlib
import json
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields

from paceline.errors import HostError
from paceline.host import processes
from paceline.host.unix_paths import PATH_BYTES, is_held

VARIABLE = "PACELINE_RUNTIME_DIR"
VERSION = 1
"""Of the file.  Readers ignore what they do not know; it is raised when a field gets another meaning."""
_RUN = "/run/paceline"
_MOST_BYTES = 1 << 20
_LONGEST_NAME = len("/4194304.sock.new")
"""Process ids are below 2²² (proc(5), pid_max)."""
_OURS = re.compile(r"([1-9][0-9]{0,9})\.(json|json\.new|sock|sock\.new)")


@dataclass(frozen=True, slots=True)
class Running:
    """A server that runs, as its file describes it."""

    pid: int
    """The supervisor's."""
    start_ticks: int
    """When it started (host/processes.py): with the number, it names the process for ever."""
    control: str | None
    """The path of its control socket; None: it has none."""
    board: str
    """A path by which its scoreboard can be opened, as long as it runs."""
    addresses: tuple[str, ...]
    """Where it listens, as it is written and read back."""
    target: str
    started: float
    """Seconds since the epoch."""
    paceline: str
    """Its version."""
    words: tuple[str, ...] = ()
    """Of each address, what it serves, where its text does not show it (host/listeners.py); none: it is not known."""


# The folder


def is_off() -> bool:
    """There shall be none: nobody is to find this server, or nobody is to look."""
    return os.environ.get(VARIABLE) == "off"


def folder() -> str:
    """The folder, which is made if it is not there.

    Raises HostError, with the remedy, when it is somebody else's, no folder, or cannot be made.
    """
    named = os.environ.get(VARIABLE)
    if is_off():
        raise HostError(f"{VARIABLE} is off, so there is no runtime folder")
    if named:
        return _claimed(_named(named))
    if _may_be_ours(_RUN):
        return _claimed(_RUN)
    others = [path for path in candidates() if path != _RUN]
    for path in others[:-1]:
        with contextlib.suppress(OSError, HostError):
            if len(os.fsencode(path)) + _LONGEST_NAME <= PATH_BYTES:
                return _claimed(path)
    return _claimed(others[-1])


def candidates() -> list[str]:
    """Where the folder may be, best first; none is made."""
    named = os.environ.get(VARIABLE)
    if named:
        return [] if is_off() else [os.path.abspath(named)]
    found = [_RUN, *_of_users()]
    of_user = os.environ.get("XDG_RUNTIME_DIR")
    if of_user and os.path.isabs(of_user):  # "If … not absolute … should ignore the path" (the specification)
        found.append(os.path.join(of_user, "paceline"))
    temporary = [os.environ.get("TMPDIR") or "/tmp", "/tmp"]
    found += [os.path.join(os.path.abspath(parent), f"paceline-{os.geteuid()}") for parent in temporary]
    return list(dict.fromkeys(found))


def _of_users() -> list[str]:
    """The folders that root has made for users: that of this one, and for root all of them."""
    uid = os.geteuid()
    above, name = os.path.split(_RUN)
    wanted = re.compile(rf"{name}-({uid or '[0-9]+'})")
    with contextlib.suppress(OSError):
        return [os.path.join(above, found) for found in sorted(os.listdir(above)) if wanted.fullmatch(found)]
    return []


def make_for(uid: int, gid: int) -> None:
    """As root: have a folder that will be found, and be that user's own, once this process belongs to it.

    Where a service manager has made one for that user there is nothing to do.  Never raises: there are other places.
    """
    named = os.environ.get(VARIABLE)
    if is_off():
        return
    with contextlib.suppress(OSError):
        if not named and os.lstat(_RUN).st_uid == uid:
            return
    path = os.path.abspath(named) if named else f"{_RUN}-{uid}"
    with contextlib.suppress(OSError):
        os.mkdir(path, 0o700)  # one that is there already is left as it is
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            os.fchown(fd, uid, gid)
        finally:
            os.close(fd)


def _named(path: str) -> str:
    path = os.path.abspath(path)
    length = len(os.fsencode(path)) + _LONGEST_NAME
    if length > PATH_BYTES:
        raise HostError(
            f"{VARIABLE}: with the name of a socket in it, the path has {length} bytes, and a Unix socket's may have "
            f"at most {PATH_BYTES}; name a shorter one"
        )
    return path


def _may_be_ours(path: str) -> bool:
    """We are root and may make it, or a service manager has made it for us."""
    try:
        found = os.lstat(path)
    except OSError:
        return os.geteuid() == 0 and os.access(os.path.dirname(path), os.W_OK)
    return os.geteuid() in (0, found.st_uid) and os.access(path, os.W_OK)


def _claimed(path: str) -> str:
    """The folder at this path, ours alone.  Raises HostError."""
    elsewhere = f"name another folder with {VARIABLE}"
    try:
        with contextlib.suppress(FileExistsError):
            os.mkdir(path, 0o700)
        found = os.lstat(path)
        if stat.S_ISLNK(found.st_mode):
            raise HostError(f"{path} is a symbolic link, which anybody may have put there; remove it, or {elsewhere}")
        if not stat.S_ISDIR(found.st_mode):
            raise HostError(f"{path} is no folder; remove it, or {elsewhere}")
        if found.st_uid != os.geteuid():
            raise HostError(
                f"{path} belongs to another user (uid {found.st_uid}, we are {os.geteuid()}); "
                f"have that user remove it, or {elsewhere}"
            )
        if found.st_mode & 0o022:  # others might put files of theirs there
            os.chmod(path, 0o700)
        if not os.access(path, os.W_OK | os.X_OK):
            raise HostError(f"{path} cannot be written to; see its mode and its file system, or {elsewhere}")
    except OSError as error:
        raise HostError(f"the folder {path} cannot be had: {error.strerror}; {elsewhere}") from error
    return path


# Files in it


def control_path(where: str) -> str:
    """The path of this process's control socket in the folder."""
    return os.path.join(where, f"{os.getpid()}.sock")


def publish(running: Running, where: str) -> str:
    """Write the file, whole or not at all, in place of an older one of the same process; returns its path.

    Raises HostError.
    """
    path = os.path.join(where, f"{running.pid}.json")
    beside = f"{path}.new"
    text = json.dumps({"version": VERSION, **asdict(running), "namespace": _namespace()}).encode()
    try:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(beside)
        fd = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            while text:
                text = text[os.write(fd, text) :]
            os.rename(beside, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(beside)
            raise
        finally:
            os.close(fd)
    except OSError as error:
        raise HostError(f"the file {path} cannot be written: {error.strerror}") from error
    return path


def withdraw(path: str) -> None:
    """Remove the file, if it is this process's.  Never raises."""
    if os.path.basename(path) == f"{os.getpid()}.json":
        with contextlib.suppress(OSError):
            os.unlink(path)


def running() -> list[Running]:
    """The living servers of this user, oldest first; root sees those in its own folders, whosever they are.

    What dead ones have left behind is removed.  Never raises.
    """
    found = {server.pid: server for where in candidates() for server in _in(where)}
    return sorted(found.values(), key=lambda server: (server.started, server.pid))


def sweep(where: str) -> None:
    """Remove what dead servers have left in the folder.  Never raises."""
    for _ in _in(where):
        pass


def _in(where: str) -> Iterator[Running]:
    try:
        owner = os.lstat(where)
        if not stat.S_ISDIR(owner.st_mode) or os.geteuid() not in (0, owner.st_uid):
            return
        names = sorted(os.listdir(where))
    except OSError:
        return
    sockets = []
    for name in names:
        match = _OURS.fullmatch(name)
        if match is None:
            continue
        path = os.path.join(where, name)
        if match[2] != "json":
            sockets.append((int(match[1]), path))
            continue
        server, is_stale = _read(path)
        if server is not None:
            yield server
        elif is_stale:
            _remove(path)
    for pid, path in sockets:
        if _ticks(pid) is None and not _is_held(path):
            _remove(path)


def _read(path: str) -> tuple[Running | None, bool]:
    """(the living server that the file describes, what it describes is gone for good)."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            owner = os.fstat(fd).st_uid
            record = json.loads(os.read(fd, _MOST_BYTES))
        finally:
            os.close(fd)
        server = _server(record)
    except (OSError, ValueError, RecursionError):
        return None, False
    if server is None or record.get("namespace", _namespace()) != _namespace():
        return None, False
    if _ticks(server.pid) != server.start_ticks:
        return None, True
    try:
        is_its_own = os.stat(f"/proc/{server.pid}").st_uid == owner
    except OSError:
        is_its_own = False
    # Who may write a file here, and is not that process, could have us speak to whomever they like.
    return (server if is_its_own or owner == 0 else None), False


def _server(record: object) -> Running | None:
    """None: it is not what we write."""
    if not isinstance(record, dict) or not isinstance(record.get("addresses"), list):
        return None
    kinds = {"pid": int, "start_ticks": int, "control": str | None, "started": int | float}
    given = {row.name: record.get(row.name) for row in fields(Running)}
    for name in ("addresses", "words"):
        texts = record.get(name)
        given[name] = tuple(text for text in texts if isinstance(text, str)) if isinstance(texts, list) else ()
    for name, value in given.items():
        wanted = tuple if name in ("addresses", "words") else kinds.get(name, str)
        if not isinstance(value, wanted) or isinstance(value, bool):
            return None
    return Running(**given)  # type: ignore[arg-type]


def _ticks(pid: int) -> int | None:
    """When the process started; None: there is none (any more), or it is dead and only not reaped yet."""
    if processes.run_state(pid) in ("", "Z", "X"):
        return None
    try:
        return processes.start_ticks(pid)
    except OSError:
        return None


def _namespace() -> int:
    """Names the process namespace we are in (namespaces(7)): a number of a process means something only there."""
    try:
        return os.stat("/proc/self/ns/pid").st_ino
    except OSError:
        return 0


def _is_held(path: str) -> bool:
    """A process has the socket, one of another process namespace perhaps; or nobody can say."""
    try:
        return is_held(path)
    except FileNotFoundError:
        return False
    except (OSError, HostError):
        return True


def _remove(path: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(path)
