"""lab/experiments/creation.py: distributions, prediction and verdict; for real it runs in tests/lab/test_running.py."""

from typing import Any

import pytest

from paceline.lab.experiment import Machine
from paceline.lab.experiments.creation import EXPERIMENT, NAMES, distribution, make_interpreter, make_new_python
from paceline.lab.plots import Bars, Lines
from paceline.lab.samples import Samples

TWO = Machine(2, True)
TOOK = {"pool": 20.0, "thread": 50.0, "interpreter": 4000.0, "fork": 500.0, "spawn": 20_000.0}


def samples(**others: float) -> Samples:
    made: list[dict[str, Any]] = [
        {"case": case, "round": round_, "took_us": [took * factor for factor in (1.0, 1.1)]}
        for case, took in {**TOOK, **others}.items()
        for round_ in (1, 2)
    ]
    return Samples.made(made)


def test_a_distribution_says_how_many_took_no_longer() -> None:
    found = distribution([float(number) for number in range(1, 101)])
    assert found[0] == (5.0, 5)
    assert found[-2:] == [(95.0, 95), (100.0, 100)]
    assert distribution([7.0]) == [(7.0, percent) for percent in range(5, 101, 5)]


def test_it_held() -> None:
    verdict = EXPERIMENT.judge(TWO, samples())
    assert verdict.held is True
    assert verdict.text.en == (
        "It held here: a thread took 52 µs, a process by fork 525 µs (10.0 ×), a new Python 21,000 µs (40.0 × of "
        "that). Work for a thread of a pool took 21 µs, 40% of what a new thread takes. A sub-interpreter took 4,200 "
        "µs, 80 × a thread."
    )
    assert "预测成立" in verdict.text.zh


@pytest.mark.parametrize(
    ("others", "said"),
    [
        ({"fork": 149.0}, "The steps are smaller than predicted"),
        ({"spawn": 1000.0}, "The steps are smaller than predicted"),
        ({"pool": 60.0}, "The thread of the pool has to be woken"),
    ],
)
def test_it_did_not_hold(others: dict[str, float], said: str) -> None:
    verdict = EXPERIMENT.judge(TWO, samples(**others))
    assert verdict.held is False
    assert said in verdict.text.en
    assert "预测不成立" in verdict.text.zh


def test_a_ratio_that_is_nearly_enough_is_not_shown_as_enough() -> None:
    assert "(2.98 ×)" in EXPERIMENT.judge(TWO, samples(fork=149.0)).text.en


@pytest.mark.parametrize("left_out", ["pool", "thread", "fork", "spawn"])
def test_too_little(left_out: str) -> None:
    kept = Samples.made(each for each in samples() if each["case"] != left_out)
    assert EXPERIMENT.judge(TWO, kept).held is None
    EXPERIMENT.draw(TWO, kept)
    EXPERIMENT.tabulate(TWO, kept)


def test_without_sub_interpreters_the_others_are_judged_and_drawn() -> None:
    kept = Samples.made(each for each in samples() if each["case"] != "interpreter")
    assert EXPERIMENT.judge(TWO, kept).held is True
    bars, lines = EXPERIMENT.draw(TWO, kept)
    assert isinstance(bars, Bars)
    assert isinstance(lines, Lines)
    assert [bar.note.en for bar in bars.bars if bar.note] == ["this Python has none"]
    assert len(lines.series) == len(NAMES) - 1


def test_the_table() -> None:
    rows = [[cell.en for cell in row] for row in EXPERIMENT.tabulate(TWO, samples()).rows]
    assert [row[0] for row in rows] == [name.en for name in NAMES.values()]
    assert rows[1][1:] == ["52.5 (50.0 … 55.0)", "55.0", "1.0"]
    assert rows[3][3] == "10.0"


@pytest.mark.usefixtures("nothing_left")
def test_a_new_python_comes_to_its_end() -> None:
    make_new_python()


def test_a_sub_interpreter_is_made_or_this_python_has_none() -> None:
    try:
        make_interpreter()
    except ImportError:
        pytest.skip("this Python has no sub-interpreters for us")
