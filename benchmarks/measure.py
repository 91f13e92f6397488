"""One trial, once: starts the server and what loads it, reads the clocks, ends both, returns numbers.

Called by __main__.py on the main thread, one trial at a time.  Every function returns a flat table of numbers, named as
in metrics.METRICS where they are shown, or raises MeasurementError: a wrong or missing reply is a failure, never a
result.

Noise is measured, not guessed: `others_busy` is how many of the cores in use were busy with neither the server, the
load nor the measuring process.
"""

import contextlib
import json
import os
import re
import socket
import sys
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

from benchmarks import certificate, compiled, readings
from benchmarks.running import MeasurementError, Program
from benchmarks.terms import Load, Server, Trial

LISTENING = re.compile(r"listening on 127\.0\.0\.1:(\d+)")
START_S = 30.0
SAMPLE_S = 0.05
BOOT_SAMPLE_S = 0.05
BOOTED_BELOW = 0.1
"""A server has booted when its processes together used less than this share of a core in two samples running."""
GRACE_S = 40.0
"""More than the load generator itself waits: its own limits end it first."""

QUIET_S = 0.2
QUIET_CORES = 0.1
"""A machine is quiet when less than this many cores were busy during QUIET_S."""

Numbers = dict[str, float]


@dataclass(frozen=True, slots=True)
class Pace:
    """How long a trial under load runs, in seconds."""

    warmup_s: float
    duration_s: float


@dataclass(frozen=True, slots=True)
class Cores:
    """Where things run."""

    server: frozenset[int]
    load: frozenset[int]

    @property
    def all(self) -> frozenset[int]:
        return self.server | self.load


def cores_for(trial: Trial, usable: Collection[int]) -> Cores:
    """The server alone on the last core and the load on the first (which also gets the interrupts), or both on all."""
    if trial.cores == "shared":
        return Cores(frozenset(usable), frozenset(usable))
    return Cores(frozenset({max(usable)}), frozenset({min(usable)}))


def measure(trial: Trial, pace: Pace, usable: Collection[int]) -> Numbers:
    """The numbers of one repetition.  Raises MeasurementError."""
    cores = cores_for(trial, usable)
    try:
        match trial.measures:
            case "load" | "saturated":
                return _under_load(trial, pace, cores)
            case "memory":
                return _memory(trial, cores)
            case "start":
                return _start(trial, cores)
            case "lifetime":
                return _lifetime(trial, cores)
            case "import":
                return _import(trial, cores)
    except (FileNotFoundError, ProcessLookupError) as error:
        raise MeasurementError(f"{trial.name}: a process was gone in the middle: {error}") from error


def words_of(server: Server) -> list[str]:
    """The command line of a server.  Raises MeasurementError when a certificate is wanted and cannot be made."""
    match server:
        case ("paceline", target, *options):
            words = ["-m", "paceline", "serve", target, "--bind", "127.0.0.1:0", *options]
            return [sys.executable, *certificate.filled_in(words)]
        case ("c", name, *arguments):
            return [compiled.program(name), *certificate.filled_in(arguments)]
        case ("peer", module, *arguments):
            return [sys.executable, "-m", f"benchmarks.peers.{module}", *certificate.filled_in(arguments)]
        case ("python", *arguments):
            return [sys.executable, *arguments]
    raise ValueError(server)


@dataclass(slots=True)
class Serving:
    """A server that said that it listens."""

    program: Program
    port: int
    ready_s: float
    """From just before its fork."""


@contextlib.contextmanager
def _serving(trial: Trial, cores: Cores) -> Iterator[Serving]:
    """The server of a trial, ready.  It must end by itself when asked to, and leave no process behind."""
    program = Program(words_of(trial.server), cores.server)
    with program:
        serving = wait_ready(program)
        program.log_in_background()
        try:
            yield serving
        except MeasurementError as error:
            raise program.failed(str(error)) from error
        left = program.end()
    if left:
        raise program.failed(f"{left} of its processes had not ended after SIGTERM")


