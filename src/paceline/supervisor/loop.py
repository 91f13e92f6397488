"""The supervisor: one process, one thread, one loop.  wait → event → the roster decides → commands are carried out.

It waits for signals (bytes in a pipe), for the control channels and the ends of its workers (pidfds), for connections
in the inboxes of the dead, and for time; never anywhere else.  What a channel does not take is kept and tried again.
It never runs or imports the user's code, and never reads a client's bytes.

    TERM, INT    drain for up to --drain-timeout, then end; a second one ends within a second
    QUIT         end at once, without a drain (Ctrl-\\): calls that run are cut
    HUP, USR1, USR2, TTIN, TTOU    nothing yet

SIGCHLD is not needed: a pidfd tells each end by itself, so that ends cannot hide behind each other, and nobody else's
child is ever taken for a worker.  Only as PID 1, where the orphans of all others are ours to reap, it is a wake-up to
look for them.  What a worker leaves behind (a handler's subprocess) is not ours to kill.

The server ends by itself only when its first worker cannot start.  An exception in here is a bug: it is logged, and the
loop goes on.
"""

import os
import select
import signal
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from paceline import clock
from paceline.addresses import parse_address
from paceline.errors import HostError, UsageError
from paceline.host import processes, signals
from paceline.host.listeners import Listener, close_listener, open_listener
from paceline.scoreboard.board import Board
from paceline.scoreboard.fields import WORKER
from paceline.settings import Settings
from paceline.supervisor import child
from paceline.supervisor.check import check
from paceline.supervisor.hands import Hands
from paceline.supervisor.inquest import OutOfMemory, inquire
from paceline.supervisor.lifecycle import State
from paceline.supervisor.roster import Roster
from paceline.supervisor.seats import Seat, close_seats, open_seats
from paceline.supervisor.sentences import span_text
from paceline.supervisor.size import size_of
from paceline.supervisor.steady import Steady
from paceline.supervisor.system import System
from paceline.supervisor.vocabulary import Event, Said, SeatEmptied, StopAsked, Ticked, TimePassed

__all__ = ["check", "serve", "supervise"]

TICK_S = 1.0
WARY_MS = 50
"""After a bug in the loop nothing but signals is waited for, for so long, so that it does not spin."""
FAREWELL_MS = 1000
"""At an end that was not planned: how long a killed worker is waited for."""

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)

Hear = Callable[[Seat | None], Iterator[Event]]


def serve(settings: Settings, target: object | None = None) -> int:
    """Serve until a signal asks for the end.  Returns the exit code: 0, 3 it could not start, 4 calls were cut.

    `target` is served instead of the text in the settings.  Main thread only.  Raises UsageError and SettingError for
    what the caller did wrong, HostError when the machine refuses (a busy port, no descriptors).
    """
    from paceline.worker.process import main  # before the first fork: the workers share what it imports

    return supervise(settings, target, System(main))


def supervise(settings: Settings, target: object | None, system: System) -> int:
    """`serve` with other surroundings."""
    if threading.current_thread() is not threading.main_thread():
        raise UsageError("the server must be started from the main thread, because signals arrive only there")
    _require_pidfds()
    addresses = [parse_address(text) for text in settings.bind]
    listeners: list[Listener] = []

    def listen(*kinds: str) -> None:
        for index, address in enumerate(addresses):
            if address.kind in kinds:
                listeners.append(open_listener(address, index, settings.backlog, settings.keepalive))

    with ExitStack() as stack:
        stack.callback(_close_all, listeners)
        # Before anything of ours is open: fd://9 shall never be the log, the board or the inbox of a seat.
        listen("fd")
        log = system.open_log("supervisor", settings.log_format)
        stack.callback(log.close)
        size = size_of(settings, *system.usable_cores())
        signal_fds = stack.enter_context(_signals_as_bytes(is_init=system.is_init))
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
        served = settings.target if target is None else target
        hands = Hands(settings, served, system, log, size, signal_fds, listeners, board, seats)
        stack.callback(hands.stop_listening)
        # After the signals are ours: who asks for the end from here on leaves no file of a Unix socket behind.
        listen("tcp", "unix")
        listeners.sort(key=lambda listener: listener.index)
        stack.callback(hands.bury_all, FAREWELL_MS)
        return Supervisor(hands).run()


