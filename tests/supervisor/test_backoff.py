"""The curves and the count of deaths, by their numbers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paceline.supervisor.backoff import BOOT, FORK, JITTER, Curve, Deaths

NO_JITTER, MOST_JITTER = 0.0, 1.0


@pytest.mark.parametrize(
    ("curve", "delays"),
    [
        (BOOT, [0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30, 30]),
        (FORK, [0.1, 0.2, 0.4, 0.5, 0.5]),
        (Curve(1.0, 4.0, free=3), [0, 0, 0, 1, 2, 4, 4]),
    ],
)
def test_delays_double_up_to_the_most(curve: Curve, delays: list[float]) -> None:
    assert [curve.after(failures, NO_JITTER) for failures in range(1, len(delays) + 1)] == pytest.approx(delays)


@given(st.integers(1, 10**9), st.floats(0, 1))
def test_jitter_only_shortens_and_by_a_quarter_at_most(failures: int, random: float) -> None:
    whole = BOOT.after(failures, NO_JITTER)
    assert whole * (1 - JITTER) <= BOOT.after(failures, random) <= whole <= 30.0


@pytest.mark.parametrize("random", [NO_JITTER, 0.5, MOST_JITTER])
def test_a_crash_loop_makes_at_most_ten_processes_in_ten_seconds(random: float) -> None:
    now, forks = 0.0, 0
    while now < 10.0:
        forks += 1
        now += BOOT.after(forks, random)  # each of them dies in no time
    assert 8 <= forks <= 10


def test_degraded_begins_with_the_death_over_the_limit_and_is_said_once() -> None:
    deaths = Deaths(limit=3, window_s=60.0)
    assert [deaths.record(float(now)) for now in range(6)] == [False, False, False, True, False, False]
    assert deaths.degraded
    assert len(deaths) == 6


def test_degraded_ends_when_half_the_limit_is_left() -> None:
    deaths = Deaths(limit=4, window_s=60.0)
    for now in (0.0, 1.0, 2.0, 3.0, 4.0):
        deaths.record(now)
    assert deaths.recovers_at == 62.0, "then the deaths at 3 and at 4 are left, which is half of 4"
    assert not deaths.has_recovered(61.9)
    assert deaths.has_recovered(62.0)
    assert not deaths.has_recovered(62.0), "it is said once"
    assert deaths.recovers_at is None


def test_a_steady_rate_below_the_limit_is_never_degraded() -> None:
    deaths = Deaths()
    assert not any(deaths.record(float(second)) for second in range(600)), "60 a minute is the limit, not over it"
    assert len(deaths) == 60


@given(st.lists(st.floats(0, 10), max_size=200))
def test_it_recovers_exactly_when_it_says(pauses: list[float]) -> None:
    deaths, now = Deaths(limit=5, window_s=20.0), 0.0
    for pause in pauses:
        now += pause
        at = deaths.recovers_at
        assert deaths.has_recovered(now) == (at is not None and at <= now)
        deaths.record(now)
    at = deaths.recovers_at
    if at is not None:
        assert deaths.has_recovered(max(now, at))
