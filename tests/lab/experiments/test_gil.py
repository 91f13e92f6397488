"""lab/experiments/gil.py: what throughput, spans and delays say, with a GIL and without, and once for real."""

from typing import Any

import pytest

import paceline.lab
from paceline.lab.experiment import Machine
from paceline.lab.experiments.gil import (
    ALONE,
    EXPERIMENT,
    INTERVALS_MS,
    WATCHERS,
    WHO,
    case_of,
    how_late,
    throughputs,
)
from paceline.lab.plots import Kind, Lines, Timeline
from paceline.lab.samples import Samples
from paceline.lab.spans import overlap_of

TWO, FREE = Machine(2, True), Machine(2, False)
IN_TURN = [[[who * 5.0 + at, who * 5.0 + at + 5.0] for at in range(0, 100, 20)] for who in range(WATCHERS)]
TOGETHER = [[[0.0, 50.0]], [[0.0, 50.0]], [[50.0, 100.0]], [[50.0, 100.0]]]
LATE = {0.5: 0.7, 5.0: 5.3, 50.0: 50.4}


def samples(
    times: float = 1.0, ran: list[list[list[float]]] = IN_TURN, late: dict[float, float] = LATE
) -> Samples:  # fmt: skip
    made: list[dict[str, Any]] = [
        {"case": "1", "round": 1, "threads": 1, "took_s": 1.0, "steps": 100},
        {"case": "2", "round": 1, "threads": 2, "took_s": 1 / times, "steps": 100},
        {"case": "8", "round": 1, "threads": 8, "took_s": 1.25, "steps": 100},
        {"case": WHO, "round": 1, "ran_ms": ran},
        {"case": ALONE, "round": 1, "interval_ms": None, "late_ms": [0.1, 0.1]},
    ]
    made += [
        {"case": case_of(at), "round": 1, "interval_ms": at, "late_ms": [value, value]} for at, value in late.items()
    ]
    return Samples.made(made)


def test_throughput_is_relative_to_one_thread() -> None:
    assert {threads: spread.median for threads, spread in throughputs(samples(1.6)).items()} == pytest.approx(
        {1: 1.0, 2: 1.6, 8: 0.8}
    )


def test_predictions_differ_with_and_without_it() -> None:
    assert EXPERIMENT.predict(TWO).figures["throughput"] == 1.0
    assert EXPERIMENT.predict(FREE).figures == {"throughput": 2, "at a time": 2, "late at most": 10.0}
    assert EXPERIMENT.predict(Machine(64, False)).figures["throughput"] == 8


def test_it_held_with_a_gil() -> None:
    verdict = EXPERIMENT.judge(TWO, samples())
    assert verdict.held is True
    assert "did 1.00 × the work of one in the same time (with 2)" in verdict.text.en
    assert "ran in 0.0% of the time; one ran for 5.0 ms until another did (median of 19)" in verdict.text.en
    assert "0.7 ms late with an interval of 0.5 ms, 5.3 ms with 5 ms, 50.4 ms with 50 ms" in verdict.text.en
    assert "预测成立" in verdict.text.zh


@pytest.mark.parametrize(
    ("kept", "said"),
    [
        (samples(1.9), "more threads were faster under a GIL"),
        (samples(ran=TOGETHER), "Two at a time cannot be"),
        (samples(late={**LATE, 5.0: 0.1}), "not within half and twice the interval"),
        (samples(late={**LATE, 50.0: 150.0}), "not within half and twice the interval"),
    ],
)
def test_it_did_not_hold_with_a_gil(kept: Samples, said: str) -> None:
    verdict = EXPERIMENT.judge(TWO, kept)
    assert verdict.held is False
    assert said in verdict.text.en
    assert "预测不成立" in verdict.text.zh


def test_without_a_gil_the_other_way_round() -> None:
    free = samples(1.9, TOGETHER, dict.fromkeys(INTERVALS_MS, 0.1))
    assert EXPERIMENT.judge(FREE, free).held is True
    verdict = EXPERIMENT.judge(FREE, samples())
    assert verdict.held is False
    assert "less than 70% of the cores" in verdict.text.en
    assert "waits only for a core" in verdict.text.en


@pytest.mark.parametrize("missing", ["1", WHO, case_of(0.5), case_of(50)])
@pytest.mark.parametrize("machine", [TWO, FREE])
def test_too_little(machine: Machine, missing: str) -> None:
    kept = Samples.made(each for each in samples() if each["case"] != missing)
    assert EXPERIMENT.judge(machine, kept).held is None
    EXPERIMENT.draw(machine, kept)
    EXPERIMENT.tabulate(machine, kept)


def test_pictures() -> None:
    work, who, late = EXPERIMENT.draw(TWO, samples())
    assert isinstance(work, Lines)
    assert [series.kind for series in work.series] == [Kind.MEASURED, Kind.THEORY]
    assert [spread.median for _, spread in work.series[1].points] == [1, 1, 1]
    assert isinstance(who, Timeline)
    assert "held the GIL" in who.title.en
    assert len(who.lanes) == WATCHERS
    assert isinstance(late, Lines)
    assert [(x, spread.median) for x, spread in late.series[0].points] == list(LATE.items())


def test_pictures_without_a_gil() -> None:
    work, who, late = EXPERIMENT.draw(FREE, samples())
    assert isinstance(work, Lines)
    assert [spread.median for _, spread in work.series[1].points] == [1, 2, 2]
    assert isinstance(who, Timeline)
    assert "GIL" not in who.title.en
    assert isinstance(late, Lines)
    assert len(late.series) == 1


def test_the_table() -> None:
    rows = {row[0].en: row[1].en for row in EXPERIMENT.tabulate(TWO, samples()).rows}
    assert rows["throughput, 8 threads, ×"] == "0.80"
    assert rows["ran until another did, ms"] == "5.00"
    assert rows["late, interval 50 ms, ms"] == "50.40"


# For real


@pytest.mark.usefixtures("nothing_left")
def test_the_switch_interval_is_as_before_afterwards() -> None:
    import sys

    before = sys.getswitchinterval()
    assert len(how_late(3, 0.001, True)) == 3
    assert sys.getswitchinterval() == before


@pytest.mark.usefixtures("nothing_left")
def test_for_real() -> None:
    result = paceline.lab.run("gil", quick=True, seed=1)
    assert (result.finished, result.why) == (True, "")
    assert set(result.samples.cases) == {"1", "2", "4", "8", WHO, ALONE, *map(case_of, INTERVALS_MS)}
    for threads in (1, 2, 4, 8):
        assert [each["round"] for each in result.samples.of(str(threads))] == [1, 2, 3]
    for each in result.samples.of(WHO):
        assert len(each["ran_ms"]) == WATCHERS
        assert all(0 <= begun <= ended for spans in each["ran_ms"] for begun, ended in spans)
        assert not result.machine.has_gil or overlap_of(each["ran_ms"]) < 0.2
    for at in INTERVALS_MS:
        assert len(result.samples.values(case_of(at), "late_ms")) >= 12
    assert result.verdict.held is not None
