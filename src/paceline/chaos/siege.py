"""An abuse from its beginning to its end: how it is without it, the attackers, how it is with them, what that says.

Figures are taken of the load, which comes from another process than the attackers, and of the workers.  One thread.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from paceline.chaos import procfs
from paceline.chaos.attackers import Order
from paceline.chaos.figures import Figure, counted, timed
from paceline.chaos.mob import Mob
from paceline.chaos.rig import LATE_S
from paceline.chaos.scene import BrokenPromise, Interrupted, Scene
from paceline.chaos.schedule import Step
from paceline.clock import now
from paceline.stats.histogram import Histogram

STAND_S = 60.0
EACH_S = 0.02
"""Attackers come within that time, and so much more for each."""
QUIET_S = 2.0
"""How long it is looked at without an abuse, before it."""
NET = 2
"""Attackers come from 127.2.x.x, so that they can be told from the load."""
MORE_THREADS = 2
"""A worker that is busy may have so many more than before; attackers hold none."""
FLOOR_MS = 250.0
"""A promise about a ratio of times is not broken below that: half a millisecond doubles easily."""


class Siege:
    """One of them; `count` attackers.

    ends    the cell of the board in which the server counts those that it ends
    blocks  calls block, or look as if they did, so that threads are made for them
    """

    def __init__(self, scene: Scene, step: Step, ends: str = "closed_timeout", *, blocks: bool = False) -> None:
        self.ends, self.blocks = ends, blocks
        self.scene, self.step = scene, step
        self.name = step.fault.name
        self.count = scene.plan.attackers or step.fault.attackers
        scene.wait_full()
        self.pids = [post.pid for post in scene.rig.serving()]
        self.log_mark = scene.rig.log.mark
        scene.stretch()
        share = procfs.Share(self.pids)
        scene.pause(QUIET_S)
        self.quiet, self.quiet_share = scene.stretch(), share.so_far()
        self.before_bytes = procfs.anonymous_of(self.pids)
        self.before_threads = self.most_threads = self._threads()
        self.ended_before = scene.rig.total(ends)
        self.share = procfs.Share(self.pids)
        self.begun_s = now()
        self.coming = Histogram()
        """How long the load waited while they came, where they stand afterwards."""
        self.ended_at_s: list[float] = []
        """When the server has ended each that was over its time."""

    # The attackers

    @contextmanager
    def attacked(self) -> Iterator[Mob]:
        """By all of them, until the end of the `with`."""
        scene = self.scene
        address = scene.rig.address
        order = Order(self.name, self.count, 0, address.host, address.port, NET, self.step.seed, scene.plan.hold_s)
        with scene.wounding(self.step), Mob(order) as mob:
            yield mob

    def wait(self, mob: Mob, check: Callable[[], object], within_s: float, what: str) -> None:
        """Hear the attackers, look at the workers, until it is true.  Raises Interrupted."""

        def look() -> object:
            if self.scene.interrupts:
                raise Interrupted
            mob.look()
            self.most_threads = max(self.most_threads, self._threads())
            ended = self.scene.rig.total(self.ends) - self.ended_before
            self.ended_at_s += [now()] * (ended - len(self.ended_at_s))
            return check()

        self.scene.wait_until(look, within_s, what)

    def wait_stand(self, mob: Mob) -> None:
        """Until all attackers are there."""
        self.wait(mob, lambda: mob.all_stand, STAND_S + self.count * EACH_S, "not all attackers could connect")
        self.coming = self.scene.stretch()

    def all_ended(self) -> bool:
        """So the server says."""
        return len(self.ended_at_s) >= self.count

    def hold(self, mob: Mob, seconds: float) -> None:
        until_s = now() + seconds
        self.wait(mob, lambda: now() >= until_s, seconds + LATE_S, "")

    def end(self, mob: Mob) -> dict[str, Any]:
        """They hang up; what they have met."""
        mob.tell_stop()
        self.wait(mob, lambda: mob.result is not None, LATE_S + 30.0, "the attackers did not come to an end")
        result = mob.result
        assert result is not None
        for what in result["wrongs"]:
            self.scene.books.breaks(f"{self.name}: {what}", self.step.number, now())
        if result["wrong"] > len(result["wrongs"]):
            self.scene.books.breaks(f"{self.name}: {result['wrong']} in all", self.step.number, now())
        return result

    # What it says

    def note(self, *figures: Figure) -> None:
        for figure in figures:
            self.scene.books.on_figure(figure, self.step.number, now())

    def told(self, what: str, value: float, unit: str = "") -> None:
        self.note(Figure(self.name, what, value, unit))

    def counted(self, what: str, value: float, goal: float) -> None:
        self.note(counted(self.name, what, value, goal))

    def timed(self, what: str, value: float, unit: str, goal: float) -> None:
        self.note(timed(self.name, what, value, unit, goal))

    def note_others(self, stretch: Histogram, goal_ms: float | None = None, ratio: float | None = None) -> None:
        """How long the load had to wait meanwhile, and the rest that is true of all abuses."""
        self.told("attackers", self.count)
        quiet_ms, found_ms = _p99(self.quiet), _p99(stretch)
        self.told("p99 without it", quiet_ms, "ms")
        if self.coming.count:
            self.told("p99 of the others while they come", _p99(self.coming), "ms")
        if ratio is not None:
            goal = ratio * quiet_ms
            self.note(Figure(self.name, "p99 of the others", found_ms, "ms", goal, max(10 * goal, FLOOR_MS)))
        elif goal_ms is not None:
            self.timed("p99 of the others", found_ms, "ms", goal_ms)
        else:
            self.told("p99 of the others", found_ms, "ms")
        self.told("processor of the workers", 100 * self.share.so_far(), "% of a core")
        if not self.blocks:
            more, goal = self.most_threads - self.before_threads, MORE_THREADS * len(self.pids)
            self.note(Figure(self.name, "threads more", more, "", goal, max(goal, self.count // 10)))
        if [post.pid for post in self.scene.rig.serving()] != self.pids:
            raise BrokenPromise(f"of the workers {self.pids} not all have survived")

    def note_ends(self, ends_s: list[float], begun_s: list[float], limit_s: float) -> None:
        """Each was ended when its time was up: the k-th end belongs to the k-th beginning."""
        self.counted("not ended", len(begun_s) - len(ends_s), 0)
        off_s = [abs(end_s - begin_s - limit_s) for begin_s, end_s in zip(sorted(begun_s), ends_s, strict=False)]
        self.timed(f"off the {limit_s:g} s that they have", max(off_s, default=0.0), "s", 1.0)

    def note_memory(self, goal_kib: float | None, of: int | None = None) -> None:
        """Of each attacker, as long as all stand."""
        more = procfs.anonymous_of(self.pids) - self.before_bytes
        each = more / 1024 / max(1, of or self.count)
        if goal_kib is None:
            self.told("memory of each", each, "KiB")
        else:
            self.note(Figure(self.name, "memory of each", each, "KiB", goal_kib, 2 * goal_kib))

    def lines(self, *events: str) -> int:
        """How often the workers said that since the beginning; without names: anything."""
        log = self.scene.rig.log
        log.look()
        return len(log.since(self.log_mark, *(events or log.counts)))

    def _threads(self) -> int:
        return sum(seen.threads for seen in map(procfs.look, self.pids) if seen is not None)


def _p99(stretch: Histogram) -> float:
    return stretch.percentile(99) / 1e6 if stretch.count else 0.0
