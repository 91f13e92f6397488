"""stats/spread.py: a median and what lies around it."""

from paceline.stats.spread import Spread


def test_a_spread_is_the_median_and_what_lies_around_it() -> None:
    assert Spread.of([3.0, 1.0, 2.0]) == Spread(2.0, 1.0, 3.0, 3)
    assert Spread.of([4.0, 1.0]) == Spread(2.5, 1.0, 4.0, 2)
    assert Spread.of(iter([])) is None


def test_a_spread_that_says_nothing_more_is_not_shown() -> None:
    assert Spread(2000.0, 1000.0, 3000.0, 3).text(0) == "2,000 (1,000 … 3,000)"
    assert Spread(2.001, 2.0, 2.002, 3).text(2) == "2.00"


def test_the_same_in_another_unit() -> None:
    assert Spread(2000.0, 1000.0, 3000.0, 3) / 1000 == Spread(2.0, 1.0, 3.0, 3)
