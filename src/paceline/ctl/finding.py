"""Which server is meant.  It blocks for as long as /proc and a connect to a Unix socket take.

Without a word from the user it is the one that runs: servers write a file into the runtime folder (host/runtime.py).
One that could not (a read-only file system), or whose folder is not ours to look into (we are root, it is not), is
found by its scoreboard: its memory has a name, and the kernel shows who has it open.  So is one that is named by the
number of its process or by its control socket, whose other end the kernel names (SO_PEERCRED, unix(7)).
"""

import os
import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass

from paceline.addresses import parse_address
from paceline.errors import ConnectFailed, HostError, TimedOut, UsageError
from paceline.host import runtime, strangers
from paceline.host.dialing import dial
from paceline.scoreboard.board import Board

CONNECT_S = 5.0
VARIABLE = "PACELINE_CONTROL"
"""The setting of the server; where it names a path, the path is meant for those who ask, too."""
_BOARD = "paceline-scoreboard"
_CREDENTIALS = struct.Struct("3i")
"""struct ucred: pid, uid, gid."""


class NoServerError(HostError):
    """There is no server, or none that can be reached."""


@dataclass(frozen=True, slots=True)
class Server:
    """One that runs, as far as it is known."""

    pid: int
    """The supervisor's; 0: it is in another process namespace, and has no number here."""
    control: str | None
    """Its control socket."""
    board: str = ""
    """A path to open its scoreboard by; empty: it has to be looked for."""
    addresses: tuple[str, ...] = ()
    target: str = ""
    started: float = 0.0
    """Seconds since the epoch; 0: nobody knows."""
    paceline: str = ""
    """Its version."""
    words: tuple[str, ...] = ()
    """As host/runtime.py has them."""
    is_listed: bool = False
    """It is in the runtime folder, so that `control` is None only where there is no socket."""

    def __str__(self) -> str:
        """`127.0.0.1:8888 · app.py:answer`, or what there is to say."""
        return " · ".join(filter(None, (", ".join(self.addresses), self.target))) or f"process {self.pid}"


def find(control: str | None, pid: int | None, environment: Mapping[str, str]) -> Server:
    """The server that is meant.  `control` is a path, `pid` the number of a supervisor; at most one of them is given.

    Raises UsageError when several run and none was named, NoServerError when there is none, HostError when it may not
    be looked into.
    """
    if control is not None:
        return _by_socket(control, "--control")
    if pid is not None:
        return _by_number(pid)
    named = environment.get(VARIABLE, "")
    if named not in ("", "auto", "off"):
        return _by_socket(named, VARIABLE)
    found = servers()
    if len(found) > 1:
        raise UsageError(_which(found))
    if not found:
        raise NoServerError(_none())
    return found[0]


def servers() -> list[Server]:
    """All that can be found, oldest first."""
    found = [_listed(running) for running in runtime.running()]
    if found or os.environ.get(runtime.VARIABLE):  # a folder of one's own is chosen to see nobody else's
        return found
    return _by_scoreboard()


def open_board(server: Server) -> Board:
    """Its scoreboard, for reading; the caller closes it.  Raises HostError, NoServerError."""
    if not server.pid:
        raise HostError(
            "the server is in another process namespace (a container), and its scoreboard can be read only there: run "
            "paceline ctl inside"
        )
    try:
        paths = [path for path, _ in strangers.memory_named(server.pid, _BOARD)]
    except FileNotFoundError:
        raise NoServerError(f"the server (pid {server.pid}) has just ended") from None
    except OSError as error:
        raise HostError(_not_ours(server.pid)) from error
    if server.board in paths:  # after an upgrade there may be an older one beside it
        paths = [server.board]
    boards: list[Board] = []
    try:
        boards.extend(map(_open, paths))
        if not boards:
            raise NoServerError(f"process {server.pid} has no scoreboard, so it is no server of Paceline")
        newest = max(boards, key=lambda board: board.header.created_ns)
        boards.remove(newest)
        return newest
    finally:
        for board in boards:
            board.close()


def _open(path: str) -> Board:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise HostError(f"the scoreboard {path} cannot be opened: {error.strerror}; ask as root") from error
    try:
        return Board.attach(fd)
    except BaseException:
        os.close(fd)
        raise


