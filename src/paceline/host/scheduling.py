"""What the kernel's scheduler did with a thread: whether it waited for something, or only for a processor.

A thread that is off the processor has either blocked or been preempted, and a clock cannot tell which.  On a machine
that others use too, the difference decides: a handler that only had to queue for a core does not get faster with more
threads.
"""

import os
from resource import RUSAGE_THREAD, getrusage


def voluntary_switches() -> int:
    """How often the calling thread gave its processor away because it had to wait (getrusage(2), ru_nvcsw).  0.4 µs.

    Unchanged over a call: whatever time it spent off the processor, it was preempted.
    """
    return getrusage(RUSAGE_THREAD).ru_nvcsw


def running_ns(thread_id: int) -> int:
    """How long a thread of this process has run or waited for a processor, in nanoseconds; 0 when nobody can tell.

    `thread_id` is the kernel's (threading.get_native_id).  From /proc/PID/task/TID/schedstat (the kernel's
    Documentation/scheduler/sched-stats.rst); of a thread that runs now it may lack the last scheduler tick.  6 µs.
    """
    try:
        fd = os.open(f"/proc/self/task/{thread_id}/schedstat", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return 0
    try:
        ran, waited, _slices = os.read(fd, 128).split()
        return int(ran) + int(waited)
    except (OSError, ValueError):
        return 0
    finally:
        os.close(fd)
