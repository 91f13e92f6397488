"""lab/samples.py: samples by case and quantity, what repetitions say together, ratios within rounds."""

from paceline.lab.samples import Samples
from paceline.stats.spread import Spread


def made(*rows: tuple[str, int, object]) -> Samples:
    return Samples.made({"case": case, "round": number, "took_s": took} for case, number, took in rows)


def test_cases_are_in_the_order_in_which_they_came() -> None:
    samples = made(("b", 1, 1.0), ("a", 1, 2.0), ("b", 2, 3.0))
    assert samples.cases == ["b", "a"]
    assert [sample["round"] for sample in samples.of("b")] == [1, 2]
    assert (len(samples), len(list(samples))) == (3, 3)
    assert not Samples()


def test_a_list_of_numbers_counts_as_so_many_values() -> None:
    samples = made(("a", 1, [1.0, 2.0]), ("a", 2, 6.0), ("a", 3, None))
    assert samples.values("a", "took_s") == [1.0, 2.0, 6.0]
    assert samples.spread("a", "took_s") == Spread(2.0, 1.0, 6.0, 3)
    assert samples.values("a", "other") == []
    assert samples.spread("nowhere", "took_s") is None


def test_a_ratio_is_taken_round_by_round() -> None:
    samples = made(("a", 1, 1.0), ("b", 1, 2.0), ("b", 2, 30.0), ("a", 2, 10.0), ("b", 3, 7.0))
    assert samples.ratio("took_s", "b", "a") == Spread(2.5, 2.0, 3.0, 2)
    assert samples.ratio("took_s", "b", "c") is None


def test_in_a_ratio_a_round_with_many_values_counts_with_its_median() -> None:
    samples = made(("a", 1, [1.0, 2.0, 90.0]), ("b", 1, [3.0, 5.0]), ("b", 1, 100.0), ("a", 2, None), ("b", 2, 1.0))
    assert samples.ratio("took_s", "b", "a") == Spread(2.5, 2.5, 2.5, 1)


def test_nothing_is_divided_by_zero() -> None:
    assert made(("a", 1, 0.0), ("b", 1, 2.0)).ratio("took_s", "b", "a") is None
