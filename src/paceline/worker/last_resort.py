"""What C code does when this process cannot run Python any more: it shows the stacks, and in the end leaves.

faulthandler has a timer of its own, which needs no GIL.  It begins with the process, and once that serves the watcher
winds it up again every second; when it has not done so for long, nobody else may be left to end this process: the
supervisor, which usually does, may be gone.

The timer's clock goes on while this process is stopped, its cgroup frozen, its container paused; therefore it is long.
"""

import contextlib
import faulthandler
import threading

from paceline.settings import Settings

HEARTBEATS = 60
"""So many, and the drain time or the boot time, may pass: ten minutes and a half by default."""
MOST_SHOWN = 100
"""Threads; faulthandler shows no more (MAX_NTHREADS of Python/traceback.c)."""


def begin(settings: Settings, fault_fd: int) -> None:
    """Before anything else: the boot may take its time."""
    _set(settings.boot_timeout, settings, fault_fd)


def wind_up(settings: Settings, fault_fd: int) -> None:
    """Every second.  Not where the process is not the worker's own, which has nowhere to write its stacks then."""
    if fault_fd < 0:
        return
    if faulthandler.is_enabled():  # among the first hundred threads the one that crashes may not be
        faulthandler.enable(fault_fd, all_threads=threading.active_count() < MOST_SHOWN)
    _set(settings.drain_timeout, settings, fault_fd)


def _set(allowed_s: float, settings: Settings, fault_fd: int) -> None:
    within_s = allowed_s + HEARTBEATS * settings.heartbeat
    with contextlib.suppress(RuntimeError):  # no thread can be made for it now: we can serve without, and try again
        faulthandler.dump_traceback_later(within_s, exit=True, file=fault_fd)
