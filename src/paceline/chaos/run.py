"""The order of things: a server, its rest, the load, the faults one by one, the rest again, the end.  One thread.

Whatever happens, an interrupt too, nothing is left afterwards: no process, no descriptor, no file.
"""

import os
import signal
from collections.abc import Callable
from contextlib import closing, suppress

from paceline.chaos import procfs
from paceline.chaos.books import Books
from paceline.chaos.catalogue import TABLE, Loses
from paceline.chaos.crew import Crew
from paceline.chaos.drivers import DRIVERS
from paceline.chaos.figures import timed
from paceline.chaos.judge import Wound
from paceline.chaos.plan import Plan
from paceline.chaos.result import Rest, Result, judge_rest
from paceline.chaos.rig import LATE_S
from paceline.chaos.scene import BrokenPromise, Interrupted, Scene
from paceline.chaos.schedule import Step, steps
from paceline.chaos.tally import Tally
from paceline.clock import now
from paceline.errors import HostError
from paceline.host import signals

Progress = Callable[[float, int, str, int, int], None]
"""Called with seconds, faults injected, the present fault, messages answered, promises broken."""

CONNECTED_S = 30.0
SETTLE_S = 1.5
"""What has been noticed so long ago is judged."""
GIVE_UP = 10
"""After so many faults whose driver found something broken the run ends: each may have waited for long."""
REST_S = 10.0
FINE_S = 2.0
"""Who looks for so long sees half a percent of a core: /proc counts in steps of 10 ms."""
_ALWAYS_SAID = frozenset({"more-workers-than-cores", "root-kept"})
"""Warnings that are about the run, not about what is done in it."""


def run(plan: Plan, on_progress: Progress | None = None) -> Result:
    """Do it.  Raises TargetError, UsageError or HostError when there is no server or no load to begin with.

    The first SIGINT or SIGTERM ends the faults, and what was found is told.
    """
    books = Books()
    with signals.noted(signal.SIGINT, signal.SIGTERM) as interrupts, closing(Crew(plan)) as crew:
        conductor = _Conductor(plan, crew, books, interrupts, on_progress)
        try:
            return conductor.run()
        finally:
            conductor.close()


