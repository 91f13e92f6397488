"""bench/effort.py: what was spent between two readings."""

import pytest

from paceline.bench.effort import Reading, read


def test_between_two_readings() -> None:
    before, after = Reading(0, 1.0, 0.5), Reading(3_000_000_000, 2.5, 0.7)
    effort = after.since(before, until_ns=2_000_000_000, spun_ns=500_000_000)
    assert effort.seconds == 2.0
    assert effort.busy_seconds == pytest.approx(1.0)  # spinning is not work
    assert effort.starved_seconds == pytest.approx(0.2)


def test_never_more_than_there_was_nor_below_zero() -> None:
    effort = Reading(0, 9.0, 9.0).since(Reading(0, 0.0, 0.0), until_ns=10**9, spun_ns=0)
    assert (effort.busy_seconds, effort.starved_seconds) == (1.0, 1.0)
    effort = Reading(0, 0.0, 0.0).since(Reading(0, 1.0, 1.0), until_ns=10**9, spun_ns=0)
    assert (effort.busy_seconds, effort.starved_seconds) == (0.0, 0.0)


def test_the_clocks_go_forward() -> None:
    before = read()
    sum(range(100_000))
    after = read()
    assert after.at_ns > before.at_ns
    assert after.cpu_s > before.cpu_s
