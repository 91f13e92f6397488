"""From the fork to the worker's own code: what the child does before it is a worker.

Only what must happen first: until the wake-up descriptor is let go and the supervisor's descriptors are closed, the
child could speak in the supervisor's name, or keep its channels open after its death.
"""

import contextlib
import faulthandler
import gc
import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from typing import NoReturn

from paceline import clock
from paceline.host import processes, signals
from paceline.worker.messages import Failed, encode
from paceline.worker.plan import Plan

Main = Callable[[Plan], NoReturn]
"""What a worker runs: worker.process.main."""

OOM_MORE = 10
"""When memory runs out, a worker counts as this many thousandths of it larger than it is: the supervisor is spared."""


def flush_prints() -> None:
    """Write what the caller has printed: a child would inherit it in the buffers, and might write it once more."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):  # nobody reads it, it is closed, there is none
            stream.flush()


def start(plan: Plan, main: Main, fork: Callable[[], int] = processes.fork) -> int:
    """Make the worker; returns its pid.  Raises OSError when no process can be made.

    `main` finds all signals blocked but those of a crash, the worker's row on the board taken, faulthandler writing to
    the seat's memfd, and itself condemned to SIGKILL with the supervisor's end: before it is ready nothing is lost by
    that, and an import that hangs could not be ended otherwise.  A worker that serves asks for SIGTERM instead.
    """
    with signals.blocked():
        pid = fork()
        if pid == 0:
            _live(plan, main)
    return pid


def _live(plan: Plan, main: Main) -> NoReturn:
    try:
        signals.install_wakeup_fd(-1)
        for fd in plan.close_fds:
            # The sockets among them are closed behind the backs of their objects, which nobody here ever uses or frees:
            # the supervisor's frames, below ours, hold them and never return.
            os.close(fd)
        for seat, inbox in enumerate(plan.inboxes):
            if seat != plan.seat:
                inbox.reader.close()
        if processes.die_with_parent(plan.supervisor_pid, signal.SIGKILL):
            faulthandler.enable(plan.fault_fd, all_threads=True)
            signals.unblock(*signals.FAULTS)
            processes.volunteer_for_oom(OOM_MORE)
            plan.board.sit(
                plan.seat, pid=os.getpid(), slot=plan.slot, generation=plan.generation, now_ns=clock.now_ns()
            )
            # What came from the supervisor is never garbage here; untouched by the collector, its pages stay shared.
            gc.freeze()
            main(plan)
    except BaseException as error:  # noqa: BLE001 - a bug of ours; it must not run on as a second supervisor
        _tell(plan, error)
    finally:
        os._exit(1)


def _tell(plan: Plan, error: BaseException) -> None:
    why = f"a bug in Paceline: {type(error).__name__}: {error}"
    with contextlib.suppress(OSError):
        datagram = encode(Failed(why, "".join(traceback.format_exception(error)), 1))
        plan.control.send(datagram, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
