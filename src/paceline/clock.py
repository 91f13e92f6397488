"""The only module that reads a clock.  Everything else is given the time as an argument.

`now` is seconds of CLOCK_MONOTONIC: wall-clock steps do not move it, and all processes of one machine read the same
value, so that one process may judge an age stamped by another.
"""

import time

now = time.monotonic
now_ns = time.monotonic_ns
process_cpu = time.process_time
thread_cpu_ns = time.thread_time_ns
sleep = time.sleep
"""For experiments, and for nobody who serves."""


def wall_seconds() -> float:
    """Seconds since the epoch: for the time stamps of log lines, never for a deadline."""
    return time.time()


def date_text(seconds: float) -> str:
    """`2026-11-26`: the day in UTC of a moment in seconds since the epoch.  Reads no clock."""
    return time.strftime("%Y-%m-%d", time.gmtime(seconds))
