"""What the kernel's scheduler did with a thread: whether it waited for something, or only for a processor.

A thread that is off the processor has either blocked or been preempted, and a clock cannot tell which.  On a machine
that others use too, the difference decides: a handler that only had to queue for a core does not get faster with more
threads.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from resource import RUSAGE_THREAD, getrusage
from typing import NamedTuple


def voluntary_switches() -> int:
    """How often the calling thread gave its processor away because it had to wait (getrusage(2), ru_nvcsw).  0.4 µs.

    Unchanged over a call: whatever time it spent off the processor, it was preempted.
    """
    return getrusage(RUSAGE_THREAD).ru_nvcsw


class Times(NamedTuple):
    """What a thread got of the processors so far."""

    ran_ns: int
    waited_ns: int
    """In the queue for a processor, ready to run."""
    slices: int
    """How often it was put on a processor."""


def times_of(thread_id: int) -> Times | None:
    """The times of a thread of this process; None when nobody can tell.  6 µs.

    `thread_id` is the kernel's (threading.get_native_id).  From /proc/PID/task/TID/schedstat (the kernel's
    Documentation/scheduler/sched-stats.rst).  A time that goes on now is not in it yet, up to a scheduler tick when the
    thread runs, all of it when it waits.
    """
    try:
        ran, waited, slices = _read(f"/proc/self/task/{thread_id}/schedstat").split()
        return Times(int(ran), int(waited), int(slices))
    except (OSError, ValueError):
        return None


def is_runnable(thread_id: int) -> bool:
    """Whether the thread runs, or could if it had a processor: state R in proc_pid_stat(5).  False when it is gone."""
    try:
        return _read(f"/proc/self/task/{thread_id}/stat").rpartition(b")")[2].split()[0] == b"R"
    except (OSError, IndexError):
        return False


QUICK_S = 0.0001


@contextmanager
def quick_turns() -> Iterator[None]:
    """While the calling thread makes many system calls, threads of this process take turns more often.

    Each call gives the GIL up and has to get it back from a thread that computes, or itself makes calls too short for
    anybody to wake up meanwhile; that takes one switch interval (sys.setswitchinterval), of up to 1 ms usually.
    """
    before = sys.getswitchinterval()
    sys.setswitchinterval(min(QUICK_S, before))
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def _read(path: str) -> bytes:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, 512)
    finally:
        os.close(fd)
