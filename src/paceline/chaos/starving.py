"""Faults in which a worker lacks something: memory, descriptors."""

import resource
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

from paceline.chaos import procfs
from paceline.chaos.scene import BrokenPromise, Scene
from paceline.chaos.schedule import Step
from paceline.clock import now

ROOM_BYTES = 256 << 20
COMING = 40
"""Clients that come while there are no descriptors."""
STARVED_S = 0.5


@contextmanager
def limited(pid: int, which: int, amount: int) -> Iterator[None]:
    """The process may have no more than this meanwhile (prlimit(2)); it may be gone at the end."""
    before = resource.prlimit(pid, which)
    resource.prlimit(pid, which, (amount, before[1]))
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            resource.prlimit(pid, which, before)


def memory(scene: Scene, step: Step) -> None:
    """The one call gets a MemoryError; its worker goes on, and so do all others."""
    scene.wait_full()
    with scene.callers(1) as (caller,), scene.wounding(step):
        pid, _ = caller.who()
        with limited(pid, resource.RLIMIT_AS, procfs.address_space_of(pid) + ROOM_BYTES):
            caller.send(b"!allocate %d" % (16 * ROOM_BYTES))
            caller.wait_over()
        if procfs.look(pid) is None or not any(post.pid == pid for post in scene.rig.serving()):
            raise BrokenPromise(f"worker {pid} did not survive a call that ran out of memory")


def descriptors(scene: Scene, step: Step) -> float:
    """Whoever comes waits, or goes to others; what is open is served; as soon as there are some, all are."""
    chance = step.chance()
    pids = [post.pid for post in scene.choose(chance, chance.choice([1, scene.workers]))]
    hello = b"!who" if scene.plan.is_ours else scene.plan.message
    with scene.wounding(step):
        with ExitStack() as limits, scene.callers(COMING) as callers:
            # Who connects is in the listeners' queues by now, or taken; from here on nothing is taken any more.
            for pid in pids:
                limits.enter_context(limited(pid, resource.RLIMIT_NOFILE, procfs.lowest_free_descriptor_of(pid)))
            for caller in callers:
                caller.send(hello)
            more = limits.enter_context(scene.callers(COMING))
            for caller in more:
                caller.send(hello)
            scene.pause(STARVED_S)
            begun_s = now()
            for pid in pids:
                resource.prlimit(pid, resource.RLIMIT_NOFILE, resource.getrlimit(resource.RLIMIT_NOFILE))
            for caller in [*callers, *more]:
                caller.wait_reply()
            took_s = now() - begun_s
        there = {post.pid for post in scene.rig.serving()}
        if not there.issuperset(pids):
            raise BrokenPromise(f"of the workers {pids} not all have survived a lack of descriptors")
    return took_s
