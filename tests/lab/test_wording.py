"""lab/wording.py: numbers, axes and pictures in words."""

import pytest

from paceline.lab.plots import Axis, Bar, Bars, Heat, Kind, Lane, Lines, Series, Timeline
from paceline.lab.texts import Text, same
from paceline.lab.wording import axis_text, in_words, number_text, series_text, spread_text
from paceline.stats.spread import Spread

TIME = Axis(Text("time", "时间"), "ms")
TWO = Spread(2, 1, 3, 5)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (3, "3"), (0.0123, "0.012"), (1.234, "1.23"), (12.34, "12.3"), (123.4, "123"), (1234567, "1,234,567")],
)
def test_numbers_have_three_digits_that_count(value: float, text: str) -> None:
    assert number_text(value) == text


def test_a_spread_says_what_lies_around_it_if_it_is_to_be_seen() -> None:
    assert spread_text(Spread(245, 238, 251, 3)) == "245 (238 … 251)"
    assert spread_text(Spread(245, 244.9, 245.1, 3)) == "245"


def test_an_axis_says_its_unit_and_that_it_is_logarithmic() -> None:
    assert axis_text(TIME, "en") == "time (ms)"
    assert axis_text(Axis(Text("threads", "线程"), is_log=True), "zh") == "线程，对数轴"


def test_what_was_not_measured_says_so_once() -> None:
    assert series_text(Series(Text("Amdahl", "Amdahl"), [], Kind.THEORY), "zh") == "Amdahl（理论）"
    assert series_text(Series(same("Theory of queues"), [], Kind.THEORY), "en") == "Theory of queues"
    assert series_text(Series(same("x"), []), "en") == "x"


def test_each_kind_of_picture_is_told() -> None:
    lines = Lines(same("t"), Axis(same("n")), TIME, [Series(same("a"), [(1, TWO), (8, TWO)])])
    assert in_words(lines, "en") == "time (ms) / n. a: 1: 2, 8: 2."
    bars = Bars(same("t"), TIME, [Bar(same("a"), TWO), Bar(same("b"), None)])
    assert in_words(bars, "zh") == "时间 (ms): a 2 (1 … 3); b 没有测量."
    lanes = [Lane(same("p"), [(0, 1.5)]), Lane(same("q"), [])]
    assert in_words(Timeline(same("t"), TIME, lanes, Kind.SIMULATED), "en") == (
        "time (ms) (simulated, not measured): p 0–1.50; q –."
    )
    heat = Heat(same("t"), Axis(same("w")), Axis(same("n")), TIME, [1], [4, 8], [[5.0], [None]], [(1, 4, same("best"))])
    assert in_words(heat, "en") == "time (ms); w × n: 1 × 4 5; 1 × 8 –; best: 1 × 4."
