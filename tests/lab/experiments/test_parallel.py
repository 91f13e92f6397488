"""lab/experiments/parallel.py: the laws and their fits, prediction and verdict, and once for real."""

from typing import Any

import pytest

import paceline.lab
from paceline.lab.experiment import Machine
from paceline.lab.experiments.parallel import (
    EXPERIMENT,
    Fits,
    amdahl,
    fit_amdahl,
    fit_usl,
    misfit,
    numbers_of,
    speedups,
    usl,
)
from paceline.lab.plots import Kind, Lines
from paceline.lab.samples import Samples

TWO = Machine(2, True)


def sample(processes: int, took_s: float, cpu_s: float = 1.0, round_: int = 1) -> dict[str, Any]:
    case = str(processes)
    return {"case": case, "round": round_, "processes": processes, "took_s": took_s, "cpu_s": cpu_s, "pieces": 500}


def samples(took_s: dict[int, float], cpu_s: float = 1.0) -> Samples:
    """One round; the processor time of all is `cpu_s`, and 1 s for one process."""
    return Samples.made(sample(n, took, 1.0 if n == 1 else cpu_s) for n, took in took_s.items())


IDEAL = {1: 1.0, 2: 0.5, 3: 0.5, 4: 0.5}


# The laws


@pytest.mark.parametrize("serial", [0.0, 0.05, 0.5, 1.0])
def test_amdahl_is_found_again_in_its_own_points(serial: float) -> None:
    points = [(float(n), amdahl(n, serial)) for n in range(1, 9)]
    assert fit_amdahl(points) == pytest.approx(serial)


@pytest.mark.parametrize("law", [(0.0, 0.0), (0.1, 0.0), (0.0, 0.02), (0.05, 0.01)])
def test_usl_is_found_again_in_its_own_points(law: tuple[float, float]) -> None:
    points = [(float(n), usl(n, *law)) for n in range(1, 9)]
    assert fit_usl(points) == pytest.approx(law, abs=1e-9)


def test_amdahl_and_usl_are_the_same_without_coherence() -> None:
    for n in range(1, 9):
        assert amdahl(n, 0.2) == pytest.approx(usl(n, 0.2, 0.0))


def test_what_is_more_than_linear_or_less_than_nothing_is_cut_off() -> None:
    assert fit_amdahl([(1.0, 1.0), (2.0, 2.5)]) == 0.0
    assert fit_amdahl([(1.0, 1.0), (2.0, 0.5)]) == 1.0
    assert fit_usl([(1.0, 1.0), (2.0, 2.5), (3.0, 4.0)]) == (0.0, 0.0)


def test_usl_keeps_both_at_least_0() -> None:
    contention, coherence = fit_usl([(2.0, 1.2), (3.0, 1.6), (4.0, 2.1)]) or (-1, -1)
    assert contention > 0
    assert coherence == 0
    contention, coherence = fit_usl([(2.0, 2.0), (3.0, 2.6), (4.0, 2.0)]) or (-1, -1)
    assert contention == 0
    assert coherence > 0


def test_too_few_points_for_a_law() -> None:
    assert fit_amdahl([(1.0, 1.0)]) is None
    assert fit_usl([(1.0, 1.0), (2.0, 1.9)]) is None
    assert Fits.through([(1.0, 1.0), (2.0, 1.9)]) is None


def test_how_far_a_law_is_off() -> None:
    assert misfit([(1.0, 1.0), (2.0, 2.0)], [1.0, 1.0]) == pytest.approx(0.5**0.5)


# Cases


@pytest.mark.parametrize(
    ("cores", "numbers"),
    [
        (1, [1, 2]),
        (2, [1, 2, 3, 4]),
        (4, [1, 2, 3, 4, 5, 6, 7, 8]),
        (8, [1, 2, 4, 6, 8, 12, 16]),
        (64, [1, 2, 16, 32, 48, 64, 96, 128]),
    ],
)
def test_numbers_of_processes(cores: int, numbers: list[int]) -> None:
    assert numbers_of(cores) == numbers


def test_a_speed_up_is_taken_round_by_round() -> None:
    kept = Samples.made([sample(1, 1.0), sample(2, 0.5), sample(1, 3.0, round_=2), sample(2, 2.0, round_=2)])
    found = speedups(kept)
    assert (found[2].lowest, found[2].highest) == (1.5, 2.0)
    assert found[1].median == 1.0


# Prediction and verdict


def test_the_prediction_is_the_cores_with_a_gil_or_without() -> None:
    for has_gil, said in ((True, "a GIL"), (False, "no GIL")):
        prediction = EXPERIMENT.predict(Machine(6, has_gil))
        assert prediction.figures == {"speed-up": 6.0}
        assert said in prediction.text.en


