"""lab/figures.py: how much room each kind of picture takes, and where its axes begin and end."""

import pytest

from paceline.lab.figures import figure_of
from paceline.lab.plots import Axis, Bar, Bars, Heat, Kind, Lane, Lines, Plot, Series, Timeline
from paceline.lab.texts import same
from paceline.stats.spread import Spread

pytest.importorskip("matplotlib", reason="the extra `lab` is not installed")

X, LOG = Axis(same("x")), Axis(same("y"), "ms", is_log=True)
LONG = "a name that is much longer than there is room for in one line"


def around(value: float) -> Spread:
    return Spread(value, value / 2, value * 2, 3)


def axes_of(plot: Plot):  # type: ignore[no-untyped-def]
    (axes,) = figure_of(plot, "en").axes
    return axes


def test_bars_begin_at_zero_or_at_a_power_of_ten_below_them_all() -> None:
    bars = [Bar(same("a"), around(40)), Bar(same("b"), around(9000))]
    assert axes_of(Bars(same("t"), X, bars)).get_xlim()[0] == 0
    assert axes_of(Bars(same("t"), LOG, bars)).get_xlim()[0] == pytest.approx(10)


def test_what_is_not_above_zero_is_on_no_logarithmic_axis() -> None:
    zero = Spread(0, 0, 0, 3)
    assert axes_of(Bars(same("t"), LOG, [Bar(same("a"), zero), Bar(same("b"), around(9))])).get_xscale() == "linear"
    assert axes_of(Lines(same("t"), X, LOG, [Series(same("a"), [(1, zero), (2, around(9))])])).get_yscale() == "linear"
    assert axes_of(Lines(same("t"), X, LOG, [Series(same("a"), [(1, around(9))])])).get_yscale() == "log"


def test_lines_have_numbers_where_there_are_points_as_far_as_there_is_room() -> None:
    series = Series(same("a"), [(float(x), around(1)) for x in (1, 2, 64, 65)])
    assert list(axes_of(Lines(same("t"), X, X, [series])).get_xticks()) == [1, 64]


def test_lines_begin_at_zero_or_below() -> None:
    up, down = Series(same("a"), [(1, around(5))]), Series(same("b"), [(1, Spread(-1, -2, 0, 3))])
    assert axes_of(Lines(same("t"), X, X, [up])).get_ylim()[0] == 0
    assert axes_of(Lines(same("t"), X, X, [up, down])).get_ylim()[0] == -2


def test_long_names_take_more_lines_and_more_height() -> None:
    def height(name: str) -> float:
        return float(figure_of(Bars(same("t"), X, [Bar(same(name), around(1))] * 3), "en").get_figheight())

    assert height(LONG) > height("short")
    assert height("线程" * 20) > height("short")


def test_what_was_not_measured_is_dashed_and_what_was_is_not() -> None:
    points = [(1.0, around(1)), (2.0, around(2))]
    plot = Lines(
        same("t"), X, X, [Series(same("a"), points), *(Series(same(kind.value), points, kind) for kind in Kind)]
    )
    drawn = [line for line in axes_of(plot).lines if len(line.get_xdata()) == 2 and line.get_clip_on()]
    assert [line.is_dashed() for line in drawn] == [False, False, True, True]


def test_a_timeline_ends_with_its_last_span() -> None:
    low, high = axes_of(Timeline(same("t"), X, [Lane(same("a"), [(0, 40)]), Lane(same(LONG), [])])).get_xlim()
    assert (low, high) == pytest.approx((0, 40), abs=0.5)


def test_a_heat_map_has_a_frame_for_each_mark_and_a_dash_where_nothing_was_measured() -> None:
    marks = [(1, 2, same("best")), (1, 2, same("formula")), (9, 9, same("outside"))]
    axes = axes_of(Heat(same("t"), X, X, X, [1], [2, 4], [[7.0], [None]], marks))
    words = [text.get_text() for text in axes.texts]
    assert {"best", "formula", "–", "7"} <= set(words)
    assert "outside" not in words
