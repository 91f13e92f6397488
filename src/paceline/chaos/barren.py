"""The fault in which no process can be made: fork(2) fails in the supervisor while it wants to.

By strace(1), which injects the error, or by a control group whose limit on processes is reached (cgroup v1, for root).
"""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from paceline.chaos.scene import BrokenPromise, Scene
from paceline.chaos.schedule import Step
from paceline.clock import now
from paceline.errors import HostError

NOBODY_BORN_S = 0.3
_PIDS = "/sys/fs/cgroup/pids"
_FORKS = "clone,clone3,fork,vfork"


def fork(scene: Scene, step: Step) -> float:
    """Its time counts from when processes can be made again."""
    rig, chance = scene.rig, step.chance()
    pid = scene.choose(chance)[0].pid
    ways = ["EAGAIN", "ENOMEM", *(["limit"] if os.access(_PIDS, os.W_OK) else [])]
    way = chance.choice(ways)
    barren = full_group([rig.pid, *rig.workers_alive()]) if way == "limit" else failing(rig.pid, _FORKS, way)
    with scene.wounding(step, [pid]):
        with barren:
            rig.signal(signal.SIGKILL, pid)
            scene.wait_gone([pid])
            scene.pause(NOBODY_BORN_S)
            if rig.has_ended():
                raise BrokenPromise("the supervisor ended when no process could be made")
        begun_s = now()
        scene.wait_full([pid])
    return now() - begun_s


@contextmanager
def failing(pid: int, calls: str, error: str) -> Iterator[None]:
    """These system calls of the process fail meanwhile (strace(1), --inject).  Raises HostError without strace."""
    if shutil.which("strace") is None:
        raise HostError("the fault 'fork' makes system calls fail with strace(1), which is not installed")
    inject = ["-e", f"trace={calls}", "-e", f"inject={calls}:error={error}"]
    words = ["strace", "-f", "-p", str(pid), "-o", os.devnull, *inject]
    with subprocess.Popen(words, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as strace:
        assert strace.stderr is not None
        try:
            line = strace.stderr.readline()
            if "attached" not in line:
                raise HostError(f"strace(1) may not attach to our own server: {line.strip()} (CAP_SYS_PTRACE)")
            yield
        finally:
            strace.terminate()


@contextmanager
def full_group(pids: list[int]) -> Iterator[None]:
    """These processes are in a group that may have no more than one meanwhile; then they go back to where we are."""
    folder = f"{_PIDS}/paceline-chaos-{os.getpid()}"
    os.mkdir(folder)
    try:
        for pid in pids:
            with suppress(ProcessLookupError):
                _write(f"{folder}/cgroup.procs", pid)
        _write(f"{folder}/pids.max", 1)
        yield
    finally:
        _write(f"{folder}/pids.max", "max")
        while True:  # whoever is made meanwhile is in it, too
            with open(f"{folder}/cgroup.procs", encoding="ascii") as procs:
                inside = procs.read().split()
            for pid_text in inside:
                with suppress(OSError):
                    _write(f"{_PIDS}{_own_group()}/cgroup.procs", pid_text)
            with suppress(OSError):
                os.rmdir(folder)
                break


def _own_group() -> str:
    with open("/proc/self/cgroup", encoding="utf-8") as groups:
        for line in groups:
            _, kinds, path = line.rstrip("\n").split(":", 2)
            if kinds == "pids" and os.path.isdir(_PIDS + path):
                return path
    return ""


def _write(path: str, value: object) -> None:
    with open(path, "w", encoding="ascii") as file:
        file.write(str(value))
