"""The supervisor: one process, one thread, one loop.  wait → event → the roster decides → commands are carried out.

It waits for signals (bytes in a pipe), for the control channels and the ends of its workers (pidfds), for connections
in the inboxes of the dead, for those who ask on the control socket, and for time; never anywhere else.  What a channel
does not take is kept and tried again.  It never runs or imports the user's code, and never reads a client's bytes.

    TERM, INT    drain for up to --drain-timeout, then end; a second one ends within a second
    QUIT         end at once, without a drain (Ctrl-\\): calls that run are cut
    HUP          reload: new workers with the present code and settings, then the old ones leave
    TTIN, TTOU   one worker more, one fewer
    USR1         the log's file is opened anew
    USR2         upgrade in place: a new Paceline or Python takes over in this process

SIGCHLD is not needed: a pidfd tells each end by itself, so that ends cannot hide behind each other, and nobody else's
child is ever taken for a worker.  Only as PID 1, where the orphans of all others are ours to reap, it is a wake-up to
look for them.  What a worker leaves behind (a handler's subprocess) is not ours to kill.

The server ends by itself only when its first worker cannot start.  An exception in here is a bug: it is logged, and the
loop goes on.
"""

import select
import signal
import threading
import traceback
from collections import deque
from collections.abc import Iterator

from paceline import clock
from paceline.errors import UsageError
from paceline.host import signals
from paceline.scoreboard.fields import WORKER
from paceline.settings import Settings
from paceline.supervisor import child
from paceline.supervisor.bulletin import Bulletin
from paceline.supervisor.burying import Burying
from paceline.supervisor.changing import Changing, LookAgain
from paceline.supervisor.check import check
from paceline.supervisor.control import Control
from paceline.supervisor.hands import Hands
from paceline.supervisor.inquest import Inquest
from paceline.supervisor.lifecycle import State
from paceline.supervisor.opening import opened
from paceline.supervisor.posts import Limits, Posts
from paceline.supervisor.roster import Roster
from paceline.supervisor.seats import Hear, Seat, Sources
from paceline.supervisor.sentences import span_text
from paceline.supervisor.start import Start
from paceline.supervisor.steady import Steady
from paceline.supervisor.system import System
from paceline.supervisor.vocabulary import (
    Event,
    Said,
    Say,
    ScaleAsked,
    StopAsked,
    Ticked,
    TimePassed,
)
from paceline.worker.messages import Dumped

__all__ = ["check", "serve", "supervise"]

TICK_S = 1.0
WARY_MS = 50
"""After a bug in the loop nothing but signals is waited for, for so long, so that it does not spin."""


def serve(
    settings: Settings,
    target: object | None = None,
    look_again: LookAgain | None = None,
    start: Start | None = None,
) -> int:
    """Serve until a signal asks for the end.  Returns the exit code: 0, 3 it could not start, 4 calls were cut.

    `target` is served instead of the text in the settings.  `look_again` says what a reload serves with; without it,
    the same settings.  `start` says who started us, and in whose place (default: nobody).  Main thread only.  Raises
    UsageError and SettingError for what the caller did wrong, HostError when the machine refuses (a busy port, no
    descriptors).
    """
    from paceline.worker.process import main  # before the first fork: the workers share what it imports

    return supervise(settings, target, System(main), look_again, start)


def supervise(
    settings: Settings,
    target: object | None,
    system: System,
    look_again: LookAgain | None = None,
    start: Start | None = None,
) -> int:
    """`serve` with other surroundings."""
    if threading.current_thread() is not threading.main_thread():
        raise UsageError("the server must be started from the main thread, because signals arrive only there")
    started = Start() if start is None else start
    with opened(settings, target, system, started) as hands:
        supervisor = Supervisor(hands, look_again, started)
        try:
            return supervisor.run()
        finally:
            supervisor.close()


