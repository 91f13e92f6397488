"""A server that is asked for more than it can do, and then for less again: `python -m benchmarks.overload`.

An open loop (load/overload.c): messages are due at a rate, whatever the server does.  First the peak is measured, in a
closed loop; then 0.3 × of it are due, 1 ×, 3 ×, and 0.3 × again.  Clients have a patience: who has no reply within it,
counted from when the message was due, has given up, and its reply, if one comes, is worth nothing.

    goodput     replies within the patience, per second; beside the peak
    p99         of what was answered, from when it was due (with what it waited in the client, because every connection
                was busy) and from when it was sent; beside that of the quiet time before
    the rest    unsent: every connection was busy; unconnected: no place in the accept queue; refused: reset or closed
                by the server, how quickly; given up: no reply in time
    load late   how late the load generator was with 1 % of its messages: a measurement of a busy machine shows here
    normal      how long after the end of the overload the last message was due that was not answered within twice the
                quiet p99; of the 1 % that are always slower than that, none

Each scenario runs as the server is by default, and with --queue-timeout.  Exit code: 0, 1 when something could not be
measured, 2 usage.
"""

import argparse
import os
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from benchmarks import compiled
from benchmarks.measure import usable_cores, wait_ready
from benchmarks.report import table
from benchmarks.running import MeasurementError, Program, end_all, interrupts, on_cores

ROOT = Path(__file__).parent.parent
RECORD = struct.Struct("=qqqii")
OUTCOMES = ("pending", "answered", "unsent", "unconnected", "refused", "given up", "wrong")
ANSWERED, REFUSED = OUTCOMES.index("answered"), OUTCOMES.index("refused")
PEAK_S = 2.0
SLOT_S = 0.1
"""Whether it is normal again is asked of so much time at once."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """What is served, and to whom."""

    name: str
    handler: str
    threads: int
    connections: int
    in_flight: int = 1
    is_fresh: bool = False
    """A connection for each message."""
    most_rate: float = 40_000.0
    """More replies per second than it can do."""


BLOCK, BURN, ECHO = "benchmarks.handlers:block", "benchmarks.handlers:burn", "benchmarks.handlers:echo"
SCENARIOS = (
    Scenario("8 threads block 5 ms, a connection for each message", BLOCK, 8, 12_000, is_fresh=True),
    Scenario("8 threads block 5 ms, 64 connections", BLOCK, 8, 64),
    Scenario("8 threads block 5 ms, 512 connections", BLOCK, 8, 512),
    Scenario("8 threads block 5 ms, 2,048 connections", BLOCK, 8, 2048),
    Scenario("8 threads block 5 ms, 64 connections, 16 in flight", BLOCK, 8, 64, in_flight=16),
    Scenario("64 threads block 5 ms, 2,048 connections", BLOCK, 64, 2048),
    Scenario("64 threads block 5 ms, a connection for each message", BLOCK, 64, 12_000, is_fresh=True),
    Scenario("computes 1 ms, 512 connections", BURN, 64, 512),
    Scenario("computes 1 ms, 2,048 connections", BURN, 64, 2048),
    Scenario("computes 1 ms, a connection for each message", BURN, 64, 12_000, is_fresh=True),
    Scenario("echoes, 2,048 connections", ECHO, 8, 2048, most_rate=200_000.0),
)


@dataclass(frozen=True, slots=True)
class Sent:
    """One message, in seconds since the start; None: it did not come so far."""

    due_s: float
    sent_s: float | None
    done_s: float
    outcome: int


@dataclass(slots=True)
class Phase:
    """What became of the messages that were due within some seconds."""

    times: float
    """The rate, as a multiple of the peak."""
    begin_s: float
    end_s: float
    messages: list[Sent] = field(default_factory=list)

    @property
    def answered(self) -> list[Sent]:
        return [each for each in self.messages if each.outcome == ANSWERED]

    @property
    def goodput(self) -> float:
        return len(self.answered) / (self.end_s - self.begin_s)

    def p99_ms(self, *, from_due: bool) -> float:
        waits = [each.done_s - (each.due_s if from_due else each.sent_s or 0.0) for each in self.answered]
        return percentile(waits, 0.99) * 1e3

    def late_ms(self) -> float:
        """How late 1 % of what was sent went out, at least."""
        return percentile([each.sent_s - each.due_s for each in self.messages if each.sent_s is not None], 0.99) * 1e3

    def refused_p50_ms(self) -> float:
        return percentile(
            [each.done_s - (each.sent_s or 0.0) for each in self.messages if each.outcome == REFUSED], 0.5
        ) * 1e3  # fmt: skip

    def shares(self) -> dict[str, float]:
        """By outcome, of all that were due."""
        total = len(self.messages) or 1
        counts = [0] * len(OUTCOMES)
        for each in self.messages:
            counts[each.outcome] += 1
        return {name: count / total for name, count in zip(OUTCOMES, counts, strict=True) if count}


def percentile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")


def normal_after_s(phase: Phase, limit_s: float) -> float:
    """How long after its beginning no more than 1 % of a slot's messages were later than that, or lost."""
    late: dict[int, list[bool]] = {}
    for each in phase.messages:
        is_late = each.outcome != ANSWERED or each.done_s - each.due_s > limit_s
        late.setdefault(int((each.due_s - phase.begin_s) / SLOT_S), []).append(is_late)
    bad = [slot for slot, found in late.items() if sum(found) > max(1, 0.01 * len(found))]
    return (max(bad) + 1) * SLOT_S if bad else 0.0


