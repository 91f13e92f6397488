"""What the figures were measured on: a table of plain values for the head of a run.

Never fails: what cannot be found out is left out.
"""

import platform
import ssl
import subprocess
import sys
from contextlib import suppress
from importlib import metadata
from typing import Any

from paceline.bench import machine

PACKAGES = ("paceline", "uvloop", "gevent")


def describe() -> dict[str, Any]:
    """Processor, cores, memory, kernel, Python, packages, the state of the source, and the load when it began."""
    found: dict[str, Any] = {
        **machine.describe(),
        "python": f"{platform.python_implementation()} {platform.python_version()} ({platform.python_compiler()})",
        "gil": getattr(sys, "_is_gil_enabled", lambda: True)(),
        "packages": _packages(),
        "commit": _commit(),
    }
    return {name: value for name, value in found.items() if value is not None}


def _packages() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found | {"OpenSSL": ssl.OPENSSL_VERSION.split()[1]}


def _commit() -> str | None:
    """The commit, with `-dirty` when files differ from it."""
    with suppress(OSError, subprocess.SubprocessError):
        words = ["git", "describe", "--always", "--dirty", "--abbrev=10"]
        return subprocess.run(words, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    return None
