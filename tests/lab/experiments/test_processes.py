"""lab/experiments/processes.py: what the kernel says of memory, prediction and verdict, and once for real."""

from typing import Any

import pytest

import paceline.lab
from paceline.lab.experiment import Machine
from paceline.lab.experiments.processes import BESIDE, EXPERIMENT, OWN, WAYS, count_for
from paceline.lab.plots import Bars
from paceline.lab.samples import Samples

ONE, TWO = Machine(1, True), Machine(2, True)
MIB = 1 << 20


def fact(**changed: Any) -> dict[str, Any]:
    return {
        "case": OWN, "round": 1, "parent_pid": 10, "child_pid": 11, "parent_of_child_pid": 10, "before": 1,
        "in_child": 42, "in_parent_after": 1, "same_place": True, **changed,
    }  # fmt: skip


def started(way: str, took_ms: float, pss_mib: int | None = 8) -> dict[str, Any]:
    memory = {} if pss_mib is None else {"pss_bytes": pss_mib * MIB, "rss_bytes": 16 * MIB, "own_bytes": 2 * MIB}
    return {"case": way, "round": 1, "took_ms": took_ms, "pid": 12, "parent_pid": 10, **memory}


def beside(share: float) -> dict[str, Any]:
    return {
        "case": BESIDE, "round": 1, "alone": 10_000, "beside": int(10_000 * share), "by_child": 9000, "share": share,
    }  # fmt: skip


def samples(share: float = 0.9, fork: float = 2.0, server: float = 4.0, spawn: float = 40.0) -> Samples:
    ways = [started(way, took) for way, took in zip(WAYS, (fork, server, spawn), strict=True)]
    return Samples.made([fact(), beside(share), *ways])


def test_counting_ends_with_the_time() -> None:
    assert count_for(0.001) > 0
    assert count_for(0.0) == 0


# Prediction and verdict


def test_the_prediction_depends_on_the_cores() -> None:
    assert EXPERIMENT.predict(TWO).figures["share of its pace"] == 1.0
    assert "on another core" in EXPERIMENT.predict(TWO).text.en
    assert EXPERIMENT.predict(ONE).figures["share of its pace"] == 0.5
    assert "共用一个核" in EXPERIMENT.predict(ONE).text.zh


def test_it_held() -> None:
    verdict = EXPERIMENT.judge(TWO, samples())
    assert verdict.held is True
    assert verdict.text.en == (
        "It held here: a child (process 11) made 1 into 42, and in its parent (process 10), at the same address, it "
        "was still 1 in 1 of 1 cases. The first line ran 2.0 ms after fork, 4.0 ms after asking the server, 40.0 ms "
        "after spawn (10 times the dearer copy). While its child worked, the parent kept 90% of its pace."
    )
    assert "预测成立" in verdict.text.zh
    assert verdict.figures == {
        "seen by the parent": 0.0, "share of its pace": 0.9, "forkserver ÷ fork": 2.0, "spawn ÷ a copy": 10.0,
    }  # fmt: skip


def test_it_did_not_hold_when_the_parent_saw_it() -> None:
    kept = Samples.made([*samples(), fact(in_parent_after=42)])
    verdict = EXPERIMENT.judge(TWO, kept)
    assert verdict.held is False
    assert "still 1 in 1 of 2 cases" in verdict.text.en


def test_it_did_not_hold_when_a_new_python_is_as_quick() -> None:
    verdict = EXPERIMENT.judge(TWO, samples(server=20.0))
    assert verdict.held is False
    assert "was not 3 times as dear as a copy" in verdict.text.en


def test_half_the_pace_is_enough_where_there_is_one_core() -> None:
    assert EXPERIMENT.judge(ONE, samples(share=0.45)).held is True
    verdict = EXPERIMENT.judge(TWO, samples(share=0.45))
    assert verdict.held is False
    assert "The parent became slower than that" in verdict.text.en
    assert "kept 79.9% of its pace" in EXPERIMENT.judge(TWO, samples(share=0.799)).text.en


@pytest.mark.parametrize(("machine", "share"), [(TWO, 1.3), (ONE, 0.8)])
def test_a_parent_that_is_faster_beside_its_child_is_not_believed(machine: Machine, share: float) -> None:
    verdict = EXPERIMENT.judge(machine, samples(share=share))
    assert verdict.held is False
    assert "something must have held it up while it was alone" in verdict.text.en


@pytest.mark.parametrize("missing", [OWN, BESIDE, *WAYS])
def test_too_little(missing: str) -> None:
    kept = Samples.made(each for each in samples() if each["case"] != missing)
    assert EXPERIMENT.judge(TWO, kept).held is None
    EXPERIMENT.draw(TWO, kept)
    EXPERIMENT.tabulate(TWO, kept)


# Pictures


def test_starts_memory_and_pace_are_drawn() -> None:
    starts, sizes, pace = EXPERIMENT.draw(TWO, samples())
    assert isinstance(starts, Bars)
    assert [bar.spread and bar.spread.median for bar in starts.bars] == [2.0, 4.0, 40.0]
    assert isinstance(sizes, Bars)
    assert [(bar.group, bar.spread and bar.spread.median) for bar in sizes.bars] == [(0, 8)] * 3 + [(1, 2)] * 3
    assert len(sizes.groups) == 2
    assert isinstance(pace, Bars)
    assert [bar.spread and bar.spread.median for bar in pace.bars] == [10, 9, 9]


def test_memory_that_is_not_told_is_said_so() -> None:
    _, sizes = EXPERIMENT.draw(TWO, Samples.made([started("fork", 2.0, None)]))
    assert isinstance(sizes, Bars)
    assert [(bar.spread, bar.note and bar.note.zh) for bar in sizes.bars] == [(None, "这个内核不提供")] * 2


def test_nothing_is_drawn_of_nothing() -> None:
    assert EXPERIMENT.draw(TWO, Samples()) == []
    assert EXPERIMENT.tabulate(TWO, Samples()).rows == []


def test_the_table() -> None:
    rows = [[cell.en for cell in row] for row in EXPERIMENT.tabulate(TWO, samples()).rows]
    assert rows[0] == ["fork: a copy of this process", "2.0", "8.0", "2.0", "16.0"]
    assert len(rows) == 3


# For real


@pytest.mark.usefixtures("nothing_left")
def test_for_real() -> None:
    result = paceline.lab.run("processes", quick=True, seed=1)
    assert (result.finished, result.why) == (True, "")
    for each in result.samples.of(OWN):
        assert (each["before"], each["in_child"], each["in_parent_after"], each["same_place"]) == (1, 42, 1, True)
        assert each["parent_of_child_pid"] == each["parent_pid"] != each["child_pid"]
    for way in WAYS:
        found = result.samples.of(way)
        assert len({each["pid"] for each in found}) == len(found) == 6
        assert all(each["took_ms"] > 0 for each in found)
    measurer = result.samples.of(OWN)[0]["parent_pid"]
    assert {each["parent_pid"] for way in ("fork", "spawn") for each in result.samples.of(way)} == {measurer}
    (server,) = {each["parent_pid"] for each in result.samples.of("forkserver")}
    assert server != measurer
    assert all(each["beside"] > 0 < each["by_child"] for each in result.samples.of(BESIDE))
    assert result.verdict.figures["seen by the parent"] == 0
