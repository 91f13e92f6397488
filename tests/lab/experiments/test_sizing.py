"""lab/experiments/sizing.py: the formula, the surface, prediction and verdict, and once for real."""

from typing import Any

import pytest

import paceline.lab
from paceline.lab.experiment import Machine
from paceline.lab.experiments.sizing import (
    CLIENTS,
    COMPUTE,
    EXPERIMENT,
    HALF,
    KINDS,
    WAIT,
    Pair,
    best,
    case_of,
    chosen,
    groups_of,
    pairs_of,
    smallest_near,
    surface,
    threads_by_formula,
)
from paceline.lab.plots import Heat
from paceline.lab.samples import Samples

TWO = Machine(2, True)
PAIRS = pairs_of(2, quick=True)


def sample(kind: str, pair: Pair, calls_per_s: float, round_: int = 1) -> dict[str, Any]:
    return {
        "case": case_of(kind, pair), "round": round_, "kind": kind, "workers": pair[0], "threads": pair[1],
        "calls_per_s": calls_per_s, "p99_ms": 5.0, "lost": 0, "server_busy": 1.2, "clients_busy": 0.2,
    }  # fmt: skip


def rate(kind: str, pair: Pair) -> float:
    """As theory has it, for two cores."""
    workers, threads = pair
    match kind:
        case "wait":
            return 200.0 * workers * threads
        case "compute":
            return 1000.0 * workers
    return 1000.0 * workers * min(1.0, threads / 2)


def samples(**others: float) -> Samples:
    """`others`: what is other in a case, its space written as `_`."""
    return Samples.made(
        sample(kind, pair, others.get(case_of(kind, pair).replace(" ", "_"), rate(kind, pair)))
        for kind in KINDS
        for pair in PAIRS
    )


def test_the_formula() -> None:
    assert threads_by_formula(1, 9) == 10
    assert threads_by_formula(1, 1) == 2
    assert threads_by_formula(1, 0) == 1
    assert threads_by_formula(0, 5) == CLIENTS


@pytest.mark.parametrize("cores", [1, 2, 8, 64])
@pytest.mark.parametrize("quick", [True, False])
def test_pairs(cores: int, quick: bool) -> None:
    found = pairs_of(cores, quick=quick)
    assert len(set(found)) == len(found)
    assert {1, cores} <= {workers for workers, _ in found}
    assert {1, 2} <= {threads for _, threads in found}
    assert len({workers for workers, _ in found}) >= 2


@pytest.mark.parametrize(("kind", "pair"), [(WAIT, (2, 8)), (COMPUTE, (2, 1)), (HALF, (2, 2))])
def test_the_formula_chooses_the_nearest_that_was_measured(kind: str, pair: Pair) -> None:
    assert chosen(TWO, kind, PAIRS) == pair
    assert chosen(TWO, kind, [(1, 1)]) == (1, 1)


def test_the_best_and_the_smallest_that_is_near_it() -> None:
    found = surface(samples(half_2x8=2200.0), HALF)
    assert best(found) == (2, 8)
    assert smallest_near(found) == (2, 2)


def test_the_prediction_names_the_cores_and_what_no_gil_changes() -> None:
    assert EXPERIMENT.predict(Machine(6, True)).figures["workers"] == 6
    assert "Without a GIL" not in EXPERIMENT.predict(TWO).text.en
    assert "Without a GIL" in EXPERIMENT.predict(Machine(2, False)).text.en


def test_it_held() -> None:
    verdict = EXPERIMENT.judge(TWO, samples())
    assert verdict.held is True
    assert verdict.text.en.startswith(
        "It held here (workers × threads). For calls that wait 5 ms the formula chose 2 × 8, 3,200 in a second, 100% "
        "of the best (2 × 8, 3,200); the smallest that is near the best was 2 × 8."
    )
    assert "公式成立" in verdict.text.zh
    assert verdict.figures == {f"of the best, {kind}": 1.0 for kind in KINDS}


def test_it_did_not_hold() -> None:
    verdict = EXPERIMENT.judge(TWO, samples(compute_2x8=3000.0))
    assert verdict.held is False
    assert verdict.text.en.startswith("It did not hold here for calls that compute 1 ms (workers × threads).")
    assert "公式不成立" in verdict.text.zh