def wait_ready(program: Program) -> Serving:
    deadline = program.started_s + START_S
    while (line := program.wait_log_line(deadline - time.monotonic())) is not None:
        if found := LISTENING.search(line):
            return Serving(program, int(found[1]), time.monotonic() - program.started_s)
    raise program.failed("ended at once" if program.log.ended else f"is not ready after {START_S:g} s")


def _wait_booted(server: Serving) -> None:
    """Wait for the other workers of a server that listens already: all of them are measured, not the first."""
    deadline = time.monotonic() + START_S
    quiet = 0
    while quiet < 2:
        before = readings.cpu_s(pids := readings.tree(server.program.pid))
        time.sleep(BOOT_SAMPLE_S)
        is_quiet = readings.cpu_s(pids) - before < BOOTED_BELOW * BOOT_SAMPLE_S
        quiet = quiet + 1 if is_quiet and readings.tree(server.program.pid) == pids else 0
        if time.monotonic() > deadline:
            raise server.program.failed(f"is still busy booting after {START_S:g} s")


def _load_words(load: Load, port: int, *more: str) -> list[str]:
    if load.connects is not None:
        return [sys.executable, "-m", "benchmarks.saturation", "--port", str(port), *load.options()]
    return [compiled.program("load_tls" if load.tls else "load"), "--port", str(port), *load.options(), *more]


def _expect(load: Program, word: str, timeout_s: float) -> None:
    """Wait for a word of the load generator.  Raises MeasurementError when it says something else, or nothing."""
    _check_word(load, load.output.wait_line(timeout_s), word)


def _check_word(load: Program, line: str | None, word: str) -> None:
    if line is not None and line.startswith("{"):
        _result_in(line)  # it gave up, and its result says why
    if line != word:
        raise load.failed(f"said {line!r} where {word!r} was expected")


def _result(load: Program) -> dict[str, Any]:
    """The last line of the load generator.  Raises MeasurementError when a reply was wrong or missing."""
    line = load.output.wait_line(GRACE_S)
    if line is None:
        raise load.failed("ended without a result")
    return _result_in(line)


def _result_in(line: str) -> dict[str, Any]:
    result: dict[str, Any] = json.loads(line)
    bad = {name: result[name] for name in ("lost", "wrong", "unanswered") if result[name]}
    if bad:
        raise MeasurementError(f"connections lost, replies wrong or missing: {bad}")
    return result


@dataclass(frozen=True, slots=True)
class Clocks:
    """CPU seconds so far: of the server, of the cores in use, of the measuring process."""

    server_s: float
    cores_s: float
    own_s: float

    @staticmethod
    def read(pids: list[int], cores: Collection[int]) -> "Clocks":
        return Clocks(readings.cpu_s(pids), readings.busy_s(cores), time.process_time())


def _under_load(trial: Trial, pace: Pace, cores: Cores) -> Numbers:
    options = ("--warmup", str(pace.warmup_s), "--duration", str(pace.duration_s))
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(_serving(trial, cores))
        _wait_booted(server)
        load = stack.enter_context(Program(_load_words(trial.load, server.port, *options), cores.load))
        _expect(load, "begin", pace.warmup_s + GRACE_S)
        pids = readings.tree(server.program.pid)
        before = Clocks.read(pids, cores.all)
        threads = readings.threads(pids)
        deadline = time.monotonic() + pace.duration_s + GRACE_S
        while (line := load.output.wait_line(SAMPLE_S)) is None and not load.output.ended:
            if time.monotonic() > deadline:
                break
            threads = max(threads, readings.threads(pids))
        after = Clocks.read(pids, cores.all)
        _check_word(load, line, "end")
        if readings.tree(server.program.pid) != pids:
            raise server.program.failed("its processes changed during the measurement")
        own_kib, rss_kib = readings.memory_kib(pids)
        result = _result(load)
    cost = {"threads_max": threads, "own_kib": own_kib, "rss_kib": rss_kib}
    return _numbers(result, before, after, len(cores.all)) | cost


