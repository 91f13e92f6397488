"""The main of the process in which one experiment is measured; running.py starts it, reads its lines, and reaps it.

A fresh interpreter: whoever runs the lab may have threads, open files, a notebook.  Whatever the experiment starts
belongs to this process's group, and goes with it.  When whoever asked for it dies, this is interrupted, too.
"""

import json
import os
import signal
import traceback
from contextlib import suppress
from types import FrameType
from typing import Any

from paceline.errors import PacelineError
from paceline.host.processes import die_with_parent
from paceline.lab import machine
from paceline.lab.catalogue import experiment_of
from paceline.lab.study import Study


def _on_interrupt(number: int, frame: FrameType | None) -> None:
    """What falls into the hooks of a fork cannot be raised there, and is complained of: nobody needs to read that.

    Then the interrupt is lost, and whoever sent it kills us in the end.
    """
    os.dup2(os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC), 2)
    signal.default_int_handler(number, frame)


def _keep_to(cores: int) -> None:
    """Where a quota feeds fewer cores than we may use, use no more: else all stand still for a part of each period."""
    with suppress(OSError):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])


def main(name: str, out_fd: int, quick: bool, seed: int, parent: int) -> int:
    """Measure; 0 when it is done, 130 when it was interrupted, 1 when it failed: then `failed` says why in a line."""
    os.set_inheritable(out_fd, False)

    def tell(**message: Any) -> None:
        whole = memoryview(json.dumps(message).encode() + b"\n")
        while whole:
            whole = whole[os.write(out_fd, whole) :]

    try:
        signal.signal(signal.SIGINT, _on_interrupt)  # a shell's background job inherits it ignored
        if not die_with_parent(parent, signal.SIGINT):
            return 130
        here = machine.look()
        _keep_to(here.cores)
        experiment_of(name).measure(Study(here, quick=quick, seed=seed, tell=tell))
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        return 130  # nobody wants to know any more
    except PacelineError as error:
        tell(failed=str(error))
        return 1
    except Exception as error:  # noqa: BLE001 - whoever reads the pipe is told, whatever it is
        traceback.print_exc()
        tell(failed=f"{type(error).__name__}: {error}")
        return 1
    return 0
