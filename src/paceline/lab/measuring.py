"""The main of the process in which one experiment is measured; running.py starts it, reads its lines, and reaps it.

A fresh interpreter: whoever runs the lab may have threads, open files, a notebook.  Whatever the experiment starts
belongs to this process's group, and goes with it.
"""

import json
import os
from typing import Any

from paceline.errors import PacelineError
from paceline.lab import machine
from paceline.lab.catalogue import experiment_of
from paceline.lab.study import Study


def main(name: str, out_fd: int, quick: bool, seed: int) -> int:
    """Measure; 0 when it is done, 1 when it could not be: then `failed` says why in a line."""
    os.set_inheritable(out_fd, False)

    def tell(**message: Any) -> None:
        whole = memoryview(json.dumps(message).encode() + b"\n")
        while whole:
            whole = whole[os.write(out_fd, whole) :]

    try:
        experiment_of(name).measure(Study(machine.look(), quick=quick, seed=seed, tell=tell))
    except KeyboardInterrupt:
        return 130
    except PacelineError as error:
        tell(failed=str(error))
        return 1
    return 0
