"""chaos/result.py and what is at rest: what is not as it was is said."""

import json

import pytest

from paceline.chaos.books import Books
from paceline.chaos.catalogue import chosen
from paceline.chaos.judge import How
from paceline.chaos.plan import Plan
from paceline.chaos.result import Rest, Result, judge_rest
from paceline.chaos.tally import Tally

REST = Rest((90, 90), (1, 1), (30 << 20, 31 << 20), 0, 0.01)


def made(books: Books | None = None, tally: Tally | None = None) -> Result:
    plan = Plan(seed=7, faults=chosen(["kill"], is_ours=True))
    return Result(plan, 12.34, tally or Tally(), books or Books(), 2, 1, REST, [(1, "kill", 0.5)])


def test_at_rest_as_before_there_is_nothing_to_say() -> None:
    assert judge_rest(REST) == []


@pytest.mark.parametrize(
    ("rest", "said"),
    [
        (Rest((90, 92), (1, 1), (0, 0), 0, 0.0), "the supervisor had 90 descriptors before, and has 92 afterwards"),
        (Rest((9, 9), (1, 2), (0, 0), 0, 0.0), "the supervisor had 1 threads before, and has 2 afterwards"),
        (Rest((9, 9), (1, 1), (1 << 20, 21 << 20), 0, 0.0), "memory (RSS) grew from 1.0 to 21.0 MiB"),
        (Rest((9, 9), (1, 1), (0, 0), 3, 0.0), "3 dead processes are not reaped"),
        (Rest((9, 9), (1, 1), (0, 0), 0, 0.5), "it takes 50% of a core"),
    ],
)
def test_what_is_not_as_before_is_said(rest: Rest, said: str) -> None:
    (found,) = judge_rest(rest)
    assert said in found


def test_the_sums() -> None:
    books = Books()
    books.lost_by.update({(How.RESET_AFTER, "kill"): 3, (How.TIME_OUT, ""): 1})
    books.cut_by.update({(How.PARKED, "kill"): 5, (How.PARKED, ""): 2, (How.RESET_AFTER, "kill"): 3})
    result = made(books)
    assert (result.lost, result.parked_cut, result.unexplained()) == (4, 7, 2)
    assert not result.broken


def test_json() -> None:
    books = Books()
    books.on_injected(chosen(["kill"], is_ours=True)[0], 0.02)
    books.lost_by[How.RESET_AFTER, "kill"] += 3
    books.breaks("something", 1, 2.0)
    tally = Tally(sent=5)
    tally.on_answer(1, 2_000_000)
    record = json.loads(json.dumps(made(books, tally).to_json()))
    assert record["command"].startswith("paceline chaos --seed 7")
    assert record["faults"]["kill"]["injected"] == 1
    assert record["messages"]["lost"] == [{"how": "reset after the message was sent", "by": "kill", "count": 3}]
    assert record["schedule"] == [{"step": 1, "fault": "kill", "at_s": 0.5}]
    assert record["broken"] == [{"what": "something", "step": 1}]
    assert record["rest"]["descriptors"] == [90, 90]
