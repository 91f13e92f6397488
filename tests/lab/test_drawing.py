"""lab/drawing.py: each kind of plot becomes a picture, the same each time, with its words in it."""

import sys
import xml.etree.ElementTree as ET

import pytest

from paceline.errors import HostError
from paceline.lab.drawing import svg
from paceline.lab.plots import Axis, Bar, Bars, Heat, Kind, Lane, Lines, Plot, Series, Timeline
from paceline.lab.texts import Text, same
from paceline.lab.wording import SIMULATED
from paceline.stats.spread import Spread

pytest.importorskip("matplotlib", reason="the extra `lab` is not installed")

TIME, COUNT = Axis(Text("time", "时间"), "ms"), Axis(Text("processes", "进程"))


def spread(value: float) -> Spread:
    return Spread(value, value * 0.9, value * 1.2, 5)


def exact(value: float) -> Spread:
    return Spread(value, value, value, 1)


LINES = Lines(
    Text("Speed-up", "加速比"),
    COUNT,
    TIME,
    [
        Series(Text("measured", "实测"), [(4, spread(1.9)), (1, spread(1)), (2, spread(1.8))]),
        Series(Text("as many as cores", "与核心数相同"), [(1, exact(1)), (4, exact(2))], Kind.THEORY),
        Series(Text("round robin", "轮转"), [(1, exact(1)), (4, exact(1.5))], Kind.SIMULATED),
    ],
)
BARS = Bars(
    Text("Cost", "开销"),
    Axis(Text("time", "时间"), "µs", is_log=True),
    [
        Bar(Text("thread", "线程"), spread(47)),
        Bar(Text("a <new> process", "新进程"), exact(1500), group=1),
        Bar(Text("sub-interpreter", "子解释器"), None, note=Text("this Python has none", "没有")),
    ],
    [Text("cheap", "便宜"), Text("dear", "昂贵")],
)
TIMELINE = Timeline(
    Text("Who ran", "谁在运行"), TIME, [Lane(same("1"), [(0, 4), (8, 12)]), Lane(same("2"), [(4, 8)])], Kind.SIMULATED
)
HEAT = Heat(
    Text("Surface", "曲面"),
    COUNT,
    Axis(Text("threads", "线程")),
    Axis(Text("messages", "消息"), "1/s"),
    [1, 2],
    [1, 8],
    [[100.0, 190.5], [400.0, None]],
    [(2, 8, Text("formula", "公式")), (1, 8, Text("best", "最佳")), (99, 1, Text("outside", "在外"))],
)
PLOTS: list[Plot] = [LINES, BARS, TIMELINE, HEAT]


def words_of(picture: str) -> list[str]:
    return [node.text or "" for node in ET.fromstring(picture).iter() if node.tag.endswith(("text", "title", "desc"))]


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("plot", PLOTS, ids=lambda plot: type(plot).__name__)
def test_it_is_well_formed_and_the_same_each_time_and_says_its_title(plot: Plot, language: str) -> None:
    picture = svg(plot, language)
    assert picture == svg(plot, language)
    assert words_of(picture)[0] == plot.title[language]
    assert "DejaVu" not in picture, "the page says which font"
    assert "<metadata" not in picture


def test_axes_have_their_units_and_theory_is_called_so() -> None:
    words = " ".join(words_of(svg(LINES, "en")))
    for said in ("time (ms)", "processes", "measured", "(theory)", "(simulated, not", "median of 5 values"):
        assert said in words
    assert SIMULATED.zh in " ".join(words_of(svg(TIMELINE, "zh")))


def test_what_could_not_be_measured_says_why() -> None:
    words = words_of(svg(BARS, "en"))
    assert "this Python has none" in words
    assert "a <new> process" in words
    assert {"cheap", "dear"} <= set(words)


def test_marks_stand_only_where_something_was_measured() -> None:
    words = words_of(svg(HEAT, "en"))
    assert {"best", "formula"} <= set(words)
    assert "outside" not in words


def test_colours_are_the_pages() -> None:
    assert "var(--series-0, #0969da)" in svg(LINES, "en")


@pytest.mark.parametrize(
    "plot", [Bars(same("x"), TIME, []), Lines(same("x"), COUNT, TIME, []), Timeline(same("x"), TIME, [])]
)
def test_nothing_at_all_is_an_empty_picture(plot: Plot) -> None:
    assert words_of(svg(plot, "en"))[0] == "x"


def test_a_word_that_looks_like_a_colour_stays_a_word() -> None:
    assert "#0969da" in words_of(svg(Bars(same("x"), TIME, [Bar(same("#0969da"), exact(1))]), "en"))


def test_the_reader_gets_chinese_words_which_matplotlib_has_no_letters_for() -> None:
    assert {"线程", "时间 (µs)，对数轴", "便宜"} <= set(words_of(svg(BARS, "zh")))


def test_without_matplotlib_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(HostError, match=r"pip install 'paceline\[lab\]'"):
        svg(BARS, "en")


def test_what_matplotlib_is_set_to_elsewhere_changes_nothing() -> None:
    import matplotlib as mpl

    before = svg(LINES, "en")
    with mpl.rc_context({"font.size": 30, "axes.facecolor": "red", "svg.fonttype": "path"}):
        assert svg(LINES, "en") == before
