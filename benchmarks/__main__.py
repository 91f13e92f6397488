"""The command: `python -m benchmarks [--quick] [--rows 1,3,5] [--out FILE] [--report FILE.md]`.

Runs the rows' trials interleaved, says on standard error how it goes and how long it still takes, keeps each
repetition as a line of JSON, and prints the report on standard output, or writes it with pictures (--report).  Ctrl-C
and SIGTERM end everything that was started; what was measured until then is kept and printed.  Exit code: 0 all was
measured (whatever the figures), 1 something could not be, 2 usage, 130 interrupted.
"""

import argparse
import importlib.util
import os
import resource
import signal
import sys
import time
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import machine
from benchmarks.measure import Pace, measure, usable_cores, wait_quiet
from benchmarks.metrics import METRICS
from benchmarks.plan import Step, left_s, plan, span
from benchmarks.plots import NoMatplotlib
from benchmarks.records import Kept, Record, Run, Writer
from benchmarks.report import in_short, path_of_report, report, write
from benchmarks.rows import ROWS
from benchmarks.running import MeasurementError, end_all, interrupts
from benchmarks.terms import Trial

ROOT = Path(__file__).parent.parent
NEEDS = {"uvloop_protocol": "uvloop", "uvloop_lines": "uvloop", "uvloop_tls": "uvloop", "gevent_server": "gevent"}
"""Peer → the package that it needs."""

NEEDED_FILES = 10_100
"""Descriptors for 10,000 connections, in the server and in the load generator."""