def words_of(scenario: Scenario, port: int, patience_s: float) -> list[str]:
    words = [compiled.program("overload"), "--port", str(port), "--connections", str(scenario.connections)]
    words += ["--in-flight", str(scenario.in_flight), "--patience", str(patience_s)]
    return words + (["--fresh"] if scenario.is_fresh else [])


def send(words: list[str], phases: Sequence[tuple[float, float]], cores: frozenset[int]) -> list[Sent]:
    """(rate, seconds) one after the other."""
    for rate, seconds in phases:
        words = [*words, "--phase", f"{rate:.3f}:{seconds:g}"]
    with on_cores(cores):
        done = subprocess.run(words, capture_output=True, check=False)
    if done.returncode != 0:
        raise MeasurementError(done.stderr.decode())
    return [
        Sent(due / 1e9, sent / 1e9 if sent else None, ended / 1e9, outcome)
        for due, sent, ended, outcome, _connection in RECORD.iter_unpack(done.stdout)
    ]


def peak_of(scenario: Scenario, port: int, cores: frozenset[int]) -> float:
    """Replies per second, while every thread always has something to do and nobody waits for long."""
    busy = replace(scenario, connections=scenario.threads * 2, in_flight=1)
    words = [*words_of(busy, port, PEAK_S), "--wait"]
    send(words, [(200.0, 1.0)], cores)
    found = send(words, [(scenario.most_rate, PEAK_S)], cores)
    done = [each.done_s for each in found if each.outcome == ANSWERED and 0.5 <= each.done_s <= PEAK_S]
    return len(done) / (PEAK_S - 0.5)


@dataclass(frozen=True, slots=True)
class Pace:
    quiet_s: float
    full_s: float
    over_s: float
    times: float
    patience_s: float


def measure(scenario: Scenario, options: Sequence[str], pace: Pace, peak: float | None) -> tuple[float, list[Phase]]:
    """The peak, and the phases."""
    cores = usable_cores()
    words = [sys.executable, "-m", "paceline", "serve", scenario.handler, "--bind", "127.0.0.1:0", "--workers", "1"]
    words += ["--threads", str(scenario.threads), "--max-connections", "16000", *options]
    words += ["--drain-timeout", "5s"]  # it may be full of connections whose clients have left
    words += ["--framing", "line"] if scenario.in_flight > 1 else []
    with Program(words, frozenset({max(cores)})) as server:
        port = wait_ready(server).port
        server.log_in_background()
        load = frozenset({min(cores)})
        peak = peak or peak_of(scenario, port, load)
        time.sleep(0.5)
        plan = [(0.3, 1.0), (0.3, pace.quiet_s), (1.0, pace.full_s), (pace.times, pace.over_s), (0.3, pace.quiet_s)]
        sent = send(words_of(scenario, port, pace.patience_s), [(times * peak, s) for times, s in plan], load)
        for line in list(server.last_said)[-6:]:
            print("   ", line.rstrip(), file=sys.stderr)
        left = server.end()
    if left:
        raise server.failed(f"{left} of its processes had not ended after SIGTERM")
    return peak, list(_phases(plan, sent))


