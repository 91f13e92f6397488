"""lab/experiments/servers.py: who is best, prediction and verdict, and once for real."""

from typing import Any

import pytest

import paceline.lab
from paceline.lab.experiment import Machine
from paceline.lab.experiments.servers import (
    COMPUTE,
    EXPERIMENT,
    KINDS,
    ONE,
    PACELINE,
    POOL,
    PROCESS,
    QUICK,
    SERVERS,
    THREAD,
    WAIT,
    case_of,
    of_best,
)
from paceline.lab.plots import Bars
from paceline.lab.samples import Samples

TWO = Machine(2, True)
MIB = 1 << 20

RATES = {
    WAIT: {ONE: 200.0, THREAD: 3000.0, PROCESS: 2500.0, POOL: 1500.0, PACELINE: 2900.0},
    COMPUTE: {ONE: 900.0, THREAD: 900.0, PROCESS: 1500.0, POOL: 1800.0, PACELINE: 1400.0},
}
PSS = {ONE: 5 * MIB, THREAD: 6 * MIB, PROCESS: 22 * MIB, POOL: 9 * MIB, PACELINE: 41 * MIB}


def sample(server: str, kind: str, round_: int = 1, **other: Any) -> dict[str, Any]:
    return {
        "case": case_of(server, kind), "round": round_, "calls_per_s": RATES.get(kind, {}).get(server, 1000.0),
        "p50_ms": 1.0, "p99_ms": 9.0, "waiting_long": 0, "lost": 0, "connections": 40, "at_once": 3, "made": 40,
        "pss_bytes": PSS[server], "clients_busy": 0.5, **other,
    }  # fmt: skip


def samples(**others: dict[str, Any]) -> Samples:
    """`others`: what is other in a case, its space written as `_`."""
    return Samples.made(
        sample(server, kind, **others.get(f"{server}_{kind}", {})) for server in SERVERS for kind in KINDS
    )


def test_paceline_is_compared_with_the_best_of_the_others() -> None:
    best, share = of_best(samples(), WAIT) or ("", None)
    assert best == THREAD
    assert share is not None
    assert share.median == pytest.approx(2900 / 3000)
    assert of_best(Samples(), WAIT) is None
    assert of_best(Samples.made([sample(ONE, WAIT)]), WAIT) is None


@pytest.mark.parametrize(
    ("machine", "said"),
    [(TWO, "at least 1.3 times"), (Machine(1, True), "less than 1.3"), (Machine(8, False), "less than 1.3")],
)
def test_the_prediction_depends_on_the_gil_and_the_cores(machine: Machine, said: str) -> None:
    assert said in EXPERIMENT.predict(machine).text.en


def test_it_held() -> None:
    verdict = EXPERIMENT.judge(TWO, samples())
    assert verdict.held is True
    assert verdict.text.en == (
        "It held here. Under calls that block, each of the others did at least 7.5 times what one at a time did; under "
        "calls that compute, the pool did 2.00 times what threads of one process did. While 16 clients made blocking "
        "calls, a process per connection took 22 MiB, a thread per connection 6, the pool 9, Paceline 41. Of what the "
        "best of the others did, Paceline did: quick 100% (one at a time), block 97% (thread per connection), compute "
        "78% (processes × threads), mixed 100% (one at a time)."
    )
    assert "预测成立" in verdict.text.zh


@pytest.mark.parametrize(
    ("case", "other", "said"),
    [
        ("pool_wait", {"calls_per_s": 300.0}, "for blocking calls"),
        ("thread_compute", {"calls_per_s": 1700.0}, "for computing calls"),
        ("process_wait", {"pss_bytes": 8 * MIB}, "for memory"),
        ("paceline_quick", {"calls_per_s": 400.0}, "for Paceline's share of the best"),
    ],
)
def test_it_did_not_hold(case: str, other: dict[str, Any], said: str) -> None:
    verdict = EXPERIMENT.judge(TWO, samples(**{case: other}))
    assert verdict.held is False
    assert said in verdict.text.en.partition(".")[0]
    assert "不成立" in verdict.text.zh


def test_on_many_cores_nothing_is_said_of_the_memory_of_processes() -> None:
    many = Machine(64, True)
    assert "needs the most memory" in EXPERIMENT.predict(TWO).text.en
    assert "needs the most memory" not in EXPERIMENT.predict(many).text.en
    assert EXPERIMENT.judge(many, samples(pool_wait={"pss_bytes": 300 * MIB})).held is True


