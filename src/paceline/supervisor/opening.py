"""What a supervisor opens before it runs, in the order that counts, and gives back at its end.  Called by loop.py.

    sockets that were passed   →   the log   →   signals   →   the scoreboard   →   the seats   →   the addresses
    →   the pid file   →   the rights are given up (giving_up.py)   →   the control socket

An upgrade in place (upgrade.py) finds the most of that open already, and adopts it.
"""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from paceline import __version__, clock
from paceline.addresses import parse_address
from paceline.errors import HostError
from paceline.host import processes, signals
from paceline.host.listeners import Listener, close_listener, is_same, open_listener
from paceline.host.rights import file_rights
from paceline.scoreboard.board import Board
from paceline.settings import Settings
from paceline.supervisor import giving_up
from paceline.supervisor.hands import Hands
from paceline.supervisor.presence import open_presence
from paceline.supervisor.seats import Seat, close_seats, open_seats
from paceline.supervisor.size import Size, size_of
from paceline.supervisor.start import Start
from paceline.supervisor.system import System

if TYPE_CHECKING:
    from paceline.supervisor.testament import Testament

FAREWELL_MS = 1000
"""At an end that was not planned: how long a killed worker is waited for."""
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
TERMINAL_SIGNALS = (signal.SIGTTIN, signal.SIGTTOU)
"""A terminal sends them, too; they are heard in a way that does not hinder writing to it (host/signals.py)."""


@contextmanager
def opened(settings: Settings, target: object, system: System, start: Start) -> Iterator[Hands]:
    """Everything that a supervisor holds.  Raises HostError when the machine refuses; then nothing is left open."""
    _require_pidfds()
    left = start.testament
    with ExitStack() as stack:
        stack.callback(start.manager.close)
        # After an upgrade it is done; what the system says of users by now is no reason to end a server.
        who, before = None if left is not None else giving_up.successor(settings), giving_up.started_as()
        if settings.umask is not None:
            stack.callback(os.umask, os.umask(int(settings.umask, 8)))
        listeners: list[Listener] = []
        stack.callback(_close_all, listeners)
        if left is not None:
            from paceline.supervisor import upgrade

            listeners += upgrade.adopt_listeners(left)
        else:
            # Before anything of ours is open: fd://9 shall never be the log, the board or the inbox of a seat.
            _listen(listeners, settings, "fd")
        log = system.open_log("supervisor", settings.log_format)
        stack.callback(log.close)
        size = size_of(settings, *system.usable_cores())
        signal_fds = stack.enter_context(_signals_as_bytes(is_init=system.is_init))
        terminal_fd = stack.enter_context(_terminal_signals())
        if left is not None:
            size = replace(size, workers=left.workers, seats=len(left.seats))
            board, seats = stack.enter_context(upgrade.adopted(left))
            signals.unblock_all_but(*TERMINAL_SIGNALS)  # until now they waited (host/images.py)
        else:
            board, seats = _open_places(stack, settings, size)
        served = settings.target if target is None else target
        hands = Hands(settings, served, system, log, size, (*signal_fds, terminal_fd), listeners, board, seats)
        stack.callback(hands.stop_listening)
        if left is None:
            # After the signals are ours: who asks for the end from here on leaves no file of a Unix socket behind.
            _listen(listeners, settings, "tcp", "unix")
        listeners.sort(key=lambda listener: listener.index)
        _claim_pid_file(stack, settings, hands, start)
        if who is not None:
            giving_up.hand_over(who)
        hands.presence = open_presence(
            settings.control, left, log.say, _started(left, system), who, lambda: giving_up.give_up(settings, who)
        )
        stack.callback(hands.presence.close)
        if who is not None:
            giving_up.tell(settings, who, log.say, _files_of(hands), start.config(), before)
        if start.manager.refused:
            log.say("manager-not-told", why=start.manager.refused)
        if left is not None:
            kept = sum(seat.is_taken for seat in seats)
            versions = {"before": left.paceline, "version": __version__, "python": sys.version.split()[0]}
            log.say("upgraded", **versions, pid=os.getpid(), workers=kept)
        stack.callback(hands.bury_all, FAREWELL_MS)
        yield hands


