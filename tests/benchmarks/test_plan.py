"""The order of the trials, and how long they take."""

import pytest

from benchmarks.__main__ import read_command_line
from benchmarks.measure import Pace
from benchmarks.plan import Step, expected_s, left_s, plan, rotated, span
from benchmarks.terms import Row, Trial

A, B, C = (Trial(name, ("c", name)) for name in "ABC")
PACE = Pace(warmup_s=1.0, duration_s=3.0)


def row(*trials: Trial, times: int = 1) -> Row:
    return Row(1, "", "A", "messages_per_s", (), (), trials, (), times)


def names(steps: list[Step]) -> str:
    return "".join(step.trial.name for step in steps)


def test_competitors_are_interleaved_and_nobody_is_always_first() -> None:
    steps = plan([row(A, B, C)], 3)
    assert names(steps) == "ABCBCACAB"
    assert [step.round for step in steps] == [0, 0, 0, 1, 1, 1, 2, 2, 2]


def test_short_trials_are_made_several_times_a_round() -> None:
    steps = plan([row(A, B, times=2)], 2)
    assert [step.round for step in steps] == [0, 0, 1, 1, 2, 2, 3, 3]


def test_a_quick_run_makes_long_trials_once() -> None:
    long = Row(1, "", "A", "messages_per_s", (), (), (A, B), (), once_if_quick=True)
    assert names(plan([long, row(C)], 2, is_quick=True)) == "ABCC"
    assert names(plan([long], 2)) == "ABBA"


def test_a_whole_quick_run_takes_less_than_four_minutes() -> None:
    options = read_command_line(["--quick"])
    steps = plan(options.rows, options.rounds, is_quick=options.is_short)
    assert sum(expected_s(step, options.pace) for step in steps) < 240


def test_only_some() -> None:
    assert names(plan([row(A, B, C)], 2, ["A", "C"])) == "ACCA"
    assert plan([row(A, B)], 2, ["Z"]) == []


def test_rotation() -> None:
    assert rotated([A, B, C], 4) == [B, C, A]
    assert rotated([], 4) == []


def test_time_left_is_as_expected_until_something_was_measured() -> None:
    steps = plan([row(A, B)], 1)
    assert left_s(steps, 0, 0.0, PACE) == sum(expected_s(step, PACE) for step in steps)


def test_time_left_grows_when_it_goes_slowly_and_does_not_shrink_when_something_failed_at_once() -> None:
    steps = plan([row(A, B)], 1)
    expected = expected_s(steps[1], PACE)
    assert left_s(steps, 1, 2 * expected_s(steps[0], PACE), PACE) == pytest.approx(2 * expected)
    assert left_s(steps, 1, 0.0, PACE) == pytest.approx(expected)
    assert left_s(steps, 2, 1.0, PACE) == 0


def test_a_trial_without_load_does_not_take_its_pace() -> None:
    quick = Step(row(A), Trial("A", ("python",), measures="lifetime"), 0)
    assert expected_s(quick, PACE) < 1 < 4 < expected_s(Step(row(A), A, 0), PACE)


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0 s"), (59.4, "59 s"), (60, "1 min 00 s"), (200, "3 min 20 s")])
def test_times_for_people(seconds: float, text: str) -> None:
    assert span(seconds) == text
