"""What the rounds of a row say together: ratios within rounds, numbers in their unit, failures."""

from benchmarks.records import Record
from benchmarks.spreads import Results
from benchmarks.terms import Row
from paceline.stats.spread import Spread

ROW = Row(1, "Echo", "ours", "messages_per_s", (), (), (), ())


def record(trial: str, number: int, *, run: str = "r", error: str | None = None, **numbers: float) -> Record:
    return Record(run, 1, trial, number, "2026-01-02T03:04:05+00:00", {}, numbers, error)


def results(*records: Record) -> Results:
    return Results(ROW, records)


def rates(trial: str, *values: float, run: str = "r") -> list[Record]:
    return [record(trial, number, run=run, messages_per_s=value) for number, value in enumerate(values)]


def test_a_ratio_is_taken_within_rounds_and_then_the_median() -> None:
    # Medians are 200 and 200, which would say 1.0; round by round ours was half, equal, twice, twice, twice as fast.
    found = results(*rates("ours", 100, 200, 200, 200, 400), *rates("theirs", 200, 200, 100, 100, 200))
    assert found.ratio("messages_per_s", "ours", "theirs") == Spread(2.0, 0.5, 2.0, 5)


def test_rounds_of_different_runs_are_not_paired() -> None:
    found = results(*rates("ours", 100, run="a"), *rates("theirs", 100, run="b"))
    assert found.ratio("messages_per_s", "ours", "theirs") is None


def test_a_round_that_one_of_them_lacks_does_not_count() -> None:
    found = results(*rates("ours", 100, 900), *rates("theirs", 100), record("theirs", 1, error="broke"))
    assert found.ratio("messages_per_s", "ours", "theirs") == Spread(1.0, 1.0, 1.0, 1)


def test_a_ratio_to_a_number() -> None:
    found = results(*rates("ours", 500, 700, 600))
    assert found.ratio("messages_per_s", "ours", 1000) == Spread(0.6, 0.5, 0.7, 3)


def test_a_number_is_shown_in_its_unit() -> None:
    found = results(record("ours", 0, own_kib=2048.0, messages_per_s=7.0))
    assert found.shown("ours", "own_kib") == Spread(2.0, 2.0, 2.0, 1)
    assert found.shown("ours", "messages_per_s") == Spread(7.0, 7.0, 7.0, 1)
    assert found.shown("theirs", "own_kib") is None


def test_failed_rounds_are_not_measured_ones() -> None:
    found = results(*rates("ours", 1, 2), record("ours", 2, error="broke"))
    assert found.rounds("ours") == 2
    assert len(found.failures) == 1
    assert found
    assert not results(Record("r", 2, "ours", 0, "", {}, {"messages_per_s": 1.0}))
