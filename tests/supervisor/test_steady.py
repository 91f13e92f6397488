"""The clock that stands still while the machine does."""

import pytest

from paceline.supervisor.steady import LATE_S, Steady


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_it_is_the_clock_as_long_as_everybody_wakes_in_time() -> None:
    clock = Clock()
    steady = Steady(clock)
    for _ in range(10):
        until = steady.now() + 1.0
        clock.now += 0.3  # woken early
        steady.on_woken(until)
        until = steady.now() + 1.0
        clock.now += 1.0 + LATE_S  # late, as on a busy machine
        steady.on_woken(until)
    assert steady.now() == clock.now


def test_a_night_asleep_takes_no_time() -> None:
    clock = Clock()
    steady = Steady(clock)
    boot_deadline = steady.now() + 30.0
    until = steady.now() + 1.0
    clock.now += 8 * 3600.0
    steady.on_woken(until)
    assert steady.now() == until, "as if it had woken when it wanted to"
    assert steady.now() < boot_deadline
    clock.now += 5.0
    assert steady.now() == until + 5.0


def test_gaps_add_up() -> None:
    clock = Clock()
    steady = Steady(clock)
    for _ in range(3):
        until = steady.now() + 1.0
        clock.now += 61.0
        steady.on_woken(until)
    assert steady.gap_s == 180.0


def test_the_time_between_two_programs_does_not_count() -> None:
    readings = iter([110.0, 110.0, 112.0])
    steady = Steady(lambda: next(readings))
    steady.go_on(4.0, 107.0)
    assert steady.gap_s == 7.0
    assert steady.now() == 103.0, "as it was when the other one ended"
    assert steady.now() == 105.0
    unknown = Steady(lambda: 110.0)
    unknown.go_on(4.0, 0.0)
    assert unknown.now() == 106.0


def test_what_lies_between_two_steps_does_not_count_if_it_is_long() -> None:
    time = 100.0
    steady = Steady(lambda: time)
    steady.on_step()
    assert steady.gap_s == 0.0
    time = 101.0
    steady.on_woken(101.0)
    time = 101.9
    steady.on_step()
    assert steady.gap_s == 0.0, "a busy machine"
    time = 110.5
    steady.on_step()
    assert steady.gap_s == pytest.approx(8.6)
    assert steady.now() == pytest.approx(101.9)
    steady.on_step()
    assert steady.now() == pytest.approx(101.9), "once"