class _Conductor:
    def __init__(
        self, plan: Plan, crew: Crew, books: Books, interrupts: list[int], on_progress: Progress | None
    ) -> None:
        self.plan, self.crew, self.books = plan, crew, books
        self.interrupts, self.on_progress = interrupts, on_progress
        self.done: list[tuple[int, str, float]] = []
        self.present = "starting"
        self.servers = 1
        self.base: Rest | None = None
        self.failed = 0
        self.scene = Scene(plan, crew, books, self._on_look)
        self.scene.interrupts = interrupts

    def close(self) -> None:
        self.scene.rig.close()

    def run(self) -> Result:
        scene = self.scene
        scene.wait_until(lambda: self._is_connected() or self.interrupts, CONNECTED_S, "the clients did not connect")
        self.base = self._look_at_rest(0.0)
        scene.began_s = now()
        try:
            self._inject_all()
        except _ServerGoneError as gone:
            books_at = self.done[-1][0] if self.done else 0
            self.books.breaks(str(gone), books_at, now())
        seconds = now() - scene.began_s
        rest = self._end()
        self.books.settle(float("inf"), scene.began_s)
        tally = Tally.from_json(scene.result or {})
        lost = sum(self.books.lost_by.values())
        if not tally.wrong and tally.sent != tally.answered + lost:
            what = f"{tally.sent} messages were sent, and {tally.answered} answered, {lost} lost: that does not add up"
            self.books.breaks(what, 0, now())
        return Result(
            self.plan, seconds, tally, self.books, scene.most_generations, self.servers, rest, self.done,
            is_interrupted=bool(self.interrupts),
        )  # fmt: skip

    # The faults

    def _inject_all(self) -> None:
        plan, scene = self.plan, self.scene
        until_s = scene.began_s + plan.lasting_s if plan.lasting_s is not None else None
        for step in steps(plan.seed, plan.faults, plan.pause_s):
            if plan.count is not None and step.number > plan.count:
                break
            scene.pause(step.pause_s)
            if self.interrupts or (until_s is not None and now() >= until_s):
                break
            self._inject(step)
            if self.failed >= GIVE_UP:
                break
            self.books.settle(now() - SETTLE_S, scene.began_s)
        else:
            scene.pause(plan.lasting_s or 0.0)  # no faults: only the load
        scene.pause(min(1.0, 2 * plan.connections / plan.rate))  # what it did to whom is seen by the next messages

    def _inject(self, step: Step) -> None:
        scene = self.scene
        self.present = step.fault.name
        self.done.append((step.number, step.fault.name, now() - scene.began_s))
        took_s, begun_s = None, now()
        scene.may_end = step.fault.ends
        try:
            took_s = DRIVERS[step.fault.name](scene, step)
        except Interrupted:
            return
        except BrokenPromise as broken:
            self.books.breaks(f"{step.fault.name}: {broken}", step.number, now())
            self.failed += 1
        self.books.on_injected(step.fault, took_s)
        if step.fault.ends:
            self._judge_log()
            self._another_server()
        elif scene.rig.has_ended():
            scene.may_end = True
            # What is lost from here on is not another trouble each.
            self.books.wounds.append(Wound("server gone", step.number, Loses.ALL, (), begun_s, float("inf")))
            raise _ServerGoneError(
                f"the server has ended with {scene.rig.exit_code}, and nobody had asked for it; its last words:\n"
                f"{scene.rig.log.end_of_it()}"
            )

    def _another_server(self) -> None:
        scene = self.scene
        scene.halt()
        scene.rig.close()
        scene.open_server()
        scene.may_end = False
        self.servers += 1
        scene.wait_full()

    # At rest

    def _is_connected(self) -> bool:
        return self.scene.progress["connected"] >= max(1, int(self.plan.connections * 0.7))

    def _look_at_rest(self, idle_share: float) -> Rest:
        pid = self.scene.rig.pid
        seen = procfs.look(pid)
        if seen is None:
            raise HostError("the server has ended before anything was done to it")
        zombies = sum(child.state == "Z" for child in procfs.children_of(pid))
        descriptors = procfs.descriptors_of(pid)
        return Rest((descriptors,) * 2, (seen.threads,) * 2, (seen.rss_bytes,) * 2, zombies, idle_share)

    def _end(self) -> Rest | None:
        """The load ends, then the server, which must be as it was before, and end as it should."""
        scene = self.scene
        self.present = "ending"
        scene.may_end = True
        rest = None
        try:
            scene.halt()
            if not scene.rig.has_ended():
                rest = self._rest()
                scene.rig.signal(signal.SIGTERM)
                code = scene.stop_server_after(self.plan.drain_s + LATE_S)
                if code != 0 and not (code == 4 and not self.plan.is_ours):
                    self.books.breaks(f"the server ended with exit code {code}, and nothing was left to do", 0, now())
                if left := [seen.pid for seen in procfs.in_group(scene.rig.pid)]:
                    self.books.breaks(f"processes {left} were left by the server", 0, now())
                if not scene.rig.is_port_free():
                    self.books.breaks("the port was not free after the end", 0, now())
                if os.path.lexists(scene.rig.path):
                    self.books.breaks("the file of the Unix socket was left behind", 0, now())
        except BrokenPromise as broken:
            self.books.breaks(str(broken), 0, now())
        self._judge_log()
        self.crew.tell(stop=True)
        scene.wait_until(lambda: scene.result is not None, CONNECTED_S, "the load process had no result")
        return rest

    def _rest(self) -> Rest:
        scene = self.scene
        scene.wait_full()
        while scene.workers != self.plan.workers:  # each costs the supervisor some descriptors
            scene.rig.signal(signal.SIGTTIN if scene.workers < self.plan.workers else signal.SIGTTOU)
            scene.workers += 1 if scene.workers < self.plan.workers else -1
            scene.wait_still(self.plan.drain_s + LATE_S)
        before = self.base
        assert before is not None
        pids = [scene.rig.pid, *(post.pid for post in scene.rig.posts())]

        def is_as_before() -> bool:
            seen = self._look_at_rest(0.0)
            workers = scene.rig.workers_changed()
            is_so = seen.descriptors == before.descriptors and seen.threads == before.threads
            return is_so and not seen.zombies and not workers

        with suppress(BrokenPromise):  # it is said below
            scene.wait_until(is_as_before, REST_S, "")
        shares: list[float] = []

        def is_idle() -> bool:
            share = procfs.Share(pids)
            scene.pause(self.plan.idle_s)
            shares.append(share.so_far())
            return shares[-1] < (0.005 if self.plan.idle_s >= FINE_S else 0.02)

        with suppress(BrokenPromise):
            scene.wait_until(is_idle, 3 * self.plan.idle_s, "")
        after = self._look_at_rest(min(shares))
        rest = Rest(
            (before.descriptors[0], after.descriptors[0]),
            (before.threads[0], after.threads[0]),
            (before.rss_bytes[0], after.rss_bytes[0]),
            after.zombies,
            after.idle_share,
        )
        if self.servers > 1:  # the one of before is not there any more
            rest = Rest((after.descriptors[0],) * 2, after.threads, after.rss_bytes, after.zombies, after.idle_share)
        for said in [*judge_rest(rest), *scene.rig.workers_changed()]:
            self.books.breaks(said, 0, now())
        if self.plan.idle_s >= FINE_S:
            self.books.on_figure(timed("at rest", "processor", 100 * rest.idle_share, "% of a core", 0.5), 0, now())
        return rest

    # What is said

    def _judge_log(self) -> None:
        """A warning or an error that no fault of this run explains is a broken promise, and so is a traceback."""
        log = self.scene.rig.log
        expected = _ALWAYS_SAID.union(*(TABLE[name].says for _, name, _ in self.done))
        for record in log.take_loud():
            if record["event"] not in expected and self.plan.is_ours:
                self.books.breaks(f"the server said, unexpectedly: {record['text']}", 0, now())
            elif record["event"] in ("bug", "supervisor-bug"):
                self.books.breaks(f"the server said: {record['text']}", 0, now())
        if self.plan.is_ours:
            for line in log.others[:5]:
                self.books.breaks(f"a line in the log that is no event: {line}", 0, now())
        log.others.clear()

    def _on_look(self) -> None:
        if self.on_progress is not None:
            scene = self.scene
            injected = len(self.done)
            broken = len(self.books.broken) + self.books.broken_more
            self.on_progress(now() - scene.began_s, injected, self.present, scene.progress["answered"], broken)


class _ServerGoneError(Exception):
    """The server under test is not there any more."""
