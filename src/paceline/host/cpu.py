"""How many cores this process may use: what `--workers auto` means.

The smaller of two numbers: the cores that the scheduler may put us on (sched_setaffinity(2), also a cpuset), and the
share of time that a control group grants (CPU quota, as containers have it).  A quota is rounded down, because a worker
more than it feeds makes all of them stall for the rest of each period.  At least 1.
"""

import os
from collections.abc import Callable

from paceline.host.cgroups import folders, read_own, read_text


def usable_cores() -> tuple[int, str]:
    """(count, why): why it is not more, `the machine has 2`, `a CPU quota of 1.5 cores`, `…affinity…`."""
    own, mounts = read_own()
    return choose(len(os.sched_getaffinity(0)), os.cpu_count() or 1, quota_cores(own, mounts, read_text))


def choose(allowed: int, existing: int, quota: float | None) -> tuple[int, str]:
    """The count and its reason, from the affinity, the machine and the quota.  Pure."""
    if quota is not None and int(quota) < allowed:
        return max(1, int(quota)), f"a CPU quota of {quota:g} cores (control group)"
    if allowed < existing:
        return max(1, allowed), f"{existing} exist, and the CPU affinity allows {allowed}"
    return max(1, allowed), f"the machine has {existing}"


def quota_cores(own: str, mounts: str, read: Callable[[str], str | None]) -> float | None:
    """The CPU quota in cores, or None when there is none.  Pure: `read` gives the text of a file, or None.

    `own` and `mounts` are the texts of /proc/self/cgroup and /proc/self/mountinfo.  The smallest quota on the way up
    holds.  Version 2: `cpu.max` is "quota period" or "max period", in microseconds.  Version 1: `cpu.cfs_quota_us`
    (-1: none) and `cpu.cfs_period_us`.
    """
    quotas = []
    for version, folder in folders("cpu", own, mounts):
        if version == 2:
            text = (read(f"{folder}/cpu.max") or "").split()
        else:
            text = [(read(f"{folder}/cpu.cfs_{part}_us") or "").strip() for part in ("quota", "period")]
        if len(text) == 2 and text[0].isdecimal() and text[1].isdecimal() and int(text[0]) > 0 < int(text[1]):
            quotas.append(int(text[0]) / int(text[1]))
    return min(quotas, default=None)
