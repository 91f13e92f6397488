"""Plots as SVG, by matplotlib, which is imported here and nowhere else.

The same plot gives the same text, byte for byte.  Its words stay words; colours are the page's variables (page.py), so
that one picture is right on light and on dark ground; a title and a description are for who cannot see it.
"""

import io
import re
import unicodedata
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape

from paceline.errors import HostError
from paceline.lab.plots import Axis, Bars, Heat, Kind, Lines, Plot, Series, Timeline
from paceline.lab.texts import Text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH_IN = 7.6
LETTER_IN = 0.078
"""What a narrow letter of 9 points takes; a wide one, such as a Chinese character, takes two."""

SERIES = ("#0969da", "#bc4c00", "#1a7f37", "#8250df", "#bf3989", "#6e7781")
"""Told apart by who does not see red or green, too: they differ in brightness, and in their marks."""
MARKS = "os^Dvp"
INK, QUIET, GRID = "#1f2328", "#59636e", "#d1d9e0"
COLORS = {
    **{f"series-{number}": color for number, color in enumerate(SERIES)},
    "ink": INK,
    "quiet": QUIET,
    "grid": GRID,
}

THEORY = Text("theory", "理论")
SIMULATED = Text("simulated, not measured", "模拟，不是实测")

_SETTINGS: dict[Any, Any] = {
    "svg.hashsalt": "paceline",  # else the ids of clip paths are random
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.family": ["DejaVu Sans"],
    "font.size": 9,
    "axes.edgecolor": GRID,
    "axes.labelcolor": QUIET,
    "xtick.color": QUIET,
    "ytick.color": INK,
    "text.color": INK,
}


def svg(plot: Plot, language: str) -> str:
    """The plot as an SVG element.  Raises HostError when matplotlib is not installed."""
    try:
        import matplotlib as mpl
        from matplotlib.backends.backend_svg import FigureCanvasSVG
    except ImportError as error:
        raise HostError(f"drawing needs matplotlib: pip install 'paceline[lab]' ({error})") from None
    drawn = io.StringIO()
    with mpl.rc_context(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)  # the reader has it
        mpl.rcdefaults()  # whatever the user's matplotlibrc says
        mpl.rcParams.update(_SETTINGS)
        figure = _figure(plot, language)
        FigureCanvasSVG(figure)
        figure.savefig(drawn, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
    return _finished(drawn.getvalue(), plot, language)


def _finished(text: str, plot: Plot, language: str) -> str:
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'<g id="[^"]*"', "<g", text)  # several pictures stand on one page, and these names are no links
    for name, color in COLORS.items():
        text = text.replace(color, f"var(--{name}, {color})")
    text = text.replace("'DejaVu Sans'", "var(--font, sans-serif)")
    head, rest = text.split(">", 1)
    head = re.sub(r' (?:width|height)="[^"]*"', "", head)
    words = f"<title>{escape(plot.title[language])}</title><desc>{escape(in_words(plot, language))}</desc>"
    return f'{head} role="img">{words}{rest}'


# ---- in words -------------------------------------------------------------------------------------------------------


def in_words(plot: Plot, language: str) -> str:
    """What is to be seen, for who cannot see it."""
    match plot:
        case Lines():
            names = (f"{series.name[language]}: {_points(series)}" for series in plot.series)
            return f"{axis_text(plot.y, language)} / {axis_text(plot.x, language)}. {'; '.join(names)}"
        case Bars():
            found = (
                f"{bar.name[language]} {'–' if bar.spread is None else number_text(bar.spread.median)}"
                for bar in plot.bars
            )
            return f"{axis_text(plot.axis, language)}: {'; '.join(found)}"
        case Timeline():
            return f"{axis_text(plot.axis, language)}: {', '.join(lane.name[language] for lane in plot.lanes)}"
        case Heat():
            return f"{axis_text(plot.value, language)}: {axis_text(plot.x, language)} × {axis_text(plot.y, language)}"


def _points(series: Series) -> str:
    return ", ".join(f"{number_text(x)}: {number_text(spread.median)}" for x, spread in series.points[:40])


def axis_text(axis: Axis, language: str) -> str:
    """`time to make one (µs)`."""
    return f"{axis.label[language]} ({axis.unit})" if axis.unit else axis.label[language]


