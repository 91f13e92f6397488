"""Plots as figures of matplotlib, which is imported in functions alone.  Inches, and points of type."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from paceline.lab.columns import wrapped
from paceline.lab.layout import (
    COLUMN,
    DASHES,
    LINE,
    MARKERS,
    SERIES,
    WIDE,
    axes_in,
    draw_key,
    foot_text,
    frame_style,
    keys_of,
    mark_ticks,
    spread_out,
    widest,
    write,
)  # fmt: skip
from paceline.lab.plots import Axis, Bar, Bars, Heat, Kind, Lane, Lines, Plot, Series, Timeline
from paceline.lab.spans import merged
from paceline.lab.style import LIGHT
from paceline.lab.texts import Text
from paceline.lab.wording import NOTES, axis_text, missing_text, number_text, series_text, spread_text
from paceline.stats.spread import Spread

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

OF_BARS = Text(
    "Bar: the median of {count} values; thin line: from the lowest to the highest.",
    "条：{count} 个值的中位数；细线：从最小到最大。",
)
OF_POINTS = Text(
    "Point: the median of {count} values; upright line: from the lowest to the highest.",
    "点：{count} 个值的中位数；竖线：从最小到最大。",
)


def figure_of(plot: Plot, language: str) -> "Figure":
    match plot:
        case Lines():
            return _lines(plot, language)
        case Bars():
            return _bars(plot, language)
        case Timeline():
            return _timeline(plot, language)
        case Heat():
            return _heat(plot, language)


# Lines


def _lines(plot: Lines, language: str) -> "Figure":
    labels = [wrapped(series_text(series, language), 24) or [""] for series in plot.series]
    right = 0.42 + COLUMN * widest(line for lines in labels for line in lines) if labels else 0.25
    foot = foot_text(OF_POINTS, [s for it in plot.series if it.kind is Kind.MEASURED for _, s in it.points], language)
    height = max(2.9, sum(LINE * len(lines) + 0.07 for lines in labels))
    axes = axes_in(0.85, right, 0.34, height, foot)
    for log, values, scale in (
        (plot.x.is_log, [x for it in plot.series for x, _ in it.points], axes.set_xscale),
        (plot.y.is_log, [s.median for it in plot.series for _, s in it.points], axes.set_yscale),
    ):
        if log and values and min(values) > 0:
            scale("log")
    dressed = _dressed(plot.series)
    for series, (color, mark, dash) in zip(plot.series, dressed, strict=True):
        _draw_series(axes, series, color, mark, dash)
    if axes.get_yscale() == "linear":
        ends = [end for series in plot.series for _, its in series.points for end in (its.lowest, its.highest)]
        axes.set_ylim(min([0.0, *ends]), max([0.0, *ends]) * 1.06 or 1.0)
    mark_ticks(axes.xaxis, {x for series in plot.series if series.kind is Kind.MEASURED for x, _ in series.points})
    mark_ticks(axes.yaxis, ())
    axes.grid(color=LIGHT["grid"], linewidth=0.6)
    axes.spines["left"].set_visible(False)
    axes.set_xlabel(axis_text(plot.x, language), labelpad=5)
    write(axes, (0, 1), [axis_text(plot.y, language)], dx=-46, dy=9, color=LIGHT["quiet"])
    _end_labels(axes, plot.series, labels, dressed)
    return axes.figure  # type: ignore[return-value]


def _dressed(series: Sequence[Series]) -> list[tuple[str, str, Any]]:
    """Colour, mark and dashes of each: what was measured has colours, what was not has dashes."""
    found: list[tuple[str, str, Any]] = []
    measured = said = 0
    for its in series:
        if its.kind is Kind.MEASURED:
            found.append((SERIES[measured % len(SERIES)], MARKERS[measured % len(MARKERS)], "-"))
            measured += 1
        else:
            found.append((LIGHT["quiet"], "x" if len(its.points) == 1 else "", DASHES[said % len(DASHES)]))
            said += 1
    return found


def _draw_series(axes: "Axes", series: Series, color: str, mark: str, dash: Any) -> None:
    points = sorted(series.points, key=lambda point: point[0])
    xs, spreads = [x for x, _ in points], [spread for _, spread in points]
    is_log = axes.get_yscale() == "log"
    around = [(x, max(s.lowest, s.median / 1e3) if is_log else s.lowest, s.highest) for x, s in points]
    around = [(x, low, high) for x, low, high in around if low != high]
    if series.kind is Kind.MEASURED and around:
        axes.vlines(*zip(*around, strict=True), color=color, linewidth=2.2, alpha=0.4)
    size = 5.5 if len(xs) <= 12 else 3.5 if len(xs) <= 30 else 0
    axes.plot(xs, [s.median for s in spreads], color=color, marker=mark, markersize=size, linewidth=1.7, linestyle=dash)


def _end_labels(axes: "Axes", series: Sequence[Series], labels: list[list[str]], dressed: list[Any]) -> None:
    """To the right, each series' name as near to its last point as the others leave it room."""
    whole = axes.get_position().height * axes.figure.get_figheight()  # type: ignore[union-attr]
    heights = [LINE * len(lines) + 0.07 for lines in labels]
    ends = []
    for its in series:
        last = max(its.points, key=lambda point: point[0])[1].median if its.points else 0.0
        at = axes.transData.transform((axes.get_xlim()[1], last))[1] if its.points else 0.0
        ends.append(axes.transAxes.inverted().transform((0, at))[1] * whole)
    middles = spread_out(ends, heights, whole)
    for lines, (color, mark, dash), end, middle in zip(labels, dressed, ends, middles, strict=True):
        y = middle / whole
        if abs(end - middle) > 0.06:
            axes.plot(
                [1.0, 1.022],
                [end / whole, y],
                transform=axes.transAxes,
                color=LIGHT["grid"],
                linewidth=0.9,
                clip_on=False,
            )
        axes.plot(
            [1.025, 1.05, 1.075], [y, y, y], transform=axes.transAxes, color=color, marker=mark, markevery=[1],
            markersize=5.5, linewidth=1.7, linestyle=dash, clip_on=False,
        )  # fmt: skip
        write(axes, (1.085, y), lines, dx=0, dy=72 * LINE * (len(lines) - 1) / 2, is_middle=True)


