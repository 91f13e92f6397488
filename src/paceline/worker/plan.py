"""What a worker is given when it is born: made by the supervisor before the fork, read by process.py after it."""

import socket
from collections.abc import Sequence
from dataclasses import dataclass

from paceline.host.listeners import Listener
from paceline.scoreboard.board import Board
from paceline.settings import Settings


@dataclass(frozen=True, slots=True)
class Inbox:
    """The ends of a seat's inbox, a SEQPACKET pair: every worker may write to every seat, only the seat's own reads."""

    reader: socket.socket
    writer: socket.socket


@dataclass(frozen=True, slots=True)
class Plan:
    """One worker's place in the world.  Every descriptor named here is open in the child and closed nowhere else."""

    settings: Settings
    target: object
    """A target text (`module:attribute`, `file.py:attribute`, `echo`), or the handler object itself."""
    listeners: tuple[Listener, ...]
    inboxes: tuple[Inbox, ...]
    """By seat.  In the worker the readers of other seats are closed (their `close` may be called again)."""
    board: Board
    control: socket.socket
    """The child's end of its control channel."""
    fault_fd: int
    """The seat's memfd, into which faulthandler writes; -1 where the worker has no process of its own (testing/)."""
    seat: int
    slot: int
    generation: int
    supervisor_pid: int
    close_fds: tuple[int, ...]
    """What belongs to the supervisor or to other seats: closed first of all, else end-of-file never arrives there.

    supervisor/child.py does so, and closes the inboxes' readers, before `worker.process.main` runs."""
    standby: bool = False
    """After Ready it waits for Serve before it accepts: others of its generation may still fail to start."""
    probe: bool = False
    """Before Ready the handler must answer the message of --probe, if there is one."""
    check: bool = False
    """Load the target, say Ready or Failed, leave: nothing is served.  Then there are no listeners and no inboxes."""

    @classmethod
    def alone(
        cls, settings: Settings, target: object, listeners: Sequence[Listener], board: Board, control: socket.socket
    ) -> "Plan":
        """That of a worker which has no siblings, and no process of its own: it lives in whoever made it."""
        return cls(
            settings=settings,
            target=target,
            listeners=tuple(listeners),
            inboxes=(),
            board=board,
            control=control,
            fault_fd=-1,
            seat=0,
            slot=0,
            generation=1,
            supervisor_pid=0,
            close_fds=(),
        )
