"""Faults in which processes or calls stand still."""

import signal

from paceline.chaos.rig import LATE_S
from paceline.chaos.scene import BrokenPromise, Scene
from paceline.chaos.schedule import Step
from paceline.clock import now

PAUSE_S = (0.05, 1.5)
SATURATED_S = 1.5
QUIET_S = 0.5
CALL = b"!sleep 0.05"


def stop(scene: Scene, step: Step) -> float:
    """Until its heartbeat is missed, and another one has its place."""
    pid = scene.choose(step.chance())[0].pid
    begun_s = now()
    try:
        with scene.wounding(step, [pid]):
            scene.rig.signal(signal.SIGSTOP, pid)
            scene.wait_gone([pid], scene.plan.heartbeat_s + LATE_S)
    finally:
        scene.rig.signal(signal.SIGCONT, pid)
    scene.wait_full([pid])
    return now() - begun_s


def pause(scene: Scene, step: Step) -> None:
    """All of it, as when the machine is suspended; afterwards nobody was replaced."""
    scene.wait_full()
    before = [post.pid for post in scene.rig.serving()]
    everyone = [scene.rig.pid, *before]
    with scene.wounding(step):
        try:
            for pid in everyone:
                scene.rig.signal(signal.SIGSTOP, None if pid == scene.rig.pid else pid)
            scene.pause(step.chance().uniform(*PAUSE_S))
        finally:
            for pid in everyone:
                scene.rig.signal(signal.SIGCONT, None if pid == scene.rig.pid else pid)
        scene.pause(0.5)
        if (after := [post.pid for post in scene.rig.serving()]) != before:
            raise BrokenPromise(f"workers {before} were replaced by {after} because everything had stood still")


def hang(scene: Scene, step: Step) -> float:
    """Only this call is lost; its neighbours move or finish."""
    scene.wait_full()
    with scene.callers(1) as (caller,):
        pid, _ = caller.who()
        begun_s = now()
        with scene.wounding(step):
            caller.send(b"!block")
            scene.wait_gone([pid], scene.plan.timeout_s + scene.plan.drain_s + LATE_S)
            caller.wait_over()
            scene.wait_full([pid])
    return now() - begun_s


def saturate(scene: Scene, step: Step) -> None:
    """Whoever is connected to that worker, and whoever comes, is served by the others; the load sees how soon."""
    scene.wait_full()
    count = scene.plan.threads + 2
    with scene.callers(2 * scene.workers * count) as callers:
        for caller in callers:
            caller.send(b"!who")
        homes = [int(caller.wait_reply().split()[0]) for caller in callers]
        home = max(set(homes), key=homes.count)
        calling = [caller for caller, its in zip(callers, homes, strict=True) if its == home][:count]
        with scene.wounding(step):
            until_s = now() + SATURATED_S
            for caller in calling:
                caller.send(CALL)
            while now() < until_s:
                scene.look(0.002)
                for caller in calling:
                    if caller.try_reply() is not None:
                        caller.send(CALL)


def gil(scene: Scene, step: Step) -> float:
    """Its worker runs no Python any more."""
    scene.wait_full()
    with scene.callers(1) as (caller,):
        pid, _ = caller.who()
        begun_s = now()
        with scene.wounding(step, [pid]):
            caller.send(b"!hold %d" % (scene.plan.heartbeat_s + 600))
            scene.wait_gone([pid], scene.plan.heartbeat_s + LATE_S)
            caller.wait_over()
    scene.wait_full([pid])
    return now() - begun_s


def signals(scene: Scene, step: Step) -> float:
    """Then it comes to rest, with as many workers as before; who was told to leave, alone, may have lost its own."""
    chance, rig = step.chance(), scene.rig
    to_supervisor = [signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGTTIN, signal.SIGTTOU, signal.SIGWINCH]
    to_worker = [signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGTTIN, signal.SIGTTOU, signal.SIGINT]
    scene.wait_full()
    told_to_leave: list[int] = []
    with scene.wounding(step, told_to_leave):
        for _ in range(100):
            posts = rig.posts()
            if posts and chance.random() < 0.5:
                number = signal.SIGTERM if chance.random() < 0.05 else chance.choice(to_worker)
                pid = chance.choice(posts).pid
                rig.signal(number, pid)
                told_to_leave += [pid] if number == signal.SIGTERM else []
            else:
                rig.signal(chance.choice(to_supervisor))
            scene.pause(0.005)
        begun_s = now()
        _come_to_rest(scene)
    return now() - begun_s - QUIET_S


def _come_to_rest(scene: Scene) -> None:
    """The signals may have scaled it, so it is asked for the number of before, one by one."""
    _wait_quiet(scene)
    while (there := len(scene.rig.serving())) != scene.workers:
        more = there < scene.workers
        scene.rig.signal(signal.SIGTTIN if more else signal.SIGTTOU)
        wanted = there + 1 if more else there - 1
        what = f"of {there} workers there were not {wanted} after {'SIGTTIN' if more else 'SIGTTOU'}"
        scene.wait_until(lambda wanted=wanted: len(scene.rig.posts()) == wanted and _is_still(scene), LATE_S, what)  # type: ignore[misc]


def _wait_quiet(scene: Scene) -> None:
    """Nothing has changed for a while: no reload, no upgrade waits for its turn."""
    still_s = now()

    def is_quiet() -> bool:
        nonlocal still_s
        if not _is_still(scene):
            still_s = now()
        return now() - still_s > QUIET_S

    scene.wait_until(is_quiet, 2 * LATE_S, "it did not come to rest")


def _is_still(scene: Scene) -> bool:
    posts, said = scene.rig.posts(), scene.rig.log.counts
    is_upgrading = said["upgrade-rehearsed"] > said["upgraded"] + said["upgrade-failed"]
    return bool(posts) and len(posts) == len(scene.rig.serving()) and not is_upgrading
