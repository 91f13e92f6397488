"""chaos/figures.py: what was measured, whether it is as it should be, and whether that breaks a promise."""

import pytest

from paceline.chaos.books import Books
from paceline.chaos.figures import Figure, amount, counted, timed, worst


@pytest.mark.parametrize(
    ("figure", "is_met", "is_broken"),
    [
        (timed("drip", "p99", 50.0, "ms", 50.0), True, False),
        (timed("drip", "p99", 51.0, "ms", 50.0), False, False),  # a machine that is busy
        (timed("drip", "p99", 501.0, "ms", 50.0), False, True),
        (counted("quiet", "disconnected", 0, 0), True, False),
        (counted("quiet", "disconnected", 1, 0), False, True),
        (Figure("churn", "connections a second", 1e9), True, False),  # it is only told
    ],
)
def test_times_depend_on_the_machine_and_counts_do_not(figure: Figure, is_met: bool, is_broken: bool) -> None:
    assert (figure.is_met, figure.is_broken) == (is_met, is_broken)


def test_what_is_said_of_it() -> None:
    assert timed("drip", "p99", 3.14, "ms", 50.0).text() == "p99: 3.14 ms (goal: ≤ 50 ms)"
    assert counted("quiet", "disconnected", 1_234, 0).text() == "disconnected: 1,234 (MISSED: ≤ 0)"
    assert Figure("drip", "attackers", 20).text() == "attackers: 20"


@pytest.mark.parametrize(
    ("value", "said"), [(0, "0 ms"), (0.25, "0.25 ms"), (12.34, "12.3 ms"), (123.4, "123 ms"), (1e4, "10,000 ms")]
)
def test_as_many_digits_as_say_something(value: float, said: str) -> None:
    assert amount(value, "ms") == said


def test_of_several_the_worst_is_told_where_the_first_was() -> None:
    figures = [timed("a", "x", value, "ms", 1.0) for value in (1.0, 3.0, 2.0)]
    other = timed("b", "x", 0.5, "ms", 1.0)
    assert worst([figures[0], other, *figures[1:]]) == [figures[1], other]


def test_one_over_its_bound_breaks_a_promise() -> None:
    books = Books()
    books.on_figure(timed("drip", "p99", 60.0, "ms", 50.0), 3, 1.0)
    assert books.broken == []
    books.on_figure(counted("quiet", "disconnected", 2, 0), 4, 2.0)
    (broken,) = books.broken
    assert (broken.what, broken.step) == ("quiet: disconnected: 2 (MISSED: ≤ 0)", 4)
    assert len(books.figures) == 2
