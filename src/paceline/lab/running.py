"""Experiments, one after the other, each in a process of its own; what they measure is kept as it comes.

The caller's thread waits here.  An interrupt (KeyboardInterrupt) ends the experiment that runs, with all that it has
started; what was measured so far is in the file, which says that it was cut short.
"""

import json
import os
import secrets
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from paceline.clock import now
from paceline.errors import HostError
from paceline.host.processes import cause_of_code, open_pidfd, send_signal
from paceline.lab import machine
from paceline.lab.catalogue import experiment_of
from paceline.lab.listings import source_of
from paceline.lab.records import Writer, read
from paceline.lab.results import Result, result_of

_BOOT = (
    "import signal; signal.signal(signal.SIGINT, signal.SIG_DFL); "
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from paceline.lab.measuring import main; "
    "sys.exit(main(sys.argv[2], int(sys.argv[3]), sys.argv[4] == 'quick', int(sys.argv[5]), int(sys.argv[6])))"
)
"""What is interrupted while it is still imported ends without a word."""
POLITE_S = 5.0
"""Asked to end, an experiment has so long to end what it has started."""
LONGEST, LEAST_S = 8, 60.0
"""An experiment that takes so many times as long as it should, and at least so long, is given up."""

Progress = Callable[[str, float, float], None]
"""Called with the experiment, the share that is done (0 to 1), and the seconds so far; at least each second."""


def check_platform() -> None:
    """Raises HostError where the lab cannot measure."""
    if sys.platform != "linux":
        raise HostError(f"the lab measures on Linux only, and this is {sys.platform}; use a Linux machine or container")


def measure(name: str, folder: Path, *, quick: bool, seed: int | None, on_progress: Progress | None = None) -> Result:
    """Run one experiment; its samples are in `folder` afterwards, as far as it came.

    Raises UsageError (no such experiment) or HostError (it cannot be started, or results cannot be kept).
    KeyboardInterrupt goes on to the caller when the file is closed.
    """
    check_platform()
    experiment, here = experiment_of(name), machine.look()
    seed = secrets.randbelow(1 << 32) if seed is None else seed
    writer = Writer(
        folder, name, here.facts, {"quick": quick, "seed": seed}, experiment.predict(here), source_of(experiment.shown)
    )
    begun_s, why = now(), "interrupted"
    longest_s = max(LEAST_S, LONGEST * (experiment.quick_s if quick else experiment.full_s))
    try:
        why = _measure(name, writer, quick, seed, on_progress, begun_s, longest_s)
    except Exception as error:
        why = str(error) or type(error).__name__
        raise
    finally:
        try:
            writer.write(end={"seconds": round(now() - begun_s, 3), "finished": not why, "why": why})
        finally:
            writer.close()
    return result_of(read(writer.path))


def _measure(
    name: str,
    writer: Writer,
    quick: bool,
    seed: int,
    on_progress: Progress | None,
    begun_s: float,
    longest_s: float,
) -> str:
    """Why it did not finish; empty when it did."""
    why, share = "", 0.0
    with _measuring(name, quick, seed) as (process, ended, said):
        for line in _lines(said, ended, begun_s + longest_s):
            if "sample" in line or "settings" in line:
                writer.write(**line)
            elif "failed" in line:
                why = line["failed"]
            share = line.get("progress", share)
            if on_progress is not None:
                on_progress(name, share, now() - begun_s)
        if now() - begun_s >= longest_s:
            return f"it had not ended after {longest_s:g} s"
        if not _is_readable_within(ended, POLITE_S):
            return "its process did not end"
    code = process.wait()
    return why or ("" if code == 0 else f"its process {cause_of_code(code)}")


@contextmanager
def _measuring(name: str, quick: bool, seed: int) -> Iterator[tuple["subprocess.Popen[bytes]", int, int]]:
    """The process that measures, its pidfd, and a pipe of what it says.

    When the block ends nothing is left of the process, nor of what it has started.  Raises HostError.
    """
    said, says = os.pipe()
    process, ended = None, -1
    how = [str(says), "quick" if quick else "full", str(seed), str(os.getpid())]
    try:
        try:
            process = subprocess.Popen(
                [*machine.fresh_python(), "-c", _BOOT, json.dumps(machine.module_path()), name, *how],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[says],
                start_new_session=True,  # Ctrl-C is for us; and what it starts can be ended together
            )
            ended = open_pidfd(process.pid)
        except OSError as error:
            raise HostError(f"{name}: its process could not be started: {error.strerror}") from None
        finally:
            os.close(says)
        yield process, ended, said
    finally:
        os.close(said)
        try:
            if process is not None:
                _end(process, ended)
        finally:
            if ended >= 0:
                os.close(ended)


def _lines(said: int, ended: int, until_s: float) -> Iterator[dict[str, Any]]:
    """What the process says, until it has nothing more to say, or the time is up; {} now and then when it is silent."""
    kept = b""
    poll = select.poll()
    poll.register(said, select.POLLIN)
    poll.register(ended, select.POLLIN)
    while now() < until_s:
        ready = dict(poll.poll(250))
        if said in ready:
            piece = os.read(said, 1 << 16)
            if not piece:
                return
            *lines, kept = (kept + piece).split(b"\n")
            for line in lines:
                yield json.loads(line)
        elif ended in ready:
            return  # whom it has started may hold the pipe open for ever
        else:
            yield {}


def _is_readable_within(fd: int, seconds: float) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(seconds * 1000))


def _end(process: "subprocess.Popen[bytes]", ended: int) -> None:
    """Nothing is left of it, nor of what it has started."""
    try:
        if ended >= 0 and not _is_readable_within(ended, 0):
            send_signal(ended, signal.SIGINT)
            _is_readable_within(ended, POLITE_S)
    finally:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)  # nobody has reaped it, so the number is still that of its group
        process.wait()
