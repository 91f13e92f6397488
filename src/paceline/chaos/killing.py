"""Faults that end workers."""

import signal
from collections.abc import Sequence

from paceline.chaos.rig import LATE_S
from paceline.chaos.scene import Scene
from paceline.chaos.schedule import Step
from paceline.clock import now


def kill(scene: Scene, step: Step, number: int = signal.SIGKILL) -> float:
    chance = step.chance()
    return _end(scene, step, [scene.choose(chance)[0].pid], number)


def abort(scene: Scene, step: Step) -> float:
    return kill(scene, step, signal.SIGABRT)


def massacre(scene: Scene, step: Step) -> float:
    chance = step.chance()
    return _end(scene, step, [post.pid for post in scene.choose(chance, scene.workers)], signal.SIGKILL)


def _end(scene: Scene, step: Step, pids: Sequence[int], number: int) -> float:
    """Send the signal; how long it took until all workers serve again."""
    begun_s = now()
    with scene.wounding(step, pids):
        for pid in pids:
            scene.rig.signal(number, pid)
        scene.wait_gone(pids)
    scene.wait_full(pids)
    return now() - begun_s


def segv(scene: Scene, step: Step) -> float:
    if not scene.plan.is_ours:
        return kill(scene, step, signal.SIGSEGV)
    scene.wait_full()
    with scene.callers(1) as (caller,):
        pid, _ = caller.who()
        begun_s = now()
        with scene.wounding(step, [pid]):
            caller.send(b"!crash")
            scene.wait_gone([pid])
        caller.wait_over()
    scene.wait_full([pid])
    return now() - begun_s


def term(scene: Scene, step: Step) -> float:
    """It finishes what runs, and leaves."""
    pid = scene.choose(step.chance())[0].pid
    begun_s = now()
    with scene.wounding(step, [pid]):
        scene.rig.signal(signal.SIGTERM, pid)
        scene.wait_gone([pid], scene.plan.drain_s + LATE_S)
        scene.wait_full([pid])
    return now() - begun_s
