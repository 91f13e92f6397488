"""What plots say in words: names of axes and series, numbers, and all of it for who cannot see the picture.  Pure."""

from collections.abc import Sequence

from paceline.lab.plots import Axis, Bar, Bars, Heat, Kind, Lines, Plot, Series, Timeline
from paceline.lab.texts import Text
from paceline.stats.spread import Spread

THEORY = Text("theory", "理论")
SIMULATED = Text("simulated, not measured", "模拟，不是实测")
NOTES = {Kind.THEORY: THEORY, Kind.SIMULATED: SIMULATED}
LOGARITHMIC = Text(", logarithmic", "，对数轴")
_NOT_MEASURED = Text("not measured", "没有测量")


def in_words(plot: Plot, language: str) -> str:
    """What is to be seen, for who cannot see it."""
    match plot:
        case Lines():
            head = f"{axis_text(plot.y, language)} / {axis_text(plot.x, language)}"
            return f"{head}. {'; '.join(f'{series_text(it, language)}: {_points(it)}' for it in plot.series)}."
        case Bars():
            found = (f"{bar.name[language]} {_value(bar, language)}" for bar in plot.bars)
            return f"{axis_text(plot.axis, language)}: {'; '.join(found)}."
        case Timeline():
            note = f" ({NOTES[plot.kind][language]})" if plot.kind in NOTES else ""
            lanes = (f"{lane.name[language]} {_spans(lane.spans)}" for lane in plot.lanes)
            return f"{axis_text(plot.axis, language)}{note}: {'; '.join(lanes)}."
        case Heat():
            of = f"{axis_text(plot.x, language)} × {axis_text(plot.y, language)}"
            cells = (
                f"{number_text(column)} × {number_text(row)} {'–' if cell is None else number_text(cell)}"
                for row, cells in zip(plot.rows, plot.cells, strict=True)
                for column, cell in zip(plot.columns, cells, strict=True)
            )
            marks = (f"{name[language]}: {number_text(x)} × {number_text(y)}" for x, y, name in plot.marks)
            return f"{axis_text(plot.value, language)}; {of}: {'; '.join([*cells, *marks])}."


def _points(series: Series) -> str:
    most = 40
    said = ", ".join(f"{number_text(x)}: {number_text(spread.median)}" for x, spread in series.points[:most])
    return f"{said}, …" if len(series.points) > most else said


def _spans(spans: Sequence[tuple[float, float]]) -> str:
    most = 12
    said = ", ".join(f"{number_text(begin)}–{number_text(end)}" for begin, end in spans[:most])
    return f"{said}, …" if len(spans) > most else said or "–"


def _value(bar: Bar, language: str) -> str:
    return missing_text(bar, language) if bar.spread is None else spread_text(bar.spread)


def missing_text(bar: Bar, language: str) -> str:
    """Why there is no bar."""
    return (_NOT_MEASURED if bar.note is None else bar.note)[language]


def series_text(series: Series, language: str) -> str:
    """Its name; and that it was not measured, if the name does not say so."""
    name = series.name[language]
    note = NOTES[series.kind][language] if series.kind in NOTES else ""
    if note.lower() in name.lower():
        return name
    return f"{name}（{note}）" if language == "zh" else f"{name} ({note})"


def axis_text(axis: Axis, language: str) -> str:
    """`time to make one (µs)`; and whether it is logarithmic, which students overlook."""
    name = f"{axis.label[language]} ({axis.unit})" if axis.unit else axis.label[language]
    return f"{name}{LOGARITHMIC[language]}" if axis.is_log else name


def spread_text(spread: Spread) -> str:
    """`245 (238 … 251)`; without the spread when it says nothing more."""
    middle, low, high = (number_text(value) for value in (spread.median, spread.lowest, spread.highest))
    return middle if low == high else f"{middle} ({low} … {high})"


def number_text(value: float) -> str:
    """With three digits that count, at least."""
    size = abs(value)
    if size >= 99.95 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.1f}" if size >= 9.995 else f"{value:.2f}" if size >= 0.0995 else f"{value:.2g}"
