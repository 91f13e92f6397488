"""What was measured: one record per repetition of a case, as it was written, and what repetitions say together.  Pure.

A sample is a plain mapping: `case`, `round`, and what was measured, with the unit in the name (`took_s`, `rss_bytes`).
"""

import statistics
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from paceline.stats.spread import Spread

Sample = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Samples:
    """All samples of one experiment, in the order in which they were made."""

    kept: tuple[Sample, ...] = ()

    def __iter__(self) -> Iterator[Sample]:
        return iter(self.kept)

    def __len__(self) -> int:
        return len(self.kept)

    @property
    def cases(self) -> list[str]:
        """Each once, in the order in which they came first."""
        return list(dict.fromkeys(sample["case"] for sample in self.kept))

    def of(self, case: str) -> list[Sample]:
        return [sample for sample in self.kept if sample["case"] == case]

    def values(self, case: str, quantity: str) -> list[float]:
        """Of all repetitions that have it; a list of numbers counts as so many values."""
        found: list[float] = []
        for sample in self.of(case):
            value = sample.get(quantity)
            if value is not None:
                found += value if isinstance(value, list) else [value]
        return found

    def spread(self, case: str, quantity: str) -> Spread | None:
        return Spread.of(self.values(case, quantity))

    def ratio(self, quantity: str, of: str, to: str) -> Spread | None:
        """`of` ÷ `to`, round by round, because those ran within seconds of each other; None when no round has both."""
        above, below = self._by_round(of, quantity), self._by_round(to, quantity)
        return Spread.of(above[round_] / below[round_] for round_ in above if below.get(round_))

    def _by_round(self, case: str, quantity: str) -> dict[int, float]:
        """The median of each round."""
        found: dict[int, list[float]] = {}
        for sample in self.of(case):
            values = Samples((sample,)).values(case, quantity)
            found.setdefault(sample["round"], []).extend(values)
        return {round_: statistics.median(values) for round_, values in found.items() if values}

    @staticmethod
    def made(samples: Iterable[Sample]) -> "Samples":
        return Samples(tuple(samples))
