"""What a run was made on, for its result.  Never fails: what cannot be found out is left out."""

import os
import platform
from contextlib import suppress
from typing import Any


def describe() -> dict[str, Any]:
    """Processor, cores, memory, kernel, Python, and how busy the machine was."""
    found: dict[str, Any] = {
        "system": platform.system(),
        "kernel": platform.release(),
        "architecture": platform.machine(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "usable_cores": sorted(os.sched_getaffinity(0)),
        "memory_mib": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20,
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "load_average": [round(load, 2) for load in os.getloadavg()],
    }
    return {name: value for name, value in found.items() if value is not None}


def _processor() -> str | None:
    with suppress(OSError), open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
        lines = file.read().splitlines()
        models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
        is_virtual = any("hypervisor" in line for line in lines if line.startswith("flags"))
        return f"{models[0]}{', virtual' if is_virtual else ''}" if models else None
    return None
