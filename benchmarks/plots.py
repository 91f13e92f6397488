"""One picture per row, as SVG, from kept results alone: `python -m benchmarks.plots FILE… --to docs/benchmarks`.

A picture has a panel for each metric that its row draws: a bar for each trial, as long as the median, a line from the
lowest to the highest repetition, and the figures beside it.  Bars begin at 0.  Nothing is left out: a trial that failed
says so.  The same files give the same picture, byte for byte: no date, no random names.

It is read on light and on dark pages: it has its own background, and a style sheet swaps all colours at once where the
reader prefers dark.  It has a title and a description for who cannot see it; its text is text.

Deciding (`picture_of`) is pure; drawing needs matplotlib, which is imported there and nowhere else.
"""

import argparse
import io
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape

from benchmarks.metrics import METRICS
from benchmarks.records import Kept, read_all
from benchmarks.rows import ROWS
from benchmarks.spreads import Results
from paceline.stats.spread import Spread

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


class NoMatplotlib(Exception):
    """Pictures need what is not installed; the text says how to get it."""


@dataclass(frozen=True, slots=True)
class Bar:
    """One trial in a panel; `spread` is None when it failed each time."""

    trial: str
    spread: Spread | None
    is_ours: bool

    def text(self, digits: int) -> str:
        return "failed" if self.spread is None else self.spread.text(digits)

    def median(self, digits: int) -> str:
        return "failed" if self.spread is None else f"{self.spread.median:,.{digits}f}"


@dataclass(frozen=True, slots=True)
class Panel:
    """One metric of all trials that have it."""

    metric: str
    bars: Sequence[Bar]

    @property
    def axis(self) -> str:
        """What is along the axis: quantity, unit, direction."""
        metric = METRICS[self.metric]
        return f"{metric.axis or metric.title} ({'more' if metric.more else 'less'} is better)"

    @property
    def in_words(self) -> str:
        """All figures of it."""
        digits = METRICS[self.metric].digits
        return f"{self.axis}: {'; '.join(f'{bar.trial} {bar.text(digits)}' for bar in self.bars)}."


@dataclass(frozen=True, slots=True)
class Picture:
    """All of a row's panels, one below the other."""

    row: int
    title: str
    foot: str
    panels: Sequence[Panel]

    @property
    def name(self) -> str:
        return f"row-{self.row}.svg"

    @property
    def in_short(self) -> str:
        """The text alternative beside a table that has all figures: the medians of the first panel."""
        first = self.panels[0]
        medians = (f"{bar.trial} {bar.median(METRICS[first.metric].digits)}" for bar in first.bars)
        return f"Bars of row {self.row}, {first.axis}, medians: {'; '.join(medians)}."

    @property
    def in_words(self) -> str:
        """All figures, for who has the picture alone."""
        return " ".join([*(panel.in_words for panel in self.panels), self.foot])


def picture_of(results: Results, on: str = "") -> Picture | None:
    """What is to be drawn of a row, `on` which machine; None when there is nothing."""
    panels = [panel for metric in results.row.draws if (panel := _panel(results, metric)) is not None]
    if not panels:
        return None
    counts = {bar.spread.count for panel in panels for bar in panel.bars if bar.spread is not None}
    times = f"{min(counts)}" if len(counts) == 1 else f"{min(counts)} to {max(counts)}"
    foot = f"Bar: median of {times}; line: lowest to highest. {on}".strip()
    return Picture(results.row.number, results.row.title, foot, panels)


def _panel(results: Results, metric: str) -> Panel | None:
    failed = {record.trial for record in results.failures}
    bars = []
    for trial in results.row.trials:
        spread = results.shown(trial.name, metric)
        # A trial of another kind (a program that is only imported) has no such metric, and did not fail.
        if spread is not None or (trial.name in failed and not results.rounds(trial.name)):
            bars.append(Bar(trial.name, spread, "paceline" in trial.name))
    return Panel(metric, bars) if any(bar.spread is not None for bar in bars) else None


# ---- drawing; inches, and points of type ----------------------------------------------------------------------------

WIDTH = 8.6
LEFT, BARS, RIGHT = 2.45, 3.6, 2.55
BAR, TITLE, AXIS, FOOT = 0.27, 0.27, 0.62, 0.5
LETTERS_OF_NAME, LETTERS_OF_TITLE, LETTERS_OF_FOOT = 36, 84, 110
"""What the room holds, and where lines are broken; tests hold the rows' names to it."""

FONT = "'DejaVu Sans', Verdana, 'Segoe UI', Helvetica, Arial, sans-serif"
"""The first is matplotlib's own, for which the room was measured; the others are narrower."""

COLORS = {  # what it is for: light, dark; each pair has a contrast of 4.5 (text) or 3 (bars) with its background
    "ground": ("#ffffff", "#0d1117"),
    "ink": ("#1f2328", "#f0f6fc"),
    "quiet ink": ("#59636e", "#9198a1"),
    "grid": ("#d1d9e0", "#3d444d"),
    "ours": ("#0969da", "#4493f8"),
    "others": ("#818b98", "#7a828d"),
}
LIGHT = {name: light for name, (light, _) in COLORS.items()}

LINE: dict[str, Any] = {
    "color": LIGHT["ink"],
    "linewidth": 1.1,
    "marker": "|",
    "markersize": 5,
    "markeredgewidth": 1.1,
}
SETTINGS: dict[Any, Any] = {
    "svg.hashsalt": "paceline",  # else the ids of clip paths are random
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.family": ["DejaVu Sans"],
    "font.size": 9,
    "text.color": LIGHT["ink"],
    "axes.edgecolor": LIGHT["grid"],
    "axes.labelcolor": LIGHT["quiet ink"],
    "xtick.color": LIGHT["quiet ink"],
    "ytick.color": LIGHT["ink"],
}


