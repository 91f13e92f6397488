"""What /proc says about processes: whose children, in which state, how large, how busy.  Nothing here waits."""

import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

from paceline.clock import now
from paceline.host.processes import stat_of
from paceline.host.strangers import process_numbers

_TICK_S = 1 / os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Seen:
    """A process at one moment; `state` is R, S, D, T, Z (proc_pid_stat(5)), `cpu_s` in steps of 10 ms."""

    pid: int
    state: str
    parent: int
    group: int
    cpu_s: float
    threads: int
    rss_bytes: int


def look(pid: int) -> Seen | None:
    """None: there is no such process."""
    try:
        fields = stat_of(pid)
    except OSError:
        return None
    used = (int(fields[11]) + int(fields[12])) * _TICK_S
    return Seen(pid, fields[0].decode(), int(fields[1]), int(fields[2]), used, int(fields[17]), int(fields[21]) * _PAGE)


def everybody() -> list[Seen]:
    """All processes, oldest number first, zombies included."""
    return [seen for number in process_numbers() if (seen := look(number)) is not None]


def children_of(parent: int) -> list[Seen]:
    return [seen for seen in everybody() if seen.parent == parent]


def in_group(group: int) -> list[Seen]:
    """Those of a process group that live."""
    return [seen for seen in everybody() if seen.group == group and seen.state not in "ZX"]


def descriptors_of(pid: int) -> int:
    """How many it has open; 0: there is no such process."""
    with suppress(OSError):
        return len(os.listdir(f"/proc/{pid}/fd"))
    return 0


def lowest_free_descriptor_of(pid: int) -> int:
    """The number that its next descriptor will have; 0: there is no such process."""
    with suppress(OSError):
        taken = {int(name) for name in os.listdir(f"/proc/{pid}/fd")}
        return next(number for number in range(len(taken) + 1) if number not in taken)
    return 0


def descriptor_to(pid: int, what: str) -> str | None:
    """A path by which what this process has open under that name can be opened, too; None: it has nothing such."""
    folder = f"/proc/{pid}/fd"
    with suppress(OSError):
        for name in os.listdir(folder):
            with suppress(OSError):
                if os.readlink(f"{folder}/{name}").startswith(what):
                    return f"{folder}/{name}"
    return None


def address_space_of(pid: int) -> int:
    """Bytes of address space that it has; 0: there is no such process."""
    with suppress(OSError), open(f"/proc/{pid}/statm", "rb") as statm:
        return int(statm.read().split()[0]) * _PAGE
    return 0


def anonymous_of(pids: Iterable[int]) -> int:
    """Bytes of memory that these have for themselves alone (RssAnon, proc_pid_status(5)): no files, nothing shared."""
    found = 0
    for pid in pids:
        with suppress(OSError), open(f"/proc/{pid}/status", "rb") as status:
            found += sum(int(line.split()[1]) * 1024 for line in status if line.startswith(b"RssAnon:"))
    return found


def cpu_of(pids: Iterable[int]) -> float:
    """Processor time in seconds that these have taken so far, in steps of 10 ms each."""
    return sum(seen.cpu_s for seen in map(look, pids) if seen is not None)


class Share:
    """The share of one core that processes take, from now on."""

    def __init__(self, pids: Iterable[int]) -> None:
        self._pids = tuple(pids)
        self._begun_s, self._used_s = now(), cpu_of(self._pids)

    def so_far(self) -> float:
        return (cpu_of(self._pids) - self._used_s) / max(now() - self._begun_s, 1e-6)
