"""Slots, seats, workers: who should exist and who sits where.  Pure: the bookkeeping of the roster.

A *slot* is a worker that should exist.  Its *current* worker serves (or boots to serve); beside it there may be an
*incoming* one, which takes its place when the time has come.  A worker that belongs to no slot any more is *retired*:
it drains, or is being ended, and its seat is free when it is gone.

Everything here changes the books and says which command follows from it; when to do so is decided in roster.py (boots
and deaths), replacing.py (one worker), reloading.py (all of them) and stopping.py (the end).
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum, auto

from paceline.settings import Settings
from paceline.supervisor.lifecycle import RESPAWN_S, Slot, State, Worker
from paceline.supervisor.sentences import span_text
from paceline.supervisor.vocabulary import Abort, Command, Kill, Say, Spawn, Tell
from paceline.worker.messages import Drain

GRACE_S = 0.5
"""The worker itself cuts its calls when the drain time is over, and says how many: it is aborted so much later, or so
much after that last word if it came at the last moment."""
ABORT_S = 0.4
"""Who was sent SIGABRT must be gone by then; then comes SIGKILL."""

DEFAULT_CALL_S = 30.0
"""What --timeout auto means for a handler that says nothing about it."""

UP = (State.STANDBY, State.READY)


class SeatState(Enum):
    FREE = auto()
    TAKEN = auto()
    EMPTYING = auto()
    """Its worker is dead; its inbox may hold connections."""


@dataclass(slots=True)
class Limits:
    """The settings that decide about workers' lives, in seconds and bytes; None: no such limit."""

    boot_s: float = 30.0
    drain_s: float = 30.0
    heartbeat_s: float = 10.0
    call_s: float | None = 30.0
    messages: int | None = None
    messages_jitter: float = 0.0
    rss_bytes: int | None = None
    age_s: float | None = None

    @classmethod
    def of(cls, settings: Settings) -> "Limits":
        return cls(
            boot_s=settings.boot_timeout,
            drain_s=settings.drain_timeout,
            heartbeat_s=settings.heartbeat,
            call_s=DEFAULT_CALL_S if settings.timeout == "auto" else settings.timeout,
            messages=settings.max_messages,
            messages_jitter=settings.max_messages_jitter,
            rss_bytes=settings.max_rss,
            age_s=settings.max_age,
        )


