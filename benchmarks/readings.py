"""What the kernel says about processes and cores: proc(5), clock_getcpuclockid(3).

The `…_in` functions are pure and take a file's text; the others read.  A process that is gone raises ProcessLookupError
or FileNotFoundError.  Used by measure.py on the measuring process's main thread.
"""

import os
import time
from collections.abc import Collection, Iterable
from contextlib import suppress

TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def _text(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()


def stat_fields_in(stat: str) -> tuple[int, int, str]:
    """(parent, process group, state) in the text of /proc/PID/stat; the name before them may hold anything."""
    state, parent, group = stat[stat.rindex(")") + 1 :].split()[:3]
    return int(parent), int(group), state


def tree_in(parents: dict[int, int], root: int) -> list[int]:
    """`root` and all that descend from it, in a table of process → parent."""
    found = [root]
    for process in found:  # grows while it is walked
        found += [child for child, parent in parents.items() if parent == process]
    return found


def value_in(text: str, key: str) -> int:
    """The number on the line `key:  number …` of /proc/PID/status or smaps_rollup; KeyError when there is none."""
    for line in text.splitlines():
        name, _, rest = line.partition(":")
        if name == key:
            return int(rest.split()[0])
    raise KeyError(key)


def busy_s_in(stat: str, cores: Collection[int]) -> float:
    """Seconds that `cores` together were busy since boot, in the text of /proc/stat; stolen time counts as busy."""
    busy_ticks = 0
    for line in stat.splitlines():
        name, *numbers = line.split()
        if name.startswith("cpu") and name[3:].isdigit() and int(name[3:]) in cores:
            user, nice, system, _idle, _iowait, irq, softirq, steal = (int(number) for number in numbers[:8])
            busy_ticks += user + nice + system + irq + softirq + steal
    return busy_ticks / TICKS_PER_S


def _all_stats() -> Iterable[tuple[int, tuple[int, int, str]]]:
    for name in os.listdir("/proc"):
        if name.isdigit():
            with suppress(FileNotFoundError, ProcessLookupError):
                yield int(name), stat_fields_in(_text(f"/proc/{name}/stat"))


def tree(root: int) -> list[int]:
    """The processes of a server: the one that was started, and its descendants."""
    return tree_in({pid: parent for pid, (parent, _, _) in _all_stats()}, root)


def group_members(group: int) -> list[int]:
    """The living processes of a process group (zombies are not living)."""
    return [pid for pid, (_, its_group, state) in _all_stats() if its_group == group and state not in "ZX"]


def cpu_s(pids: Iterable[int]) -> float:
    """CPU time that the processes have used, user and system, threads that are gone included; to the nanosecond.

    The clock of another process has the number that clock_getcpuclockid(3) computes: CPUCLOCK_SCHED, process-wide.
    """
    return sum(time.clock_gettime((~pid << 3) | 2) for pid in pids)


def threads(pids: Iterable[int]) -> int:
    """How many threads the one among the processes has that has most."""
    return max(value_in(_text(f"/proc/{pid}/status"), "Threads") for pid in pids)


def memory_kib(pids: Iterable[int]) -> tuple[int, int]:
    """(own, resident) memory of the processes together.

    Own is what is not a file's: heap, stacks, shared memory; a page that n processes share after a fork counts 1/n in
    each.  Files (the interpreter, libraries) are left out: their share changes when any other Python comes or goes.
    """
    rollups = [_text(f"/proc/{pid}/smaps_rollup") for pid in pids]
    own_kib = sum(value_in(text, key) for text in rollups for key in ("Pss_Anon", "Pss_Shmem"))
    return own_kib, sum(value_in(text, "Rss") for text in rollups)


def busy_s(cores: Collection[int]) -> float:
    """Seconds that the cores were busy since boot, by whomever."""
    return busy_s_in(_text("/proc/stat"), cores)