def test_a_share_that_is_nearly_enough_is_not_shown_as_enough() -> None:
    verdict = EXPERIMENT.judge(TWO, samples(paceline_quick={"calls_per_s": 499.0}))
    assert verdict.held is False
    assert "quick 49.9% (one at a time)" in verdict.text.en


def test_clients_that_were_always_busy_are_named() -> None:
    text = EXPERIMENT.judge(TWO, samples(pool_quick={"clients_busy": 0.97})).text
    assert "could not have asked for more: quick." in text.en
    assert "不可能再多问：快速。" in text.zh


def test_in_short_there_is_a_column_for_each_kind() -> None:
    assert EXPERIMENT.summarize is not None
    table = EXPERIMENT.summarize(TWO, samples(one_quick={"waiting_long": 15}))
    assert len(table.columns) == 2 + len(KINDS)
    rows = [[cell.en for cell in row] for row in table.rows]
    assert rows[:2] == [
        ["one at a time", "calls/s", "1,000", "200", "900", "1,000"],
        ["one at a time", "p99, ms", "≥ 9.0", "9.0", "9.0", "9.0"],
    ]
    assert len(rows) == 2 * len(SERVERS)
    assert EXPERIMENT.summarize(TWO, Samples()).rows == []


def test_without_a_gil_processes_are_not_faster() -> None:
    assert EXPERIMENT.judge(Machine(2, False), samples()).held is False
    assert EXPERIMENT.judge(Machine(2, False), samples(thread_compute={"calls_per_s": 1700.0})).held is True


@pytest.mark.parametrize("left_out", list(SERVERS))
def test_too_little(left_out: str) -> None:
    kept = Samples.made(sample for sample in samples() if not sample["case"].startswith(f"{left_out} "))
    assert EXPERIMENT.judge(TWO, kept).held is None
    EXPERIMENT.draw(TWO, kept)
    EXPERIMENT.tabulate(TWO, kept)


def test_throughput_and_p99_of_each_kind_and_memory_are_drawn() -> None:
    plots = EXPERIMENT.draw(TWO, samples())
    assert len(plots) == 2 * len(KINDS) + 1
    for plot in plots:
        assert isinstance(plot, Bars)
        assert [bar.name for bar in plot.bars] == list(SERVERS.values())
    memory = plots[-1]
    assert isinstance(memory, Bars)
    assert [bar.spread and bar.spread.median for bar in memory.bars] == [5, 6, 22, 9, 41]


def test_a_p99_that_is_longer_in_truth_is_marked() -> None:
    kept = samples(one_quick={"waiting_long": 15})
    rate, p99, *_ = EXPERIMENT.draw(TWO, kept)
    assert isinstance(rate, Bars)
    assert isinstance(p99, Bars)
    assert [bar.name.en for bar in rate.bars][:2] == ["one at a time", "thread per connection"]
    assert [bar.name.en for bar in p99.bars][:2] == ["one at a time (at least)", "thread per connection"]
    table = EXPERIMENT.tabulate(TWO, kept)
    rows = [[cell.en for cell in row] for row in table.rows]
    assert rows[0] == ["quick", "one at a time", "1,000", "1.00", "≥ 9.0", "5.0", "3", "40", "50"]
    assert rows[1][4] == "9.0"
    assert len(rows) == len(SERVERS) * len(KINDS)


@pytest.mark.usefixtures("nothing_left")
def test_for_real() -> None:
    result = paceline.lab.run("servers", quick=True, seed=1)
    assert (result.finished, result.why) == (True, "")
    assert sorted(result.samples.cases) == sorted(case_of(server, kind) for server in SERVERS for kind in KINDS)
    for each in result.samples:
        assert each["calls_per_s"] > 0
        assert 0 < each["p50_ms"] <= each["p99_ms"]
        assert each["lost"] == 0
        assert each["made"] >= 1
    for each in result.samples.of(case_of(PACELINE, QUICK)):
        assert each["at_once"] <= 4 * result.machine.cores + 8, "no threads of another kind of calls"
    for server in (THREAD, PROCESS):
        (first, *_) = result.samples.of(case_of(server, QUICK))
        assert first["made"] == first["connections"] > 16
    assert result.verdict.held is not None
