"""What can be seen of processes that are not ours: their memory with a name, their parents.  One verb per function.

All of it is read from /proc (proc(5)) and may be outdated at once.  Whose process it is, and whether it may be looked
into (ptrace(2), PTRACE_MODE_READ_FSCREDS: the same user, or root), the kernel decides.
"""

import os
from collections.abc import Iterator

from paceline.host.processes import stat_of

_MOST_DESCRIPTORS = 4096
"""Of a process, the lowest; what it opened at its start is among them."""


def process_numbers() -> list[int]:
    """All processes that can be seen from here."""
    return sorted(int(name) for name in os.listdir("/proc") if name.isdecimal())


def memory_named(pid: int, name: str) -> Iterator[tuple[str, int]]:
    """The pieces of memory of this name (memfd_create(2)) that the process has open: (a path to open it by, its inode).

    Raises FileNotFoundError when there is no such process, PermissionError when it may not be looked into.
    """
    folder = f"/proc/{pid}/fd"
    for fd in sorted(int(text) for text in os.listdir(folder))[:_MOST_DESCRIPTORS]:
        path = f"{folder}/{fd}"
        try:
            if os.readlink(path).partition(" ")[0] == f"/memfd:{name}":
                yield path, os.stat(path).st_ino
        except OSError:  # closed meanwhile
            continue


def parent_of(pid: int) -> int:
    """The number of its parent; 0: it has none that can be seen, or there is no such process."""
    try:
        return int(stat_of(pid)[1])
    except OSError:
        return 0


def owner_of(pid: int) -> int | None:
    """Whose process it is, by number of the user; None: there is none."""
    try:
        return os.stat(f"/proc/{pid}").st_uid
    except OSError:
        return None


def is_nearby(pid: int) -> bool:
    """It counts processes as we do: it is not in a namespace of its own (pid_namespaces(7)).  False: nobody knows."""
    try:
        return os.stat(f"/proc/{pid}/ns/pid").st_ino == os.stat("/proc/self/ns/pid").st_ino
    except OSError:
        return False


def watch(pid: int) -> int | None:
    """A descriptor that is readable when the process has ended (pidfd_open(2)); None: there is none, or it may not be.

    Nobody keeps the number from being given to another process meanwhile: compare when it started.
    """
    try:
        return os.pidfd_open(pid)
    except OSError:
        return None


def close(watched: int) -> None:
    """Give up what `watch` gave."""
    os.close(watched)