def _numbers(result: dict[str, Any], before: Clocks, after: Clocks, cores: int) -> Numbers:
    """Rates from counts and clocks."""
    seconds, messages = result["seconds"], result["messages"]
    if not messages:
        raise MeasurementError("no message was answered in the measured time")
    server_s = after.server_s - before.server_s
    ours_s = server_s + result["load_cpu_s"] + after.own_s - before.own_s
    others_s = max(0.0, after.cores_s - before.cores_s - ours_s)
    latencies = {name: value for name, value in result.items() if name.startswith(("quick_", "slow_"))}
    return {
        "messages": messages,
        "seconds": seconds,
        "messages_per_s": messages / seconds,
        "cpu_us_per_message": server_s / messages * 1e6,
        "server_busy": server_s / seconds,
        "load_busy": result["load_cpu_s"] / seconds,
        "others_busy": min(others_s / seconds, cores),
    } | latencies


def _memory(trial: Trial, cores: Cores) -> Numbers:
    with _serving(trial, cores) as server:
        _wait_booted(server)
        warm = Load(connections=64, tls=trial.load.tls)
        with Program(_load_words(warm, server.port, "--messages", "5000"), cores.load) as load:
            _expect(load, "begin", GRACE_S)
            _expect(load, "end", GRACE_S)
            _result(load)
        time.sleep(trial.settle_s)
        pids = readings.tree(server.program.pid)
        own_before, rss_before = readings.memory_kib(pids)
        with Program(_load_words(trial.load, server.port), cores.load) as load:
            _expect(load, "begin", GRACE_S)
            time.sleep(trial.settle_s)
            if readings.tree(server.program.pid) != pids:
                raise server.program.failed("its processes changed during the measurement")
            own_after, rss_after = readings.memory_kib(pids)
            threads = readings.threads(pids)
            assert load.process.stdin is not None
            load.process.stdin.close()
            _expect(load, "end", GRACE_S)
            _result(load)
    connections = trial.load.connections
    return {
        "connections": connections,
        "base_kib": own_before,
        "bytes_per_connection": (own_after - own_before) * 1024 / connections,
        "resident_bytes_per_connection": (rss_after - rss_before) * 1024 / connections,
        "threads_max": threads,
    }


def _start(trial: Trial, cores: Cores) -> Numbers:
    message = b"are you there?\n"
    with _serving(trial, cores) as server, socket.create_connection(("127.0.0.1", server.port), START_S) as client:
        client.sendall(message)
        reply = b""
        while len(reply) < len(message) and (piece := client.recv(len(message))):
            reply += piece
        first_reply_s = time.monotonic() - server.program.started_s
        pids = readings.tree(server.program.pid)
        cost = {
            "start_cpu_ms": readings.cpu_s(pids) * 1e3,
            "threads_max": readings.threads(pids),
            "own_kib": readings.memory_kib(pids)[0],
        }
    if reply != message:
        raise MeasurementError(f"{trial.name}: its first reply was {reply!r}")
    return {"ready_ms": server.ready_s * 1e3, "first_reply_ms": first_reply_s * 1e3} | cost


def _lifetime(trial: Trial, cores: Cores) -> Numbers:
    with Program(words_of(trial.server), cores.server) as program:
        program.wait_exit(START_S)
        return {"lifetime_ms": (time.monotonic() - program.started_s) * 1e3}


def _import(trial: Trial, cores: Cores) -> Numbers:
    with Program(words_of(trial.server), cores.server) as program:
        line = program.output.wait_line(START_S)
        if line is None:
            raise program.failed("could not import")
        program.wait_exit(START_S)
        return {"import_ms": float(line) * 1e3}


def wait_quiet(cores: Collection[int], patience_s: float) -> float:
    """Wait until other programs leave the cores alone for a moment, or patience ends; how long that took, in seconds.

    It judges the machine before a repetition, never a result after it.
    """
    began = time.monotonic()
    while True:
        before, at = readings.busy_s(cores), time.monotonic()
        time.sleep(QUIET_S)
        now = time.monotonic()
        if (readings.busy_s(cores) - before) / (now - at) < QUIET_CORES or now - began >= patience_s:
            return now - began


def usable_cores() -> frozenset[int]:
    """The cores this process may use; what a container or taskset leaves."""
    return frozenset(os.sched_getaffinity(0))
