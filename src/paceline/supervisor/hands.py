"""The hands of the supervisor: what the roster decides, done.  Called by loop.py only, on its one thread.

Nothing here waits, but for the fork itself, and no failure here ends anything: a process that cannot be made is an
event like others, a signal to one that is gone is nothing, a log line that nobody takes is dropped (host/output.py).
"""

import os
import select
import signal
import socket
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field

from paceline.host import processes
from paceline.host.listeners import Listener, close_listener
from paceline.host.passing import NotAConnection
from paceline.host.pidfile import PidFile
from paceline.scoreboard.board import Board
from paceline.settings import Settings
from paceline.supervisor import child
from paceline.supervisor.presence import Presence
from paceline.supervisor.seats import Seat
from paceline.supervisor.sentences import crew_text
from paceline.supervisor.size import Size
from paceline.supervisor.system import Says, System
from paceline.supervisor.vocabulary import (
    Abort,
    Adopt,
    Announce,
    Answer,
    Command,
    End,
    Event,
    Forked,
    ForkFailed,
    Kill,
    Say,
    SeatEmptied,
    Spawn,
    StopListening,
    Tell,
    Usage,
    Vacate,
)
from paceline.worker.messages import Drain, Reopen
from paceline.worker.plan import Plan


@dataclass(slots=True)
class Hands:
    """Everything the supervisor holds.  The descriptors belong to whoever made this, but for the workers' own."""

    settings: Settings
    """Those of the server's start; what does not depend on the generation is looked up here."""
    target: object
    """What is served: a text, or the handler itself."""
    system: System
    log: Says
    size: Size
    signal_fds: tuple[int, ...]
    """The wake-up pipe (read, write), and what tells of the terminal's signals."""
    listeners: list[Listener]
    board: Board
    seats: list[Seat]
    ready: tuple[Seat, ...] = ()
    """Where a ready worker sits; set by the loop."""
    exit_code: int | None = None
    """It is over."""
    pid_file: PidFile | None = None
    settings_of: dict[int, Settings] = field(default_factory=dict)
    """By generation, of those that still matter."""
    on_answer: Callable[[Answer], None] = lambda _answer: None
    """Who passes an answer on to whoever asked; set by the loop."""
    private_fds: Callable[[], list[int]] = list
    """What no worker may keep, of what the loop has open; set by the loop."""
    presence: Presence = field(default_factory=Presence)
    """How others find the server."""

    def settings_for(self, generation: int) -> Settings:
        """What this generation is set to."""
        return self.settings_of.get(generation, self.settings)

    def carry_out(self, command: Command) -> Event | None:
        """Do it; returns the answer, if it has one."""
        match command:
            case Spawn():
                return self.spawn(command)
            case Tell(number, message):
                seat = self.seats[number]
                if not seat.tell(message) and isinstance(message, Drain):
                    self.tell_by_signal(seat)
            case Abort(number):
                processes.send_signal(self.seats[number].pidfd, signal.SIGABRT)
            case Kill(number):
                processes.send_signal(self.seats[number].pidfd, signal.SIGKILL)
            case Vacate(number):
                return SeatEmptied(number) if self.move_inbox(self.seats[number]) else None
            case Adopt(generation, settings, serving):
                self.settings_of = {serving: self.settings_for(serving), generation: settings}
            case Answer():
                self.on_answer(command)
            case Say(event, fields):
                self.log.say(event, **fields)
            case Announce():
                self.announce()
            case StopListening():
                self.stop_listening()
            case End(code):
                self.exit_code = code
        return None

    def spawn(self, command: Spawn) -> Forked | ForkFailed:
        """Make a worker in the seat."""
        seat = self.seats[command.seat]
        try:
            with seat.open_control() as theirs:
                pid = child.start(self.plan_of(command, seat, theirs), self.system.main, self.system.fork)
            try:
                seat.sit(pid, processes.open_pidfd(pid), self.board.total(seat.number, "messages"))
            except Exception:
                os.kill(pid, signal.SIGKILL)  # its number is its own until it is reaped
                processes.reap_soon(pid)
                raise
        except Exception as error:  # noqa: BLE001 - the roster waits for an answer, whatever it is
            seat.leave()
            if not isinstance(error, OSError):  # a bug of ours
                detail = "".join(traceback.format_exception(error))
                self.log.say("supervisor-bug", where="the start of a worker", error=repr(error), detail=detail)
                return ForkFailed(seat.number, repr(error))
            return ForkFailed(seat.number, error.strerror or str(error))
        return Forked(seat.number, pid)

    def plan_of(self, command: Spawn, seat: Seat, control: socket.socket) -> Plan:
        """What the worker in this seat is given; `control` is its end of the channel."""
        settings = self.settings_for(command.generation)
        private = {fd for other in self.seats for fd in other.private_fds()} | set(self.signal_fds)
        private |= {self.pid_file.fd} if self.pid_file is not None else set()
        private |= {*self.presence.fds(), *self.private_fds()}
        return Plan(
            settings=settings,
            target=settings.target if isinstance(self.target, str) else self.target,
            listeners=tuple(self.listeners),
            inboxes=tuple(other.inbox for other in self.seats),
            board=self.board,
            control=control,
            fault_fd=seat.fault_fd,
            seat=seat.number,
            slot=command.slot,
            generation=command.generation,
            supervisor_pid=os.getpid(),
            close_fds=tuple(private - {seat.fault_fd}),
            standby=True,  # else it would serve before we know that it is ready, and might end it as one that boots
            probe=command.probe,
        )

    def tell_by_signal(self, seat: Seat) -> None:
        """It is to drain and has closed its channel, as user code may that closes everything: TERM means drain, too."""
        processes.send_signal(seat.pidfd, signal.SIGTERM)

    def move_inbox(self, seat: Seat) -> bool:
        """Pass on what waits in the inbox of the dead, to those who are ready.  True: nothing is left there."""
        while True:
            try:
                emptied = seat.move_inbox(self.ready)
            except NotAConnection as error:
                self.log.say("supervisor-bug", where="an inbox", error=str(error))
            else:
                seat.is_stuck = not emptied and bool(self.ready)
                return emptied

    def reopen_logs(self) -> None:
        """The log's file was moved away: open its path anew, everybody."""
        self.log.reopen()
        for seat in self.seats:
            if seat.is_taken:
                seat.tell(Reopen())

    def usage(self) -> dict[int, Usage]:
        """What the workers have used, by seat."""
        taken = [seat for seat in self.seats if seat.is_taken]
        return {
            seat.number: Usage(
                self.board.total(seat.number, "messages") - seat.messages_before, processes.resident_bytes(seat.pid)
            )
            for seat in taken
        }

    @property
    def places(self) -> list[str]:
        """Where the server listens, as it is written and read back."""
        return [listener.text for listener in self.listeners]

    @property
    def spoken_places(self) -> list[str]:
        """The same for people: with what each of them serves."""
        is_encrypted = self.settings.tls_cert is not None
        return [listener.spoken(is_encrypted=is_encrypted) for listener in self.listeners]

    def announce(self) -> None:
        """Say where the server listens: the one line that a person waits for."""
        self.publish()
        addresses, places = ", ".join(self.places), ", ".join(self.spoken_places)
        crew = crew_text(self.size.workers, self.settings.threads)
        self.log.say("listening", addresses=addresses, places=places, crew=crew, pid=os.getpid())
        if self.settings.user is None and self.system.is_root():
            self.log.say("root-kept")
        if self.size.exceeds_cores:
            cores = {"cores": self.size.cores, "why": self.size.why_cores}
            self.log.say("more-workers-than-cores", workers=self.size.workers, **cores)

    def publish(self) -> None:
        """Leave a file by which others find the server, now that it serves."""
        words = [listener.words for listener in self.listeners]
        self.presence.publish(self.board.fd, self.places, self.settings.target, words)

    def stop_listening(self) -> None:
        """Close the listeners, and remove the files of Unix sockets."""
        while self.listeners:
            close_listener(self.listeners.pop())

    def find_waiting(self) -> tuple[int, ...]:
        """The listeners in whose accept queue connections wait: readable means just that, for Unix sockets too."""
        poll = select.poll()
        for listener in self.listeners:
            poll.register(listener.fileno(), select.POLLIN)
        readable = {fd for fd, _ in poll.poll(0)}
        return tuple(listener.index for listener in self.listeners if listener.fileno() in readable)

    def count_calls(self) -> int:
        """Calls that were begun, by all workers there ever were."""
        return self.board.snapshot().calls

    def bury_all(self, patience_ms: int) -> None:
        """At an end that was not planned: kill and reap whoever is there, and leave behind who is not gone in time."""
        left = [seat for seat in self.seats if seat.is_taken]
        for seat in left:
            processes.send_signal(seat.pidfd, signal.SIGKILL)
        for seat in left:
            poll = select.poll()
            poll.register(seat.pidfd, select.POLLIN)
            poll.poll(patience_ms)
            processes.reap(seat.pid)
            seat.leave()