@pytest.mark.parametrize("left_out", list(KINDS))
def test_too_little(left_out: str) -> None:
    kept = Samples.made(sample for sample in samples() if sample["kind"] != left_out)
    assert EXPERIMENT.judge(TWO, kept).held is None
    assert len(EXPERIMENT.draw(TWO, kept)) == 2
    EXPERIMENT.tabulate(TWO, kept)


def test_a_surface_is_drawn_with_the_formula_and_the_best_on_it() -> None:
    plots = EXPERIMENT.draw(TWO, samples(compute_2x8=3000.0))
    waits, computes, _ = plots
    assert isinstance(waits, Heat)
    assert isinstance(computes, Heat)
    assert (waits.rows, waits.columns) == ([1, 2], [1, 2, 8])
    assert waits.cells == [[200, 400, 1600], [400, 800, 3200]]
    assert [(x, y, what.en) for x, y, what in waits.marks] == [(8, 2, "best, and the formula")]
    assert [(x, y, what.en) for x, y, what in computes.marks] == [(1, 2, "the formula"), (8, 2, "best")]


def test_what_was_not_measured_is_left_empty() -> None:
    (plot,) = EXPERIMENT.draw(TWO, Samples.made([sample(WAIT, (1, 1), 200.0), sample(WAIT, (2, 8), 3200.0)]))
    assert isinstance(plot, Heat)
    assert plot.cells == [[200, None], [None, 3200]]


def test_the_table() -> None:
    rows = [[cell.en for cell in row] for row in EXPERIMENT.tabulate(TWO, samples()).rows]
    assert rows[0] == ["wait", "1 × 1", "200", "6", "5.0", "1.2", "0.2", ""]
    assert rows[5][1:] == ["2 × 8", "3,200", "100", "5.0", "1.2", "0.2", "best, and the formula"]


def test_in_short_there_is_a_row_for_each_pair() -> None:
    assert EXPERIMENT.summarize is not None
    rows = [[cell.en for cell in row] for row in EXPERIMENT.summarize(TWO, samples()).rows]
    assert rows[0] == ["1 × 1", "200", "1,000", "500"]
    assert rows[3] == ["2 × 1", "400", "2,000 best, formula", "1,000"]
    assert rows[-1] == ["2 × 8", "3,200 best, formula", "2,000", "2,000"]
    assert len(rows) == len(PAIRS)


def test_where_the_formula_was_wrong_it_says_how_busy_the_cores_were() -> None:
    text = EXPERIMENT.judge(TWO, samples(half_2x8=2600.0)).text.en
    assert "77% of the best" in text
    assert "the workers had 1.2 of 2 cores, and the clients 0.2. So the cores rested at times" in text
    busy = Samples.made({**each, "clients_busy": 0.7} for each in samples(half_2x8=2600.0))
    assert "So the cores were busy" in EXPERIMENT.judge(TWO, busy).text.en


def test_a_share_that_is_nearly_enough_is_not_shown_as_enough() -> None:
    verdict = EXPERIMENT.judge(TWO, samples(half_2x8=2512.0))
    assert verdict.held is False
    assert "79.6% of the best" in verdict.text.en


@pytest.mark.parametrize(("cores", "groups"), [(2, 1), (4, 3), (64, 2)])
def test_no_more_servers_run_at_once_than_a_machine_bears(cores: int, groups: int) -> None:
    found = groups_of(pairs_of(cores, quick=False))
    assert len(found) == groups
    assert sorted(pair for group in found for pair in group) == sorted(pairs_of(cores, quick=False))


@pytest.mark.usefixtures("nothing_left")
def test_for_real() -> None:
    result = paceline.lab.run("sizing", quick=True, seed=1)
    assert (result.finished, result.why) == (True, "")
    pairs = pairs_of(result.machine.cores, quick=True)
    assert sorted(result.samples.cases) == sorted(case_of(kind, pair) for kind in KINDS for pair in pairs)
    for each in result.samples:
        assert each["calls_per_s"] > 0
        assert each["lost"] == 0
    assert result.verdict.held is not None
