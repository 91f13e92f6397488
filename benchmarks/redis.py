"""The store of examples/kv.py beside the real redis-server: `python -m benchmarks.redis [--quick] --out FILE`.

The load is redis-benchmark: PING, GET, SET and INCR over 50 connections, with 1 and with 16 requests in flight on each.
Servers are interleaved, each repetition gets a fresh one, and servers and load share all cores (two workers have the
machine's two; redis-server serves with one thread).  What is kept and how it is read is as in the other benchmarks
(README.md); `--report FILE…` draws the tables again from what was kept.

They do not do the same: redis-server is C and, as it is started here, forgets everything when it ends; the store calls
a Python function for each request and commits each change to a file before it answers.  Only PING compares servers.

Needs redis-server and redis-benchmark (Debian packages redis-server and redis-tools).  Exit code: 0 all was measured,
1 something could not be, 2 usage, 130 interrupted.
"""

import argparse
import csv
import os
import resource
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from shutil import which

from benchmarks import machine, readings
from benchmarks.measure import START_S, usable_cores, wait_ready
from benchmarks.records import Kept, Record, Run, Writer, read_all
from benchmarks.report import in_short, table
from benchmarks.running import MeasurementError, Program, end_all, interrupts
from paceline.stats.spread import Spread

ROOT = Path(__file__).parent.parent
ROW = 0
"""Its records are of none of the numbered rows."""

SERVERS = ("paceline", "redis-server")
REQUESTS = {"PING": "ping_mbulk", "GET": "get", "SET": "set", "INCR": "incr"}
"""What is measured, and what redis-benchmark calls it."""

IN_FLIGHT = (1, 16)
CONNECTIONS = 50
WORKERS = 2
FIRST_REQUESTS = 4_000
"""How many find out how fast a server is, and warm it up."""

LONGEST_S = 60.0
COUNTER = b"counter:__rand_int__"
"""What redis-benchmark increments: without -r, literally this key."""

Numbers = dict[str, float]
METRICS = {
    "requests_per_s": ("requests/s", 0),
    "cpu_us_per_request": ("server CPU µs/request", 2),
    "p50_ms": ("p50 ms", 2),
    "p99_ms": ("p99 ms", 2),
    "server_busy": ("server's cores", 2),
    "load_busy": ("load's cores", 2),
}
"""The columns: title and digits."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One server under one load."""

    server: str
    request: str
    in_flight: int

    @property
    def name(self) -> str:
        return f"{self.server} · {self.request} · {self.in_flight} in flight"


def trials(server: str) -> list[Trial]:
    return [Trial(server, request, in_flight) for in_flight in IN_FLIGHT for request in REQUESTS]


def steps(rounds: int) -> list[tuple[int, Trial]]:
    """(round, trial) in order: the two servers right after each other, and neither always first."""
    pairs = list(zip(*map(trials, SERVERS), strict=True))
    return [(number, trial) for number in range(rounds) for pair in pairs for trial in pair[:: -1 if number % 2 else 1]]


