"""The programs in C, compiled on the spot into benchmarks/build/ when their source is newer."""

import shutil
import subprocess
from pathlib import Path

from benchmarks.running import MeasurementError

HERE = Path(__file__).parent
BUILD = HERE / "build"
SOURCES = {
    "load": [HERE / "load" / name for name in ("load.c", "connections.h", "latency.h", "options.h")],
    "c_epoll": [HERE / "peers" / "c_epoll.c"],
}
"""What each is made of; the first is what the compiler is given."""

FLAGS = ("-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror")


def program(name: str) -> str:
    """The path of a compiled program; compiles it first if need be.  Raises MeasurementError without a compiler."""
    source, target = SOURCES[name][0], BUILD / name
    if target.exists() and target.stat().st_mtime >= max(part.stat().st_mtime for part in SOURCES[name]):
        return str(target)
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        raise MeasurementError(
            f"{source.name} must be compiled, and here is no gcc and no cc: apt-get install gcc libc6-dev"
        )
    BUILD.mkdir(exist_ok=True)
    fresh = target.with_suffix(".new")
    words = [compiler, *FLAGS, str(source), "-o", str(fresh)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise MeasurementError(f"{source.name} does not compile:\n{done.stderr}")
    fresh.replace(target)  # in one step: another run may be using the old one
    return str(target)