def number_text(value: float) -> str:
    """With three digits that count, at least."""
    size = abs(value)
    if size >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.1f}" if size >= 10 else f"{value:.2g}" if size < 0.1 else f"{value:.2f}"


def letters(text: str) -> int:
    """How many narrow letters it takes the room of."""
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)


# ---- drawing; inches, and points of type ----------------------------------------------------------------------------


def _figure(plot: Plot, language: str) -> "Figure":
    match plot:
        case Lines():
            return _lines(plot, language)
        case Bars():
            return _bars(plot, language)
        case Timeline():
            return _timeline(plot, language)
        case Heat():
            return _heat(plot, language)


def _room(names: Sequence[str], height: float, *, right: float = 0.25, top: float = 0.15) -> "tuple[Figure, Axes]":
    """A figure whose axes leave room to the left for the longest of these names; `height` is the axes' own."""
    from matplotlib.figure import Figure

    left = min(2.9, 0.25 + LETTER_IN * max(map(letters, names), default=0))
    whole = height + 0.62 + top
    figure = Figure(figsize=(WIDTH_IN, whole))
    box = (left / WIDTH_IN, 0.62 / whole, (WIDTH_IN - left - right) / WIDTH_IN, height / whole)
    return figure, figure.add_axes(box)


def _dress(axes: "Axes", grid: str) -> None:
    axes.set_facecolor("none")
    axes.grid(axis=grid, color=GRID, linewidth=0.6)  # type: ignore[arg-type]
    axes.set_axisbelow(True)
    axes.tick_params(length=0)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _numbers(axis: Any) -> None:
    from matplotlib.ticker import FuncFormatter

    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))