def _listed(running: runtime.Running) -> Server:
    return Server(
        running.pid,
        running.control,
        running.board,
        running.addresses,
        running.target,
        running.started,
        running.paceline,
        running.words,
        is_listed=True,
    )


def _by_number(pid: int) -> Server:
    for server in map(_listed, runtime.running()):
        if server.pid == pid:
            return server
    try:
        inodes = [inode for _, inode in strangers.memory_named(pid, _BOARD)]
    except FileNotFoundError:
        raise NoServerError(f"there is no process {pid}{_instead()}") from None
    except OSError as error:
        raise HostError(_not_ours(pid)) from error
    if not inodes:
        raise NoServerError(f"process {pid} is no server of Paceline{_instead()}")
    above = strangers.parent_of(pid)
    if _has_board(above, inodes[0]):
        raise UsageError(f"process {pid} is a worker; the server is its supervisor: --pid {above}")
    return Server(pid, None)


def _by_socket(path: str, option: str) -> Server:
    path = os.path.abspath(path.removeprefix("unix:"))
    for server in map(_listed, runtime.running()):
        if server.control is not None and os.path.realpath(server.control) == os.path.realpath(path):
            return server
    with connected(path, option) as connection:
        pid, _, _ = _CREDENTIALS.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return Server(pid, path)


def connected(path: str, named_by: str = "") -> socket.socket:
    """A connection to whoever listens at the path.  Raises NoServerError."""
    before = f"{named_by} " if named_by else ""
    try:
        return dial(parse_address(f"unix:{path}"), CONNECT_S)
    except UsageError as error:
        raise NoServerError(f"{before}{path}: {error}") from error
    except TimedOut as error:
        raise NoServerError(
            f"{before}{path}: nobody takes the connection within {CONNECT_S:g} s; the server is stopped, or too many "
            f"ask it at once (status and health need no answer)"
        ) from error
    except ConnectFailed as error:
        cause = error.__cause__
        match cause:
            case FileNotFoundError():
                why = "there is no such socket; paceline ctl without --control looks for the server itself"
            case ConnectionRefusedError():
                why = "no server listens there any more; its file is what a killed one left behind"
            case PermissionError():
                why = "this user may not; ask as the user of the server, or as root"
            case OSError():
                why = cause.strerror or str(cause)
            case _:
                why = str(error)
        raise NoServerError(f"{before}{path}: {why}") from error


def _by_scoreboard() -> list[Server]:
    """The supervisors among all processes: who has a scoreboard, and whose parent has not."""
    boards: dict[int, set[int]] = {}
    for pid in strangers.process_numbers():
        try:
            inodes = {inode for _, inode in strangers.memory_named(pid, _BOARD)}
        except OSError:  # it is not ours, or gone
            continue
        if inodes and pid != os.getpid() and strangers.is_nearby(pid):
            boards[pid] = inodes
    return [Server(pid, None) for pid in boards if not boards[pid] & boards.get(strangers.parent_of(pid), set())]


def _has_board(pid: int, inode: int) -> bool:
    try:
        return any(inode == other for _, other in strangers.memory_named(pid, _BOARD)) if pid else False
    except OSError:
        return False


def _not_ours(pid: int) -> str:
    return (
        f"process {pid} belongs to uid {strangers.owner_of(pid)}, and uid {os.geteuid()} may not look into it; "
        f"ask as that user, or as root"
    )


def _which(found: list[Server]) -> str:
    width = max(len(str(server.pid)) for server in found)
    lines = [f"  --pid {server.pid:<{width}}  {server}" for server in found]
    return f"{len(found)} servers run; say which one is meant:\n" + "\n".join(lines)


def _instead() -> str:
    found = servers()
    return f"; there is {', '.join(f'--pid {server.pid} ({server})' for server in found)}" if found else ""


def _none() -> str:
    if runtime.is_off():
        return f"{runtime.VARIABLE} is off, so no server is looked for; name one with --pid N or --control PATH"
    looked = ", ".join(runtime.candidates())
    return (
        f"no server of this user (uid {os.geteuid()}) runs here (there is none in {looked}); start one with paceline "
        f"serve, or name one with --pid N or --control PATH"
    )