# Bars


def _bars(plot: Bars, language: str) -> "Figure":
    spreads = [bar.spread for bar in plot.bars if bar.spread is not None]
    names = [wrapped(bar.name[language], 34) or [""] for bar in plot.bars]
    left = 0.25 + COLUMN * widest(line for lines in names for line in lines)
    right = 0.3 + 0.9 * COLUMN * widest(map(spread_text, spreads))
    notes = [_note(bar, language, WIDE - left - 0.2) for bar in plot.bars]
    rows = [max(0.31, LINE * max(len(a), len(b)) + 0.09) for a, b in zip(names, notes, strict=True)] or [0.31]
    used = [name[language] for name in plot.groups]
    keys, key_height = keys_of(used, WIDE - left)
    axes = axes_in(left, right, 0.12 + key_height, sum(rows), foot_text(OF_BARS, spreads, language))
    begins = _scale(axes, plot.axis, spreads)
    at = 0.0
    for bar, name, note, row in zip(plot.bars, names, notes, rows, strict=False):
        middle = at + row / 2
        _draw_bar(axes, bar, middle, begins)
        up = 72 * LINE * (len(name) - 1) / 2
        write(axes, (0, middle), name, dx=-6, dy=up, ha="right", is_middle=True, in_data="y")
        if bar.spread is None:
            up = 72 * LINE * (len(note) - 1) / 2
            write(axes, (0, middle), note, dx=4, dy=up, color=LIGHT["quiet"], is_middle=True, in_data="y")
        else:
            write(axes, (1, middle), [spread_text(bar.spread)], dx=7, is_middle=True, in_data="y", fontsize=8.5)
        at += row
    axes.set_ylim(sum(rows), 0)
    axes.set_yticks([])
    mark_ticks(axes.xaxis, ())
    axes.grid(axis="x", color=LIGHT["grid"], linewidth=0.6)
    axes.spines["bottom"].set_visible(False)
    axes.set_xlabel(axis_text(plot.axis, language), labelpad=5)
    for line, x, group in keys:
        draw_key(axes, x, key_height - LINE * line, used[group], facecolor=SERIES[group % len(SERIES)])
    return axes.figure  # type: ignore[return-value]


