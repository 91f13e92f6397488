"""Faults that end the server; the run goes on with another one."""

import signal

from paceline.chaos import procfs
from paceline.chaos.rig import LATE_S, wait_ended
from paceline.chaos.scene import BrokenPromise, Scene
from paceline.chaos.schedule import Step
from paceline.clock import now

SLEEP_S = 0.3
ECHO_S = 0.3
"""The same signal sooner than that after the first is taken for an echo of it."""


def supervisor(scene: Scene, step: Step) -> float:
    """At a random moment: at rest, while a worker is born, while it reloads."""
    rig, chance = scene.rig, step.chance()
    scene.wait_full()
    with scene.wounding(step):
        match chance.randrange(3):
            case 1:
                rig.signal(signal.SIGKILL, chance.choice(rig.serving()).pid)
            case 2:
                rig.signal(signal.SIGHUP)
        scene.pause(chance.uniform(0, 0.1))
        workers = {*rig.workers_alive(), *(post.pid for post in rig.posts())}
        rig.signal(signal.SIGKILL)
        begun_s = now()
        rig.has_ended(wait=True)
        left = wait_ended(sorted(workers), LATE_S, scene.look)
        took_s = now() - begun_s
        scene.halt()
    if left:
        raise BrokenPromise(f"workers {left} were still there {LATE_S:g} s after the supervisor was killed")
    if not rig.is_port_free():
        raise BrokenPromise("the port was not free after the supervisor was killed")
    return took_s


def drain(scene: Scene, step: Step) -> float:
    """Calls that run are finished, the one that hangs is cut; how long the end took beyond the drain time."""
    stuck = step.chance().random() < 0.5
    scene.wait_full()
    with scene.callers(6) as callers, scene.wounding(step):
        idle, calling = callers[:2], callers[2:5]
        for caller in idle:
            caller.who()
        for caller in calling:
            caller.who()
            caller.send(b"!sleep %g" % SLEEP_S)
        if stuck:
            callers[5].who()
            callers[5].send(b"!block")
        scene.pause(0.1)
        begun_s = now()
        scene.rig.signal(signal.SIGTERM)
        for caller in calling:
            caller.wait_reply()
        code = scene.stop_server_after(scene.plan.drain_s + LATE_S)
        took_s = now() - begun_s
        for caller in callers:
            caller.wait_over()
        _judge_end(scene, code, 4 if stuck else 0)
    return max(0.0, took_s - (scene.plan.drain_s if stuck else SLEEP_S))


def twice(scene: Scene, step: Step) -> float:
    """How long it takes from the second signal on, while a call hangs that had much more time."""
    chance = step.chance()
    second = chance.choice([signal.SIGTERM, signal.SIGINT])
    scene.wait_full()
    with scene.callers(1) as (caller,), scene.wounding(step):
        caller.who()
        caller.send(b"!block")
        scene.pause(0.1)
        scene.rig.signal(signal.SIGTERM)
        scene.pause((ECHO_S if second == signal.SIGTERM else 0) + chance.uniform(0.05, scene.plan.drain_s / 2))
        begun_s = now()
        scene.rig.signal(second)
        code = scene.stop_server_after(LATE_S)
        took_s = now() - begun_s
        _judge_end(scene, code, 4)
    return took_s


def _judge_end(scene: Scene, code: int, wanted: int) -> None:
    rig = scene.rig
    scene.halt()
    if code != wanted:
        raise BrokenPromise(f"the server ended with exit code {code}, and {wanted} was due")
    if left := [seen.pid for seen in procfs.in_group(rig.pid)]:
        raise BrokenPromise(f"processes {left} were left by a server that had ended")
    if not rig.is_port_free():
        raise BrokenPromise("the port was not free after the server had ended")
