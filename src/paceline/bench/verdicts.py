"""What is to be said about a run besides its figures: why there is none, and what to keep in mind.  Pure.

A warning carries a number, what it means and what to do; it guesses no cause.
"""

from collections.abc import Iterable, Sequence

from paceline.bench.plan import Plan
from paceline.bench.tally import Effort, Tally
from paceline.bench.troubles import MEANINGS, OURS, Kind, counted
from paceline.errors import (
    BadFrame,
    ConnectFailed,
    ConnectionClosed,
    ConnectionReset,
    HostError,
    MessageTooLarge,
    PacelineError,
    PeerError,
    Refused,
    TimedOut,
    Truncated,
)

LIMIT_CORES = 0.95
"""A load process that was busy, or had no core to be busy on, for more of the time was the limit, or so close to it
that nobody can tell."""
LIMIT_STARVED = 0.05
LEAST_S = 0.2
"""Of a shorter time, what a process spent says nothing: its clocks tick too coarsely, and it was only beginning."""
LATE_US = 1000.0
BEHIND = 0.99

_ERRORS: dict[Kind, type[PacelineError]] = {
    Kind.REFUSED: Refused,
    Kind.UNREACHABLE: ConnectFailed,
    Kind.CONNECT_TIMEOUT: TimedOut,
    Kind.NO_DESCRIPTORS: HostError,
    Kind.NO_PORTS: HostError,
    Kind.RESET: ConnectionReset,
    Kind.CLOSED: ConnectionClosed,
    Kind.TIMEOUT: TimedOut,
    Kind.UNASKED: BadFrame,
    Kind.TOO_LARGE: MessageTooLarge,
    Kind.FRAMING: BadFrame,
    Kind.TRUNCATED: Truncated,
}


def not_all_connected(plan: Plan, kind: Kind, made: int) -> PacelineError:
    """The error for a run that could not begin, because a process made only so many connections."""
    meaning = MEANINGS[kind]
    share = -(-plan.connections // plan.processes)
    how_many = f" ({made:,} of {counted(share, 'connections')} were made)" if made else ""
    return _ERRORS.get(kind, ConnectFailed)(
        f"cannot load {plan.address}: {_of(kind, plan)}{how_many}; {meaning.remedy}"
    )


def nothing_answered(plan: Plan, tally: Tally) -> PacelineError:
    """The error for a run in which no message had a reply."""
    kinds = (kind for kind, _ in tally.errors.most_common() if kind is not Kind.UNANSWERED)
    kind = next(kinds, Kind.UNANSWERED)
    example = f" ({tally.example})" if tally.example else ""
    return _ERRORS.get(kind, PeerError)(
        f"{plan.address} answered nothing: {_of(kind, plan)}{example}; {MEANINGS[kind].remedy}"
    )


def _of(kind: Kind, plan: Plan) -> str:
    timed = f" of {plan.timeout_s:g} s" if kind in (Kind.TIMEOUT, Kind.CONNECT_TIMEOUT) else ""
    return MEANINGS[kind].means + timed


def warnings(
    plan_rate: float | None,
    tally: Tally,
    efforts: Sequence[Effort],
    seconds: float,
    *,
    usable_cores: int,
    gone: Kind | None = None,
) -> list[str]:
    """What to keep in mind when reading the figures."""
    return [
        *_ended(gone, seconds),
        *_limits(efforts, usable_cores),
        *_open_loop(plan_rate, tally, seconds),
        *_unanswered(tally),
        *_thin(tally.latencies.total),
    ]


def _ended(gone: Kind | None, seconds: float) -> Iterable[str]:
    if gone is not None:
        yield (
            f"the run was given up after {seconds:.1f} s: {MEANINGS[gone].means}, and that for seconds; "
            f"{MEANINGS[gone].remedy}"
        )


def _limits(efforts: Sequence[Effort], usable_cores: int) -> Iterable[str]:
    judged = [effort for effort in efforts if effort.seconds >= LEAST_S]
    if not judged:
        return
    busiest = max(judged, key=lambda effort: effort.cores + effort.starved)
    count = len(efforts)
    more = (
        f"more processes (--processes {min(2 * count, usable_cores)})"
        if count < usable_cores
        else "a machine with more cores, or the generator on another machine than the server"
    )
    if busiest.cores + busiest.starved >= LIMIT_CORES:
        which = "its process" if count == 1 else "one of its processes"
        waited = f", and ready to be so for another {busiest.starved:.0%}" if busiest.starved >= 0.005 else ""
        yield (
            f"the load generator was at its limit: {which} was busy for {busiest.cores:.0%} of a core{waited}, so the "
            f"server may be able to do more than is shown; give it {more}, or send less (--rate)"
        )
    starved = max(effort.starved for effort in judged)
    if starved >= LIMIT_STARVED:
        yield (
            f"the load generator was ready to run, but had no core, for {starved:.0%} of the time, and latencies hold "
            "that: something else ran on its core, perhaps the server; pin both, each to cores of its own (taskset -c)"
        )


def _open_loop(rate: float | None, tally: Tally, seconds: float) -> Iterable[str]:
    if rate is None or not tally.sent or seconds <= 0:
        return
    if tally.in_time < BEHIND * rate * seconds:
        yield (
            f"{tally.in_time / seconds:,.0f} messages a second were answered, {rate:,.0f} were due: the server did not "
            "keep up, or broke off; latencies grow with the length of the run, so compare only runs of the same length"
        )
    if tally.waited:
        yield (
            f"{counted(tally.waited, 'messages')} ({tally.waited / tally.sent:.1%}) waited over a millisecond for a "
            "free connection, which is in their latency; if that is not meant, give more connections (-c) or "
            "--in-flight"
        )
    late_us = tally.late_sum_ns / tally.sent / 1000
    if late_us >= LATE_US:
        yield (
            f"the load generator sent {late_us:,.0f} µs late on average, which is in the latencies; give it a core of "
            "its own (taskset -c), more --processes, or a lower --rate"
        )


def _unanswered(tally: Tally) -> Iterable[str]:
    lost = tally.errors[Kind.UNANSWERED] + tally.errors[Kind.TIMEOUT]
    if lost:
        whole = tally.answered + lost
        yield (
            f"{lost:,} of {counted(whole, 'messages')} ({lost / whole:.2%}) got no reply and came into no "
            f"percentile: counted as endless, they would make all percentiles over p{100 * tally.answered / whole:.4g} "
            "endless"
        )


def _thin(count: int) -> Iterable[str]:
    if 0 < count < 10_000:
        yield (
            f"{counted(count, 'replies')} {'is' if count == 1 else 'are'} too few for the last percentiles: p99.99 is "
            "the slowest of 10,000; measure longer (-d, -n) to read them"
        )


def blames_us(kinds: Iterable[Kind]) -> bool:
    """Whether the generator's machine is at fault in one of them."""
    return any(kind in OURS for kind in kinds)