def _close_all(listeners: list[Listener]) -> None:
    while listeners:
        close_listener(listeners.pop())


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
    signals.unblock(*heard)  # whoever started us may have left them blocked, which exec keeps
    # A parent may have left SIGCHLD ignored: then the kernel would reap the workers itself and forget how they ended.
    before = {**signals.reset(signal.SIGCHLD), **signals.ignore(signal.SIGTTIN, signal.SIGTTOU)}
    before = {**signals.deliver_to_wakeup(*heard), **before}
    try:
        yield reader, writer
    finally:
        signals.restore(before)
        signals.install_wakeup_fd(before_fd)
        os.close(reader)
        os.close(writer)


class Supervisor:
    """The loop, and what it knows."""

    def __init__(self, hands: Hands) -> None:
        settings, size = hands.settings, hands.size
        self.hands = hands
        self.seats = hands.seats
        self.board = hands.board
        self.log = hands.log
        self.steady = Steady(hands.system.now)
        self.now = self.steady.now
        self.roster = Roster(
            size.workers,
            size.seats,
            settings.boot_timeout,
            settings.drain_timeout,
            settings.heartbeat,
            hands.system.random,
        )
        self.oom = OutOfMemory()
        self.started_at = self.tick_at = self.now()
        self.is_wary = False
        """Something has just gone wrong in here."""

    # The loop

    def run(self) -> int:
        """Until the roster says that it is over; returns the exit code."""
        child.flush_prints()
        while self.hands.exit_code is None:
            try:
                for hear, seat in self.wait():
                    for event in hear(seat):
                        self.react(event)
            except Exception as error:  # noqa: BLE001 - a bug of ours
                self.on_bug(error)
        if self.roster.serving:
            self.log.say("stopped", uptime=span_text(self.now() - self.started_at), calls=self.hands.count_calls())
        return self.hands.exit_code

    def wait(self) -> list[tuple[Hear, Seat | None]]:
        """Wait until something happened; returns who is to be heard, in this order."""
        if self.is_wary:
            self.pause()
        now, next_at = self.now(), self.roster.next_at
        until = self.tick_at if next_at is None else min(self.tick_at, next_at)
        sources = self.sources()
        poll = select.poll()
        for fd, (mask, _, _) in sources.items():
            poll.register(fd, mask)
        ready = poll.poll(max(0.0, until - now) * 1000)
        self.steady.on_woken(max(now, until))
        return [*(sources[fd][1:] for fd, _ in ready), (self.on_time, None)]

    def sources(self) -> dict[int, tuple[int, Hear, Seat | None]]:
        """What is waited for: descriptor → poll(2) mask, who hears, about which seat."""
        sources: dict[int, tuple[int, Hear, Seat | None]] = {
            self.hands.signal_fds[0]: (select.POLLIN, self.on_signals, None)
        }
        for seat in self.seats:
            if seat.is_taken:
                if seat.control is not None and not seat.is_deaf:
                    mask = select.POLLIN | (select.POLLOUT if seat.outbox else 0)
                    sources[seat.control.fileno()] = (mask, self.on_control, seat)
                sources[seat.pidfd] = (select.POLLIN, self.on_ended, seat)
            elif self.hands.ready and not seat.is_stuck:
                sources[seat.inbox.reader.fileno()] = (select.POLLIN, self.on_inbox, seat)
        return sources

    def react(self, event: Event) -> None:
        """Ask the roster, and carry out what it says.

        Whatever goes wrong costs the one event or the one command: of the others, nobody would tell us again.
        """
        events = deque([event])
        while events:
            try:
                commands = self.roster.on(events.popleft(), self.now())
            except Exception as error:  # noqa: BLE001 - a bug of ours
                self.on_bug(error)
                continue
            self.hands.ready = tuple(self.seats[worker.seat] for worker in self.roster.in_state(State.READY))
            for command in commands:
                try:
                    answer = self.hands.carry_out(command)
                except Exception as error:  # noqa: BLE001 - a bug of ours
                    self.on_bug(error)
                else:
                    events += [answer] if answer is not None else []

    def on_bug(self, error: Exception) -> None:
        """Ours: it is told, and the loop goes on.  Before the first worker is ready it is the end: raises `error`."""
        if not self.roster.serving:
            raise error
        self.is_wary = True
        where, detail = "the supervisor's loop", "".join(traceback.format_exception(error))
        self.log.say("supervisor-bug", where=where, error=repr(error), detail=detail)

    def pause(self) -> None:
        """Wait for nothing but signals, for a moment."""
        self.is_wary = False
        poll = select.poll()
        poll.register(self.hands.signal_fds[0], select.POLLIN)
        poll.poll(WARY_MS)

    # What happened

    def on_signals(self, _seat: Seat | None) -> Iterator[Event]:
        for number in signals.take_received(self.hands.signal_fds[0]):
            name = signals.name_of(number)
            match number:
                case signal.SIGTERM | signal.SIGINT:
                    yield StopAsked(name)
                case signal.SIGQUIT:
                    yield StopAsked(name, at_once=True)
                case signal.SIGCHLD:
                    yield from self.on_orphans()
                case _:
                    self.log.say("signal-unused", signal=name)

    def on_control(self, seat: Seat | None) -> Iterator[Event]:
        assert seat is not None
        seat.flush()
        for message in seat.hear():
            yield Said(seat.number, message)
        worker = self.roster.workers.get(seat.number)
        if seat.is_deaf and worker is not None and worker.state is State.DRAINING:
            self.hands.tell_by_signal(seat)

    def on_ended(self, seat: Seat | None) -> Iterator[Event]:
        assert seat is not None
        status = processes.reap(seat.pid) if seat.is_taken else None
        if status is not None:
            yield from self.bury(seat, status)

    def bury(self, seat: Seat, status: int) -> Iterator[Event]:
        """A worker is dead and reaped: hear its last words, look at what it was doing, clear its seat."""
        while words := seat.hear():
            for message in words:
                yield Said(seat.number, message)
        exited = inquire(seat.number, seat.fault_fd, status, self.board, self.oom, self.now())
        self.board.leave(seat.number)
        seat.leave()
        yield exited

    def on_inbox(self, seat: Seat | None) -> Iterator[Event]:
        assert seat is not None
        if not seat.is_taken and self.hands.move_inbox(seat):
            yield SeatEmptied(seat.number)

    def on_orphans(self) -> Iterator[Event]:
        """As PID 1: all that has ended, workers among them."""
        while (pid := processes.find_ended()) is not None:
            status = processes.reap(pid)
            if status is None:
                return
            seat = next((seat for seat in self.seats if seat.pid == pid), None)
            if seat is not None:
                yield from self.bury(seat, status)
            else:
                self.log.say("orphan-reaped", pid=pid, cause=processes.cause_of(status))

    def on_time(self, _seat: Seat | None) -> Iterator[Event]:
        now = self.now()
        if now >= self.tick_at:
            self.tick_at = now + TICK_S
            yield from self.on_tick(now)
        if self.roster.next_at is not None and self.roster.next_at <= now:
            yield TimePassed()

    def on_tick(self, now: float) -> Iterator[Event]:
        self.oom.look(now)
        words, row_of, beat = self.board.words, self.board.layout.worker_index, WORKER["heartbeat_ns"]
        beats = {seat.number: words[row_of(seat.number) + beat] for seat in self.seats if seat.is_taken}
        yield Ticked(self.hands.find_waiting(), beats)
        for seat in self.seats:
            if seat.is_stuck or self.roster.is_emptying(seat.number):
                yield from self.on_inbox(seat)
        if self.hands.system.is_init:
            yield from self.on_orphans()
