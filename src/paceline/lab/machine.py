"""What the lab ran on: the facts for the reader, and what predictions depend on."""

import os
import platform
import sys
import sysconfig
from typing import Any

from paceline import __version__
from paceline.lab.experiment import Machine


def look() -> Machine:
    """This machine, and this Python."""
    has_gil = bool(getattr(sys, "_is_gil_enabled", lambda: True)())
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return Machine(cores, has_gil, {**_facts(), "cores": cores, "gil": has_gil})


def machine_of(facts: dict[str, Any]) -> Machine:
    """As it was kept."""
    return Machine(int(facts["cores"]), bool(facts["gil"]), facts)


def _facts() -> dict[str, Any]:
    from paceline.bench import machine

    return {
        **machine.describe(),
        "python": f"{platform.python_implementation()} {platform.python_version()} ({platform.python_compiler()})",
        "build": platform.python_build()[1],
        "free_threaded_build": bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
        "switch_interval_s": sys.getswitchinterval(),
        "paceline": __version__,
    }
