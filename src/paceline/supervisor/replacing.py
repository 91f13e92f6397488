"""Replacing one worker by another of its generation: start first, then drain.  Pure: a part of the roster.

    asked for     `ctl drain SLOT`, or SIGTERM to one worker
    recycled      --max-messages, --max-rss, --max-age: a leak is bounded, without a lost message; never two at once.
                  One that was over --max-rss already when it was new is replaced in its first ten minutes only if it
                  has twice as much: the next one would be over it at once, too, for ever
    quarantined   a call takes longer than it may: the worker is left to its stuck call, and its connections move on

A new worker boots beside the old one; when it says that it accepts, the old one hands over and leaves.  If it cannot
start it is tried again along the curve of boots, and the old one goes on.  Quarantines have precedence, one at a time
and none within the call time-out of the last: when a database stands still, all calls are stuck, and replacing all
workers one after the other would only add to it.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from paceline.supervisor.lifecycle import Slot, State, Worker
from paceline.supervisor.posts import Posts
from paceline.supervisor.sentences import span_text
from paceline.supervisor.vocabulary import Answer, Command, DrainAsked, Say, Spawn, Usage
from paceline.worker.messages import Stuck

YOUNG_S = 600.0
"""How long a worker that begins over --max-rss is left alone, unless it grows."""


@dataclass(slots=True)
class Replacement:
    """Why a slot gets another worker."""

    why: str
    asker: int = 0
    is_urgent: bool = False


@dataclass(slots=True)
class Replacing:
    """Who is to be replaced, in order; the first is in hand."""

    posts: Posts
    random: Callable[[], float]
    wanted: dict[int, Replacement] = field(default_factory=dict)
    """By slot."""
    quarantined_at: float | None = None
    turned_by: float | None = None
    """When the new worker, which was told to serve, takes the place, whatever it says."""
    too_small_bytes: int | None = None
    """What --max-rss was when the log said that it is less than a new worker has."""

    def on_asked(self, event: DrainAsked) -> Iterator[Command]:
        posts = self.posts
        if not 0 <= event.slot < len(posts.slots):
            last = len(posts.slots) - 1
            yield Answer(event.asker, f"there is no worker {event.slot}; there are 0 to {last}", ok=False)
        elif event.slot in self.wanted:
            yield Answer(event.asker, f"worker {event.slot} is being replaced already", ok=False)
        else:
            self.wanted[event.slot] = Replacement("somebody asked for it", event.asker)

    def on_stuck(self, worker: Worker, message: Stuck, now: float) -> Iterator[Command]:
        """It says so again while the call goes on."""
        slot = self.posts.served_by(worker)
        pause_s = message.limit_s if self.posts.limits.call_s is None else self.posts.limits.call_s
        if slot is None:
            return
        if self.quarantined_at is not None and now - self.quarantined_at < pause_s:
            return
        peer = f" of {message.peer}" if message.peer else ""
        why = f"a call{peer} has run for {span_text(message.seconds)}, over its limit of {span_text(message.limit_s)}"
        if self._put_first(slot, why):
            self.quarantined_at = now
            yield Say("quarantined", {"slot": slot.number, "pid": worker.pid, "why": why})

    def on_terminated(self, worker: Worker) -> Iterator[Command]:
        """It says so again until it is told to drain: one in standby will when it serves."""
        slot = self.posts.served_by(worker)
        why = "somebody sent it SIGTERM"
        if slot is not None and self._put_first(slot, why):
            yield Say("replacing", {"slot": slot.number, "pid": worker.pid, "why": why})

    def _put_first(self, slot: Slot, why: str) -> bool:
        """It does not wait for others to leave.  False: it is in hand already."""
        before = self.wanted.get(slot.number)
        if before is not None and (before.is_urgent or slot.incoming is not None):
            return False
        self.wanted.pop(slot.number, None)
        urgent = Replacement(why, before.asker if before else 0, is_urgent=True)
        self.wanted = {slot.number: urgent, **self.wanted}
        return True

    def on_usage(self, usage: Mapping[int, Usage], now: float) -> None:
        """Every second: who has served long enough."""
        for worker in self.posts.in_state(State.READY):
            slot = self.posts.served_by(worker)
            if slot is not None and slot.number not in self.wanted:
                why = self._why_recycle(worker, usage.get(worker.seat), now)
                if why:
                    self.wanted[slot.number] = Replacement(why)

    def on_new(self, worker: Worker, rss_bytes: int, limit: int | None) -> Iterator[Command]:
        """It is ready, and has so much memory already."""
        worker.new_bytes = rss_bytes
        if limit is not None and rss_bytes > limit and self.too_small_bytes != limit:
            self.too_small_bytes = limit
            sizes = {"used": mib(rss_bytes), "limit": mib(limit)}
            yield Say("rss-too-small", {"slot": worker.slot, "pid": worker.pid, **sizes, "after": span_text(YOUNG_S)})

    def _why_recycle(self, worker: Worker, used: Usage | None, now: float) -> str:
        limits = self.posts.limits
        if worker.patience < 0:  # one throw for the life of a worker, or a limit of its own each second would win soon
            worker.patience = 1.0 - limits.messages_jitter * self.random()
        if used is not None and limits.messages is not None and used.messages >= limits.messages * worker.patience:
            return f"it has served {used.messages} messages (--max-messages)"
        ready_at = now if worker.ready_at is None else worker.ready_at
        most = limits.rss_bytes
        if most is not None and worker.new_bytes > most and now - ready_at < YOUNG_S:
            most = 2 * worker.new_bytes
        if used is not None and most is not None and used.rss_bytes > most:
            return f"it has {mib(used.rss_bytes)} in memory (--max-rss)"
        if limits.age_s is not None and now - ready_at >= limits.age_s * worker.patience:
            return f"it has served for {span_text(now - ready_at)} (--max-age)"
        return ""

    def next_slot(self, now: float) -> Slot | None:
        """The slot whose new worker is to be made now."""
        at = self.next_at
        return self._next() if at is not None and at <= now else None

    @property
    def next_at(self) -> float | None:
        slot = self._next()
        return None if slot is None else slot.fork_at

    def _next(self) -> Slot | None:
        posts = self.posts
        number = next(iter(self.wanted), None)
        if number is None or posts.spare_seats <= 0 or any(slot.incoming is not None for slot in posts.slots):
            return None
        if posts.retired() and not self.wanted[number].is_urgent:
            return None
        slot = posts.slots[number]
        worker = posts.current(slot)
        return slot if worker is not None and worker.state is State.READY else None

    def hire(self, slot: Slot) -> Iterator[Command]:
        current = self.posts.current(slot)
        assert current is not None
        wanted = self.wanted[slot.number]
        if not wanted.is_urgent and not slot.failures:  # that one was said
            yield Say("replacing", {"slot": slot.number, "pid": current.pid, "why": wanted.why})
        spawn: Spawn = self.posts.hire(slot)
        yield spawn

    def on_turned(self, slot: Slot, now: float) -> Iterator[Command]:
        """The new one accepts: from now on there would be one too many."""
        self.turned_by = None
        wanted = self.wanted.pop(slot.number, None)
        yield from self.posts.relieve(slot, now)
        if wanted is not None and wanted.asker:
            yield Answer(wanted.asker, f"a new worker {slot.number} serves; the old one hands over and leaves")

    def keep_time(self, now: float) -> Iterator[Command]:
        if self.turned_by is not None and self.turned_by <= now:
            self.turned_by = None
            for slot in self.posts.slots:
                worker = self.posts.incoming(slot)
                if worker is not None and worker.state is State.READY:
                    yield from self.on_turned(slot, now)

    def on_failed(self, slot: Slot, why: str, detail: str) -> Iterator[Command]:
        """The new one could not start: the old one goes on, and it is tried again, unless somebody waits for it."""
        wanted = self.wanted.get(slot.number)
        if wanted is not None and wanted.asker:
            del self.wanted[slot.number]
            yield Answer(wanted.asker, f"the new worker could not start: {why}; the old one goes on", detail, ok=False)

    def forget(self, slot: Slot, why: str) -> Iterator[Command]:
        """Its worker is gone, or the slot: there is nothing to replace."""
        wanted = self.wanted.pop(slot.number, None)
        if wanted is not None and wanted.asker:
            yield Answer(wanted.asker, why, ok=False)

    def forget_all(self, why: str, *, ok: bool = False) -> Iterator[Command]:
        for number in list(self.wanted):
            wanted = self.wanted.pop(number)
            if wanted.asker:
                yield Answer(wanted.asker, why, ok=ok)


def mib(size_bytes: int) -> str:
    return f"{size_bytes // 2**20} MiB"
