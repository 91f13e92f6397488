"""Where the kernel's control groups keep the files of this process, version 1 and 2.

`folders` is a pure function of two texts; `texts_of` reads the files.  A limit that stands in any folder from the
process's own up to the root of what is mounted holds for the process: a reader looks at all of them.
"""

import re
from collections.abc import Callable

_ESCAPE = re.compile(r"\\([0-7]{3})")


def folders(controller: str, own: str, mounts: str) -> list[tuple[int, str]]:
    """(version, folder) for a controller (`cpu`, `memory`), the innermost first.  Pure.

    `own` is the text of /proc/self/cgroup (cgroups(7)), `mounts` that of /proc/self/mountinfo (proc_pid_mountinfo(5)).
    What makes no sense is skipped.  In a container the mount may show only a part of the tree, or the process's path
    may begin outside of it: then the root of the mount is all we can see, and it is the container's own group.
    """
    found: list[tuple[int, str]] = []
    for version, root, point in _hierarchies(controller, mounts):
        for path in _own_paths(controller if version == 1 else "", own):
            inner = _below(path, root)
            while True:
                found.append((version, point + inner))
                if not inner:
                    break
                inner = inner.rpartition("/")[0]
    return list(dict.fromkeys(found))


def read_own() -> tuple[str, str]:
    """The two texts that `folders` wants; empty where /proc is not to be read."""
    return read_text("/proc/self/cgroup") or "", read_text("/proc/self/mountinfo") or ""


def read_text(path: str) -> str | None:
    """The file's text, or None when there is none."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except OSError:
        return None


def count_oom_kills(read: Callable[[str], str | None] = read_text, own: tuple[str, str] | None = None) -> int | None:
    """How many processes of our control groups the kernel has killed because memory ran out; None when it does not say.

    Version 2 counts in `memory.events`, version 1 in `memory.oom_control`, both in a line `oom_kill N`.
    """
    counts = []
    for version, folder in folders("memory", *(own or read_own())):
        text = read(folder + ("/memory.events" if version == 2 else "/memory.oom_control")) or ""
        counts += [int(words[1]) for line in text.splitlines() if (words := line.split())[:1] == ["oom_kill"]]
    # An outer group counts what happened in its inner ones too (version 2): the greatest holds them all.
    return max(counts, default=None)


def _hierarchies(controller: str, mounts: str) -> list[tuple[int, str, str]]:
    """(version, which part of the tree is mounted, where)."""
    found = []
    for line in mounts.splitlines():
        before, separator, after = line.partition(" - ")
        left, right = before.split(), after.split()
        if not separator or len(left) < 5 or not right:
            continue
        root, point = _unescaped(left[3]).rstrip("/"), _unescaped(left[4]).rstrip("/")
        if right[0] == "cgroup2":
            found.append((2, root, point))
        elif right[0] == "cgroup" and controller in right[-1].split(","):
            found.append((1, root, point))
    return found


def _own_paths(controller: str, own: str) -> list[str]:
    """Our path in the hierarchy of a controller; version 2 has the line without one, `0::/path`."""
    fields = [line.split(":", 2) for line in own.splitlines()]
    return [parts[2] for parts in fields if len(parts) == 3 and controller in parts[1].split(",")]


def _below(path: str, root: str) -> str:
    path = path.rstrip("/")
    if ".." in path.split("/") or not (path + "/").startswith(root + "/"):
        return ""
    return path[len(root) :]


def _unescaped(field: str) -> str:
    """mountinfo writes a space as \\040 (proc_pid_mountinfo(5))."""
    return _ESCAPE.sub(lambda found: chr(int(found[1], 8)), field)
