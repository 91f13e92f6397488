"""bench/verdicts.py: each warning has a number, and comes only when it should."""

from typing import Any

import pytest

from bench.results import made
from paceline.bench.latency import Latencies
from paceline.bench.plan import Plan
from paceline.bench.tally import Effort, Tally
from paceline.bench.troubles import MEANINGS, Kind
from paceline.bench.verdicts import not_all_connected, nothing_answered
from paceline.errors import HostError, PacelineError, PeerError, Refused, TimedOut

PLAN = Plan(address="h:1", messages=(b"x",), source="", connections=10, processes=2)


def test_an_ordinary_run_has_none() -> None:
    assert made().warnings == []
    assert made(plan={"rate": 10_000.0}).warnings == []


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"efforts": (Effort(10, 9.6, 0),)}, ["was at its limit", "its process was busy for 96%", "--processes 2"]),
        ({"efforts": (Effort(10, 5, 0), Effort(10, 9.5, 0))}, ["one of its processes was busy for 95%", "on another"]),
        ({"efforts": (Effort(10, 5, 0.6),)}, ["had no core, for 6% of the time", "perhaps the server", "taskset"]),
        ({"efforts": (Effort(10, 9.1, 0.45),)}, ["busy for 91% of a core, and ready to be so for another 4%"]),
        ({"plan": {"rate": 11_000.0}}, ["10,000 messages a second were answered, 11,000 were due"]),
        ({"plan": {"rate": 10_000.0}, "tally": {"waited": 500}}, ["500 messages (0.5%) waited", "-c"]),
        ({"plan": {"rate": 10_000.0}, "tally": {"late_sum_ns": 10**11 * 2}}, ["sent 2,000 µs late on average"]),
        ({"errors": {Kind.UNANSWERED: 1000}}, ["1,000 of 101,000 messages (0.99%) got no reply", "over p99.01"]),
        ({"latencies": Latencies({300: 900})}, ["900 replies are too few"]),
        ({"gone": Kind.REFUSED}, ["given up after 10.0 s: nobody listened there"]),
    ],
)
def test_a_warning(changed: dict[str, Any], said: list[str]) -> None:
    (warning,) = made(**changed).warnings
    for words in said:
        assert words in warning


def test_just_below_the_limits_there_is_none() -> None:
    assert made(efforts=(Effort(10, 9.0, 0.49),)).warnings == []


def test_a_moment_is_too_short_to_judge_what_was_spent() -> None:
    assert made(efforts=(Effort(0.19, 0.19, 0.1),)).warnings == []


def test_one_of_a_thing_is_said_so() -> None:
    assert "1 reply is too few" in made(latencies=Latencies({300: 1})).warnings[0]


@pytest.mark.parametrize("kind", MEANINGS)
def test_a_run_that_could_not_begin_says_what_was_met_and_the_remedy(kind: Kind) -> None:
    error = not_all_connected(PLAN, kind, 3)
    assert isinstance(error, PacelineError)
    for words in ("cannot load h:1: ", "(3 of 5 connections were made)", MEANINGS[kind].means, MEANINGS[kind].remedy):
        assert words in str(error)


def test_whose_fault_it_is() -> None:
    assert isinstance(not_all_connected(PLAN, Kind.REFUSED, 0), Refused)
    assert isinstance(not_all_connected(PLAN, Kind.NO_DESCRIPTORS, 0), HostError)
    assert isinstance(not_all_connected(PLAN, Kind.CONNECT_TIMEOUT, 0), TimedOut)
    assert "time of 10 s" in str(not_all_connected(PLAN, Kind.CONNECT_TIMEOUT, 0)).replace("within the time", "time")
    assert "were made" not in str(not_all_connected(PLAN, Kind.REFUSED, 0))


def test_nothing_answered_is_told_by_its_commonest_cause() -> None:
    tally = Tally(example="odd")
    tally.errors.update({Kind.UNANSWERED: 9, Kind.RESET: 3, Kind.REFUSED: 1})
    error = nothing_answered(PLAN, tally)
    assert isinstance(error, PeerError)
    assert "h:1 answered nothing: the server reset the connection (odd); " in str(error)
