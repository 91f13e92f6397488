"""What repetitions say together: medians with what lies around them, and ratios within rounds.  Pure.

Every figure is the median of its repetitions, with the lowest and the highest behind it.  A ratio is taken between two
trials of the same round, which ran within seconds of each other, and then the median of those ratios.
"""

from collections.abc import Iterable

from benchmarks.metrics import METRICS
from benchmarks.records import Record
from benchmarks.terms import Row
from paceline.stats.spread import Spread

Key = tuple[str, int]
"""Run and round: what pairs the trials of a row."""


class Results:
    """The measured numbers of one row: trial → round → record."""

    def __init__(self, row: Row, records: Iterable[Record]) -> None:
        self.row = row
        self.failures: list[Record] = []
        self._by_trial: dict[str, dict[Key, Record]] = {}
        for record in records:
            if record.row != row.number:
                continue
            if record.error is not None:
                self.failures.append(record)
            else:
                self._by_trial.setdefault(record.trial, {})[record.run, record.round] = record

    def __bool__(self) -> bool:
        return bool(self._by_trial or self.failures)

    def rounds(self, trial: str) -> int:
        """In how many the trial was measured."""
        return len(self._by_trial.get(trial, {}))

    def values(self, trial: str, metric: str) -> dict[Key, float]:
        """The metric in each round in which it was measured."""
        records = self._by_trial.get(trial, {})
        return {key: record.numbers[metric] for key, record in records.items() if metric in record.numbers}

    def spread(self, trial: str, metric: str) -> Spread | None:
        return Spread.of(self.values(trial, metric).values())

    def shown(self, trial: str, metric: str) -> Spread | None:
        """In the unit in which people see it."""
        spread = self.spread(trial, metric)
        return None if spread is None else spread / METRICS[metric].unit

    def ratio(self, metric: str, of: str, to: str | float) -> Spread | None:
        """`of` ÷ `to`, round by round; None when no round has both."""
        above = self.values(of, metric)
        below = self.values(to, metric) if isinstance(to, str) else dict.fromkeys(above, to)
        return Spread.of(value / below[key] for key, value in above.items() if below.get(key))

    def everything(self, metric: str) -> list[float]:
        """The metric of all trials and rounds."""
        return [value for trial in self._by_trial for value in self.values(trial, metric).values()]
