"""worker/overload.py: a queue that stands is told from one that comes and goes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paceline.worker.overload import INTERVAL_S, MOST_STEP_S, OVER_AT, Line, Overload

TICK_S = 0.005
LIMIT_S = 0.02
TICKS = round(INTERVAL_S / TICK_S)


def look(overload: Overload, *waits_s: float, elapsed_s: float = TICK_S) -> list[bool]:
    """Whether it is one after each look."""
    found = []
    for wait_s in waits_s:
        before = overload.is_on
        turned = overload.look(wait_s, elapsed_s)
        assert turned == (overload.is_on is not before)
        found.append(overload.is_on)
    return found


def test_it_begins_when_everybody_has_waited_too_long_for_an_interval() -> None:
    overload = Overload(LIMIT_S)
    assert look(overload, *[0.021] * (TICKS + 1)) == [False] * (TICKS - 1) + [True] * 2


def test_a_burst_is_none_however_long_its_last_one_waits() -> None:
    """It is worked off within the interval, or somebody has waited for less within each."""
    overload = Overload(LIMIT_S)
    assert not any(look(overload, *[0.5] * (TICKS - 1), 0.0))
    assert not any(look(overload, *([5.0] * (TICKS - 1) + [LIMIT_S]) * 5))


@pytest.mark.parametrize(
    ("wait_s", "is_over"), [(0.021, False), (0.011, False), (LIMIT_S * OVER_AT, True), (0.0, True)]
)
def test_it_is_over_when_nobody_has_waited_for_more_than_half_for_an_interval(wait_s: float, is_over: bool) -> None:
    overload = Overload(LIMIT_S)
    look(overload, *[1.0] * TICKS)
    assert look(overload, *[wait_s] * TICKS) == [True] * (TICKS - 1) + [not is_over]


def test_a_line_that_was_emptied_at_one_stroke_does_not_end_it() -> None:
    overload = Overload(LIMIT_S)
    look(overload, *[1.0] * TICKS)
    assert all(look(overload, *([0.0] * (TICKS - 1) + [0.015]) * 5))


def test_the_next_one_takes_an_interval_again() -> None:
    overload = Overload(LIMIT_S)
    begins = [False] * (TICKS - 1) + [True]
    ends = [True] * (TICKS - 1) + [False]
    assert look(overload, *([1.0] * TICKS + [0.0] * TICKS) * 3) == [*begins, *ends] * 3


def test_how_long_it_lasted() -> None:
    overload = Overload(LIMIT_S)
    look(overload, *[1.0] * TICKS, *[1.0] * 200, *[0.0] * TICKS)
    assert overload.lasted_s == pytest.approx((200 + TICKS) * TICK_S)
    look(overload, *[1.0] * TICKS)
    assert overload.lasted_s == 0.0


def test_one_look_after_a_long_pause_proves_nothing() -> None:
    overload = Overload(LIMIT_S)
    assert look(overload, 60.0, elapsed_s=60.0) == [False]
    assert overload.above_s == MOST_STEP_S
    assert look(overload, 60.0, 0.0) == [False, False]


def test_what_a_pause_has_left_is_one_if_it_is_not_worked_off_within_an_interval() -> None:
    """As with slow calls, after the process was stopped."""
    overload = Overload(LIMIT_S)
    look(overload, 60.0, elapsed_s=60.0)
    left = round((INTERVAL_S - MOST_STEP_S) / TICK_S)
    assert look(overload, *[60.0] * left) == [False] * (left - 1) + [True]


def test_it_can_be_ended_from_outside() -> None:
    overload = Overload(LIMIT_S)
    look(overload, *[1.0] * TICKS)
    overload.end()
    assert look(overload, 1.0) == [False]


@given(st.lists(st.floats(0.0, 1.0), max_size=200))
def test_it_only_turns_after_an_interval_of_looks_that_agree(waits_s: list[float]) -> None:
    overload = Overload(LIMIT_S)
    was_on = False
    for at, is_on in enumerate(look(overload, *waits_s), 1):
        last = waits_s[max(0, at - TICKS) : at]
        if is_on is not was_on:
            assert len(last) == TICKS
            assert all(wait_s > LIMIT_S if is_on else wait_s <= OVER_AT * LIMIT_S for wait_s in last)
        was_on = is_on


def test_a_line_says_what_was_measured_and_what_has_passed_since() -> None:
    line = Line()
    assert line.look(True, None, 0.005) == 0.005
    assert line.look(True, None, 0.005) == 0.010
    assert line.look(True, 0.2, 0.005) == 0.2
    assert line.look(True, None, 0.005) == pytest.approx(0.205)
    assert line.look(False, 0.3, 0.005) == 0.0
    assert line.look(True, None, 0.005) == 0.005