def _lines(plot: Lines, language: str) -> "Figure":
    figure, axes = _room(["0,000,000 0"], 3.0, top=0.22 * ((len(plot.series) + 1) // 2) + 0.15)
    _dress(axes, "both")
    measured = said = 0
    for series in plot.series:
        points = sorted(series.points, key=lambda point: point[0])
        xs, middle = [x for x, _ in points], [spread.median for _, spread in points]
        name = series.name[language]
        if series.kind is Kind.MEASURED:
            color, mark = SERIES[measured % len(SERIES)], MARKS[measured % len(MARKS)]
            measured += 1
            axes.plot(xs, middle, color=color, marker=mark, markersize=5, linewidth=1.6, label=name)
            axes.vlines(xs, [s.lowest for _, s in points], [s.highest for _, s in points], color=color, linewidth=1.2)
        else:
            note = (THEORY if series.kind is Kind.THEORY else SIMULATED)[language]
            label = name if note in name else f"{name} ({note})"
            axes.plot(xs, middle, color=QUIET, linestyle=("--", ":", "-.")[said % 3], label=label)
            said += 1
    for axis, is_log in ((axes.xaxis, plot.x.is_log), (axes.yaxis, plot.y.is_log)):
        if is_log:
            (axes.set_xscale if axis is axes.xaxis else axes.set_yscale)("log")
        _numbers(axis)
    if not plot.y.is_log:
        axes.set_ylim(bottom=0)
    xs = sorted({x for series in plot.series if series.kind is Kind.MEASURED for x, _ in series.points})
    if 1 < len(xs) <= 9:
        axes.set_xticks(xs)
        axes.minorticks_off()
    axes.set_xlabel(axis_text(plot.x, language))
    axes.set_ylabel(axis_text(plot.y, language))
    if plot.series:
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=2, frameon=False, fontsize=8.5, borderaxespad=0.1)
    return figure


def _bars(plot: Bars, language: str) -> "Figure":
    names = [bar.name[language] for bar in plot.bars]
    top = 0.34 if plot.groups else 0.12
    figure, axes = _room(names, max(1, len(names)) * 0.3, right=1.75, top=top)
    _dress(axes, "x")
    found = [bar.spread for bar in plot.bars if bar.spread is not None]
    lowest = min((spread.lowest for spread in found if spread.lowest > 0), default=1.0) / 3 if plot.axis.is_log else 0.0
    for place, bar in enumerate(plot.bars):
        if bar.spread is None:
            note = bar.note[language] if bar.note is not None else "–"
            axes.text(0.01, place, note, transform=axes.get_yaxis_transform(), va="center", color=QUIET, fontsize=8.5)
            continue
        color, spread = SERIES[bar.group % len(SERIES)], bar.spread
        axes.barh(place, spread.median - lowest, left=lowest, height=0.62, color=color)
        if spread.lowest != spread.highest:
            axes.plot(
                [spread.lowest, spread.highest], [place, place], color=INK, linewidth=1.1, marker="|", markersize=5
            )
        text = number_text(spread.median)
        if spread.lowest != spread.highest:
            text += f" ({number_text(spread.lowest)} … {number_text(spread.highest)})"
        axes.text(1.01, place, text, transform=axes.get_yaxis_transform(), va="center", fontsize=8.5)
    axes.set_ylim(max(1, len(names)) - 0.5, -0.5)
    axes.set_yticks(range(len(names)), names)
    if plot.axis.is_log:
        axes.set_xscale("log")
    most = max((spread.highest for spread in found), default=1.0) or 1.0
    axes.set_xlim(lowest, most * (1.6 if plot.axis.is_log else 1.04))
    _numbers(axes.xaxis)
    axes.set_xlabel(axis_text(plot.axis, language))
    if plot.groups:
        from matplotlib.patches import Patch

        handles = [Patch(color=SERIES[n % len(SERIES)], label=name[language]) for n, name in enumerate(plot.groups)]
        axes.legend(
            handles=handles, loc="lower left", bbox_to_anchor=(0, 1.0), ncols=4, frameon=False, fontsize=8.5,
            borderaxespad=0.1,
        )  # fmt: skip
    return figure


def _timeline(plot: Timeline, language: str) -> "Figure":
    names = [lane.name[language] for lane in plot.lanes]
    figure, axes = _room(names, max(1, len(names)) * 0.27, top=0.3 if plot.kind is not Kind.MEASURED else 0.12)
    _dress(axes, "x")
    for place, lane in enumerate(plot.lanes):
        spans = [(begin, end - begin) for begin, end in lane.spans]
        style: dict[str, Any] = {"facecolors": SERIES[place % len(SERIES)]}
        if plot.kind is not Kind.MEASURED:
            style = {"facecolors": "none", "edgecolors": SERIES[place % len(SERIES)], "linewidths": 1.0}
        axes.broken_barh(spans, (place - 0.36, 0.72), **style)
    axes.set_ylim(max(1, len(names)) - 0.5, -0.5)
    axes.set_yticks(range(len(names)), names)
    _numbers(axes.xaxis)
    axes.margins(x=0.01)
    label = axis_text(plot.axis, language)
    axes.set_xlabel(label)
    if plot.kind is not Kind.MEASURED:
        note = (SIMULATED if plot.kind is Kind.SIMULATED else THEORY)[language]
        axes.text(0, 1.04, note, transform=axes.transAxes, color=QUIET, fontsize=8.5)
    return figure


def _heat(plot: Heat, language: str) -> "Figure":
    rows = [number_text(row) for row in plot.rows]
    figure, axes = _room(["00000", *rows], max(1.2, len(rows) * 0.42), top=0.34)
    axes.set_facecolor("none")
    most = max((cell for row in plot.cells for cell in row if cell is not None), default=1.0) or 1.0
    for y, row in enumerate(plot.cells):
        for x, cell in enumerate(row):
            if cell is None:
                continue
            share = max(0.0, min(1.0, cell / most))
            axes.barh(y, 0.96, left=x - 0.48, height=0.92, color=SERIES[0], alpha=0.08 + 0.47 * share)
            axes.text(x, y, number_text(cell), ha="center", va="center", fontsize=9)
    for at_x, at_y, name in plot.marks:
        if at_x in plot.columns and at_y in plot.rows:
            x, y = plot.columns.index(at_x), plot.rows.index(at_y)
            axes.barh(y, 0.96, left=x - 0.48, height=0.92, color="none", edgecolor=SERIES[1], linewidth=2.0)
            axes.text(x, y + 0.34, name[language], ha="center", va="center", fontsize=7, color=SERIES[1])
    axes.set_xlim(-0.5, len(plot.columns) - 0.5)
    axes.set_ylim(max(1, len(rows)) - 0.5, -0.5)
    axes.set_xticks(range(len(plot.columns)), [number_text(column) for column in plot.columns])
    axes.set_yticks(range(len(rows)), rows)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_xlabel(axis_text(plot.x, language))
    axes.set_ylabel(axis_text(plot.y, language))
    axes.text(0, 1.03, axis_text(plot.value, language), transform=axes.transAxes, color=QUIET, fontsize=8.5)
    return figure
