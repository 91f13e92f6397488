"""What can be drawn, as plain values: nothing here knows how (drawing.py does).  Pure.

Nothing is drawn that was not measured: what a theory says, or a simulation, says so by its `kind`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from paceline.lab.texts import Text
from paceline.stats.spread import Spread


class Kind(Enum):
    """Where the points come from."""

    MEASURED = "measured"
    THEORY = "theory"
    SIMULATED = "simulated"


@dataclass(frozen=True, slots=True)
class Axis:
    """What is along it; `unit` is empty for counts."""

    label: Text
    unit: str = ""
    is_log: bool = False


@dataclass(frozen=True, slots=True)
class Series:
    """Points with the same meaning: (x, spread); a point of a theory has a spread of one value."""

    name: Text
    points: Sequence[tuple[float, Spread]]
    kind: Kind = Kind.MEASURED


@dataclass(frozen=True, slots=True)
class Lines:
    """One quantity over another."""

    title: Text
    x: Axis
    y: Axis
    series: Sequence[Series]


@dataclass(frozen=True, slots=True)
class Bar:
    """`group`: bars of one colour; `spread` is None where it could not be measured, and `note` says why."""

    name: Text
    spread: Spread | None
    group: int = 0
    note: Text | None = None


@dataclass(frozen=True, slots=True)
class Bars:
    """One quantity of several cases, as bars from 0 (or on a logarithmic axis)."""

    title: Text
    axis: Axis
    bars: Sequence[Bar]
    groups: Sequence[Text] = ()
    """The names of the groups, for a legend."""


@dataclass(frozen=True, slots=True)
class Lane:
    """Who was at work when: spans (from, to) in the axis' unit."""

    name: Text
    spans: Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Timeline:
    """Lanes one below the other over the same time."""

    title: Text
    axis: Axis
    lanes: Sequence[Lane]
    kind: Kind = Kind.MEASURED


@dataclass(frozen=True, slots=True)
class Heat:
    """One quantity over two others: `cells[row][column]`, None where nothing was measured; `marks` are frames."""

    title: Text
    x: Axis
    y: Axis
    value: Axis
    columns: Sequence[float]
    rows: Sequence[float]
    cells: Sequence[Sequence[float | None]]
    marks: Sequence[tuple[float, float, Text]] = ()
    """(x, y, what is there)."""


Plot = Lines | Bars | Timeline | Heat
