"""More workers, and fewer.  Pure: a part of the roster.

More of them start at once; fewer means that the last ones hand their connections over and leave.  During a reload, and
before the first worker is ready, what is asked for waits; so it does while so many still leave that the new ones would
find no seat.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from paceline.events import counted
from paceline.supervisor.posts import Posts
from paceline.supervisor.replacing import Replacing
from paceline.supervisor.vocabulary import Answer, Command, Say, ScaleAsked


@dataclass(slots=True)
class Scaling:
    """How many workers there are to be."""

    posts: Posts
    replacing: Replacing
    most_workers: int
    waiting: deque[ScaleAsked] = field(default_factory=deque)
    told: set[int] = field(default_factory=set)
    """Who of those that wait knows it."""

    def go(self, now: float) -> Iterator[Command]:
        """Have as many as was asked for: only where it ends counts, so that nobody is sent away who is wanted again."""
        slots, before = self.posts.slots, len(self.posts.slots)
        if self._outcome(before) - before > max(0, self.posts.spare_seats):
            return
        after = before
        while self.waiting:
            event = self.waiting.popleft()
            wanted = _wanted(event, after)
            if self._may_be(wanted):
                yield from answer(event.asker, f"{counted(wanted, 'worker')}, before {after}")
                after = wanted
                continue
            most = f"at most {self.most_workers} (--max-workers, which only a restart can raise)"
            why = f"{counted(wanted, 'worker')} cannot be: at least 1, {most}"
            yield Say("scale-refused", {"why": why, "workers": after})
            yield from answer(event.asker, why, ok=False)
        if after != before:
            yield Say("scaled", {"before": before, "after": after})
        while len(slots) < after:
            self.posts.add_slot()
        for slot in slots[after:]:
            yield from self.replacing.forget(slot, "there are fewer workers now")
        leaving = [worker for worker in self.posts.workers.values() if worker.slot >= after]
        leaving = [worker for worker in leaving if self.posts.slot_of(worker) is not None]
        del slots[after:]
        for worker in leaving:
            yield from self.posts.retire(worker, now)

    def tell_who_waits(self) -> Iterator[Command]:
        """Once."""
        for event in self.waiting:
            if event.asker and event.asker not in self.told:
                self.told.add(event.asker)
                why = "a start, a reload, or workers that still leave come first"
                yield Answer(event.asker, f"the number of workers changes later: {why}", is_last=False)
        self.told.intersection_update(event.asker for event in self.waiting)

    def _outcome(self, workers: int) -> int:
        """How many there will be when all that waits is done."""
        for event in self.waiting:
            wanted = _wanted(event, workers)
            workers = wanted if self._may_be(wanted) else workers
        return workers

    def _may_be(self, workers: int) -> bool:
        return 1 <= workers <= self.most_workers

    def forget_all(self, why: str) -> Iterator[Command]:
        while self.waiting:
            yield from answer(self.waiting.popleft().asker, why, ok=False)


def _wanted(event: ScaleAsked, workers: int) -> int:
    """How many there are to be, where there are so many."""
    return workers + event.by if event.by else event.workers


def answer(asker: int, text: str, *, ok: bool = True) -> Iterator[Command]:
    """Tell whoever asked, if it was anybody."""
    if asker:
        yield Answer(asker, text, ok=ok)
