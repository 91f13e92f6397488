"""`--check`: whether the target can be served, seen in a process that exits.  Nothing is bound, nothing is served."""

import os
import select
import signal
import sys
from contextlib import ExitStack

from paceline.errors import HostError
from paceline.host import processes, signals
from paceline.scoreboard.board import Board
from paceline.settings import Settings
from paceline.supervisor import child, giving_up
from paceline.supervisor.inquest import read_dump
from paceline.supervisor.posts import ABORT_S
from paceline.supervisor.seats import Seat, close_seats, open_seats
from paceline.supervisor.sentences import span_text
from paceline.supervisor.system import System
from paceline.worker.messages import Failed, Ready
from paceline.worker.plan import Plan


def check(settings: Settings, target: object | None = None) -> int:
    """Load the target as a worker would, as the user that would.  Returns the exit code: 0, or that of a start.

    The result goes to standard output (`ok: …`), what is wrong to standard error, with the user's traceback.  Raises
    HostError when no process can be made.
    """
    from paceline.worker.process import main  # the same code as for a server, imported as late

    return check_with(settings, target, System(main))


def check_with(settings: Settings, target: object | None, system: System) -> int:
    """`check` with other surroundings."""
    with ExitStack() as stack:
        if settings.umask is not None:
            stack.callback(os.umask, os.umask(int(settings.umask, 8)))
        giving_up.give_up(settings, giving_up.successor(settings))  # the target is not loaded as root here either
        board = Board.create(1, settings.threads)
        stack.callback(board.close)
        seats = open_seats(1)
        stack.callback(close_seats, seats)
        (seat,) = seats
        served = settings.target if target is None else target
        child.flush_prints()
        try:
            _start(seat, settings, served, board, system)
            status, in_time = _wait_until_ended(seat, settings.boot_timeout)
        finally:
            if seat.is_taken:
                processes.send_signal(seat.pidfd, signal.SIGKILL)
                processes.reap_soon(seat.pid)
                seat.pid = 0
        said = seat.hear()
        detail = read_dump(seat.fault_fd)
    failed = next((message for message in said if isinstance(message, Failed)), None)
    ready = next((message for message in said if isinstance(message, Ready)), None)
    if failed is not None:
        return _refuse(failed.why, failed.traceback, failed.exit_code if 0 < failed.exit_code < 126 else 3)
    if not in_time:
        return _refuse(f"the worker was not ready after {span_text(settings.boot_timeout)} (--boot-timeout)", detail, 3)
    if ready is None or processes.exit_code_of(status) != 0:
        when = "before it was ready" if ready is None else "after it was ready"
        return _refuse(f"the worker {processes.cause_of(status)} {when}", detail, 3)
    framing = f", framing {ready.framing}" if ready.kind == "message" else ""
    return _accept(f"ok: {ready.target or served} is a {ready.kind} handler{framing}")


def _start(seat: Seat, settings: Settings, target: object, board: Board, system: System) -> None:
    try:
        with seat.open_control() as theirs:
            private = [*seat.private_fds(), seat.inbox.reader.fileno(), seat.inbox.writer.fileno()]
            plan = Plan(
                settings=settings,
                target=target,
                listeners=(),
                inboxes=(),
                board=board,
                control=theirs,
                fault_fd=seat.fault_fd,
                seat=0,
                slot=0,
                generation=1,
                supervisor_pid=os.getpid(),
                close_fds=tuple(fd for fd in private if fd != seat.fault_fd),
                check=True,
            )
            with signals.blocked():  # an interrupt now would leave the process behind
                pid = child.start(plan, system.main, system.fork)
                seat.sit(pid, processes.open_pidfd(pid))
    except OSError as error:
        raise HostError(
            f"no process can be made to load the target in: {error.strerror}; see the limits on processes and memory"
        ) from error


def _wait_until_ended(seat: Seat, within_s: float) -> tuple[int, bool]:
    """(wait status, it ended by itself in time).  What it said waits in its channel, which has room for all of it."""
    poll = select.poll()
    poll.register(seat.pidfd, select.POLLIN)
    for patience_s, number in ((within_s, signal.SIGABRT), (ABORT_S, signal.SIGKILL), (None, None)):
        poll.poll(None if patience_s is None else patience_s * 1000)
        status = processes.reap(seat.pid)
        if status is not None:
            seat.pid = 0
            return status, number is signal.SIGABRT
        if number is not None:
            processes.send_signal(seat.pidfd, number)
    raise AssertionError("a process that has ended can be reaped")


def _accept(text: str) -> int:
    try:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()
    except OSError as error:
        raise HostError(f"standard output cannot be written: {error.strerror}; give it another place to go") from error
    return 0


def _refuse(why: str, detail: str, code: int) -> int:
    sys.stderr.write(f"paceline: {why}\n" + (f"{detail.rstrip()}\n" if detail else ""))
    return code
