"""lab/experiments/switching.py: what times and the kernel's counts say, and once for real."""

from typing import Any

import pytest

import paceline.lab
from paceline.lab.experiment import Machine
from paceline.lab.experiments.switching import (
    COMPUTE,
    CONDITION,
    EXPERIMENT,
    FREE,
    GENERATOR,
    LOCK,
    NAMES,
    PIPE,
    a_second,
    by_condition,
    by_generator,
    by_locks,
    counted_each,
)
from paceline.lab.plots import Bars
from paceline.lab.samples import Samples

TWO = Machine(2, True)


def sample(case: str, us: float, voluntary: int, involuntary: int = 0) -> dict[str, Any]:
    return {
        "case": case, "round": 1, "switches": 1000, "switch_us": us, "voluntary": voluntary, "involuntary": involuntary
    }  # fmt: skip


def computing(voluntary: int = 3, involuntary: int = 90) -> dict[str, Any]:
    return {"case": COMPUTE, "round": 1, "lasted_s": 0.5, "voluntary": voluntary, "involuntary": involuntary}


def samples(**other: dict[str, Any]) -> Samples:
    made = {
        GENERATOR: sample(GENERATOR, 0.05, 0), LOCK: sample(LOCK, 8.0, 1500, 500),
        CONDITION: sample(CONDITION, 7.0, 1000), PIPE: sample(PIPE, 4.0, 600, 400), COMPUTE: computing(),
    }  # fmt: skip
    return Samples.made((made | other).values())


def test_counts_are_by_switch_and_by_second() -> None:
    both, waited = counted_each(samples(), PIPE, "voluntary", "involuntary"), counted_each(samples(), PIPE, "voluntary")
    stopped = a_second(samples(), "involuntary")
    assert both is not None
    assert waited is not None
    assert stopped is not None
    assert (both.median, waited.median, stopped.median) == (1.0, 0.6, 180)


def test_the_prediction_names_the_gil_where_there_is_one() -> None:
    assert "get the GIL" in EXPERIMENT.predict(TWO).text.en
    assert "GIL" not in EXPERIMENT.predict(Machine(2, False)).text.en


def test_it_held() -> None:
    verdict = EXPERIMENT.judge(TWO, samples())
    assert verdict.held is True
    assert "8.0 µs between threads by locks (160 ×)" in verdict.text.en
    assert (
        "counted 0.00 switches with a generator, 2.00 with locks, 1.00 with a condition, 1.00 with pipes"
        in verdict.text.en
    )
    assert "stopped 180 times a second, and waited 6 times" in verdict.text.en
    assert "预测成立" in verdict.text.zh


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({PIPE: sample(PIPE, 0.3, 1000)}, "less than 10 × as dear"),
        ({LOCK: sample(LOCK, 8.0, 100)}, "The counts are not as predicted"),
        ({GENERATOR: sample(GENERATOR, 0.05, 300)}, "The counts are not as predicted"),
        ({COMPUTE: computing(90, 3)}, "not stopped more often than they waited"),
    ],
)
def test_it_did_not_hold(other: dict[str, Any], said: str) -> None:
    verdict = EXPERIMENT.judge(TWO, samples(**other))
    assert verdict.held is False
    assert said in verdict.text.en
    assert "预测不成立" in verdict.text.zh


@pytest.mark.parametrize("missing", [GENERATOR, LOCK, CONDITION, PIPE, COMPUTE])
def test_too_little(missing: str) -> None:
    kept = Samples.made(each for each in samples() if each["case"] != missing)
    assert EXPERIMENT.judge(TWO, kept).held is None
    EXPERIMENT.draw(TWO, kept)
    EXPERIMENT.tabulate(TWO, kept)


def test_pictures() -> None:
    cost, counts, stopped = EXPERIMENT.draw(TWO, samples(**{LOCK + FREE: sample(LOCK + FREE, 20.0, 1000)}))
    assert isinstance(cost, Bars)
    assert [(bar.spread and bar.spread.median, bar.group) for bar in cost.bars] == [
        (0.05, 0), (8.0, 0), (20.0, 1), (7.0, 0), (4.0, 0)
    ]  # fmt: skip
    assert isinstance(counts, Bars)
    assert [bar.spread and bar.spread.median for bar in counts.bars] == [0, 0, 1.5, 0.5, 1.0, 0, 0.6, 0.4]
    assert isinstance(stopped, Bars)


def test_the_table() -> None:
    rows = {row[0].en: [cell.en for cell in row[1:]] for row in EXPERIMENT.tabulate(TWO, samples()).rows}
    assert rows["two processes, by pipes"] == ["4.000", "0.60", "0.40", "1,000"]
    assert len(rows) == 4, "those that compute have a picture of their own"


@pytest.mark.usefixtures("nothing_left")
@pytest.mark.parametrize("way", [by_generator, by_locks, by_condition])
def test_each_way_comes_to_its_end(way: Any) -> None:
    way(20)


@pytest.mark.usefixtures("nothing_left")
def test_for_real() -> None:
    result = paceline.lab.run("switching", quick=True, seed=1)
    assert (result.finished, result.why) == (True, "")
    cases = [case for case in NAMES if result.machine.cores > 1 or not case.endswith(FREE)]
    assert set(result.samples.cases) == {*cases, COMPUTE}
    for case in cases:
        found = result.samples.of(case)
        assert [each["round"] for each in found] == list(range(1, 7))
        assert all(each["switches"] >= 40 and each["switch_us"] > 0 for each in found)
    assert len(result.samples.of(COMPUTE)) == 2
    assert result.settings["trips"].keys() == set(cases)
    assert all(each["voluntary"] + each["involuntary"] < each["switches"] for each in result.samples.of(GENERATOR))
    assert result.verdict.held is not None
