"""lab/experiments/turns.py: what spans say about turns, the simulation of round robin, and once for real."""

from typing import Any

import pytest

import paceline.lab
from paceline.lab.experiment import Machine
from paceline.lab.experiments.turns import (
    ALL,
    EXPERIMENT,
    ONE,
    PROGRAMS,
    others_between,
    round_robin,
    waits_of,
)
from paceline.lab.plots import Bars, Kind, Timeline
from paceline.lab.samples import Samples
from paceline.lab.spans import overlap_of, turns_of

TWO = Machine(2, True)
IN_TURN = list(range(PROGRAMS))


def spans_of(turns: list[tuple[int, float, float]]) -> list[list[list[float]]]:
    return [[[begun, ended] for who, begun, ended in turns if who == number] for number in range(PROGRAMS)]


FAIR = spans_of(list(round_robin(IN_TURN, 4.0, 320.0)))


def sample(ran: list[list[list[float]]], case: str = ONE, round_: int = 1) -> dict[str, Any]:
    return {"case": case, "round": round_, "cores": [0], "lasted_ms": 320.0, "ran_ms": ran}


TOGETHER = [[[0.0, 320.0]]] * 2 + [[]] * (PROGRAMS - 2)
"""Two at a time, all the time."""


def samples(*ran: list[list[list[float]]], loose: list[list[list[float]]] = TOGETHER) -> Samples:
    return Samples.made([*(sample(each, round_=number) for number, each in enumerate(ran, 1)), sample(loose, ALL)])


# The simulation


def test_round_robin_gives_each_a_quantum_in_its_turn() -> None:
    assert list(round_robin([0, 1, 2], 2.0, 9.0)) == [(0, 0, 2), (1, 2, 4), (2, 4, 6), (0, 6, 8), (1, 8, 9)]


def test_round_robin_begins_with_the_first_of_the_queue() -> None:
    assert [who for who, _, _ in round_robin([2, 0, 1], 1.0, 6.0)] == [2, 0, 1, 2, 0, 1]


def test_quanta_do_not_add_up_their_rounding() -> None:
    *_, (_, begun, ended) = round_robin([0, 1], 0.1, 1000.0)
    assert begun == pytest.approx(999.9)
    assert ended == 1000.0


# What turns say


def test_in_round_robin_all_others_run_before_one_runs_again() -> None:
    assert set(others_between(turns_of(FAIR))) == {PROGRAMS - 1}


def test_another_one_that_runs_twice_meanwhile_counts_once() -> None:
    assert others_between([(0, 0, 1), (1, 1, 2), (2, 2, 3), (1, 3, 4), (0, 4, 5)]) == [1, 2]


def test_a_program_waits_from_its_turn_to_its_next_one() -> None:
    assert waits_of([(0, 0, 1), (1, 1, 5), (0, 5, 6), (1, 7, 8)]) == [4, 2]


# Prediction and verdict


def test_the_prediction_is_an_eighth_and_the_cores() -> None:
    assert EXPERIMENT.predict(TWO).figures == {"share": 0.125, "overlap": 0.0, "at a time on all cores": 2}
    assert EXPERIMENT.predict(Machine(64, False)).figures["at a time on all cores"] == PROGRAMS


def test_it_held_when_they_took_turns() -> None:
    verdict = EXPERIMENT.judge(TWO, samples(FAIR, FAIR))
    assert verdict.held is True
    assert verdict.figures == pytest.approx(
        {"overlap": 0, "turn ms": 4, "least share": 0.125, "all others first": 1.0, "at a time on all cores": 2}
    )
    assert "It held here: more than one ran in 0.0% of the time, and each got 12.5% to 12.5%" in verdict.text.en
    assert "A turn lasted 4.0 ms (median of 158)" in verdict.text.en
    assert "预测成立" in verdict.text.zh
    assert "没有运行这八个程序" not in verdict.text.zh


def test_it_did_not_hold_when_two_ran_at_a_time() -> None:
    verdict = EXPERIMENT.judge(TWO, samples([FAIR[0], *FAIR[:-1]]))
    assert verdict.held is False
    assert "cannot run at the same time" in verdict.text.en
    assert "不成立" in verdict.text.zh


def test_it_did_not_hold_when_fewer_ran_on_all_cores() -> None:
    verdict = EXPERIMENT.judge(TWO, samples(FAIR, loose=FAIR))
    assert verdict.held is False
    assert "Let loose on all cores, 1.00 ran at a time." in verdict.text.en
    assert "fewer ran at a time than there are cores" in verdict.text.en
    alone = Samples.made(each for each in samples(FAIR) if each["case"] == ONE)
    assert EXPERIMENT.judge(TWO, alone).held is None
    assert EXPERIMENT.judge(Machine(1, True), alone).held is True
    assert "Let loose" not in EXPERIMENT.predict(Machine(1, True)).text.en


