"""What a run was made on, for its result.  Never fails: what cannot be found out is left out."""

import os
import platform
from collections.abc import Callable
from contextlib import suppress
from typing import Any


def describe() -> dict[str, Any]:
    """Processor, cores, memory, kernel, Python, and how busy the machine was."""
    found: dict[str, Any] = {}
    for name, ask in _ASKED.items():
        with suppress(OSError, ValueError, AttributeError):
            value = ask()
            if value is not None:
                found[name] = value
    return found


def _processor() -> str:
    with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
        lines = file.read().splitlines()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith(("model name", "Model"))]
    is_virtual = any("hypervisor" in line for line in lines if line.startswith("flags"))
    return f"{models[0] if models else platform.machine()}{', virtual' if is_virtual else ''}"


_ASKED: dict[str, Callable[[], Any]] = {
    "system": platform.system,
    "kernel": platform.release,
    "architecture": platform.machine,
    "processor": _processor,
    "cores": os.cpu_count,
    "usable_cores": lambda: sorted(os.sched_getaffinity(0)),
    "memory_mib": lambda: os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20,
    "python": lambda: f"{platform.python_implementation()} {platform.python_version()}",
    "load_average": lambda: [round(load, 2) for load in os.getloadavg()],
}
