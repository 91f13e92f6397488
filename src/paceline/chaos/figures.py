"""What was measured of an abuse, and what it may be at most.  Pure.

A *goal* is what docs/reliability.md promises of a machine that is not short of processors.  Over the *bound* a promise
is broken, whatever the machine: of times that is ten times the goal, of counts the goal itself.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

TIMES = 10
"""How much more than its goal a figure that depends on the machine may be, until a promise is broken."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One of them, of one fault.  `unit`: ms, s, KiB, %, or empty for a count.  No goal: it is only told."""

    fault: str
    what: str
    value: float
    unit: str = ""
    goal: float | None = None
    bound: float | None = None

    @property
    def is_met(self) -> bool:
        return self.goal is None or self.value <= self.goal

    @property
    def is_broken(self) -> bool:
        return self.bound is not None and self.value > self.bound

    def text(self) -> str:
        """`p99 of the others: 3.1 ms (goal: ≤ 50 ms)`."""
        said = f"{self.what}: {amount(self.value, self.unit)}"
        if self.goal is None:
            return said
        return f"{said} ({'goal' if self.is_met else 'MISSED'}: ≤ {amount(self.goal, self.unit)})"

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "value": round(self.value, 4), "met": self.is_met}


def timed(fault: str, what: str, value: float, unit: str, goal: float) -> Figure:
    """A figure that depends on the machine."""
    return Figure(fault, what, value, unit, goal, TIMES * goal)


def counted(fault: str, what: str, value: float, goal: float) -> Figure:
    """A figure that does not."""
    return Figure(fault, what, value, "", goal, goal)


def amount(value: float, unit: str) -> str:
    """`3.1 ms`, `1,000`; with as many digits as say something."""
    digits = 0 if value == int(value) or abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    number = f"{value:,.{digits}f}"
    return f"{number} {unit}" if unit else number


def worst(figures: Iterable[Figure]) -> list[Figure]:
    """Of each that was measured several times the worst, in the order in which they came first."""
    found: dict[tuple[str, str], Figure] = {}
    for figure in figures:
        before = found.get((figure.fault, figure.what))
        if before is None or figure.value > before.value:
            found[figure.fault, figure.what] = figure
    return list(found.values())