def test_it_did_not_hold_when_one_got_more() -> None:
    turns = list(round_robin([0, 1, 2, 0, 3, 4, 5, 6, 7], 4.0, 360.0))
    verdict = EXPERIMENT.judge(TWO, samples(spans_of(turns)))
    assert verdict.held is False
    assert "differ by more than a quarter" in verdict.text.en


def test_it_says_so_when_others_had_the_core() -> None:
    ran = spans_of([(who, begun * 2, begun * 2 + 4) for who, begun, _ in round_robin(IN_TURN, 4.0, 320.0)])
    verdict = EXPERIMENT.judge(TWO, samples(ran))
    assert verdict.held is True
    assert "In 50% of the time the core ran none of the eight" in verdict.text.en


@pytest.mark.parametrize(
    "kept",
    [
        Samples(),
        Samples.made([sample(FAIR, ALL)]),
        samples([[] for _ in range(PROGRAMS)]),
        samples(spans_of([(0, 0.0, 4.0), (1, 4.0, 8.0)])),
    ],
)
def test_too_little(kept: Samples) -> None:
    assert EXPERIMENT.judge(TWO, kept).held is None
    EXPERIMENT.draw(TWO, kept)
    EXPERIMENT.tabulate(TWO, kept)


# Pictures


def test_measured_and_simulated_turns_are_drawn_over_the_same_time() -> None:
    kept = Samples.made([sample(FAIR), sample(FAIR, ALL)])
    measured, simulated, shares, at_once = EXPERIMENT.draw(TWO, kept)
    assert isinstance(measured, Timeline)
    assert isinstance(simulated, Timeline)
    assert (measured.kind, simulated.kind) == (Kind.MEASURED, Kind.SIMULATED)
    assert len(measured.lanes) == len(simulated.lanes) == PROGRAMS
    for mine, theirs in zip(measured.lanes, simulated.lanes, strict=True):
        assert list(mine.spans) == [pytest.approx(span) for span in theirs.spans]
    assert "4.00 ms" in simulated.title.en
    assert isinstance(shares, Bars)
    assert [bar.spread and bar.spread.median for bar in shares.bars] == pytest.approx([12.5] * PROGRAMS)
    assert isinstance(at_once, Bars)
    assert [bar.spread and bar.spread.median for bar in at_once.bars] == pytest.approx([1.0, 1.0])


def test_without_the_control_there_is_no_picture_of_it() -> None:
    alone = Samples.made(each for each in samples(FAIR) if each["case"] == ONE)
    assert len(EXPERIMENT.draw(Machine(1, True), alone)) == 3


def test_a_picture_of_very_few_turns() -> None:
    measured, simulated, *_ = EXPERIMENT.draw(TWO, samples(spans_of([(0, 0.0, 4.0), (1, 4.0, 8.0), (0, 8.0, 9.0)])))
    assert isinstance(measured, Timeline)
    assert [len(lane.spans) for lane in measured.lanes] == [1, 1, *[0] * 6]
    assert isinstance(simulated, Timeline)
    assert all(lane.spans for lane in simulated.lanes)


def test_the_table() -> None:
    table = EXPERIMENT.tabulate(TWO, samples(FAIR))
    said = {row[0].en: [cell.en for cell in row[1:]] for row in table.rows}
    assert said["a turn on one core, ms"] == ["4.00", "79"]
    assert said["from a turn of a program to its next one, ms"] == ["28.0", "72"]
    assert said["programs at a time, one core"] == ["1.00", "1"]
    assert said["programs at a time, all cores"] == ["2.00", "1"]


# For real


@pytest.mark.usefixtures("nothing_left")
def test_for_real() -> None:
    result = paceline.lab.run("turns", quick=True, seed=1)
    assert (result.finished, result.why) == (True, "")
    assert set(result.samples.cases) == ({ONE, ALL} if result.machine.cores > 1 else {ONE})
    for each in result.samples:
        assert each["round"] in (1, 2)
        assert len(each["ran_ms"]) == PROGRAMS
        assert all(0 <= begun <= ended for spans in each["ran_ms"] for begun, ended in spans)
        assert len(each["cores"]) == (1 if each["case"] == ONE else result.machine.cores)
    for each in result.samples.of(ONE):
        assert overlap_of(each["ran_ms"]) < 0.2
    assert result.verdict.text.en
