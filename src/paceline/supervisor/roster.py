"""Which workers should exist, in which state, and when to act next.  Pure: it decides, hands.py acts.

The roster has *slots*, the workers that should exist, and *seats*, the places where they may sit; there are more of
these.  It is told what happened (vocabulary.py) together with the time, and answers with commands; `next_at` is when it
wants to hear `TimePassed` if nothing else happens.  Times are seconds of one clock that never runs backwards.

What it promises:

* the first worker boots alone; only when it is ready come the others: one traceback, not one per worker.  If it cannot
  start, that is the end, with its exit code.  After a first worker was ready, nothing but a signal ends the server;
* a worker that dies after it was ready is replaced at once: no slot gets two processes within `RESPAWN_S`;
* one that dies before is tried again along the curve `backoff.BOOT`.  If then one that had failed gets ready, the cause
  is gone, and whoever still waits is tried at once;
* a worker that is ready is left alone, as long as its watcher lives;
* a stop takes the drain time, then workers are killed, and if one still does not go, it is left behind.

One Spawn at most is given per event, so that a hundred dead workers do not keep the supervisor from its signals: the
next follows at once, with `TimePassed`.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum, auto

from paceline.supervisor.backoff import BOOT, FORK, Deaths
from paceline.supervisor.lifecycle import RESPAWN_S, Slot, State, Worker
from paceline.supervisor.sentences import span_text
from paceline.supervisor.vocabulary import (
    Abort,
    Announce,
    Command,
    End,
    Event,
    Exited,
    Forked,
    ForkFailed,
    Kill,
    Said,
    Say,
    SeatEmptied,
    Spawn,
    StopAsked,
    StopListening,
    Tell,
    Ticked,
    TimePassed,
    Vacate,
)
from paceline.worker.messages import Drain, Failed, Leaving, Message, Nudge, Ready

LAST_WORD_S = 5.0
"""Who has said that it leaves, or that it could not start, must be gone by then."""
GRACE_S = 0.5
"""The worker itself cuts its calls when the drain time is over, and says how many: it is aborted so much later, or so
much after that last word if it came at the last moment."""
ABORT_S = 0.4
"""Who was sent SIGABRT must be gone by then; then comes SIGKILL."""
ABANDON_S = 5.0
"""In a stop, a killed worker that is not gone by then is left behind: the kernel does not let go of it."""
ABANDON_HARD_S = 0.4
"""The same after a second signal, which ends the server within a second."""


ECHO_S = 0.2
"""The same signal once more within this time is the first one: Ctrl-C reaches the whole process group, and whoever
started us (a wrapper, a container's init) passes it on, too."""
ANNOUNCE_S = 1.0
"""How long the first worker waits for the others before the server says that it serves."""

ENDED_BY_US = (State.ABORTING, State.KILLED)


class SeatState(Enum):
    FREE = auto()
    TAKEN = auto()
    EMPTYING = auto()
    """Its worker is dead; its inbox may hold connections."""


class Stop(Enum):
    """How urgent the end is."""

    SOFT = auto()
    HARD = auto()
    KILL = auto()


@dataclass(slots=True)
class Roster:
    """All slots, seats and workers of one server."""

    workers_wanted: int
    seats_made: int
    boot_timeout_s: float
    drain_timeout_s: float
    heartbeat_s: float
    random: Callable[[], float]
    """From 0 to 1, for the jitter."""
    generation: int = 1
    slots: list[Slot] = field(init=False)
    seats: list[SeatState] = field(init=False)
    workers: dict[int, Worker] = field(default_factory=dict)
    """By seat."""
    serving: bool = False
    """A worker has been ready."""
    announce_by: float | None = None
    """It serves and has not said so yet, because other workers are still starting; then it will."""
    stop: Stop | None = None
    asked: tuple[str, float] = ("", -ECHO_S)
    """The signal that was last obeyed, and when."""
    abandon_at: float | None = None
    cut: int = 0
    """Calls that the stop has cut."""
    ended: bool = False
    deaths: Deaths = field(default_factory=Deaths)
    waiting: frozenset[int] = frozenset()
    """Listeners with connections in their accept queue at the last tick."""

    def __post_init__(self) -> None:
        self.slots = [Slot(number) for number in range(self.workers_wanted)]
        self.seats = [SeatState.FREE] * self.seats_made

    def on(self, event: Event, now: float) -> list[Command]:
        """What is to be done about the event; to be carried out in this order."""
        if self.ended:
            return []
        commands = list(self._react(event, now))
        if not self.ended:
            commands += self._keep_time(now)
        if not self.ended:
            commands += self._fill(now)
            commands += self._announce(now)
        return commands

    @property
    def next_at(self) -> float | None:
        """When `on(TimePassed(), …)` will have something to do; None: not before something else happens."""
        if self.ended:
            return None
        times = [worker.kill_at for worker in self.workers.values()]
        times += [self.abandon_at, self.deaths.recovers_at, self.announce_by]
        if SeatState.FREE in self.seats:
            times += [slot.not_before for slot in self._vacant()]
        return min((at for at in times if at is not None), default=None)

    def in_state(self, *states: State) -> list[Worker]:
        return [worker for worker in self.workers.values() if worker.state in states]

    def is_emptying(self, seat: int) -> bool:
        """Its worker is dead, and SeatEmptied is awaited."""
        return self.seats[seat] is SeatState.EMPTYING

    # What happened

    def _react(self, event: Event, now: float) -> Iterator[Command]:
        match event:
            case Forked():
                yield from self._on_forked(event, now)
            case ForkFailed():
                yield from self._on_fork_failed(event, now)
            case Said():
                worker = self.workers.get(event.seat)
                if worker is not None:
                    yield from self._on_said(worker, event.message, now)
            case Exited():
                yield from self._on_exited(event, now)
            case SeatEmptied():
                if self.seats[event.seat] is SeatState.EMPTYING:
                    self.seats[event.seat] = SeatState.FREE
            case StopAsked():
                yield from self._on_stop_asked(event, now)
            case Ticked():
                yield from self._on_ticked(event, now)
            case TimePassed():
                pass

    def _on_forked(self, event: Forked, now: float) -> Iterator[Command]:
        worker = self.workers[event.seat]
        slot = self.slots[worker.slot]
        worker.advance(Forked)
        worker.pid, worker.forked_at, worker.kill_at = event.pid, now, now + self.boot_timeout_s
        slot.forked_at, slot.refusals = now, 0
        yield Say("worker-started", {"slot": worker.slot, "pid": worker.pid, "seat": worker.seat})

    def _on_fork_failed(self, event: ForkFailed, now: float) -> Iterator[Command]:
        worker = self.workers.pop(event.seat)
        self.seats[event.seat] = SeatState.FREE
        slot = self.slots[worker.slot]
        slot.seat = None
        slot.refusals += 1
        delay = FORK.after(slot.refusals, self.random())
        slot.not_before = now + delay
        yield Say("fork-failed", {"slot": slot.number, "error": event.error, "seconds": delay})

    def _on_said(self, worker: Worker, message: Message, now: float) -> Iterator[Command]:
        due = worker.kill_at
        match message:
            case Ready() if worker.advance(Ready):
                yield from self._on_ready(worker, message, now)
            case Failed() if worker.advance(Failed):
                worker.failed, worker.kill_at = message, now + LAST_WORD_S
            case Leaving() if worker.advance(Leaving):
                worker.left, worker.kill_at = message, now + LAST_WORD_S
                if self.stop is not None and due is not None:
                    worker.kill_at = min(worker.kill_at, max(due, now + GRACE_S))

    def _on_ready(self, worker: Worker, message: Ready, now: float) -> Iterator[Command]:
        worker.ready_at = worker.beat_at = now
        worker.kill_at = None
        slot = self.slots[worker.slot]
        first, self.serving = not self.serving, True
        if first:
            self.announce_by = now + ANNOUNCE_S
        if slot.failures:
            for other in self._vacant():
                other.not_before = min(other.not_before, max(now, other.forked_at + RESPAWN_S))
        slot.failures = 0
        yield Say(
            "worker-ready",
            {
                "slot": worker.slot,
                "pid": worker.pid,
                "seconds": now - worker.forked_at,
                "kind": message.kind,
                "framing": message.framing,
            },
        )

    def _on_exited(self, event: Exited, now: float) -> Iterator[Command]:
        worker = self.workers.pop(event.seat)
        slot = self.slots[worker.slot]
        slot.seat = None
        slot.not_before = max(now, slot.forked_at + RESPAWN_S)
        self.seats[event.seat] = SeatState.EMPTYING
        yield Vacate(event.seat)
        if worker.ready_at is None:
            yield from self._gone_before_ready(worker, slot, event, now)
        elif worker.left is not None and event.code in (0, 4):
            yield Say("worker-left", self._named(worker, now))
        else:
            yield from self._died(worker, slot, event, now)
        if self.stop is not None:
            if worker.left is not None:
                self.cut += worker.left.cut
            elif worker.state in ENDED_BY_US:
                self.cut += event.calls
            if not self.workers:
                yield from self._end()

    def _gone_before_ready(self, worker: Worker, slot: Slot, event: Exited, now: float) -> Iterator[Command]:
        if self.stop is not None:
            return
        if worker.failed is not None:
            why, detail = worker.failed.why, worker.failed.traceback
        else:
            why = f"the worker {worker.killed_because or event.cause + ' before it was ready'}"
            detail = event.detail
        if not self.serving:
            yield Say("start-failed", {"why": why, "detail": detail})
            code = worker.failed.exit_code if worker.failed is not None else 3
            yield self._ending(code if 0 < code < 126 else 3)
            return
        slot.failures += 1
        slot.not_before = max(slot.not_before, now + BOOT.after(slot.failures, self.random()))
        named = self._named(worker, now)
        yield Say("worker-failed", {**named, "why": why, "next": _next(slot, now), "detail": detail})

    def _died(self, worker: Worker, slot: Slot, event: Exited, now: float) -> Iterator[Command]:
        fields = {**self._named(worker, now), "cause": event.cause, "doing": event.doing, "detail": event.detail}
        if self.stop is not None:
            if worker.state not in ENDED_BY_US:  # else the reason was said when it was killed
                yield Say("worker-died", {**fields, "next": "not replaced, the server stops"})
            return
        yield Say("worker-died", {**fields, "next": _next(slot, now)})
        if self.deaths.record(now):
            yield Say("degraded", {"deaths": len(self.deaths)})

    def _announce(self, now: float) -> Iterator[Command]:
        """Whoever connects when the server says that it listens shall find all workers, not only the first."""
        if self.announce_by is None:
            return
        booting = {worker.slot for worker in self.in_state(State.FORKING, State.BOOTING)}
        fresh = [slot for slot in self.slots if not slot.failures and not slot.refusals]
        starting = [slot for slot in fresh if slot.number in booting or slot.seat is None]
        if not starting or now >= self.announce_by:
            self.announce_by = None
            yield Announce()

    # The end

    def _on_stop_asked(self, event: StopAsked, now: float) -> Iterator[Command]:
        name, at = self.asked
        if event.signal == name and now - at < ECHO_S:
            return
        self.asked = event.signal, now
        self.announce_by = None  # too late for that
        within = self.drain_timeout_s
        if event.at_once or self.stop is Stop.HARD or self.stop is Stop.KILL:
            self.stop, within = Stop.KILL, 0.0
            yield Say("stopping-now", {"signal": event.signal})
            yield StopListening()
            yield from self._kill_all()
        elif self.stop is Stop.SOFT:
            self.stop, within = Stop.HARD, 0.0
            yield Say("stopping-now", {"signal": event.signal})
            yield from self._drain_all(0.0, now)
        else:
            self.stop = Stop.SOFT
            yield Say("stopping", {"signal": event.signal, "within": span_text(within)})
            yield StopListening()
            yield from self._drain_all(within, now)
        patience = ABANDON_S if self.stop is Stop.SOFT else ABANDON_HARD_S
        self.abandon_at = now + patience + (0.0 if self.stop is Stop.KILL else within + GRACE_S)
        if not self.workers:
            yield from self._end()

    def _drain_all(self, within_s: float, now: float) -> Iterator[Command]:
        latest = now + within_s + GRACE_S
        for worker in list(self.workers.values()):
            match worker.state:
                case State.BOOTING:  # it serves nobody, and cannot hear us while it imports
                    yield from self._kill(worker)
                case State.READY | State.DRAINING:
                    worker.advance(Drain)
                    worker.kill_at = latest
                    yield Tell(worker.seat, Drain(within_s))
                case State.LEAVING if worker.kill_at is not None:
                    worker.kill_at = min(latest, worker.kill_at)

    def _kill_all(self) -> Iterator[Command]:
        for worker in list(self.workers.values()):
            yield from self._kill(worker)

    def _end(self) -> Iterator[Command]:
        if self.cut:
            soft = self.stop is Stop.SOFT
            why = f"the end of the drain time, {span_text(self.drain_timeout_s)} (--drain-timeout)"
            yield Say("cut", {"cut": self.cut, "why": why if soft else "a signal that asked for the end at once"})
        yield self._ending(4 if self.cut or self.workers else 0)

    def _ending(self, code: int) -> End:
        self.ended = True
        return End(code)

    # Time

    def _keep_time(self, now: float) -> Iterator[Command]:
        for worker in list(self.workers.values()):
            if worker.kill_at is not None and worker.kill_at <= now:
                if worker.state is State.ABORTING or self.stop is Stop.HARD:
                    yield from self._kill(worker)
                else:
                    yield from self._abort(worker, self._why_overdue(worker), now)
        if self.abandon_at is not None and self.abandon_at <= now:
            for worker in self.workers.values():
                yield Say("left-behind", self._named(worker, now))
            yield from self._end()
        elif self.deaths.has_recovered(now):
            yield Say("recovered", {"deaths": len(self.deaths)})

    def _why_overdue(self, worker: Worker) -> str:
        match worker.state:
            case State.BOOTING:
                return f"was not ready after {span_text(self.boot_timeout_s)} (--boot-timeout)"
            case State.DRAINING:
                return "still ran calls when the drain time was over"
            case _:
                return "was still there after its last word"

    def _on_ticked(self, event: Ticked, now: float) -> Iterator[Command]:
        for worker in self.in_state(State.READY):
            beat = event.beats.get(worker.seat, worker.beat)
            if beat != worker.beat:
                worker.beat, worker.beat_at = beat, now
            elif now - worker.beat_at > self.heartbeat_s:
                why = f"showed no sign of life for {span_text(now - worker.beat_at)} (--heartbeat)"
                yield from self._abort(worker, why, now)
        stuck = self.waiting.intersection(event.waiting)
        self.waiting = frozenset(event.waiting)
        if stuck:
            for worker in self.in_state(State.READY):
                yield Tell(worker.seat, Nudge())

    # Workers that should exist

    def _vacant(self) -> list[Slot]:
        """The slots that wait for a worker, and may have one."""
        if self.stop is not None or self.ended:
            return []
        return [slot for slot in self.slots if slot.seat is None and (self.serving or slot.number == 0)]

    def _fill(self, now: float) -> Iterator[Command]:
        for slot in self._vacant():
            if slot.not_before <= now and SeatState.FREE in self.seats:
                slot.seat = self.seats.index(SeatState.FREE)
                self.seats[slot.seat] = SeatState.TAKEN
                self.workers[slot.seat] = Worker(slot.number, slot.seat)
                yield Spawn(slot.number, slot.seat, self.generation)
                return

    def _abort(self, worker: Worker, why: str, now: float) -> Iterator[Command]:
        """End it in two steps: in the first it shows where it is."""
        if worker.advance(Abort):
            worker.killed_because, worker.kill_at = why, now + ABORT_S
            if self.serving:  # else this is the end, and is told as one error
                yield Say("worker-killed", {"slot": worker.slot, "pid": worker.pid, "why": f"it {why}"})
            yield Abort(worker.seat)

    def _kill(self, worker: Worker) -> Iterator[Command]:
        if worker.advance(Kill):
            worker.kill_at = None
            yield Kill(worker.seat)

    def _named(self, worker: Worker, now: float) -> dict[str, object]:
        return {"slot": worker.slot, "pid": worker.pid, "uptime": span_text(now - worker.forked_at)}


def _next(slot: Slot, now: float) -> str:
    wait_s = slot.not_before - now
    return "replaced at once" if wait_s <= RESPAWN_S else f"tried again in {span_text(wait_s)}"
