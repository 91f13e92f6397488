"""lab/experiments/blocking.py: what throughput, a witness and a convoy say, and once for real."""

from typing import Any

import pytest

import paceline.lab
from paceline.lab.experiment import Machine
from paceline.lab.experiments.blocking import (
    ALONE,
    BESIDE,
    CALLS,
    CONVOY,
    EXPERIMENT,
    JUDGED,
    WORK,
    by_threads,
    case_of,
    gain,
    witness,
    work_together,
)
from paceline.lab.plots import Bars, Kind, Lines
from paceline.lab.samples import Samples

TWO, ONE, FREE = Machine(2, True), Machine(1, True), Machine(2, False)
TIMES = {"sleep": 15.5, "socket": 14.0, "file": 3.0, "SQLite": 1.9}
SHARES = {**dict.fromkeys(CALLS, 0.99), "in Python": 0.5, "in sum": 0.02}


def samples(
    times: dict[str, float] = TIMES, shares: dict[str, float] = SHARES, beside: float = 200.0
) -> Samples:  # fmt: skip
    made: list[dict[str, Any]] = []
    for kind, factor in times.items():
        for threads, done in ((1, 900.0), (JUDGED, 900.0 * factor)):
            made.append(
                {"case": case_of(kind, threads), "round": 1, "kind": kind, "threads": threads, "a_second": done}
            )
    made += [{"case": case, "round": 1, "took_ms": 20.0, "witness": share} for case, share in shares.items()]
    made.append({"case": ALONE, "round": 1, "trips_a_second": 20_000.0})
    made.append({"case": BESIDE, "round": 1, "trips_a_second": beside})
    return Samples.made(made)


def test_throughput_by_threads_and_its_gain() -> None:
    assert {number: spread.median for number, spread in by_threads(samples(), "file").items()} == {
        1: 900, JUDGED: 2700
    }  # fmt: skip
    spread = gain(samples(), "sleep", JUDGED)
    assert spread is not None
    assert spread.median == 15.5


def test_predictions_differ_with_and_without_a_gil() -> None:
    assert "at most a tenth of its round trips is left" in EXPERIMENT.predict(TWO).text.en
    assert "no convoy" in EXPERIMENT.predict(FREE).text.en


def test_it_held() -> None:
    verdict = EXPERIMENT.judge(TWO, samples())
    assert verdict.held is True
    assert "16 threads did 15.5 × the work of one when they slept, 14.0 × with sockets" in verdict.text.en
    assert (
        "Of 20,000 round trips a second alone, 200 were left beside a thread that computes (1 of 100)"
        in verdict.text.en
    )
    assert "预测成立" in verdict.text.zh


@pytest.mark.parametrize(
    ("kept", "said"),
    [
        (samples({**TIMES, "socket": 5.0}), "Threads that wait gained less"),
        (samples({**TIMES, "SQLite": 3.0}), "SQLite gained more than there are cores"),
        (samples(shares={**SHARES, "in recv": 0.3}), "ran for less than half of the time"),
        (samples(shares={**SHARES, "in sha256": 0.3}), "ran for less than half of the time"),
        (samples(shares={**SHARES, "in sum": 0.5}), "may give the GIL up within it"),
        (samples(beside=5000.0), "The convoy was weaker"),
    ],
)
def test_it_did_not_hold(kept: Samples, said: str) -> None:
    verdict = EXPERIMENT.judge(TWO, kept)
    assert verdict.held is False
    assert said in verdict.text.en
    assert "预测不成立" in verdict.text.zh


def test_on_one_core_whoever_computes_has_to_share_it() -> None:
    kept = samples({**TIMES, "SQLite": 1.0}, {**SHARES, "in sha256": 0.3})
    assert EXPERIMENT.judge(ONE, kept).held is True


def test_without_a_gil_there_is_no_convoy_and_nobody_is_held_up() -> None:
    assert EXPERIMENT.judge(FREE, samples(shares=dict.fromkeys(CALLS, 0.99), beside=15_000.0)).held is True
    verdict = EXPERIMENT.judge(FREE, samples())
    assert verdict.held is False
    assert "too few free cores" in verdict.text.en


@pytest.mark.parametrize("missing", [case_of("sleep", 1), case_of("SQLite", JUDGED), "in sum", BESIDE])
def test_too_little(missing: str) -> None:
    kept = Samples.made(each for each in samples() if each["case"] != missing)
    assert EXPERIMENT.judge(TWO, kept).held is None
    EXPERIMENT.draw(TWO, kept)
    EXPERIMENT.tabulate(TWO, kept)


def test_nothing_is_divided_by_no_round_trips() -> None:
    assert EXPERIMENT.judge(TWO, samples(beside=0.0)).held is None


def test_pictures() -> None:
    work, calls, convoy = EXPERIMENT.draw(TWO, samples())
    assert isinstance(work, Lines)
    assert [series.kind for series in work.series] == [Kind.MEASURED] * len(WORK) + [Kind.THEORY]
    assert [spread.median for _, spread in work.series[-1].points] == [900, 14_400]
    assert isinstance(calls, Bars)
    assert [bar.spread and bar.spread.median for bar in calls.bars] == pytest.approx([99] * 6 + [50, 2])
    assert isinstance(convoy, Bars)
    assert [bar.spread and bar.spread.median for bar in convoy.bars] == [20_000, 200]


def test_the_table() -> None:
    rows = {row[0].en: row[1].en for row in EXPERIMENT.tabulate(TWO, samples()).rows}
    assert rows["sleep 1 ms: 1/s with 1 · 16 threads"] == "900 · 13,950"
    assert rows["another thread ran, %: a loop in pure Python"] == "50"
    assert rows["round trips, 1/s: beside a thread that computes"] == "200"


# For real


@pytest.mark.usefixtures("nothing_left")
def test_work_together_counts_what_all_have_done() -> None:
    from threading import get_ident

    seen: set[int] = set()
    assert work_together([lambda: seen.add(get_ident())] * 3, 0.05) > 0
    assert seen


@pytest.mark.usefixtures("nothing_left")
def test_a_witness_says_how_long_and_what_share_and_leaves_the_cores_as_they_were() -> None:
    import os

    before = os.sched_getaffinity(0)
    took_s, share = witness(int)
    assert took_s >= 0
    assert share <= 1
    assert os.sched_getaffinity(0) == before


@pytest.mark.usefixtures("nothing_left")
def test_for_real() -> None:
    result = paceline.lab.run("blocking", quick=True, seed=1)
    assert (result.finished, result.why) == (True, "")
    assert set(result.samples.cases) == {
        *(case_of(kind, number) for kind in WORK for number in (1, 4, JUDGED, 64)), *CALLS, *CONVOY
    }  # fmt: skip
    for case in (*CALLS, *CONVOY):
        assert [each["round"] for each in result.samples.of(case)] == [1, 2, 3]
    assert all(0 <= share <= 1 for case in CALLS for share in result.samples.values(case, "witness"))
    for kind in WORK:
        assert all(each["a_second"] > 0 for each in result.samples.of(case_of(kind, 1)))
    assert result.verdict.held is not None