def _note(bar: Bar, language: str, room: float) -> list[str]:
    if bar.spread is not None:
        return []
    return wrapped(missing_text(bar, language), int(room / COLUMN)) or [""]


def _scale(axes: "Axes", axis: Axis, spreads: Sequence[Spread]) -> float:
    """Sets the axis along the bars; where they begin."""
    most = max((spread.highest for spread in spreads), default=0.0) or 1.0
    least = min((spread.lowest for spread in spreads), default=0.0)
    if axis.is_log and least > 0:
        begins = 10.0 ** (math.ceil(math.log10(least / 1.5)) - 1)
        axes.set_xscale("log")
        axes.set_xlim(begins, most * (most / begins) ** 0.03)
        return begins
    axes.set_xlim(min(0.0, least * 1.04), max(most, 0.0) * 1.04)
    return 0.0


def _draw_bar(axes: "Axes", bar: Bar, middle: float, begins: float) -> None:
    from matplotlib.patheffects import withStroke

    if bar.spread is None:
        return
    color, its = SERIES[bar.group % len(SERIES)], bar.spread
    axes.barh(middle, its.median - begins, left=begins, height=0.2, color=color)
    if its.lowest != its.highest:
        around = [withStroke(linewidth=3, foreground=LIGHT["ground"])]
        ends = [its.lowest, its.highest]
        axes.plot(
            ends,
            [middle] * 2,
            color=LIGHT["ink"],
            linewidth=1.1,
            marker="|",
            markersize=6,
            path_effects=around,
            clip_on=False,
        )


# Timelines


def _timeline(plot: Timeline, language: str) -> "Figure":
    names = [wrapped(lane.name[language], 34) or [""] for lane in plot.lanes]
    left = 0.25 + COLUMN * widest(line for lines in names for line in lines)
    rows = [max(0.29, LINE * len(name) + 0.07) for name in names] or [0.29]
    note = NOTES[plot.kind][language] if plot.kind in NOTES else ""
    axes = axes_in(left, 0.25, 0.34 if note else 0.12, sum(rows), "")
    ends = [end for lane in plot.lanes for _, end in lane.spans]
    begin = min((begin for lane in plot.lanes for begin, _ in lane.spans), default=0.0)
    begin = min(begin, 0.0) if begin < 0.2 * max(ends, default=0.0) else begin
    end = max(ends, default=begin + 1.0)
    axes.set_xlim(begin - (end - begin) / 250, end + (end - begin) / 250)
    at = 0.0
    for place, (lane, name, row) in enumerate(zip(plot.lanes, names, rows, strict=False)):
        if place % 2 == 0:
            axes.axhspan(at, at + row, facecolor=LIGHT["panel"], linewidth=0)
        _draw_lane(axes, lane, at + row / 2, SERIES[place % len(SERIES)], plot.kind is Kind.MEASURED)
        up = 72 * LINE * (len(name) - 1) / 2
        write(axes, (0, at + row / 2), name, dx=-6, dy=up, ha="right", is_middle=True, in_data="y")
        at += row
    axes.set_ylim(sum(rows), 0)
    axes.set_yticks([])
    mark_ticks(axes.xaxis, ())
    axes.grid(axis="x", color=LIGHT["grid"], linewidth=0.6)
    axes.set_xlabel(axis_text(plot.axis, language), labelpad=5)
    if note:
        write(axes, (0, 1), [note], dy=7, color=LIGHT["quiet"])
    return axes.figure  # type: ignore[return-value]


