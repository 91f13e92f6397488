"""bench/tally.py: merging, and the way through JSON."""

import json
from collections import Counter

from paceline.bench.latency import Latencies
from paceline.bench.tally import Effort, Tally
from paceline.bench.troubles import Kind


def tally(factor: int = 1) -> Tally:
    return Tally(
        sent=10 * factor,
        answered=9 * factor,
        in_time=8 * factor,
        sent_bytes=640 * factor,
        received_bytes=576 * factor,
        connections=2 * factor,
        late_ns=50 * factor,
        late_sum_ns=100 * factor,
        waited=factor,
        errors=Counter({Kind.RESET: factor}),
        latencies=Latencies({300: 9 * factor}),
        example="" if factor == 1 else "odd",
    )


def test_all_adds_but_the_greatest_lateness() -> None:
    one = tally()
    one.add(tally(2))
    expected = tally(3)
    expected.late_ns, expected.example = 100, "odd"
    assert one == expected


def test_through_json() -> None:
    assert Tally.from_json(json.loads(json.dumps(tally(2).to_json()))) == tally(2)


def test_effort() -> None:
    effort = Effort(seconds=2.0, busy_seconds=1.9, starved_seconds=0.1)
    assert (effort.cores, effort.starved) == (0.95, 0.05)
    assert Effort(0.0, 1.0, 1.0).cores == Effort(0.0, 1.0, 1.0).starved == 0.0