def test_it_held() -> None:
    verdict = EXPERIMENT.judge(TWO, samples({1: 1.0, 2: 0.52, 3: 0.51, 4: 0.53}))
    assert verdict.held is True
    assert verdict.text.en == (
        "It held here: with 2 the work was done 1.92 × as fast as with one process (predicted: 2), and the best with "
        "more was 1.96 ×, with 3."
    )
    assert "预测成立" in verdict.text.zh
    assert verdict.figures["speed-up at the cores"] == pytest.approx(1 / 0.52)
    assert verdict.figures.keys() >= {"Amdahl s", "USL α", "USL β"}


def test_one_core_makes_nothing_faster() -> None:
    assert EXPERIMENT.judge(Machine(1, True), samples({1: 1.0, 2: 1.02})).held is True


def test_it_did_not_hold_since_others_had_the_cores() -> None:
    verdict = EXPERIMENT.judge(TWO, samples({1: 1.0, 2: 0.8, 3: 0.8, 4: 0.8}))
    assert verdict.held is False
    assert "Of 2 cores they were given 1.25 cores' worth" in verdict.text.en
    assert "more processor time" not in verdict.text.en


def test_it_did_not_hold_since_the_work_became_dearer() -> None:
    verdict = EXPERIMENT.judge(TWO, samples({1: 1.0, 2: 0.75, 3: 0.75, 4: 0.75}, cpu_s=1.5))
    assert verdict.held is False
    assert "took 50% more processor time" in verdict.text.en
    assert "they were given" not in verdict.text.en


def test_it_did_not_hold_since_more_were_faster_still() -> None:
    verdict = EXPERIMENT.judge(TWO, samples({1: 1.0, 2: 0.6, 3: 0.5, 4: 0.4}))
    assert verdict.held is False
    assert "faster still" in verdict.text.en
    assert "仍然更快" in verdict.text.zh


@pytest.mark.parametrize("took_s", [{}, {1: 1.0}, {2: 0.5, 3: 0.5}, {1: 1.0, 2: 0.5}, {1: 1.0, 4: 0.5}])
def test_too_little(took_s: dict[int, float]) -> None:
    assert EXPERIMENT.judge(TWO, samples(took_s)).held is None
    EXPERIMENT.draw(TWO, samples(took_s))
    EXPERIMENT.tabulate(TWO, samples(took_s))


# Pictures


def test_points_the_prediction_and_both_laws_are_drawn() -> None:
    (plot,) = EXPERIMENT.draw(TWO, samples(IDEAL))
    assert isinstance(plot, Lines)
    measured, predicted, by_amdahl, by_usl = plot.series
    assert [(x, spread.median) for x, spread in measured.points] == [(1, 1), (2, 2), (3, 2), (4, 2)]
    assert measured.kind is Kind.MEASURED
    assert {each.kind for each in (predicted, by_amdahl, by_usl)} == {Kind.THEORY}
    assert {x: spread.median for x, spread in predicted.points}[2.0] == 2
    assert max(spread.median for _, spread in predicted.points) == 2
    assert by_amdahl.points[0][1].median == by_usl.points[0][1].median == 1
    assert by_usl.points[-1][0] == 4


def test_without_enough_points_no_law_is_drawn() -> None:
    (plot,) = EXPERIMENT.draw(TWO, samples({1: 1.0, 2: 0.5}))
    assert isinstance(plot, Lines)
    assert [series.kind for series in plot.series] == [Kind.MEASURED, Kind.THEORY]


def test_the_table() -> None:
    rows = [[cell.en for cell in row] for row in EXPERIMENT.tabulate(TWO, samples(IDEAL)).rows]
    assert rows[:2] == [["1", "1.00", "1.00", "1.00", "1.00"], ["2", "0.50", "2.00", "1.00", "2.00"]]
    assert len(rows) == 4


# For real


@pytest.mark.usefixtures("nothing_left")
def test_for_real() -> None:
    result = paceline.lab.run("parallel", quick=True, seed=1)
    assert (result.finished, result.why) == (True, "")
    numbers = numbers_of(result.machine.cores)
    assert sorted(result.samples.cases, key=int) == [str(number) for number in numbers]
    for each in result.samples:
        assert each["case"] == str(each["processes"])
        assert each["took_s"] > 0
        assert 0 < each["cpu_s"] < each["took_s"] * (min(each["processes"], result.machine.cores) + 1)
    assert result.settings["pieces"] >= 200
    assert result.verdict.held is not None
    assert result.verdict.figures["speed-up at the cores"] < result.machine.cores * 10