def _draw_lane(axes: "Axes", lane: Lane, middle: float, color: str, is_measured: bool) -> None:
    """What was measured is filled; what was not is an outline."""
    from matplotlib.colors import to_rgba

    low, high = axes.get_xlim()
    spans = [(begin, end - begin) for begin, end in merged(lane.spans, (high - low) / 1e6)]
    style: dict[str, Any] = {"facecolors": color, "linewidths": 0}  # an edge would make short ones longer
    if not is_measured:
        style = {"facecolors": [to_rgba(color, 0.15)], "edgecolors": color, "linewidths": 1.1, "linestyles": "--"}
    axes.broken_barh(spans, (middle - 0.09, 0.18), **style)


# Heat


def _heat(plot: Heat, language: str) -> "Figure":
    from matplotlib.patches import Rectangle

    rows = [number_text(row) for row in plot.rows]
    left = 0.45 + COLUMN * widest(rows)
    marks = [
        (plot.columns.index(x), plot.rows.index(y), name[language])
        for x, y, name in plot.marks
        if x in plot.columns and y in plot.rows
    ]
    keys, key_height = keys_of([name for _, _, name in marks], WIDE - left)
    room = min(1.05, (WIDE - left - 0.25) / max(1, len(plot.columns)))
    value, above = [axis_text(plot.value, language)], [axis_text(plot.y, language)]
    right = WIDE - left - room * max(1, len(plot.columns))
    axes = axes_in(left, right, 0.58 + key_height, max(1, len(rows)) * 0.44, "")
    _draw_cells(axes, plot)
    seen: list[tuple[int, int]] = []
    for number, (x, y, _) in enumerate(marks):
        inset = 0.05 + 0.05 * seen.count((x, y))
        seen.append((x, y))
        corner, size = (x - 0.5 + inset, y - 0.5 + 1.6 * inset), (1 - 2 * inset, 1 - 3.2 * inset)
        axes.add_patch(Rectangle(corner, *size, **frame_style(number)))
    axes.set_xlim(-0.5, max(1, len(plot.columns)) - 0.5)
    axes.set_ylim(max(1, len(rows)) - 0.5, -0.5)
    axes.set_xticks(range(len(plot.columns)), [number_text(column) for column in plot.columns])
    axes.set_yticks(range(len(rows)), rows)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_xlabel(axis_text(plot.x, language), labelpad=5)
    up = 72 * (key_height + LINE) + 9
    write(axes, (0, 1), value, dx=-72 * (left - 0.12), dy=up, fontweight="bold")
    write(axes, (0, 1), above, dx=-72 * (left - 0.12), dy=7, color=LIGHT["quiet"])
    for line, across, number in keys:
        draw_key(axes, across, key_height - LINE * line + LINE, marks[number][2], **frame_style(number))
    return axes.figure  # type: ignore[return-value]


def _draw_cells(axes: "Axes", plot: Heat) -> None:
    found = [cell for row in plot.cells for cell in row if cell is not None]
    most = max(found, default=1.0) or 1.0
    for y, cells in enumerate(plot.cells):
        for x, cell in enumerate(cells):
            if cell is None:
                write(axes, (x, y), ["–"], ha="center", is_middle=True, in_data=True, color=LIGHT["quiet"])
                continue
            share = max(0.0, min(1.0, cell / most))
            axes.barh(y, 0.96, left=x - 0.48, height=0.92, color=SERIES[0], alpha=0.06 + 0.5 * share**1.5)
            write(axes, (x, y), [number_text(cell)], ha="center", is_middle=True, in_data=True)
