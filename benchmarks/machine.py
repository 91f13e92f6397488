"""What the figures were measured on: a table of plain values for the head of a run.

Never fails: what cannot be found out is left out.
"""

import os
import platform
import subprocess
import sys
from contextlib import suppress
from importlib import metadata
from typing import Any

PACKAGES = ("paceline", "uvloop", "gevent")


def describe() -> dict[str, Any]:
    """Processor, cores, memory, kernel, Python, packages, the state of the source, and the load when it began."""
    found: dict[str, Any] = {
        "system": platform.system(),
        "kernel": platform.release(),
        "architecture": platform.machine(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "usable_cores": sorted(os.sched_getaffinity(0)),
        "memory_mib": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20,
        "python": f"{platform.python_implementation()} {platform.python_version()} ({platform.python_compiler()})",
        "gil": getattr(sys, "_is_gil_enabled", lambda: True)(),
        "packages": _packages(),
        "commit": _commit(),
        "load_average": [round(load, 2) for load in os.getloadavg()],
    }
    return {name: value for name, value in found.items() if value is not None}


def _processor() -> str | None:
    with suppress(OSError), open("/proc/cpuinfo", encoding="utf-8") as file:
        text = file.read()
        models = [line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")]
        return f"{models[0]}, virtual" if models and "hypervisor" in text else next(iter(models), None)
    return None


def _packages() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def _commit() -> str | None:
    """The commit, with `-dirty` when files differ from it."""
    with suppress(OSError, subprocess.SubprocessError):
        words = ["git", "describe", "--always", "--dirty", "--abbrev=10"]
        return subprocess.run(words, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    return None
