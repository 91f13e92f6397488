"""A reload: a new generation of workers takes the place of the present one, or does not.  Pure: a part of the roster.

    asked    one may run and one may wait; what is asked meanwhile is the one that waits, with the newest settings
    begins   when at most one generation is alive: what an earlier one still drains has its time first
    rises    the new workers start one by one beside the old ones, the canary first, and wait in standby: they accept
             nothing, so that whatever is wrong with them harms nobody
    turns    when all are there: they serve, the old ones hand their connections over and leave; it is done when the
             old ones have said that they have: who connects or sends from then on meets the new code
    fails    when one of them cannot start, does not answer the probe, or dies in standby: the new ones are ended, and
             the old ones have never noticed

So memory is needed for two workers per slot for the time of a reload, and broken code never replaces working code.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from paceline.supervisor.lifecycle import RESPAWN_S, Slot, State, Worker
from paceline.supervisor.posts import Limits, Posts
from paceline.supervisor.sentences import span_text
from paceline.supervisor.vocabulary import Adopt, Answer, Command, ReloadAsked, Say, Spawn, Tell
from paceline.worker.messages import Serve

TURN_S = 1.0
"""So long it is waited, before a reload is called done, until everybody says that it accepts, or has handed over."""
MOST_REFUSALS = 5
"""So many processes in a row that could not be made are the end of a reload."""


@dataclass(slots=True)
class Reloading:
    """The reload that runs, and the one that waits."""

    posts: Posts
    waiting: ReloadAsked | None = None
    waiting_askers: list[int] = field(default_factory=list)
    running: ReloadAsked | None = None
    askers: list[int] = field(default_factory=list)
    began_at: float = 0.0
    refusals: int = 0
    turning: dict[int, bool] = field(default_factory=dict)
    """Where those sit who were told to serve (False), or to hand over and leave (True), and have not said so."""
    turned_by: float | None = None
    """When it is called done, whatever they say."""
    scale_to: int = 0
    """So many workers are wanted since the last reload; whoever sees to it sets it to 0."""

    @property
    def limits(self) -> Limits:
        """Of the new workers."""
        return self.posts.limits if self.running is None else Limits.of(self.running.settings)

    def on_asked(self, event: ReloadAsked) -> Iterator[Command]:
        self.waiting = event
        if event.asker:
            self.waiting_askers.append(event.asker)
            why = self._why_it_waits()
            if why:
                yield Answer(event.asker, f"the reload begins later: {why}", is_last=False)

    def try_begin(self, now: float) -> Iterator[Command]:
        """Begin the one that waits, if nothing is in its way."""
        if self.waiting is None or self._why_it_waits():
            return
        posts = self.posts
        self.running, self.waiting = self.waiting, None
        self.askers, self.waiting_askers = self.waiting_askers, []
        self.began_at, self.refusals = now, 0
        posts.newest += 1
        yield Adopt(posts.newest, self.running.settings, posts.generation)
        yield Say("reloading", {"generation": posts.newest})
        yield from self._tell(f"generation {posts.newest} starts")

    def _why_it_waits(self) -> str:
        posts = self.posts
        if self.running is not None:
            return f"generation {posts.newest} is just starting"
        if not posts.is_serving:
            return "the first worker is still starting"
        if any(slot.incoming is not None for slot in posts.slots):
            return "a worker is just being replaced"
        lingering = [worker for worker in posts.workers.values() if worker.generation != posts.generation]
        if lingering:
            return f"the generation before is still leaving ({len(lingering)} of its workers run calls)"
        return ""

    def next_slot(self, now: float) -> Slot | None:
        """The slot whose new worker is to be made now."""
        at = self.next_at
        return self._next() if at is not None and at <= now else None

    @property
    def next_at(self) -> float | None:
        """When the next worker may be made; None: not before something else happens."""
        slot = self._next()
        if slot is None or self.posts.spare_seats <= 0:
            return None
        return slot.fork_at if self.refusals else slot.forked_at + RESPAWN_S

    def _next(self) -> Slot | None:
        if self.running is None or self.turned_by is not None:
            return None
        rising = [self.posts.incoming(slot) for slot in self.posts.slots]
        if any(worker is not None and worker.state is not State.STANDBY for worker in rising):
            return None
        if self.posts.in_state(State.FORKING):
            return None  # that Spawn is not answered yet, and until then its slot does not know when it forked
        return next((slot for slot in self.posts.slots if slot.incoming is None), None)

    def hire(self, slot: Slot) -> Spawn:
        canary = all(other.incoming is None for other in self.posts.slots)
        return self.posts.hire(slot, rises=True, probe=canary, generation=self.posts.newest)

    def on_ready(self, worker: Worker, now: float) -> Iterator[Command]:
        """One of the new ones is in standby."""
        posts = self.posts
        yield from self._tell(f"worker {worker.slot} of generation {worker.generation} is ready")
        rising = [posts.incoming(slot) for slot in posts.slots]
        if all(other is not None and other.state is State.STANDBY for other in rising):
            yield from self._turn(now)

    def _turn(self, now: float) -> Iterator[Command]:
        posts, running = self.posts, self.running
        assert running is not None
        posts.generation = posts.newest
        posts.limits = Limits.of(running.settings)
        for slot in posts.slots:  # all of them first: whoever hands over shall find somebody who takes
            worker = posts.incoming(slot)
            assert worker is not None
            worker.advance(Serve)
            worker.beat_at = now
            self.turning[worker.seat] = False
            yield Tell(worker.seat, Serve())
        for slot in posts.slots:
            old = posts.current(slot)
            if old is not None and old.state is State.READY:
                self.turning[old.seat] = True
            yield from posts.relieve(slot, now)
        self.scale_to = running.workers
        self.turned_by = now + TURN_S

    def on_turned(self, seat: int, now: float, leaves: bool | None = None) -> Iterator[Command]:
        """Who sits there accepts, or has handed over (`leaves`), or is gone (None)."""
        if leaves is None or self.turning.get(seat) is leaves:
            self.turning.pop(seat, None)
        if not self.turning:
            yield from self._be_done(now)

    def keep_time(self, now: float) -> Iterator[Command]:
        if self.turned_by is not None and self.turned_by <= now:
            yield from self._be_done(now)

    def _be_done(self, now: float) -> Iterator[Command]:
        if self.turned_by is None:
            return
        generation, took = self.posts.generation, now - self.began_at
        yield Say("reloaded", {"generation": generation, "seconds": took})
        yield from self._finish(f"generation {generation} serves, after {span_text(took)}", "", ok=True)

    def on_refused(self, error: str, now: float) -> Iterator[Command]:
        """A process for it could not be made."""
        self.refusals += 1
        if self.refusals >= MOST_REFUSALS:
            yield from self.fail(f"no process can be made ({error}); see the limits on processes and memory", "", now)

    def fail(self, why: str, detail: str, now: float) -> Iterator[Command]:
        """One of the new ones came to nothing: end the others."""
        posts = self.posts
        for slot in posts.slots:
            worker = posts.incoming(slot)
            if worker is not None:
                yield from posts.retire(worker, now)
        yield Say(
            "reload-failed", {"generation": posts.newest, "still": posts.generation, "why": why, "detail": detail}
        )
        yield from self._finish(f"{why}; generation {posts.generation} goes on, nothing has changed", detail, ok=False)

    def cancel(self, why: str) -> Iterator[Command]:
        """Nothing comes of the one that runs, and of the one that waits."""
        self.askers += self.waiting_askers
        self.waiting, self.waiting_askers = None, []
        yield from self._finish(why, "", ok=False)

    def _tell(self, text: str) -> Iterator[Command]:
        for asker in self.askers:
            yield Answer(asker, text, is_last=False)

    def _finish(self, text: str, detail: str, *, ok: bool) -> Iterator[Command]:
        askers, self.askers, self.running = self.askers, [], None
        self.turned_by = None
        self.turning.clear()
        for asker in askers:
            yield Answer(asker, text, detail, ok)
