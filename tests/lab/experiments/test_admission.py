"""lab/experiments/admission.py: who was late, prediction and verdict, and once for real."""

from typing import Any

import pytest

import paceline.lab
from paceline.lab.experiment import Machine
from paceline.lab.experiments.admission import ALWAYS, EXPERIMENT, NAMES, OURS, POOL, REUSEPORT, SHARED, late, valid
from paceline.lab.plots import Bars
from paceline.lab.samples import Samples

TWO = Machine(2, True)


def sample(case: str, late: int, round_: int = 1, workers: int = 1) -> dict[str, Any]:
    return {
        "case": case, "round": round_, "waited_ms": [400.0] * late + [1.0] * (20 - late), "late": late, "p50_ms": 1.0,
        "p99_ms": 400.0 if late else 1.0, "lost": 0, "workers_of_slow": workers, "slow_ms": 520.0,
    }  # fmt: skip


def samples(**others: int) -> Samples:
    """How many of twenty were late."""
    counts = {SHARED: 9, REUSEPORT: 10, ALWAYS: 11, POOL: 0, OURS: 0, **others}
    return Samples.made(sample(case, count) for case, count in counts.items())


def test_a_share_is_taken_round_by_round() -> None:
    found = late(Samples.made([sample(OURS, 0), sample(OURS, 5, 2)]), OURS)
    assert found is not None
    assert (found.lowest, found.highest) == (0, 25)
    assert late(Samples(), OURS) is None


def test_a_round_in_which_no_single_worker_had_the_slow_calls_is_not_judged() -> None:
    more = Samples.made([*samples(), sample(OURS, 20, 2, workers=2)])
    assert len(valid(more)) == len(samples())
    verdict = EXPERIMENT.judge(TWO, more)
    assert verdict.held is True
    assert "more than one worker had slow calls: 1 of the rounds." in verdict.text.en


def test_the_prediction_does_not_depend_on_the_machine() -> None:
    assert EXPERIMENT.predict(TWO) == EXPERIMENT.predict(Machine(64, False))


def test_it_held() -> None:
    verdict = EXPERIMENT.judge(TWO, samples())
    assert verdict.held is True
    assert verdict.text.en == (
        "It held here. Beside a saturated worker, the share of quick messages that waited longer than 50 ms was 45% "
        "with a shared listener, 50% with SO_REUSEPORT, 55% where a thread always accepts, 0% with a pool whose free "
        "threads accept, and 0% with Paceline (0 of 20). 99 of 100 waited no longer than 400, 400, 400, 1.0 and 1.0 "
        "ms; a slow call lasts 520 ms, and nobody waits for longer than that."
    )
    assert "预测成立" in verdict.text.zh


@pytest.mark.parametrize("others", [{OURS: 1}, {POOL: 1}, {SHARED: 1}, {REUSEPORT: 0}, {ALWAYS: 0}])
def test_it_did_not_hold(others: dict[str, int]) -> None:
    verdict = EXPERIMENT.judge(TWO, samples(**others))
    assert verdict.held is False
    assert "预测不成立" in verdict.text.zh


@pytest.mark.parametrize("left_out", list(NAMES))
def test_too_little(left_out: str) -> None:
    kept = Samples.made(sample for sample in samples() if sample["case"] != left_out)
    assert EXPERIMENT.judge(TWO, kept).held is None
    EXPERIMENT.draw(TWO, kept)
    EXPERIMENT.tabulate(TWO, kept)


def test_the_late_and_the_waits_are_drawn() -> None:
    shares, waits = EXPERIMENT.draw(TWO, samples())
    assert isinstance(shares, Bars)
    assert isinstance(waits, Bars)
    assert [bar.spread and bar.spread.median for bar in shares.bars] == [45, 50, 55, 0, 0]
    assert [bar.spread and bar.spread.median for bar in waits.bars] == [1, 400, 1, 400, 1, 400, 1, 1, 1, 1]


def test_the_table() -> None:
    rows = [[cell.en for cell in row] for row in EXPERIMENT.tabulate(TWO, samples()).rows]
    assert rows[0][1:] == ["9", "20", "45", "1.00", "400.0"]
    assert len(rows) == len(NAMES)


@pytest.mark.usefixtures("nothing_left")
def test_for_real() -> None:
    result = paceline.lab.run("admission", quick=True, seed=1)
    assert (result.finished, result.why) == (True, "")
    assert sorted(result.samples.cases) == sorted(NAMES)
    for each in result.samples:
        assert len(each["waited_ms"]) == 60
        assert 0 <= each["late"] <= 60
        assert each["lost"] == 0
        assert each["workers_of_slow"] in (1, 2)
