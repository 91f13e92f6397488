"""Faults of clients: they break off, end their side, do not read.  Each costs itself its connection, nobody else."""

from paceline.chaos.scene import BrokenPromise, Scene
from paceline.chaos.schedule import Step

RESETS = 30
HALVES = 20
SLOW = 10
BIG_LINES = 2_000
"""Lines of a thousand bytes that each of those gets who do not read."""


def reset(scene: Scene, step: Step) -> None:
    """With nothing sent, in a message, in a call, with replies on the way."""
    chance = step.chance()
    hello = scene.plan.message if not scene.plan.is_ours else b"0.1.0"
    with scene.wounding(step), scene.callers(RESETS) as callers:
        for caller in callers:
            caller.send_bytes((hello + b"\n")[: chance.randrange(len(hello) + 2)])
            if scene.plan.is_ours and chance.random() < 0.3:
                caller.send_bytes(b"\n!sleep 0.05\n")
            elif chance.random() < 0.3:
                scene.pause(0.002)
        for caller in callers:
            caller.reset()


def half(scene: Scene, step: Step) -> None:
    """All replies come, and then the end."""
    chance = step.chance()
    with scene.wounding(step), scene.callers(HALVES) as callers:
        wanted = [chance.randrange(6) for _ in callers]
        for caller, count in zip(callers, wanted, strict=True):
            caller.send(*[b"!who"] * count) if count else None
            caller.send_bytes(b"hal"[: chance.randrange(4)])
            caller.shut()
        for caller, count in zip(callers, wanted, strict=True):
            for _ in range(count):
                caller.wait_reply()
            caller.wait_over()


def slow(scene: Scene, step: Step) -> None:
    """Their replies fill all there is; the others are served meanwhile, as the load sees."""
    with scene.wounding(step), scene.callers(SLOW + 1) as (other, *callers):
        for caller in callers:
            caller.send(b"!many %d" % BIG_LINES)
        scene.pause(step.chance().uniform(0.2, 1.0))
        if not other.who():
            raise BrokenPromise("who does read is not served")
        for caller in callers:
            caller.reset()
