"""Which workers should exist, in which state, and when to act next.  Pure: it decides, hands.py acts.

It is told what happened (vocabulary.py) together with the time, and answers with commands; `next_at` is when it wants
to hear `TimePassed` if nothing else happens.  Times are seconds of one clock that never runs backwards.  Here stand the
boots and the deaths; the books are in posts.py, and four affairs have files of their own: replacing.py, reloading.py,
scaling.py, stopping.py.

What it promises:

* the first worker boots alone; only when it is ready come the others: one traceback, not one per worker.  If it cannot
  start, that is the end, with its exit code.  After a first worker was ready, nothing but a signal ends the server;
* a worker that dies after it was ready is replaced at once: no slot gets two processes within `RESPAWN_S`;
* one that dies before is tried again along the curve `backoff.BOOT`.  If then one that had failed gets ready, the cause
  is gone, and whoever still waits is tried at once;
* a worker that is ready is left alone, as long as its watcher lives, its calls end and nobody asks for another one.

One Spawn at most is given per event, so that a hundred dead workers do not keep the supervisor from its signals: the
next follows at once, with `TimePassed`.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from paceline.supervisor.backoff import BOOT, FORK, Deaths
from paceline.supervisor.beats import Beats
from paceline.supervisor.lifecycle import RESPAWN_S, Slot, State, Worker
from paceline.supervisor.posts import GRACE_S, Posts, SeatState, next_text
from paceline.supervisor.reloading import TURN_S, Reloading
from paceline.supervisor.replacing import Replacing
from paceline.supervisor.scaling import Scaling, answer
from paceline.supervisor.sentences import span_text
from paceline.supervisor.stopping import Stop, Stopping
from paceline.supervisor.vocabulary import (
    Announce,
    Command,
    DrainAsked,
    Event,
    Exited,
    Forked,
    ForkFailed,
    ReloadAsked,
    Said,
    Say,
    ScaleAsked,
    SeatEmptied,
    StopAsked,
    Tell,
    Ticked,
    TimePassed,
    Vacate,
)
from paceline.worker.messages import Delayed, Failed, Leaving, Message, Nudge, Ready, Serve, Stuck, Terminated, Turned

LAST_WORD_S = 5.0
"""Who has said that it leaves, or that it could not start, must be gone by then."""
ANNOUNCE_S = 1.0
"""How long the first worker waits for the others before the server says that it serves."""

ENDED_BY_US = (State.ABORTING, State.KILLED)


@dataclass(slots=True)
class Roster:
    """What is decided about the workers of one server."""

    posts: Posts
    most_workers: int
    random: Callable[[], float]
    """From 0 to 1, for the jitter."""
    stopping: Stopping = field(init=False)
    reloading: Reloading = field(init=False)
    replacing: Replacing = field(init=False)
    scaling: Scaling = field(init=False)
    beats: Beats = field(init=False)
    announce_by: float | None = None
    """It serves and has not said so yet, because other workers are still starting; then it will."""
    deaths: Deaths = field(default_factory=Deaths)
    waiting: frozenset[int] = frozenset()
    """Listeners with connections in their accept queue at the last tick."""

    def __post_init__(self) -> None:
        self.stopping = Stopping(self.posts)
        self.reloading = Reloading(self.posts)
        self.replacing = Replacing(self.posts, self.random)
        self.scaling = Scaling(self.posts, self.replacing, self.most_workers)
        self.beats = Beats(self.posts)

    def on(self, event: Event, now: float) -> list[Command]:
        """What is to be done about the event; to be carried out in this order."""
        if self.stopping.ended:
            return []
        commands = list(self._react(event, now))
        if not self.stopping.ended:
            commands += self._keep_time(now)
        if not self.stopping.ended:
            commands += self._go_on(now)
        return commands

    @property
    def next_at(self) -> float | None:
        """When `on(TimePassed(), …)` will have something to do; None: not before something else happens."""
        if self.stopping.ended:
            return None
        times = [worker.kill_at for worker in self.posts.workers.values()]
        times += [self.stopping.abandon_at, self.deaths.recovers_at, self.announce_by]
        if self.stopping.urgency is None:
            times += [self.reloading.turned_by, self.replacing.turned_by, self.reloading.next_at]
            times += [self.replacing.next_at if self.reloading.running is None else None]
            if self.posts.has_free_seat:
                times += [slot.fork_at for slot in self._vacant()]
        return min((at for at in times if at is not None), default=None)

    @property
    def silent_at(self) -> float | None:
        """When it wants to be told of all signs of life, at the latest."""
        return self.beats.silent_at

    @property
    def is_awaited(self) -> bool:
        """Somebody waits for the outcome of what he has asked for."""
        awaited = [*self.reloading.askers, *self.reloading.waiting_askers]
        awaited += [wanted.asker for wanted in self.replacing.wanted.values()]
        return any(awaited) or bool(self.scaling.waiting)  # a signal has asked, too, and nobody would remember it

    def is_emptying(self, seat: int) -> bool:
        """Its worker is dead, and SeatEmptied is awaited."""
        return self.posts.seats[seat] is SeatState.EMPTYING

    # What happened

    def _react(self, event: Event, now: float) -> Iterator[Command]:
        match event:
            case Forked():
                yield from self._on_forked(event, now)
            case ForkFailed():
                yield from self._on_fork_failed(event, now)
            case Said():
                worker = self.posts.workers.get(event.seat)
                if worker is not None:
                    yield from self._on_said(worker, event.message, now)
            case Exited():
                yield from self._on_exited(event, now)
            case SeatEmptied():
                if self.is_emptying(event.seat):
                    self.posts.seats[event.seat] = SeatState.FREE
            case StopAsked():
                self.announce_by = None  # too late for that
                yield from self._forget_plans("the server stops")
                yield from self.stopping.on_asked(event, now)
            case Ticked():
                yield from self._on_ticked(event, now)
            case ReloadAsked() | ScaleAsked() | DrainAsked() if self.stopping.urgency is not None:
                yield from answer(event.asker, "the server stops", ok=False)
            case ReloadAsked():
                yield from self.reloading.on_asked(event)
            case ScaleAsked():
                self.scaling.waiting.append(event)
            case DrainAsked():
                yield from self.replacing.on_asked(event)
            case TimePassed():
                pass

    def _forget_plans(self, why: str) -> Iterator[Command]:
        yield from self.reloading.cancel(why)
        yield from self.replacing.forget_all(why)
        yield from self.scaling.forget_all(why)

    def _on_forked(self, event: Forked, now: float) -> Iterator[Command]:
        worker = self.posts.workers[event.seat]
        worker.advance(Forked)
        worker.boot_s = self.reloading.limits.boot_s if worker.rises else self.posts.limits.boot_s
        worker.pid, worker.forked_at, worker.kill_at = event.pid, now, now + worker.boot_s
        slot = self.posts.slots[worker.slot]
        slot.forked_at = self.posts.forked_at[slot.number] = now
        slot.refusals = 0
        self.reloading.refusals = 0
        yield Say("worker-started", {"slot": worker.slot, "pid": worker.pid, "seat": worker.seat})

    def _on_fork_failed(self, event: ForkFailed, now: float) -> Iterator[Command]:
        worker = self.posts.workers[event.seat]
        slot = self.posts.slots[worker.slot]
        self.posts.dismiss(worker)
        self.posts.seats[event.seat] = SeatState.FREE
        slot.refusals += 1
        delay = FORK.after(slot.refusals, self.random())
        slot.not_before = now + delay
        yield Say("fork-failed", {"slot": slot.number, "error": event.error, "seconds": delay})
        if worker.rises and self.reloading.running is not None:
            yield from self.reloading.on_refused(event.error, now)

    def _on_said(self, worker: Worker, message: Message, now: float) -> Iterator[Command]:
        due = worker.kill_at
        match message:
            case Ready() if worker.advance(Ready):
                yield from self._on_ready(worker, message, now)
            case Failed() if worker.advance(Failed):
                worker.failed, worker.kill_at = message, now + LAST_WORD_S
            case Leaving() if worker.advance(Leaving):
                worker.left, worker.kill_at = message, now + LAST_WORD_S
                if self.stopping.urgency is not None and due is not None:
                    worker.kill_at = min(worker.kill_at, max(due, now + GRACE_S))
                yield from self.reloading.on_turned(worker.seat, now)
            case Turned(leaves):
                yield from self.reloading.on_turned(worker.seat, now, leaves)
                slot = self.posts.slot_of(worker)
                if slot is not None and slot.incoming == worker.seat and worker.state is State.READY:
                    yield from self.replacing.on_turned(slot, now)
            case Delayed(seconds):
                self.stopping.allow_for(worker, seconds)
            case Terminated() if self.stopping.urgency is None:
                yield from self.replacing.on_terminated(worker)
            case Stuck() if self.stopping.urgency is None:
                yield from self.replacing.on_stuck(worker, message, now)

    def _on_ready(self, worker: Worker, message: Ready, now: float) -> Iterator[Command]:
        worker.ready_at = worker.beat_at = now
        worker.kill_at = None
        slot = self.posts.slot_of(worker)
        seconds, kind, framing = now - worker.forked_at, message.kind, message.framing
        named = {"slot": worker.slot, "pid": worker.pid}
        yield Say("worker-ready", {**named, "seconds": seconds, "kind": kind, "framing": framing})
        limits = self.reloading.limits if worker.rises else self.posts.limits
        yield from self.replacing.on_new(worker, message.rss_bytes, limits.rss_bytes)
        if slot is None:
            yield from self.posts.retire(worker, now)  # it was given up in the moment in which it became ready
        elif worker.rises:
            before = self.posts.generation
            yield from self.reloading.on_ready(worker, now)
            if self.posts.generation != before:
                yield from self.replacing.forget_all("all workers are new, since a reload", ok=True)
        else:
            # Nobody accepts before this: whoever is still taken for one that boots may be ended without a loss.
            worker.advance(Serve)
            yield Tell(worker.seat, Serve())
            if slot.seat == worker.seat:
                self._on_current_ready(slot, now)
            else:
                self.replacing.turned_by = now + TURN_S

    def _on_current_ready(self, slot: Slot, now: float) -> None:
        if not self.posts.is_serving:
            self.posts.is_serving = True
            self.announce_by = now + ANNOUNCE_S
        if slot.failures:
            for other in self._vacant():
                other.not_before = min(other.not_before, max(now, other.forked_at + RESPAWN_S))
        slot.failures = 0

    def _on_exited(self, event: Exited, now: float) -> Iterator[Command]:
        posts = self.posts
        worker = posts.workers[event.seat]
        slot = posts.slot_of(worker)
        posts.dismiss(worker)
        posts.seats[event.seat] = SeatState.EMPTYING
        yield Vacate(event.seat)
        yield from self.reloading.on_turned(event.seat, now)
        if slot is not None:
            slot.not_before = max(now, slot.forked_at + RESPAWN_S)
            if slot.seat is None and slot.incoming is not None and self.reloading.running is None:
                slot.seat, slot.incoming = slot.incoming, None  # its replacement is on the way, or there
                slot.failures = 0 if posts.workers[slot.seat].ready_at is not None else slot.failures
                yield from self.replacing.forget(slot, f"worker {slot.number} has died; its replacement is starting")
        if worker.ready_at is None:
            yield from self._gone_before_ready(worker, slot, event, now)
        elif worker.left is not None and event.code in (0, 4):
            yield Say("worker-left", posts.named(worker, now))
        else:
            yield from self._died(worker, slot, event, now)
        yield from self._count_cut(worker, event, is_early=slot is None and now < self.stopping.cuts_at)

    def _count_cut(self, worker: Worker, event: Exited, *, is_early: bool) -> Iterator[Command]:
        """In a stop: what its end has cut, and whether it was the last.

        A retired one that left before its time was up has left its stuck calls behind: that was not the stop's doing.
        """
        stopping = self.stopping
        if stopping.urgency is None or stopping.ended:
            return
        if worker.left is not None:
            stopping.cut += 0 if is_early else worker.left.cut
        elif worker.state in ENDED_BY_US:
            stopping.cut += event.calls
        if not self.posts.workers:
            yield from stopping.end()

    def _gone_before_ready(self, worker: Worker, slot: Slot | None, event: Exited, now: float) -> Iterator[Command]:
        if self.stopping.urgency is not None or slot is None:
            return
        if worker.failed is not None:
            why, detail = worker.failed.why, worker.failed.traceback
        else:
            why = f"the worker {worker.killed_because or event.cause + ' before it was ready'}"
            detail = event.detail
        if not self.posts.is_serving:
            yield from self._forget_plans("the server could not start")
            yield Say("start-failed", {"why": why, "detail": detail})
            code = worker.failed.exit_code if worker.failed is not None else 3
            yield self.stopping.ending(code if 0 < code < 126 else 3)
        elif worker.rises:
            yield from self.reloading.fail(why, detail, now)
        else:
            slot.failures += 1
            slot.not_before = max(slot.not_before, now + BOOT.after(slot.failures, self.random()))
            named = self.posts.named(worker, now)
            yield Say("worker-failed", {**named, "why": why, "next": next_text(slot, now), "detail": detail})
            if slot.seat is not None:
                yield from self.replacing.on_failed(slot, why, detail)

    def _died(self, worker: Worker, slot: Slot | None, event: Exited, now: float) -> Iterator[Command]:
        fields = {**self.posts.named(worker, now), "cause": event.cause, "doing": event.doing, "detail": event.detail}
        if self.stopping.urgency is not None:
            if worker.state not in ENDED_BY_US:  # else the reason was said when it was killed
                yield Say("worker-died", {**fields, "next": "not replaced, the server stops"})
            return
        if slot is None:
            if worker.state not in ENDED_BY_US:
                yield Say("worker-died", {**fields, "next": "it was leaving, another one has its place"})
            return
        if worker.generation != self.posts.generation:
            yield from self.reloading.fail(f"a new worker {event.cause} in standby", event.detail, now)
            return
        yield Say("worker-died", {**fields, "next": next_text(slot, now)})
        if self.deaths.record(now):
            yield Say("degraded", {"deaths": len(self.deaths)})

    # Time

    def _keep_time(self, now: float) -> Iterator[Command]:
        posts, stopping = self.posts, self.stopping
        for worker in list(posts.workers.values()):
            if worker.kill_at is not None and worker.kill_at <= now:
                if worker.state is State.ABORTING or stopping.urgency is Stop.HARD:
                    yield from posts.kill(worker)
                else:
                    yield from posts.abort(worker, self._why_overdue(worker), now)
        yield from stopping.keep_time(now)
        yield from self.reloading.keep_time(now)
        yield from self.replacing.keep_time(now)
        if not stopping.ended and self.deaths.has_recovered(now):
            yield Say("recovered", {"deaths": len(self.deaths)})

    def _why_overdue(self, worker: Worker) -> str:
        match worker.state:
            case State.BOOTING:
                return f"was not ready after {span_text(worker.boot_s)} (--boot-timeout)"
            case State.DRAINING:
                return "still ran calls when the drain time was over"
            case _:
                return "was still there after its last word"

    def _on_ticked(self, event: Ticked, now: float) -> Iterator[Command]:
        for worker, seconds in self.beats.look(event, now):
            yield from self.posts.abort(worker, f"showed no sign of life for {span_text(seconds)} (--heartbeat)", now)
        if self.stopping.urgency is None and self.reloading.running is None:
            self.replacing.on_usage(event.usage, now)
        stuck = self.waiting.intersection(event.waiting)
        self.waiting = frozenset(event.waiting)
        if stuck:
            for worker in self.posts.in_state(State.READY):
                yield Tell(worker.seat, Nudge())

    # Workers that should exist

    def _go_on(self, now: float) -> Iterator[Command]:
        """What is due besides: at most one new worker."""
        yield from self._announce(now)
        if self.stopping.urgency is not None:
            return
        if self.reloading.scale_to:
            self.scaling.waiting.append(ScaleAsked(0, self.reloading.scale_to))
            self.reloading.scale_to = 0
        if self.reloading.running is None and self.posts.is_serving:
            yield from self.scaling.go(now)
        yield from self.scaling.tell_who_waits()
        yield from self.reloading.try_begin(now)
        vacant = next((slot for slot in self._vacant() if slot.fork_at <= now), None)
        if vacant is not None and self.posts.has_free_seat:
            yield from self.replacing.forget(vacant, f"worker {vacant.number} has died and is replaced anyway")
            yield self.posts.hire(vacant, probe=not self.posts.is_serving)
        elif (rising := self.reloading.next_slot(now)) is not None:
            yield self.reloading.hire(rising)
        elif self.reloading.running is None and (slot := self.replacing.next_slot(now)) is not None:
            yield from self.replacing.hire(slot)

    def _vacant(self) -> list[Slot]:
        """The slots that wait for a worker, and may have one."""
        if self.stopping.urgency is not None or self.stopping.ended:
            return []
        return [slot for slot in self.posts.slots if slot.seat is None and (self.posts.is_serving or slot.number == 0)]

    def _announce(self, now: float) -> Iterator[Command]:
        """Whoever connects when the server says that it listens shall find all workers, not only the first."""
        if self.announce_by is None:
            return
        booting = {worker.slot for worker in self.posts.in_state(State.FORKING, State.BOOTING)}
        fresh = [slot for slot in self.posts.slots if not slot.failures and not slot.refusals]
        starting = [slot for slot in fresh if slot.number in booting or slot.seat is None]
        if not starting or now >= self.announce_by:
            self.announce_by = None
            yield Announce()
