"""What repetitions say together: the median, and what lies around it.  Pure."""

import statistics
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Spread:
    """A median and what lies around it."""

    median: float
    lowest: float
    highest: float
    count: int

    @staticmethod
    def of(values: Iterable[float]) -> "Spread | None":
        """None when there are no values."""
        values = list(values)
        return Spread(statistics.median(values), min(values), max(values), len(values)) if values else None

    @staticmethod
    def exactly(value: float) -> "Spread":
        """Of what does not vary: what a law or a simulation says."""
        return Spread(value, value, value, 1)

    def text(self, digits: int) -> str:
        """`245,000 (238,000 … 251,000)`; without the spread when it says nothing more."""
        middle, low, high = (f"{value:,.{digits}f}" for value in (self.median, self.lowest, self.highest))
        return middle if low == high else f"{middle} ({low} … {high})"

    def __truediv__(self, unit: float) -> "Spread":
        """The same in another unit."""
        return Spread(self.median / unit, self.lowest / unit, self.highest / unit, self.count)
