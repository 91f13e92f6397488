"""What this test process owns: descriptors, threads, children.  Compared before and after, that shows a leak.

Used by the fixture `nothing_left` (conftest.py) and by testbed.py.  Threads are counted as Python knows them: a thread
that was joined may linger in the kernel for a moment, and is no leak.

Each test answers for itself.  What an earlier one left behind may end at any time, and whoever runs then has no part in
it: that something is gone counts only if it was there before the first test.  The timer of pytest-timeout comes and
goes by its own rules.
"""

import ctypes
import gc
import os
import re
import select
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from paceline.clock import now

_PR_SET_CHILD_SUBREAPER, _PR_GET_CHILD_SUBREAPER = 36, 37  # linux/prctl.h
_prctl = ctypes.CDLL(None, use_errno=True).prctl


@dataclass(frozen=True)
class Belongings:
    """What is there at one moment, each with a word for what it is."""

    descriptors: dict[int, str]
    threads: dict[int, str]
    children: dict[int, str]

    def beyond(self, before: "Belongings") -> list[str]:
        """What is here and was not there before, and the other way round; empty when nothing has changed."""
        changes = []
        for kind, old, new in (
            ("descriptor", before.descriptors, self.descriptors),
            ("thread", before.threads, self.threads),
            ("child", before.children, self.children),
        ):
            changes += [f"{kind} {key} is left: {new[key]}" for key in sorted(new.keys() - old.keys())]
            changes += [
                f"{kind} {key} is gone: {old[key]}"
                for key in sorted(old.keys() - new.keys())
                if kind == "descriptor" and _AT_FIRST.get(key) == old[key]
            ]
            changes += [
                f"{kind} {key} was {old[key]} and is {new[key]}"
                for key in sorted(old.keys() & new.keys())
                if kind == "descriptor" and old[key] != new[key]
            ]
        return changes


def belongings() -> Belongings:
    """As it is now, garbage collected."""
    gc.collect()
    return Belongings(
        descriptors=_descriptors(),
        threads={
            thread.ident or 0: thread.name
            for thread in threading.enumerate()
            if not thread.name.startswith("pytest_timeout ")
        },
        children={pid: _command_of(pid) for pid in children_of(os.getpid())},
    )


def children_of(parent: int) -> list[int]:
    """The children of a process, zombies included, oldest first."""
    return [pid for pid in _processes() if _state_and_parent(pid)[1] == parent]


def open_kinds(pid: int) -> list[str]:
    """What a process has open, each as the kernel calls it, without numbers."""
    found = []
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            found.append(re.sub(r"\d+", "", os.readlink(f"/proc/{pid}/fd/{name}")))
        except FileNotFoundError:
            found.append("gone")
    return sorted(found)


def is_alive(pid: int) -> bool:
    """Whether the process runs, or could: a zombie does not."""
    return _state_and_parent(pid)[0] not in ("", "Z", "X")


def wait_gone(pids: list[int], timeout: float = 5) -> None:
    """Wait until each of these processes has ended, be it as a zombie; AssertionError when one has not in time."""
    deadline = now() + timeout
    for pid in pids:
        try:
            watch = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        try:
            poll = select.poll()
            poll.register(watch, select.POLLIN)  # readable when the process has ended (pidfd_open(2))
            ended = poll.poll(max(0.0, deadline - now()) * 1000)
        finally:
            os.close(watch)
        assert ended or not is_alive(pid), f"process {pid} ({_command_of(pid)}) is still there after {timeout} s"


def end_processes(pids: list[int]) -> None:
    """Kill and reap these children of ours."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        with suppress(ChildProcessError):
            os.waitpid(pid, 0)


def adopt_orphans(wanted: bool) -> bool:
    """Whether descendants whose parent has died become children of this process (prctl(2)); what it was before."""
    before = ctypes.c_int()
    _prctl(_PR_GET_CHILD_SUBREAPER, ctypes.byref(before), 0, 0, 0)
    _prctl(_PR_SET_CHILD_SUBREAPER, int(wanted), 0, 0, 0)
    return bool(before.value)


def eventually(check: Callable[[], object], timeout: float = 10) -> None:
    """Wait until `check()` is true, for what nobody can be told of; AssertionError when the time is up."""
    deadline = now() + timeout
    pause = threading.Event()
    while not check():
        assert now() < deadline, f"not so within {timeout} s: {check.__name__}"
        pause.wait(0.005)


def _descriptors() -> dict[int, str]:
    found = {}
    for name in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # the listing's own
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
    return found


def _processes() -> list[int]:
    return sorted(int(name) for name in os.listdir("/proc") if name.isdecimal())


def _state_and_parent(pid: int) -> tuple[str, int]:
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            fields = stat.read().rpartition(b") ")[2].split()  # the name before it may hold anything (proc_pid_stat(5))
    except OSError:
        return "", 0
    return fields[0].decode(), int(fields[1])


def _command_of(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as words:
            return words.read().replace(b"\0", b" ").decode(errors="replace").strip() or "a zombie"
    except OSError:
        return "gone"


_AT_FIRST = _descriptors()
"""Before the first test: what the test runner itself has open."""