def _listen(listeners: list[Listener], settings: Settings, *kinds: str) -> None:
    files = file_rights(settings.socket_mode, settings.socket_owner)
    for index, text in enumerate(settings.bind):
        address = parse_address(text)
        if address.kind in kinds:
            found = open_listener(address, index, settings.backlog, settings.keepalive, files)
            twin = next((other for other in listeners if address.kind == "fd" and is_same(found, other)), None)
            listeners.append(found)
            if twin is not None:
                raise HostError(
                    f"cannot listen on {text}: it is the same socket as {settings.bind[twin.index]}; leave one of the "
                    f"two out"
                )


def _close_all(listeners: list[Listener]) -> None:
    while listeners:
        close_listener(listeners.pop())


def _open_places(stack: ExitStack, settings: Settings, size: Size) -> tuple[Board, list[Seat]]:
    board = Board.create(
        size.seats,
        settings.threads,
        supervisor_pid=os.getpid(),
        supervisor_start_ticks=_start_ticks(),
        created_ns=clock.now_ns(),
    )
    stack.callback(board.close)
    seats = open_seats(size.seats)
    stack.callback(close_seats, seats)
    return board, seats


def _claim_pid_file(stack: ExitStack, settings: Settings, hands: Hands, start: Start) -> None:
    if settings.pid is None:
        return
    from paceline.host import pidfile

    left = start.testament.file("pid") if start.testament is not None else None
    made = pidfile.claim(settings.pid) if left is None else pidfile.adopt(left.path, left.fd)
    stack.callback(made.remove)
    hands.pid_file = made


def _files_of(hands: Hands) -> list[str]:
    """What lies at a path and is to be removed at the end."""
    made = [*(listener.made for listener in hands.listeners), hands.presence.made, hands.pid_file]
    return [found.path for found in made if found is not None]


def _started(left: "Testament | None", system: System) -> float:
    """When the server was started, in seconds since the epoch."""
    return clock.wall_seconds() - (max(0.0, system.now() - left.gap_s - left.started_at) if left is not None else 0.0)


def _require_pidfds() -> None:
    try:
        os.close(processes.open_pidfd(os.getpid()))
    except OSError as error:
        raise HostError(
            f"workers cannot be watched: pidfd_open(2) is refused ({error.strerror}); "
            f"Linux must be 5.3 or newer, and a container must allow the call"
        ) from error


def _start_ticks() -> int:
    try:
        return processes.start_ticks(os.getpid())
    except OSError:  # no /proc: readers of the board cannot know whether it is still ours, and nothing else needs it
        return 0


@contextmanager
def _signals_as_bytes(*, is_init: bool) -> Iterator[tuple[int, int]]:
    """The wake-up pipe (read, write); all handlers are put back at the end."""
    reader, writer = signals.open_wakeup_pipe()
    heard = [*SIGNALS, *([signal.SIGCHLD] if is_init else [])]
    before_fd = signals.install_wakeup_fd(writer)
    # A parent may have left SIGCHLD ignored: then the kernel would reap the workers itself and forget how they ended.
    before = signals.reset(signal.SIGCHLD)
    before = {**signals.deliver_to_wakeup(*heard), **before}
    # Only now: whoever started us may have left them blocked, which exec keeps, and some may wait already.
    signals.unblock(*heard)
    try:
        yield reader, writer
    finally:
        signals.restore(before)
        signals.install_wakeup_fd(before_fd)
        os.close(reader)
        os.close(writer)


@contextmanager
def _terminal_signals() -> Iterator[int]:
    """A descriptor that tells of `TERMINAL_SIGNALS`, which are blocked meanwhile."""
    before = signals.reset(*TERMINAL_SIGNALS)  # one that is ignored is never told of
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    fd = signals.open_signalfd(*TERMINAL_SIGNALS)
    try:
        yield fd
    finally:
        signals.take_signalfd(fd)  # else one that waits would stop us now
        signals.ignore(*TERMINAL_SIGNALS)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        signals.restore(before)
        os.close(fd)
