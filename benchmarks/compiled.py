"""The programs in C, compiled on the spot into benchmarks/build/ when their source is newer.

Those that speak TLS are programs of their own: only who asks for one needs OpenSSL's headers.
"""

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from benchmarks.running import MeasurementError

HERE = Path(__file__).parent
BUILD = HERE / "build"
FLAGS = ("-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror")
HEADERS = "openssl/"


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a program is made of: the compiler is given the first source; the others it includes."""

    sources: tuple[Path, ...]
    is_tls: bool = False

    @property
    def words(self) -> list[str]:
        """The compiler's command line, without the compiler and where the program goes."""
        source = str(self.sources[0])
        return [*FLAGS, "-DTLS", source, "-lssl", "-lcrypto"] if self.is_tls else [*FLAGS, source]


LOAD = tuple(HERE / "load" / name for name in ("load.c", "connections.h", "latency.h", "options.h", "wire.h"))
C_EPOLL = (HERE / "peers" / "c_epoll.c",)
RECIPES = {
    "load": Recipe(LOAD),
    "load_tls": Recipe(LOAD, is_tls=True),
    "overload": Recipe((HERE / "load" / "overload.c",)),
    "c_epoll": Recipe(C_EPOLL),
    "c_epoll_tls": Recipe(C_EPOLL, is_tls=True),
}


def program(name: str) -> str:
    """The path of a compiled program; compiles it first if need be.  Raises MeasurementError with what is missing."""
    recipe, target = RECIPES[name], BUILD / name
    if target.exists() and target.stat().st_mtime >= max(part.stat().st_mtime for part in recipe.sources):
        return str(target)
    source = recipe.sources[0].name
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        raise MeasurementError(
            f"{source} must be compiled, and there is no gcc and no cc: apt-get install gcc libc6-dev"
        )
    BUILD.mkdir(exist_ok=True)
    fresh = target.with_suffix(f".{os.getpid()}")
    done = subprocess.run([compiler, *recipe.words, "-o", str(fresh)], capture_output=True, text=True, check=False)
    if done.returncode != 0 and recipe.is_tls and HEADERS in done.stderr:
        raise MeasurementError(f"{name} needs OpenSSL's headers, and they are not there: apt-get install libssl-dev")
    if done.returncode != 0:
        raise MeasurementError(f"{source} does not compile:\n{done.stderr}")
    fresh.replace(target)  # in one step: another run may be using the old one
    return str(target)
