"""After an abuse the server is as it was: the same descriptors, no processor time, the same workers, and it serves.

calm = Calm(server)
…  # break something
calm.wait()
"""

import os
from collections.abc import Sequence

from leftovers import eventually
from paceline.clock import now
from testbed import Server

_TICK_S = 1 / os.sysconf("SC_CLK_TCK")
WINDOW_S = 0.2
MOST_SHARE = 0.3
"""Of one core, while one window lasts; whoever spins takes all of it, and an idle server not a thousandth."""


def descriptors_of(pid: int) -> int:
    """How many descriptors a process has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def cpu_s(*pids: int) -> float:
    """Processor time that these processes have taken so far, in steps of 10 ms."""
    return sum(map(_cpu_of, pids))


def _cpu_of(pid: int) -> float:
    with open(f"/proc/{pid}/stat", "rb") as stat:
        fields = stat.read().rpartition(b") ")[2].split()
    return (int(fields[11]) + int(fields[12])) * _TICK_S  # utime, stime (proc_pid_stat(5))


def cpu_share(pids: Sequence[int], window_s: float = WINDOW_S) -> float:
    """The share of one core that these processes take while the window lasts."""
    begun, used = now(), cpu_s(*pids)
    until = begun + window_s
    eventually(lambda: now() >= until, 10 * window_s + 10)
    return (cpu_s(*pids) - used) / (now() - begun)


class Calm:
    """How the server is when nobody does anything; made when nobody is connected."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.workers = server.pids()
        self.pids = [server.pid, *self.workers]
        self.base = self.descriptors()

    def descriptors(self) -> dict[int, int]:
        return {pid: descriptors_of(pid) for pid in self.pids}

    def wait(self, timeout: float = 10) -> None:
        """Until it is so again; AssertionError when it is not in time."""
        server = self.server
        assert server.pids() == self.workers, "no worker was replaced"
        try:
            eventually(lambda: self.descriptors() == self.base, timeout)
        except AssertionError as error:
            raise AssertionError(f"descriptors were {self.base} and are {self.descriptors()}") from error
        shares: list[float] = []

        def is_idle() -> bool:
            shares.append(cpu_share(self.pids))
            return shares[-1] <= MOST_SHARE

        try:
            eventually(is_idle, timeout)
        except AssertionError as error:
            raise AssertionError(f"it does not come to rest; shares of a core: {shares}") from error