class Supervisor:
    """The loop, and what it knows."""

    def __init__(self, hands: Hands, look_again: LookAgain | None = None, start: Start | None = None) -> None:
        settings, size = hands.settings, hands.size
        self.start = Start() if start is None else start
        left = self.start.testament
        self.hands = hands
        self.seats = hands.seats
        self.board = hands.board
        self.log = hands.log
        self.steady = Steady(hands.system.now)
        if left is not None:
            self.steady.go_on(left.gap_s, left.written_at)
        self.now = self.steady.now
        limits = Limits.of(settings)
        if left is None:
            posts = Posts.of(size.workers, size.seats, limits)
        else:
            from paceline.supervisor.upgrade import adopt_posts

            posts = adopt_posts(left, self.seats, limits, self.now())
        self.roster = Roster(posts, size.most_workers, hands.system.random)
        self.inquest = Inquest(hands.board)
        self.started_at = self.tick_at = self.now()
        if left is not None:
            self.started_at = left.started_at
        reloads = 0 if left is None else left.reloads
        self.bulletin = Bulletin(self.start.manager, clock.now(), settings.heartbeat, reloads)
        self.control = Control(hands.presence.listener, self)
        self.changing = Changing(self, look_again)
        self.burying = Burying(self)
        hands.on_answer, hands.private_fds = self.control.on_answer, self._private_fds
        self.is_wary = False
        """Something has just gone wrong in here."""

    # The loop

    def run(self) -> int:
        """Until the roster says that it is over; returns the exit code."""
        child.flush_prints()
        if self.start.testament is not None:
            for event in self.changing.take_over(self.start.testament):
                self.react(event)
        while self.hands.exit_code is None:
            try:
                self.bulletin.look(self.roster, self.board, self.hands.spoken_places, clock.now())
                for hear, seat in self.wait():
                    for event in hear(seat):
                        self.react(event)
            except Exception as error:  # noqa: BLE001 - a bug of ours
                self._on_bug(error)
        self.bulletin.look(self.roster, self.board, (), clock.now())
        if self.roster.posts.is_serving:
            self.log.say("stopped", uptime=span_text(self.now() - self.started_at), calls=self.hands.count_calls())
        return self.hands.exit_code

    def close(self) -> None:
        """At the end, whichever it is."""
        self.changing.close()
        self.control.close()

    def _private_fds(self) -> list[int]:
        """What no worker may keep, of all that is open only for a time."""
        return [*self.control.fds(), *self.changing.fds(), *self.start.manager.fds()]

    def wait(self) -> list[tuple[Hear, Seat | None]]:
        """Wait until something happened; returns who is to be heard, in this order."""
        if self.is_wary:
            self._pause()
        self.steady.on_step()
        now = self.now()
        others = [self.roster.next_at, self.roster.silent_at, self.changing.next_at, self.control.next_at]
        others.append(self.bulletin.next_at(self.steady.gap_s))
        until = min((self.tick_at, *(at for at in others if at is not None)))
        sources = self._sources()
        poll = select.poll()
        for fd, (mask, _, _) in sources.items():
            poll.register(fd, mask)
        ready = poll.poll(max(0.0, until - now) * 1000)
        self.steady.on_woken(max(now, until))
        return [*(sources[fd][1:] for fd, _ in ready), (self._on_time, None)]

    def _sources(self) -> Sources:
        """What is waited for: descriptor → poll(2) mask, who hears, about which seat."""
        sources: Sources = {
            self.hands.signal_fds[0]: (select.POLLIN, self._on_signals, None),
            self.hands.signal_fds[2]: (select.POLLIN, self._on_terminal_signals, None),
            **self.control.sources(),
            **self.changing.sources(),
        }
        for seat in self.seats:
            if seat.is_taken:
                if seat.control is not None and not seat.is_deaf:
                    mask = select.POLLIN | (select.POLLOUT if seat.outbox else 0)
                    sources[seat.control.fileno()] = (mask, self._on_control, seat)
                sources[seat.pidfd] = (select.POLLIN, self.burying.on_ended, seat)
            elif self.hands.ready and not seat.is_stuck:
                sources[seat.inbox.reader.fileno()] = (select.POLLIN, self.burying.on_inbox, seat)
        return sources

    def react(self, event: Event) -> None:
        """Ask the roster, and carry out what it says.

        Whatever goes wrong costs the one event or the one command: of the others, nobody would tell us again.
        """
        events = deque([event])
        while events:
            self.steady.on_step()
            try:
                commands = self.roster.on(events.popleft(), self.now())
            except Exception as error:  # noqa: BLE001 - a bug of ours
                self._on_bug(error)
                continue
            self.hands.ready = tuple(self.seats[worker.seat] for worker in self.roster.posts.in_state(State.READY))
            self._follow()
            for command in commands:
                if isinstance(command, Say):
                    self.bulletin.on_said(command.event, command.fields)
                try:
                    answer = self.hands.carry_out(command)
                except Exception as error:  # noqa: BLE001 - a bug of ours
                    self._on_bug(error)
                else:
                    events += [answer] if answer is not None else []

    def _follow(self) -> None:
        """What the generation that serves is set to, as far as it is about the supervisor, too."""
        settings = self.hands.settings_for(self.roster.posts.generation)
        self.log.fmt = settings.log_format
        self.bulletin.systemd.fresh_s = settings.heartbeat

    def _on_bug(self, error: Exception) -> None:
        """Ours: it is told, and the loop goes on.  Before the first worker is ready it is the end: raises `error`."""
        if not self.roster.posts.is_serving:
            raise error
        self.is_wary = True
        where, detail = "the supervisor's loop", "".join(traceback.format_exception(error))
        self.log.say("supervisor-bug", where=where, error=repr(error), detail=detail)

    def _pause(self) -> None:
        """Wait for nothing but signals, for a moment."""
        self.is_wary = False
        poll = select.poll()
        poll.register(self.hands.signal_fds[0], select.POLLIN)
        poll.poll(WARY_MS)

    # What happened

    def _on_signals(self, _seat: Seat | None) -> Iterator[Event]:
        for number in signals.take_received(self.hands.signal_fds[0]):
            name = signals.name_of(number)
            match number:
                case signal.SIGTERM | signal.SIGINT:
                    yield StopAsked(name)
                case signal.SIGQUIT:
                    yield StopAsked(name, at_once=True)
                case signal.SIGHUP:
                    yield from self.changing.ask_reload()
                case signal.SIGUSR2:
                    self.changing.ask_upgrade()
                case signal.SIGUSR1:
                    self.hands.reopen_logs()
                case signal.SIGCHLD:
                    yield from self.burying.on_orphans()
                case _:
                    self.log.say("signal-unused", signal=name)

    def _on_terminal_signals(self, _seat: Seat | None) -> Iterator[Event]:
        for number in signals.take_signalfd(self.hands.signal_fds[2]):
            yield ScaleAsked(0, by=1 if number == signal.SIGTTIN else -1)

    def _on_control(self, seat: Seat | None) -> Iterator[Event]:
        assert seat is not None
        seat.flush()
        for message in self.inquest.heard(seat.number, seat.hear()):
            if isinstance(message, Dumped):
                self.control.on_dumped(seat, message)
            yield Said(seat.number, message)
        worker = self.roster.posts.workers.get(seat.number)
        if seat.is_deaf and worker is not None and worker.state is State.DRAINING:
            self.hands.tell_by_signal(seat)

    def _on_time(self, _seat: Seat | None) -> Iterator[Event]:
        self.steady.on_step()
        now = self.now()
        silent_at = self.roster.silent_at
        if now >= self.tick_at or (silent_at is not None and now >= silent_at):
            self.tick_at = now + TICK_S
            yield from self.on_tick(now)
        if self.roster.next_at is not None and self.roster.next_at <= now:
            yield TimePassed()
        self.changing.on_time()
        yield from self.control.on_time()

    def on_tick(self, now: float) -> Iterator[Event]:
        self.inquest.look(now)
        words, row_of, beat = self.board.words, self.board.layout.worker_index, WORKER["heartbeat_ns"]
        beats = {seat.number: words[row_of(seat.number) + beat] for seat in self.seats if seat.is_taken}
        now_ns = clock.now_ns()
        ages = {number: (now_ns - beat_ns) / 1e9 for number, beat_ns in beats.items() if beat_ns}
        limits = self.roster.posts.limits
        usage = self.hands.usage() if limits.messages is not None or limits.rss_bytes is not None else {}
        yield Ticked(self.hands.find_waiting(), beats, usage, ages)
        for seat in self.seats:
            if seat.is_stuck or self.roster.is_emptying(seat.number):
                yield from self.burying.on_inbox(seat)
        if self.hands.system.is_init:
            yield from self.burying.on_orphans()
