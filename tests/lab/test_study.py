"""lab/study.py: every case once a round, in an order left to chance, and the first round only warms up."""

from collections import Counter
from typing import Any

import pytest

from paceline.lab.experiment import Machine
from paceline.lab.study import Study


@pytest.fixture
def told() -> list[dict[str, Any]]:
    return []


def study(told: list[dict[str, Any]], *, quick: bool = True, seed: int = 7) -> Study:
    return Study(Machine(2, True), quick=quick, seed=seed, tell=lambda **line: told.append(line))


def shares(told: list[dict[str, Any]]) -> list[float]:
    return [line["progress"] for line in told if "progress" in line]


def test_each_case_comes_once_a_round_and_the_warm_up_is_not_kept(told: list[dict[str, Any]]) -> None:
    it = study(told)
    met: Counter[tuple[int, str]] = Counter()
    for number, case in it.rounds("abc", quick=2, full=9):
        met[number, case] += 1
        it.note(case, number, took_s=1.0)
    assert met == Counter({(number, case): 1 for number in range(3) for case in "abc"})
    samples = [line["sample"] for line in told if "sample" in line]
    assert sorted((sample["round"], sample["case"]) for sample in samples) == [
        (number, case) for number in (1, 2) for case in "abc"
    ]
    assert samples[0].keys() == {"case", "round", "took_s"}
    assert shares(told) == sorted(shares(told))
    assert (len(shares(told)), shares(told)[-1]) == (9, 1.0)


def test_without_a_warm_up_all_is_kept(told: list[dict[str, Any]]) -> None:
    it = study(told, quick=False)
    for number, case in it.rounds("ab", quick=1, full=2, warm_up=False):
        it.note(case, number)
    assert [line["sample"]["round"] for line in told if "sample" in line] == [1, 1, 2, 2]


def test_the_order_is_that_of_the_seed(told: list[dict[str, Any]]) -> None:
    def order(seed: int) -> list[tuple[int, str]]:
        return list(study(told, seed=seed).rounds("abcdefgh", quick=3, full=3))

    assert order(1) == order(1)
    assert order(1) != order(2)


def test_who_leaves_the_loop_in_the_warm_up_is_heard_afterwards(told: list[dict[str, Any]]) -> None:
    it = study(told)
    for number, case in it.rounds("ab", quick=1, full=1):
        it.note(case, number)
        break
    assert told == []
    it.note("a", 1)
    assert told == [{"sample": {"case": "a", "round": 1}}]


def test_parts_of_the_whole(told: list[dict[str, Any]]) -> None:
    it = study(told)
    it.part(0, 0.5)
    list(it.rounds("a", quick=1, full=1))
    it.part(0.5, 1)
    list(it.rounds("a", quick=1, full=1))
    assert shares(told) == [0.25, 0.5, 0.75, 1.0]


def test_a_quick_run_may_have_other_cases(told: list[dict[str, Any]]) -> None:
    assert study(told).pick([1], [1, 2]) == [1]
    assert study(told, quick=False).pick([1], [1, 2]) == [1, 2]