def svg(picture: Picture) -> str:
    """The picture as the text of an SVG file.  Raises NoMatplotlib."""
    try:
        import matplotlib as mpl
        from matplotlib.backends.backend_svg import FigureCanvasSVG
    except ImportError as error:
        raise NoMatplotlib(f"pictures need matplotlib: pip install -e '.[benchmarks]' ({error})") from error
    drawn = io.StringIO()
    with mpl.rc_context():
        mpl.rcdefaults()  # whatever the user's matplotlibrc says
        mpl.rcParams.update(SETTINGS)
        figure = _figure(picture)
        FigureCanvasSVG(figure)
        figure.savefig(drawn, format="svg", metadata={"Date": None, "Creator": None})
    return _finished(drawn.getvalue(), picture)


def _figure(picture: Picture) -> "Figure":
    from matplotlib.figure import Figure

    title = textwrap.wrap(picture.title, LETTERS_OF_TITLE)
    foot = textwrap.wrap(picture.foot, LETTERS_OF_FOOT)
    heights = [len(panel.bars) * BAR for panel in picture.panels]
    height = 0.2 + TITLE * len(title) + sum(heights) + AXIS * len(heights) + 0.16 * len(foot) + 0.1
    figure = Figure(figsize=(WIDTH, height), facecolor=LIGHT["ground"])
    top = height - 0.15
    for line in title:
        figure.text(0.15 / WIDTH, top / height, line, va="top", fontsize=10.5, fontweight="bold")
        top -= TITLE
    top -= 0.05
    for panel, its in zip(picture.panels, heights, strict=True):
        axes = figure.add_axes((LEFT / WIDTH, (top - its) / height, BARS / WIDTH, its / height), facecolor="none")
        _draw(axes, panel)
        top -= its + AXIS
    for line in foot:
        figure.text(0.15 / WIDTH, top / height, line, va="top", fontsize=7.5, color=LIGHT["quiet ink"])
        top -= 0.16
    return figure


def _draw(axes: "Axes", panel: Panel) -> None:
    """A panel: names to the left, bars with their spread, figures to the right."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    digits = METRICS[panel.metric].digits
    most = max(bar.spread.highest for bar in panel.bars if bar.spread is not None) or 1.0
    axes.set_xlim(0, most * 1.03)
    axes.set_ylim(len(panel.bars) - 0.5, -0.5)
    axes.set_yticks(range(len(panel.bars)), [bar.trial for bar in panel.bars])
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    axes.set_xlabel(panel.axis)
    axes.tick_params(length=0)
    axes.grid(axis="x", color=LIGHT["grid"], linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right", "bottom"):
        axes.spines[side].set_visible(False)
    for place, (bar, name) in enumerate(zip(panel.bars, axes.get_yticklabels(), strict=True)):
        weight = "bold" if bar.is_ours else "normal"
        name.set_fontweight(weight)
        figures = axes.text(
            1.02, place, bar.text(digits), transform=axes.get_yaxis_transform(), va="center_baseline", fontsize=8
        )
        figures.set_fontweight(weight)
        if bar.spread is not None:
            axes.barh(place, bar.spread.median, height=0.66, color=LIGHT["ours" if bar.is_ours else "others"])
            axes.plot((bar.spread.lowest, bar.spread.highest), (place, place), clip_on=False, **LINE)


def _finished(drawn: str, picture: Picture) -> str:
    """With text alternatives, and both sets of colours."""
    swapped = [
        f'[style*="{what}: {light}"] {{ {what}: {dark} !important }}'
        for light, dark in COLORS.values()
        for what in ("fill", "stroke")
    ]
    style = "\n   ".join(["@media (prefers-color-scheme: dark) {", *swapped]) + "\n  }"
    added = (
        f' role="img" aria-labelledby="title description">\n'
        f' <title id="title">{escape(f"Row {picture.row}: {picture.title}")}</title>\n'
        f' <desc id="description">{escape(picture.in_words)}</desc>\n'
        f' <style type="text/css">\n  {style}\n </style>\n'
    )
    at = drawn.index("<svg ")
    before, inside = drawn[:at], drawn[at:]
    tag, inside = inside.split(">\n", 1)
    whole = before + tag + added + inside.replace("'DejaVu Sans'", FONT)
    return "\n".join(line.rstrip() for line in whole.splitlines()) + "\n"


def where(kept: Kept) -> str:
    """The machine and the date, short, for the foot of a picture."""
    machine = kept.runs[-1].machine
    dates = sorted({record.at[:10] for record in kept.records})
    when = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"
    python = str(machine.get("python")).partition(" (")[0]
    return f"{machine.get('processor')}, {len(machine.get('usable_cores', []))} cores, {python}, {when}."


def write(kept: Kept, folder: Path) -> list[Path]:
    """A file for each row that has results; which ones.  Raises NoMatplotlib, OSError."""
    pictures = [picture_of(Results(row, kept.records), where(kept)) for row in ROWS.values()]
    drawn = {folder / picture.name: svg(picture) for picture in pictures if picture is not None}
    folder.mkdir(parents=True, exist_ok=True)
    for path, text in drawn.items():
        path.write_text(text, encoding="utf-8")
    return list(drawn)


def main(words: Sequence[str]) -> int:
    """Writes the pictures and prints their paths; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.plots", description="Pictures of kept results.")
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="JSON lines that a run kept")
    parser.add_argument("--to", type=Path, required=True, metavar="FOLDER", help="where row-1.svg and so on go")
    options = parser.parse_args(words)
    try:
        print(*write(read_all(options.files), options.to), sep="\n")
    except (OSError, ValueError, NoMatplotlib) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