@dataclass(slots=True)
class Posts:
    """The books of one server."""

    seats: list[SeatState]
    slots: list[Slot]
    limits: Limits
    generation: int = 1
    """The one that serves."""
    newest: int = 1
    """The last that was tried."""
    workers: dict[int, Worker] = field(default_factory=dict)
    """By seat."""
    forked_at: dict[int, float] = field(default_factory=dict)
    """By slot, of all that ever were, when it last got a process."""
    is_serving: bool = False
    """A worker has been ready."""

    @classmethod
    def of(cls, workers: int, seats: int, limits: Limits) -> "Posts":
        return cls([SeatState.FREE] * seats, [Slot(number) for number in range(workers)], limits)

    # Who is there

    def in_state(self, *states: State) -> list[Worker]:
        return [worker for worker in self.workers.values() if worker.state in states]

    def slot_of(self, worker: Worker) -> Slot | None:
        """The slot whose current or incoming worker it is; None: it is retired."""
        slot = self.slots[worker.slot] if worker.slot < len(self.slots) else None
        return slot if slot is not None and worker.seat in (slot.seat, slot.incoming) else None

    def served_by(self, worker: Worker) -> Slot | None:
        """The slot in which it serves; None: it is retired, or will serve, or does not yet."""
        slot = self.slot_of(worker)
        return slot if slot is not None and slot.seat == worker.seat and worker.state is State.READY else None

    def is_current(self, worker: Worker) -> bool:
        slot = self.slot_of(worker)
        return slot is not None and slot.seat == worker.seat

    def current(self, slot: Slot) -> Worker | None:
        return None if slot.seat is None else self.workers.get(slot.seat)

    def incoming(self, slot: Slot) -> Worker | None:
        return None if slot.incoming is None else self.workers.get(slot.incoming)

    def retired(self) -> list[Worker]:
        return [worker for worker in self.workers.values() if self.slot_of(worker) is None]

    @property
    def has_free_seat(self) -> bool:
        return SeatState.FREE in self.seats

    @property
    def spare_seats(self) -> int:
        """Free seats that no slot without a worker waits for."""
        return self.seats.count(SeatState.FREE) - sum(slot.seat is None for slot in self.slots)

    def named(self, worker: Worker, now: float) -> dict[str, object]:
        return {"slot": worker.slot, "pid": worker.pid, "uptime": span_text(now - worker.forked_at)}

    # What is done with them

    def add_slot(self) -> None:
        number = len(self.slots)
        forked_at = self.forked_at.get(number, -RESPAWN_S)
        self.slots.append(Slot(number, not_before=forked_at + RESPAWN_S, forked_at=forked_at))

    def hire(self, slot: Slot, *, rises: bool = False, probe: bool = False, generation: int = 0) -> Spawn:
        """A new worker for the slot: its current one if there is none, else an incoming one."""
        seat = self.seats.index(SeatState.FREE)
        self.seats[seat] = SeatState.TAKEN
        generation = generation or self.generation
        self.workers[seat] = Worker(slot.number, seat, generation, rises=rises)
        if slot.seat is None and not rises:
            slot.seat = seat
        else:
            slot.incoming = seat
        return Spawn(slot.number, seat, generation, probe=probe)

    def dismiss(self, worker: Worker) -> None:
        """It is gone, or could not be made: off the books, but for its seat."""
        slot = self.slot_of(worker)
        if slot is not None and slot.incoming == worker.seat:
            slot.incoming = None
        elif slot is not None:
            slot.seat = None
        self.workers.pop(worker.seat, None)

    def relieve(self, slot: Slot, now: float) -> Iterator[Command]:
        """The incoming worker takes the place of the current one, which hands over and leaves."""
        old = self.current(slot)
        slot.seat, slot.incoming = slot.incoming, None
        slot.failures = 0
        if old is not None:
            yield from self.retire(old, now)

    def retire(self, worker: Worker, now: float) -> Iterator[Command]:
        """It belongs to no slot any more: one that serves drains, others are ended."""
        slot = self.slot_of(worker)
        if slot is not None:
            slot.seat = None if slot.seat == worker.seat else slot.seat
            slot.incoming = None if slot.incoming == worker.seat else slot.incoming
        if worker.state in (*UP, State.DRAINING):
            yield from self.drain(worker, self.limits.drain_s, now, hand_over=True)
        elif worker.state is State.BOOTING:
            yield from self.kill(worker)

    def drain(self, worker: Worker, within_s: float, now: float, *, hand_over: bool) -> Iterator[Command]:
        if worker.advance(Drain):
            worker.kill_at = now + within_s + GRACE_S
            yield Tell(worker.seat, Drain(within_s, hand_over))

    def allow_for(self, worker: Worker, seconds: float) -> None:
        """It stood still for so long in its drain.  In all, it gets as much again as the drain time, at most."""
        if worker.state is State.DRAINING and worker.kill_at is not None:
            allowed_s = max(0.0, min(seconds, self.limits.drain_s - worker.delayed_s))
            worker.delayed_s += allowed_s
            worker.kill_at += allowed_s

    def abort(self, worker: Worker, why: str, now: float) -> Iterator[Command]:
        """End it in two steps: in the first it shows where it is."""
        if worker.advance(Abort):
            worker.killed_because, worker.kill_at = why, now + ABORT_S
            if self.is_serving:  # else this is the end, and is told as one error
                yield Say("worker-killed", {"slot": worker.slot, "pid": worker.pid, "why": f"it {why}"})
            yield Abort(worker.seat)

    def kill(self, worker: Worker) -> Iterator[Command]:
        if worker.advance(Kill):
            worker.kill_at = None
            yield Kill(worker.seat)


def next_text(slot: Slot, now: float) -> str:
    """When the slot gets a worker again, as a clause."""
    wait_s = slot.not_before - now
    return "replaced at once" if wait_s <= RESPAWN_S else f"tried again in {span_text(wait_s)}"
