"""The clock that stands still while the machine does."""

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
