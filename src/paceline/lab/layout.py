"""Room and words in a figure: what figures.py draws with.  Inches, and points of type.

Room is left for words by counting their columns (columns.py): a Chinese letter takes two.  What matplotlib measures is
of no use for that: it has no such letters, and the reader's font is another one.  That is why each line of text is
written by itself, too: SVG then aligns it by what the reader's font makes of it.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from paceline.lab.columns import width, wrapped
from paceline.lab.style import LIGHT
from paceline.lab.texts import Text
from paceline.lab.wording import number_text
from paceline.stats.spread import Spread

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SETTINGS: dict[Any, Any] = {
    "svg.hashsalt": "paceline",  # else the ids of clip paths are random
    "svg.fonttype": "none",
    "text.parse_math": False,
    "axes.unicode_minus": False,
    "font.family": ["DejaVu Sans"],
    "font.size": 9,
    "axes.edgecolor": LIGHT["grid"],
    "axes.labelcolor": LIGHT["quiet"],
    "xtick.color": LIGHT["quiet"],
    "ytick.color": LIGHT["quiet"],
    "text.color": LIGHT["ink"],
}

WIDE = 7.6
LINE = 0.165
"""From one line of type to the next."""
COLUMN = 0.072
"""What a narrow letter takes."""
BELOW = 0.46
"""For the numbers of the axis, and its name."""

SERIES = [LIGHT[name] for name in LIGHT if name.startswith("series-")]
MARKERS = "os^Dvp"
DASHES: Sequence[Any] = ((0, (5, 2.5)), (0, (1.2, 1.8)), (0, (6, 2, 1.2, 2)), (0, (9, 3)))

ONE_EACH = Text("Each is one value.", "每个都只是一个值。")


def axes_in(left: float, right: float, top: float, height: float, foot: str) -> "Axes":
    """Axes of this height in a figure of their own, with so much around them, and a foot-note."""
    from matplotlib.figure import Figure

    lines = wrapped(foot, int(WIDE / COLUMN * 1.08))
    below = BELOW + (0.05 + LINE * len(lines) if lines else 0)
    whole = top + height + below
    figure = Figure(figsize=(WIDE, whole))
    axes = figure.add_axes((left / WIDE, below / whole, (WIDE - left - right) / WIDE, height / whole))
    axes.set_facecolor("none")
    axes.set_axisbelow(True)
    axes.tick_params(length=0)
    axes.spines[["top", "right"]].set_visible(False)
    for number, line in enumerate(reversed(lines)):
        figure.text(0.12 / WIDE, (0.05 + LINE * number) / whole, line, fontsize=8, color=LIGHT["quiet"])
    return axes


def write(
    axes: "Axes", at: tuple[float, float], lines: Sequence[str], *, dx: float = 0, dy: float = 0, ha: str = "left",
    in_data: bool | str = False, is_middle: bool = False, **style: Any,
) -> None:  # fmt: skip
    """Lines of text at a place (shares of the axes; or with `in_data` as its numbers, "y": across in shares).

    dx, dy      points to the right and up; the first line is there
    is_middle   the middle of the first line is at that height, not its foot
    """
    coordinates = {False: "axes fraction", True: "data", "y": axes.get_yaxis_transform()}[in_data]
    size = style.setdefault("fontsize", 9)
    down = 0.36 * size if is_middle else 0
    for number, line in enumerate(lines):
        offset = (dx, dy - down - 72 * LINE * number)
        axes.annotate(line, at, offset, coordinates, "offset points", ha=ha, va="baseline", **style)  # type: ignore[arg-type]


def widest(texts: Iterable[str]) -> int:
    return max(map(width, texts), default=0)


def foot_text(of: Text, spreads: Sequence[Spread], language: str) -> str:
    """`of`, with how many values there are."""
    counts = sorted({spread.count for spread in spreads})
    if not counts:
        return ""
    if counts == [1]:
        return ONE_EACH[language]
    first, last = (f"{count:,}" for count in (counts[0], counts[-1]))
    between = " 至 " if language == "zh" else " to "
    return of.filled(count=first if first == last else f"{first}{between}{last}")[language]


def mark_ticks(axis: Any, wanted: Collection[float]) -> None:
    """Where the numbers along an axis are: at points (`wanted`), if there is room for many; else at round ones."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

    axes, is_x = axis.axes, axis.axis_name == "x"
    low, high = sorted(axes.get_xlim() if is_x else axes.get_ylim())
    is_log = axis.get_scale() == "log"
    if is_log:
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high / low < 400 else (1.0,)))
        axis.set_minor_locator(NullLocator())
    else:
        axis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    inches = axes.get_position().width * WIDE
    kept: list[float] = []
    until = -1.0
    for value in sorted(wanted):
        at = axes.transAxes.inverted().transform(axes.transData.transform((value, 1.0)))[0] * inches
        half = COLUMN * len(number_text(value)) / 2
        if at - half > until:
            kept.append(value)
            until = at + half + 0.06
    if 1 < len(kept) <= 14 and len(wanted) <= 3 * len(kept):
        axis.set_ticks(kept)


# Keys


def keys_of(names: Sequence[str], room: float) -> tuple[list[tuple[int, float, int]], float]:
    """(line, inches from the left, which name) of each key, in a room of such a width; and how high they all are."""
    found, line, x = [], 0, 0.0
    for number, name in enumerate(names):
        needed = 0.24 + COLUMN * width(name) + 0.2
        if x and x + needed > room:
            line, x = line + 1, 0.0
        found.append((line, x, number))
        x += needed
    return found, LINE * (line + 1) + 0.1 if names else 0.0


def draw_key(axes: "Axes", x: float, up: float, name: str, **style: Any) -> None:
    """A small square in the colour, and the name; so far from the upper left corner of the axes."""
    from matplotlib.patches import Rectangle

    box = axes.get_position()
    wide, high = box.width * WIDE, box.height * axes.figure.get_figheight()  # type: ignore[union-attr]
    corner, size = (x / wide, 1 + (up - 0.1) / high), (0.16 / wide, 0.115 / high)
    square = Rectangle(corner, *size, transform=axes.transAxes, clip_on=False, **style)
    axes.add_patch(square)
    write(axes, (0, 1), [name], dx=72 * (x + 0.23), dy=72 * (up - 0.095))


def frame_style(number: int) -> dict[str, Any]:
    """How the frame of a mark is drawn: told apart by its dashes, too."""
    color = SERIES[1 + number % (len(SERIES) - 1)]
    dash = "-" if number == 0 else DASHES[(number - 1) % len(DASHES)]
    return {"facecolor": "none", "edgecolor": color, "linewidth": 2.0, "linestyle": dash}


# Where things go


def spread_out(wanted: Sequence[float], heights: Sequence[float], whole: float) -> list[float]:
    """Where the middles of things of these heights come, from 0 to `whole`: in the order wanted, none over another."""
    order = sorted(range(len(wanted)), key=lambda at: wanted[at])
    found = list(wanted)
    lowest = 0.0
    for at in order:
        found[at] = max(found[at], lowest + heights[at] / 2)
        lowest = found[at] + heights[at] / 2
    highest = max(whole, 0.0)
    for at in reversed(order):
        found[at] = min(found[at], highest - heights[at] / 2)
        highest = found[at] - heights[at] / 2
    return found