@contextmanager
def serving(server: str) -> Iterator[tuple[Program, int]]:
    """A server, ready, and its port; everything it writes goes into a folder that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="paceline-redis-") as folder:
        with Program(words_of(server, folder), usable_cores()) as program:
            port = int(program.words[2]) if server == "redis-server" else wait_ready(program).port
            if server == "redis-server":
                _wait_redis(program)
            program.log_in_background()
            try:
                yield program, port
            except MeasurementError as error:
                raise program.failed(str(error)) from error
            left = program.end()
        if left:
            raise program.failed(f"{left} of its processes had not ended after SIGTERM")


def words_of(server: str, folder: str) -> list[str]:
    """The command line.  redis-server gets a port that is free now; nobody can promise that it is in a moment."""
    if server == "redis-server":
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        nothing_kept = ("--save", "", "--appendonly", "no", "--dir", folder)
        return [_needed("redis-server"), "--port", str(port), "--bind", "127.0.0.1", *nothing_kept]
    target = f"{ROOT}/examples/kv.py:store"
    options = ("--workers", str(WORKERS), "--bind", "127.0.0.1:0", "--chdir", folder)
    return [sys.executable, "-m", "paceline", "serve", target, *options]


def _needed(name: str) -> str:
    found = which(name)
    if found is None:
        package = "redis-server" if name == "redis-server" else "redis-tools"
        raise MeasurementError(f"there is no {name} here: apt-get install {package}")
    return found


def _wait_redis(program: Program) -> None:
    """It logs on standard output, and says only a few lines, at its start."""
    deadline = program.started_s + START_S
    while (line := program.output.wait_line(deadline - time.monotonic())) is not None:
        if "Ready to accept connections" in line:
            return
        program.last_said.append(line)
    raise program.failed("ended at once" if program.output.ended else f"is not ready after {START_S:g} s")


def measure(trial: Trial, seconds: float) -> Numbers:
    """One repetition of about so long, warmed up for a quarter of it.  Raises MeasurementError."""
    try:
        with serving(trial.server) as (server, port):
            if trial.request == "GET":
                load(port, Trial(trial.server, "SET", 1), FIRST_REQUESTS)  # so that there is something to get
            counts = [FIRST_REQUESTS]
            for share in (1 / 4, 1):
                rate = load(port, trial, counts[-1])["requests_per_s"]
                counts.append(whole(rate * seconds * share, trial.in_flight))
            pids = readings.tree(server.pid)
            before = _clocks(pids)
            found = load(port, trial, counts[-1])
            server_s, cores_s, own_s, took_s = (now - then for now, then in zip(_clocks(pids), before, strict=True))
            if readings.tree(server.pid) != pids:
                raise MeasurementError("its processes changed during the measurement")
            if trial.request == "INCR":
                check_counter(port, sum(counts))
    except (FileNotFoundError, ProcessLookupError) as error:
        raise MeasurementError(f"{trial.name}: a process was gone in the middle: {error}") from error
    count, load_s = counts[-1], found.pop("load_cpu_s")
    return found | {
        "requests": count,
        "cpu_us_per_request": server_s / count * 1e6,
        "server_busy": server_s * found["requests_per_s"] / count,
        "load_busy": load_s * found["requests_per_s"] / count,
        "others_busy": max(0.0, cores_s - server_s - load_s - own_s) / took_s,
    }


def whole(count: float, in_flight: int) -> int:
    """A number of requests that redis-benchmark can send exactly: it fills every pipeline."""
    return max(FIRST_REQUESTS, round(count / 1000) * 1000) // in_flight * in_flight


def _clocks(pids: list[int]) -> tuple[float, float, float, float]:
    """CPU seconds of the server, of all cores, of this process; and what time it is."""
    return readings.cpu_s(pids), readings.busy_s(usable_cores()), time.process_time(), time.monotonic()


def load(port: int, trial: Trial, count: int) -> Numbers:
    """What redis-benchmark says of so many requests, and its CPU time.  It ends at the first reply that is an error."""
    words = [_needed("redis-benchmark"), "-h", "127.0.0.1", "-p", str(port), "-t", REQUESTS[trial.request], "--csv"]
    words += ["-c", str(CONNECTIONS), "-P", str(trial.in_flight), "-n", str(count), "--precision", "3"]
    before_s = _children_s()
    with Program(words, usable_cores()) as program:
        program.wait_exit(LONGEST_S)
        lines: list[str] = []
        while (line := program.output.wait_line(START_S)) is not None:
            lines.append(line)
        try:
            return numbers_in(lines) | {"load_cpu_s": _children_s() - before_s}
        except ValueError as error:
            raise program.failed(str(error)) from error


def numbers_in(lines: Sequence[str]) -> Numbers:
    """The figures in what redis-benchmark --csv wrote.  Raises ValueError when they are not those of one test."""
    rows = list(csv.DictReader(lines))
    if len(rows) != 1:
        raise ValueError(f"one line of figures was expected, not {list(lines)}")
    columns = {
        "requests_per_s": "rps",
        "p50_ms": "p50_latency_ms",
        "p99_ms": "p99_latency_ms",
        "max_ms": "max_latency_ms",
    }
    return {name: float(rows[0][column]) for name, column in columns.items()}


def _children_s() -> float:
    """CPU seconds of all children that have ended: between two readings, of the one that ended there."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def check_counter(port: int, asked: int) -> None:
    """Raises MeasurementError when the counter is not what it was asked to count up to."""
    with socket.create_connection(("127.0.0.1", port), START_S) as client, client.makefile("rb") as replies:
        client.sendall(b"GET " + COUNTER + b"\r\n")
        value = int(replies.readline().startswith(b"$") and replies.readline())
    if value != asked:
        raise MeasurementError(f"the counter is {value} after {asked} increments")


def report(kept: Kept) -> str:
    """The tables, in Markdown that reads well as plain text."""
    about = kept.runs[-1].machine
    on = f"{about.get('processor')}, {len(about.get('usable_cores', []))} cores"
    what = f"{about.get('python')}, {WORKERS} workers; {about.get('redis')}"
    how = f"rounds: {_rounds(kept)}, the servers interleaved; median (lowest … highest)"
    parts = [f"Measured {kept.records[-1].at[:10]} on {on}; {what}; {how}."]
    for in_flight in IN_FLIGHT:
        parts.append(f"## {CONNECTIONS} connections, {in_flight} in flight on each")
        parts.append(_table(kept, in_flight))
    others = Spread.of(record.numbers["others_busy"] for record in kept.records if record.error is None)
    if others is not None:
        parts.append(f"Other programs kept {others.text(2)} cores busy meanwhile.")
    parts += [f"Failed: {it.trial}: {in_short(it.error)}" for it in kept.records if it.error is not None]
    return "\n\n".join(parts) + "\n"


