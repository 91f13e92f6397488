"""How others find the server: the listener of the control socket, and the runtime file (host/runtime.py).

Opened before the first worker is made, published when the server listens, taken away at its end.  A machine that allows
none of it (a file system that is full or read-only, a folder of somebody else) is no reason not to serve: the log says
what is lost.  Only where the user has named a path for the socket is it an error that there is none.
"""

import os
import socket
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from paceline import __version__
from paceline.errors import HostError
from paceline.host import processes, runtime
from paceline.host.rights import Account
from paceline.host.unix_paths import FileRights, Made, listen_at_path

if TYPE_CHECKING:
    from paceline.supervisor.testament import FileLeft, Testament

BACKLOG = 128


class Presence:
    """What is there of it.  Made by `open_presence`."""

    def __init__(self, say: Callable[..., None] = lambda _event, **_fields: None, started: float = 0.0) -> None:
        self.say = say
        self.started = started
        """When the server was started, in seconds since the epoch."""
        self.folder = ""
        """Empty: there is none."""
        self.file = ""
        """The path of the runtime file, once it is published."""
        self.listener: socket.socket | None = None
        self.made: Made | None = None
        """The listener's file."""

    @property
    def path(self) -> str | None:
        """Of the control socket."""
        return self.made.path if self.made is not None else None

    def fds(self) -> list[int]:
        """What no worker may keep."""
        return [self.listener.fileno()] if self.listener is not None else []

    def publish(self, board_fd: int, addresses: list[str], target: str, words: Sequence[str] = ()) -> None:
        """The server listens: say so to whoever looks.  Never raises."""
        if not self.folder:
            return
        pid = os.getpid()
        try:
            ticks = processes.start_ticks(pid)
            board = f"/proc/{pid}/fd/{board_fd}"
            told = (self.path, board, tuple(addresses), target, self.started, __version__, tuple(words))
            found = runtime.Running(pid, ticks, *told)
            self.file = runtime.publish(found, self.folder)
        except (HostError, OSError) as error:
            self.say("control-lost", lost=self.lost_without_file(), why=str(error))

    def files_left(self) -> "tuple[FileLeft, ...]":
        """What an upgrade in place leaves to the next program."""
        from paceline.supervisor.testament import FileLeft

        found = []
        if self.listener is not None and self.made is not None:
            made, fd = self.made, self.listener.fileno()
            found.append(FileLeft(role="control", path=made.path, fd=fd, device=made.device, inode=made.inode))
        if self.file:
            found.append(FileLeft(role="runtime", path=self.file))
        return tuple(found)

    def close(self) -> None:
        """At the end.  Never raises."""
        runtime.withdraw(self.file)
        if self.made is not None:
            self.made.remove()
        if self.listener is not None:
            self.listener.close()
        self.file, self.folder, self.made, self.listener = "", "", None, None

    def open_folder(self) -> str:
        """Have the folder; returns why there is none."""
        if runtime.is_off():
            return ""
        try:
            self.folder = runtime.folder()
        except HostError as error:
            return str(error)
        runtime.sweep(self.folder)
        return ""

    def listen(self, path: str) -> None:
        """Raises HostError."""
        self.listener, self.made = listen_at_path(path, BACKLOG, FileRights(mode=0o600))

    def listen_for(self, control: str | None, who: Account) -> None:
        """Have the socket at the path that was named, if one was, before this process becomes `who`, to whom it goes.

        Raises HostError.
        """
        if control in (None, "auto"):
            return
        path = _path_of(control)
        try:
            self.listen(path)
            assert self.made is not None
            self.made.give_to(who.uid, who.gid)
        except HostError as error:
            raise HostError(f"--control {path}: {error}") from error
        except OSError as error:
            raise HostError(f"--control {path}: it cannot be given to {who.text}: {error.strerror}") from error

    def adopt(self, control: "FileLeft | None", file: "FileLeft | None") -> None:
        """Go on with what the program had that was in this process before."""
        if control is not None:
            self.listener = socket.socket(fileno=control.fd)
            self.made = Made(control.path, control.device, control.inode, os.getpid())
        if file is not None:
            self.file, self.folder = file.path, os.path.dirname(file.path)

    def lost_without_file(self) -> str:
        """What cannot be done without the runtime file."""
        reached = f" (it answers at {self.path})" if self.path is not None else ""
        return f"cannot find this server by itself{reached}"


def open_presence(
    control: str | None,
    left: "Testament | None",
    say: Callable[..., None],
    started: float,
    who: Account | None = None,
    become: Callable[[], None] = lambda: None,
) -> Presence:
    """`control` is the setting: a path, auto, None for off.

    Where the server is to be `who` from now on, `become` makes it that: after the socket whose path was named, and
    before all that the user finds by itself.  Raises HostError where that path cannot be had; but not after an upgrade
    in place, when the server serves already.
    """
    found = Presence(say, started)
    try:
        if who is not None:
            found.listen_for(control, who)
        become()
        if left is not None:
            found.adopt(left.file("control"), left.file("runtime"))
        why = "" if found.folder else found.open_folder()
        lost = found.lost_without_file() if control is not None else "cannot find this server"
        if control is not None and found.listener is None:
            lost, why = _listen(found, control, why, may_fail=control == "auto" or left is not None)
        if why:
            say("control-lost", lost=lost, why=why)
    except BaseException:
        found.close()
        raise
    return found


def _listen(found: Presence, control: str, why: str, *, may_fail: bool) -> tuple[str, str]:
    """What is lost, and why; `why` says why there is no folder.  Raises HostError if it may not fail."""
    neither = "cannot find and reach this server"
    if control == "auto" and not found.folder:
        return neither, why
    path = runtime.control_path(found.folder) if control == "auto" else _path_of(control)
    try:
        found.listen(path)
    except HostError as error:
        if not may_fail:
            raise HostError(f"--control {path}: {error}") from error
        lost = "can find and watch this server, but not reach it" if found.folder else neither
        return lost, "; ".join(filter(None, (why, f"{path}: {error}")))
    return found.lost_without_file(), why


def _path_of(control: str) -> str:
    return os.path.abspath(control.removeprefix("unix:"))