def read_command_line(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure Paceline beside its peers.")
    parser.add_argument("--rows", default=",".join(map(str, ROWS)), help="which rows, by number (default: %(default)s)")
    parser.add_argument("--only", default="", help="only trials whose names begin so, comma-separated: paceline,C")
    parser.add_argument("--quick", action="store_true", help="2 short rounds: does it work, roughly how fast")
    parser.add_argument("--rounds", type=int, help="repetitions of each trial (default: 5; quick: 2)")
    parser.add_argument("--seconds", type=float, help="measured time of each repetition (default: 2; quick: 0.5)")
    parser.add_argument(
        "--out", type=Path, help="append results to this file (default: a new one in benchmarks/results)"
    )
    parser.add_argument("--patience", type=float, default=0.0, help="wait so many seconds at most for a quiet machine")
    parser.add_argument(
        "--report", type=path_of_report, metavar="FILE.md", help="write the report there, its pictures beside it"
    )
    options = parser.parse_args(words)
    options.out = options.out and options.out.absolute()  # before we go to the root
    options.report = options.report and options.report.absolute()
    options.is_short = options.quick and options.rounds is None
    try:
        options.rows = [ROWS[int(number)] for number in options.rows.split(",")]
    except (ValueError, KeyError):
        parser.error(f"--rows {options.rows}: there are rows {', '.join(map(str, ROWS))}")
    options.only = [word for word in options.only.split(",") if word]
    options.rounds = options.rounds or (2 if options.quick else 5)
    options.pace = Pace(0.2 if options.quick else 0.5, options.seconds or (0.5 if options.quick else 2.0))
    if options.rounds < 1 or options.pace.duration_s <= 0:
        parser.error("--rounds and --seconds must be more than 0")
    if not plan(options.rows, 1, options.only):
        names = ", ".join(trial.name for row in options.rows for trial in row.trials)
        parser.error(f"--only {','.join(options.only)}: no trial's name begins so; there are: {names}")
    return options


def missing_packages(trials: Iterable[Trial], has_pictures: bool) -> list[str]:
    """What the peers of these trials and the pictures need and is not installed."""
    modules = {trial.server[1] for trial in trials if trial.server[0] == "peer"}
    needed = {NEEDS[module] for module in modules & NEEDS.keys()} | ({"matplotlib"} if has_pictures else set())
    return sorted(package for package in needed if importlib.util.find_spec(package) is None)


def allow_many_files() -> None:
    """As many descriptors as this user may have; the programs inherit it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard != resource.RLIM_INFINITY and hard < NEEDED_FILES:
        say(f"the limit on open files is {hard}: row 6 needs {NEEDED_FILES} (ulimit -Hn, as root)")


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def summary(record: Record) -> str:
    """The first numbers of a repetition that a person would look at."""
    if record.error is not None:
        return f"FAILED: {in_short(record.error)}"
    shown = [name for name in ROWS[record.row].shows if name in record.numbers][:3]
    return " · ".join(METRICS[name].text(record.numbers[name]) for name in shown)


def run_step(step: Step, run: str, pace: Pace, patience_s: float) -> Record:
    """One repetition, measured or failed."""
    waited_s = wait_quiet(usable_cores(), patience_s) if patience_s > 0 else 0.0
    at = datetime.now(UTC).isoformat(timespec="seconds")
    settings = step.trial.settings()
    try:
        numbers, error = measure(step.trial, pace, usable_cores()) | {"quiet_wait_s": waited_s}, None
    except MeasurementError as reason:
        numbers, error = {}, str(reason)
    numbers = {name: float(f"{value:.6g}") for name, value in numbers.items()}
    return Record(run, step.row.number, step.trial.name, step.round, at, settings, numbers, error)


def head_of(options: argparse.Namespace) -> Run:
    """What the records of this start of the command have in common."""
    pace: Pace = options.pace
    return Run(
        run=f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{os.getpid()}",
        machine=machine.describe(),
        settings={
            "rounds": options.rounds,
            "warmup_s": pace.warmup_s,
            "duration_s": pace.duration_s,
            "quick": options.quick,
            "patience_s": options.patience,
        },
    )


def run_all(options: argparse.Namespace, out: Path, kept: Kept) -> None:
    """Every step; each record is in the file and in `kept` before the next one begins.  A signal ends it early."""
    pace: Pace = options.pace
    steps = plan(options.rows, options.rounds, options.only, is_quick=options.is_short)
    head = kept.runs[0]
    began = time.monotonic()
    with Writer(out) as writer:
        writer.write(head)
        for done, step in enumerate(steps, 1):
            record = run_step(step, head.run, pace, options.patience)
            writer.write(record)
            kept.records.append(record)
            left = span(left_s(steps, done, time.monotonic() - began, pace))
            say(
                f"[{done}/{len(steps)}, {left} left] row {step.row.number} · {step.trial.name} · "
                f"round {step.round + 1}: {summary(record)}"
            )


def publish(kept: Kept, path: Path | None) -> None:
    """Write the report there, with its pictures; print it when there is no path, or no way to write it."""
    if path is not None:
        try:
            write(kept, path)
        except (OSError, NoMatplotlib) as error:
            say(f"{path}: not written: {error}")
        else:
            say(f"reported in {path}")
            return
    print(report(kept), end="")


def main(words: Sequence[str]) -> int:
    options = read_command_line(words)
    trials = [step.trial for step in plan(options.rows, 1, options.only)]
    if missing := missing_packages(trials, options.report is not None):
        say(f"not installed: {', '.join(missing)}: what needs them will fail; pip install -e '.[benchmarks]'")
    os.chdir(ROOT)  # the servers import `benchmarks` from here
    interrupts.take(signal.SIGINT, signal.SIGTERM)
    allow_many_files()
    out: Path = options.out or ROOT / "benchmarks" / "results" / f"{datetime.now(UTC):%Y-%m-%dT%H%M%SZ}.jsonl"
    kept = Kept([head_of(options)], [])
    try:
        run_all(options, out, kept)
    except KeyboardInterrupt:
        end_all()
        options.report = None  # half of the figures must not replace a whole report
        say("interrupted: everything that was started has ended")
        return 130
    finally:
        end_all()
        if kept.records:
            say(f"kept in {out}")
            publish(kept, options.report)
    return 1 if any(record.error for record in kept.records) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
