"""Who ran when: each reads its own clock without a pause, and where that jumps, it was not running.

A span is [from, to]; what is said here of spans is in their unit.  `ran` has the spans of each, in the order of time.
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise

Span = Sequence[float]

JUMP_NS = 200_000
"""A clock that jumps by more than 0.2 ms was not read meanwhile: whoever reads it did not run."""


def watch_own_clock(from_ns: int, until_ns: int) -> list[tuple[int, int]]:
    """Read the clock without a pause; write down when this one ran: from when to when its clock did not jump."""
    from paceline.clock import now_ns

    while now_ns() < from_ns:  # all begin at the same moment
        pass
    ran = []
    begun = last = now_ns()
    while last < until_ns:
        seen = now_ns()
        if seen - last > JUMP_NS:
            ran.append((begun - from_ns, last - from_ns))
            begun = seen
        last = seen
    if begun < until_ns:
        ran.append((begun - from_ns, last - from_ns))
    return ran


def in_ms(ran: Sequence[Sequence[Span]]) -> list[list[list[float]]]:
    """Spans in nanoseconds as they are kept: in milliseconds, to a tenth of a microsecond."""
    return [[[round(at / 1e6, 4) for at in span] for span in spans] for spans in ran]


def turns_of(ran: Sequence[Sequence[Span]]) -> list[tuple[int, float, float]]:
    """(who, from, to) in the order of time.  Who goes on before another one ran is still at the same turn."""
    turns: list[tuple[int, float, float]] = []
    for begun, ended, who in sorted((begun, ended, who) for who, spans in enumerate(ran) for begun, ended in spans):
        if turns and turns[-1][0] == who:
            turns[-1] = (who, turns[-1][1], ended)
        else:
            turns.append((who, begun, ended))
    return turns


def lengths_of(ran: Sequence[Sequence[Span]]) -> list[float]:
    """How long each turn was, but for the last one, which the end cut short."""
    return [ended - begun for _, begun, ended in turns_of(ran)[:-1]]


def time_by_number(ran: Sequence[Sequence[Span]]) -> dict[int, float]:
    """For how long nobody ran (0), one (1), two (2) …, between the first and the last moment."""
    edges = sorted(edge for spans in ran for begun, ended in spans for edge in ((begun, 1), (ended, -1)))
    times: dict[int, float] = {}
    number = 0
    for (at, change), (then, _) in pairwise(edges):
        number += change
        times[number] = times.get(number, 0.0) + then - at
    return times


def overlap_of(ran: Sequence[Sequence[Span]]) -> float:
    """In what share of the time more than one ran."""
    times = time_by_number(ran)
    return sum(time for number, time in times.items() if number > 1) / (sum(times.values()) or 1.0)


def idle_of(ran: Sequence[Sequence[Span]]) -> float:
    """In what share of the time none of them ran."""
    times = time_by_number(ran)
    return times.get(0, 0.0) / (sum(times.values()) or 1.0)


def at_a_time(ran: Sequence[Sequence[Span]]) -> float:
    """How many ran at a time, on average over the time in which anybody did."""
    times = {number: time for number, time in time_by_number(ran).items() if number}
    return sum(number * time for number, time in times.items()) / (sum(times.values()) or 1.0)


def shares_of(ran: Sequence[Sequence[Span]]) -> list[float]:
    """What share each got of what they got together."""
    times = [sum(ended - begun for begun, ended in spans) for spans in ran]
    return [time / (sum(times) or 1.0) for time in times]


def merged(spans: Iterable[tuple[float, float]], gap: float) -> list[tuple[float, float]]:
    """In their order, and those made one that touch: between them is less than `gap`."""
    found: list[tuple[float, float]] = []
    for begin, end in sorted(spans):
        if found and begin - found[-1][1] < gap:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((begin, end))
    return found