def _phases(plan: Sequence[tuple[float, float]], sent: Sequence[Sent]) -> Iterator[Phase]:
    at_s, messages = 0.0, iter(sent)
    each = next(messages, None)
    for times, seconds in plan:
        phase = Phase(times, at_s, at_s + seconds)
        at_s += seconds
        while each is not None and each.due_s < at_s - 1e-9:
            phase.messages.append(each)
            each = next(messages, None)
        yield phase


TITLES = ("", "peak/s", "goodput/s", "÷ peak", "p99 ms", "sent p99 ms", "quiet p99 ms", "÷ quiet", "refused in ms",
          "load late ms", "the rest", "normal after s")  # fmt: skip


def row_of(name: str, peak: float, phases: Sequence[Phase]) -> list[str]:
    _first, quiet, _full, over, after = phases
    quiet_ms, over_ms = quiet.p99_ms(from_due=True), over.p99_ms(from_due=True)
    rest = ", ".join(f"{word} {share:.0%}" for word, share in over.shares().items() if word != "answered")
    normal_s = normal_after_s(after, 2 * quiet_ms / 1e3)
    return [
        name, f"{peak:,.0f}", f"{over.goodput:,.0f}", f"{over.goodput / peak:.2f}", f"{over_ms:.1f}",
        f"{over.p99_ms(from_due=False):.1f}", f"{quiet_ms:.1f}", f"{over_ms / quiet_ms:.1f}",
        f"{over.refused_p50_ms():.0f}", f"{over.late_ms():.1f}", rest, f"{normal_s:.1f}",
    ]  # fmt: skip


def read_command_line(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.overload", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--long", action="store_true", help="60 s of overload rather than 10")
    parser.add_argument("--seconds", type=float, help="of overload")
    parser.add_argument("--times", type=float, default=3.0, help="the overload, as a multiple of the peak")
    parser.add_argument("--patience", type=float, default=1.0, help="of the clients, in seconds")
    parser.add_argument("--queue-timeout", default="20ms", help="what is compared with none; off: nothing is")
    parser.add_argument("--only", help="scenarios whose names contain this")
    options = parser.parse_args(words)
    options.seconds = (60.0 if options.long else 10.0) if options.seconds is None else options.seconds
    if min(options.seconds, options.times, options.patience) <= 0:
        parser.error("--seconds, --times and --patience must be more than 0")
    return options


def main(words: Sequence[str]) -> int:
    options = read_command_line(words)
    os.chdir(ROOT)
    interrupts.take(signal.SIGINT, signal.SIGTERM)
    pace = Pace(min(5.0, options.seconds), min(5.0, options.seconds), options.seconds, options.times, options.patience)
    rows, failed = [], False
    servers: list[tuple[str, list[str]]] = [("off", [])]
    if options.queue_timeout != "off":
        servers.append((options.queue_timeout, ["--queue-timeout", options.queue_timeout]))
    try:
        for scenario in SCENARIOS:
            if options.only and options.only not in scenario.name:
                continue
            peak: float | None = None
            for name, more in servers:
                try:
                    peak, phases = measure(scenario, more, pace, peak)
                except MeasurementError as error:
                    print(f"FAILED: {scenario.name}, {name}: {error}", file=sys.stderr)
                    failed = True
                    continue
                rows.append(row_of(f"{scenario.name}; {name}", peak, phases))
                print(" | ".join(rows[-1]), file=sys.stderr, flush=True)
    except KeyboardInterrupt:
        end_all()
        return 130
    print(table(TITLES, rows))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
