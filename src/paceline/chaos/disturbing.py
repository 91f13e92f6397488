"""Abuses by the machine: system calls of a worker fail now and then, or it has no descriptors for long."""

import os
import random
import resource
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from paceline.chaos import procfs
from paceline.chaos.rig import LATE_S
from paceline.chaos.scene import Scene
from paceline.chaos.schedule import Step
from paceline.chaos.siege import NET, STAND_S, Siege
from paceline.chaos.starving import limited
from paceline.clock import now
from paceline.errors import HostError

ROUND_S = 1.0
"""So long the same errors are injected, for the connections that there are then."""
RATE = (20, 100)
"""One call in so many fails: p = 0.05 to 0.01."""
ERRORS = {
    "read": ("EINTR", "EAGAIN", "ECONNRESET", "ETIMEDOUT", "ENOMEM", "ENOBUFS"),
    "write": ("EINTR", "EAGAIN", "ECONNRESET", "EPIPE", "ENOMEM", "ENOBUFS"),
    "accept4": ("EINTR", "EMFILE", "ENFILE", "ENOMEM", "ENOBUFS", "ECONNABORTED"),
}
"""What each call fails with; calls of anything but the attackers' connections and the listeners are let be.

Not epoll_wait(2): a call in which strace ends gives ENOSYS, which nothing else does, and a thread ends of that.  To
interrupt it is what the fault `signals` does.
"""


def exhausted(scene: Scene, step: Step) -> None:
    """For long, in all workers at once: who is there is served, who comes waits, and nothing is spent on that."""
    siege = Siege(scene, step)
    with ExitStack() as limits:
        for pid in siege.pids:
            lowest = procfs.lowest_free_descriptor_of(pid)
            limits.enter_context(limited(pid, resource.RLIMIT_NOFILE, lowest))
        with siege.attacked() as mob:
            siege.hold(mob, min(0.5, scene.plan.hold_s / 4))
            scene.stretch()
            share, mark_s, lines = procfs.Share(siege.pids), now(), siege.lines("accept-paused")
            siege.hold(mob, scene.plan.hold_s)
            stretch, used = scene.stretch(), share.so_far() - siege.quiet_share
            a_second = (siege.lines("accept-paused") - lines) / (now() - mark_s) / len(siege.pids)
            accepted = scene.rig.total("accepted")
            for pid in siege.pids:
                resource.prlimit(pid, resource.RLIMIT_NOFILE, resource.getrlimit(resource.RLIMIT_NOFILE))
            begun_s = now()
            siege.wait(mob, lambda: scene.rig.total("accepted") > accepted, LATE_S, "nobody was accepted any more")
            took_s = now() - begun_s
            siege.wait(mob, lambda: mob.all_stand, STAND_S, "not all who had waited were served")
            siege.end(mob)
    siege.note_others(stretch, ratio=2.0)
    siege.timed("processor more than without it", 100 * max(0.0, used), "% of a core", 5.0)
    siege.timed("lines a second and worker", a_second, "", 1.1)
    siege.timed("accepting again after", 1000 * took_s, "ms", 200.0)


def errors(scene: Scene, step: Step) -> None:
    """No byte is wrong, nobody waits for ever; connections of which a call has failed for good may be ended."""
    strace = shutil.which("strace")
    if strace is None:
        raise HostError("the fault 'errors' makes system calls fail with strace(1), which is not installed")
    # Strace stops each thread at each of these calls.
    siege, chance = Siege(scene, step, blocks=True), step.chance()
    with siege.attacked() as mob:
        siege.wait_stand(mob)
        until_s = now() + scene.plan.hold_s
        injected = 0
        while now() < until_s:
            sockets = _sockets_of(scene.rig.address.port)
            with ExitStack() as traced:
                for pid in siege.pids:
                    traced.enter_context(_failing_now_and_then(strace, pid, sockets, chance))
                siege.hold(mob, ROUND_S)
                injected += 1
        stretch = scene.stretch()
        mob.tell_calm()
        siege.wait(mob, lambda: mob.all_calm, LATE_S, "not all were answered after the last error")
        result = siege.end(mob)
    siege.note_others(stretch)
    siege.told("rounds", injected)
    siege.told("answered", result["answered"])
    siege.told("ended", len(result["lasted_s"]))


@contextmanager
def _failing_now_and_then(strace: str, pid: int, sockets: list[str], chance: random.Random) -> Iterator[None]:
    words = [strace, "-f", "-p", str(pid), "-o", os.devnull, "-e", f"trace={','.join(ERRORS)}"]
    words += [word for name in sockets for word in ("-P", name)]
    for call, errors_ in ERRORS.items():
        every = chance.randint(*RATE)
        words += ["-e", f"inject={call}:error={chance.choice(errors_)}:when={chance.randint(1, every)}+{every}"]
    with subprocess.Popen(words, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            line = process.stderr.readline()
            while line and "attached" not in line and "Requested path" in line:
                line = process.stderr.readline()  # it looks for a file of that name, too, and finds none
            if "attached" not in line:
                raise HostError(f"strace(1) may not attach to our own server: {line.strip()} (CAP_SYS_PTRACE)")
            yield
        finally:
            process.terminate()


def _sockets_of(port: int) -> list[str]:
    """The server's ends of the attackers' connections, and its listener, by the names that /proc/…/fd has for them."""
    found = []
    with open("/proc/net/tcp", encoding="ascii") as table:
        next(table)
        for line in table:
            fields = line.split()
            local, remote, state, inode = fields[1], fields[2], fields[3], fields[9]
            address = bytes.fromhex(remote.partition(":")[0])[::-1]
            is_attackers = address[:2] == bytes([127, NET])
            if int(local.partition(":")[2], 16) == port and (is_attackers or state == "0A") and inode != "0":
                found.append(f"socket:[{inode}]")
    return found