def _rounds(kept: Kept) -> int:
    return len({(record.run, record.round) for record in kept.records})


def _table(kept: Kept, in_flight: int) -> str:
    body = []
    for request in REQUESTS:
        by_server = {server: _values(kept, Trial(server, request, in_flight)) for server in SERVERS}
        rates = {
            server: {key: it["requests_per_s"] for key, it in found.items()} for server, found in by_server.items()
        }
        real = rates["redis-server"]
        for server, found in by_server.items():
            if not found:
                continue
            ratio = Spread.of(rate / real[key] for key, rate in rates[server].items() if key in real)
            spreads = [(Spread.of(it[name] for it in found.values()), digits) for name, (_, digits) in METRICS.items()]
            cells = [spread.text(digits) if spread else "" for spread, digits in spreads]
            body.append([f"{request}, {server}", *cells, ratio.text(2) if ratio else ""])
    return table(["", *(title for title, _ in METRICS.values()), "÷ redis-server"], body)


def _values(kept: Kept, trial: Trial) -> dict[tuple[str, int], Numbers]:
    """Run and round → numbers."""
    mine = [record for record in kept.records if record.trial == trial.name and record.error is None]
    return {(record.run, record.round): record.numbers for record in mine}


def run_all(rounds: int, seconds: float, out: Path, kept: Kept) -> None:
    """Every step; each record is in the file and in `kept` before the next one begins.  A signal ends it early."""
    plan = steps(rounds)
    with Writer(out) as writer:
        writer.write(kept.runs[0])
        for done, (number, trial) in enumerate(plan, 1):
            at = datetime.now(UTC).isoformat(timespec="seconds")
            try:
                numbers, error = measure(trial, seconds), None
            except MeasurementError as reason:
                numbers, error = {}, str(reason)
            numbers = {name: float(f"{value:.6g}") for name, value in numbers.items()}
            record = Record(kept.runs[0].run, ROW, trial.name, number, at, asdict(trial), numbers, error)
            writer.write(record)
            kept.records.append(record)
            said = f"FAILED: {in_short(error)}" if error else f"{numbers['requests_per_s']:,.0f} requests/s"
            print(f"[{done}/{len(plan)}] round {number + 1} · {trial.name}: {said}", file=sys.stderr, flush=True)


def redis_version() -> str:
    with Program([_needed("redis-server"), "--version"], usable_cores()) as program:
        program.wait_exit(START_S)
        return " ".join((program.output.wait_line(START_S) or "").split()[:3])


def read_command_line(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.redis", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--out", type=Path, help="append results to this file (default: one in benchmarks/results)")
    parser.add_argument("--quick", action="store_true", help="2 short rounds: does it work, roughly how fast")
    parser.add_argument("--rounds", type=int, help="repetitions of each trial (default: 5; quick: 2)")
    parser.add_argument("--seconds", type=float, help="measured time of each repetition (default: 2; quick: 0.3)")
    parser.add_argument("--report", type=Path, nargs="+", metavar="FILE", help="measure nothing: tables of these files")
    options = parser.parse_args(words)
    options.rounds = (2 if options.quick else 5) if options.rounds is None else options.rounds
    options.seconds = (0.3 if options.quick else 2.0) if options.seconds is None else options.seconds
    if options.rounds < 1 or not 0 < options.seconds <= LONGEST_S / 4:
        parser.error(f"--rounds must be at least 1, --seconds more than 0 and at most {LONGEST_S / 4:g}")
    return options


def main(words: Sequence[str]) -> int:
    options = read_command_line(words)
    if options.report:
        try:
            print(report(read_all(options.report)), end="")
        except (OSError, ValueError) as error:
            print(error, file=sys.stderr)
            return 2
        return 0
    os.chdir(ROOT)
    interrupts.take(signal.SIGINT, signal.SIGTERM)
    now = f"{datetime.now(UTC):%Y-%m-%dT%H%M%SZ}"
    out: Path = options.out or ROOT / "benchmarks" / "results" / f"{now}-redis.jsonl"
    settings = {"rounds": options.rounds, "duration_s": options.seconds, "warmup_s": options.seconds / 4}
    try:
        about = machine.describe() | {"redis": redis_version()}
        kept = Kept([Run(f"{now}-{os.getpid()}", about, settings | {"quick": options.quick})], [])
        run_all(options.rounds, options.seconds, out, kept)
    except KeyboardInterrupt:
        end_all()
        print("interrupted: everything that was started has ended", file=sys.stderr)
        return 130
    except MeasurementError as error:
        print(error, file=sys.stderr)
        return 1
    finally:
        end_all()
    print(report(kept), end="")
    print(f"kept in {out}", file=sys.stderr)
    return 1 if any(record.error for record in kept.records) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
