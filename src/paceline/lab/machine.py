"""What the lab runs on: facts for the reader, what predictions depend on, and how another Python like this starts."""

import platform
import sys
import sysconfig
from typing import Any

from paceline import __version__
from paceline.errors import HostError
from paceline.lab.experiment import Machine


def look() -> Machine:
    """This machine, and this Python.  As many cores as a CPU quota feeds, where there is one."""
    from paceline.host.cpu import usable_cores

    has_gil = _has_gil()
    cores, why = usable_cores()
    return Machine(cores, has_gil, {**_facts(), "cores": cores, "cores_why": why, "gil": has_gil})


def machine_of(facts: dict[str, Any]) -> Machine:
    """As it was kept."""
    return Machine(int(facts["cores"]), bool(facts["gil"]), facts)


def fresh_python() -> list[str]:
    """The command of a new Python: with the GIL or without it, as this one; a file `random.py` beside it is not taken.

    Raises HostError.
    """
    if not sys.executable:
        raise HostError("this Python does not know its own program (sys.executable), so no other one can be started")
    command = [sys.executable, "-P"]
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        command += ["-X", f"gil={int(_has_gil())}"]
    return command


def module_path() -> list[str]:
    """Where a new Python finds what this one finds; but for the current folder, which a prompt has (`''`)."""
    return [folder for folder in sys.path if folder]


def _has_gil() -> bool:
    return bool(getattr(sys, "_is_gil_enabled", lambda: True)())


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
