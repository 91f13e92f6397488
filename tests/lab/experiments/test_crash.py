"""lab/experiments/crash.py: shares, prediction and verdict, and once for real."""

from typing import Any

import pytest

import paceline.lab
from paceline.lab.experiment import Machine
from paceline.lab.experiments.crash import EXPERIMENT, PROCESSES, THREADS, WITNESSES, WORKER, share
from paceline.lab.plots import Bars
from paceline.lab.samples import Samples

TWO = Machine(2, True)


def witness(case: str, answered: int, round_: int = 1) -> dict[str, Any]:
    processes = 1 if case == THREADS else 4
    return {
        "case": case, "round": round_, "before": 4, "asked": 3, "answered": answered, "noticed_ms": 0.5,
        "processes": processes, "crashed": 1,
    }  # fmt: skip


def worker(round_: int = 1, **other: Any) -> dict[str, Any]:
    return {
        "case": WORKER, "round": round_, "before": 8, "asked": 4, "answered": 4, "its": 4, "its_answered": 0,
        "came": 20, "served": 20, "processes": 2, "crashed": 1, "noticed_ms": 2.0, "replaced_ms": 40.0, **other,
    }  # fmt: skip


def samples(**other: Any) -> Samples:
    return Samples.made([witness(THREADS, 0), witness(PROCESSES, 3), worker(), worker(2, **other)])


def test_a_share_is_taken_round_by_round() -> None:
    found = share(Samples.made([witness(PROCESSES, 3), witness(PROCESSES, 0, 2)]), PROCESSES, "answered", "asked")
    assert found is not None
    assert (found.lowest, found.highest) == (0, 100)
    assert share(Samples(), PROCESSES, "answered", "asked") is None


def test_the_prediction_does_not_depend_on_the_machine() -> None:
    assert EXPERIMENT.predict(TWO) == EXPERIMENT.predict(Machine(64, False))
    assert EXPERIMENT.predict(TWO).figures["replaced within ms"] == 1000


def test_it_held() -> None:
    verdict = EXPERIMENT.judge(TWO, samples())
    assert verdict.held is True
    assert verdict.text.en == (
        "It held here. Each crash ended one process: of those in a thread, 1 of 1 processes and with it all its "
        "threads, of whose others 0/3 answered; of those in a process, 1 of 4, and 3/3 of the others answered. When a "
        "worker of Paceline crashed (2 times), 0 of its 8 clients were still connected, 8/8 of the other worker's "
        "were answered, by the same process as before, and 40/40 of the new ones. A worker that was not there before "
        "answered after 40 ms (40 … 40)."
    )
    assert "预测成立" in verdict.text.zh
    assert verdict.figures["replaced after ms"] == 40


@pytest.mark.parametrize(
    ("other", "why"),
    [
        ({"answered": 3}, "did not answer within 10 s"),
        ({"its_answered": 1}, "must not be: please report it"),
        ({"served": 19}, "Some of the new clients were not answered"),
        ({"replaced_ms": 1500.0}, "took longer than 1,000 ms"),
        ({"replaced_ms": None}, "took longer than 1,000 ms"),
    ],
)
def test_it_did_not_hold(other: dict[str, Any], why: str) -> None:
    verdict = EXPERIMENT.judge(TWO, samples(**other))
    assert verdict.held is False
    assert why in verdict.text.en
    assert "预测不成立" in verdict.text.zh


def test_a_worker_that_was_not_replaced_is_said() -> None:
    assert "In 1 cases none had answered" in EXPERIMENT.judge(TWO, samples(replaced_ms=None)).text.en


@pytest.mark.parametrize("left_out", [THREADS, PROCESSES, WORKER])
def test_too_little(left_out: str) -> None:
    kept = Samples.made(sample for sample in samples() if sample["case"] != left_out)
    assert EXPERIMENT.judge(TWO, kept).held is None
    EXPERIMENT.draw(TWO, kept)
    EXPERIMENT.tabulate(TWO, kept)


def test_who_answered_and_how_long_it_took_are_drawn() -> None:
    who, long = EXPERIMENT.draw(TWO, samples())
    assert isinstance(who, Bars)
    assert isinstance(long, Bars)
    assert [bar.spread and bar.spread.median for bar in who.bars] == [0, 100, 0, 100, 100]
    assert [bar.spread and bar.spread.median for bar in long.bars] == [0.5, 0.5, 2, 40]


def test_the_table() -> None:
    rows = [[cell.en for cell in row] for row in EXPERIMENT.tabulate(TWO, samples()).rows]
    assert rows[0][1:] == ["1/1", "0/3", "0.50", "–", "1"]
    assert rows[2][1:] == ["2/4", "8/8", "2.00", "40", "2"]


@pytest.mark.usefixtures("nothing_left")
def test_for_real() -> None:
    result = paceline.lab.run("crash", quick=True, seed=1)
    assert (result.finished, result.why) == (True, "")
    assert sorted(result.samples.cases) == sorted([THREADS, PROCESSES, WORKER])
    for each in result.samples:
        if each["case"] == WORKER:
            assert each["before"] == 2 * WITNESSES
            assert (each["answered"], each["its_answered"]) == (WITNESSES, 0)
            assert each["served"] == each["came"]
            assert each["replaced_ms"] is not None
            assert (each["processes"], each["crashed"]) == (2, 1)
        else:
            assert (each["before"], each["crashed"]) == (WITNESSES, 1)
            assert each["answered"] == (0 if each["case"] == THREADS else WITNESSES - 1)
    assert result.verdict.held is not None
