"""Durations, counted in buckets whose width grows with the value.  Pure.

Log-linear: each octave from 1,024 ns to 2^40 ns (1,100 s) is cut into 8 buckets of equal width, so that the middle of a
bucket is at most 1/16 away from anything in it.  Faster and slower ones are counted in one bucket each, where only the
one bound is known.  One more cell keeps the sum, so that the mean is exact.  All cells add, so histograms of
threads, workers and machines merge by addition, and a part of time is the difference of two.

`record` writes into words that somebody else owns (a row of the scoreboard), from the one thread that owns the row;
`Histogram` is a copy to ask questions of.
"""

import math
from collections.abc import Iterable, MutableSequence, Sequence
from typing import Protocol

from paceline.errors import UsageError

CELLS = 256
"""Cells set aside for one histogram: 242 buckets, the sum, and room."""
UNDER = 0
OVER = 241
SUM = 242
FIRST_NS = 1 << 10
LAST_NS = 1 << 40
SCHEME = "log-linear ns, 8 per octave, 2^10 to 2^40, under 0, over 241, sum 242"
"""What the cells mean, for readers of another version."""

_WORD = (1 << 64) - 1


class Words(Protocol):
    """Anything with numbered 64-bit words: a memoryview of format Q, or a list in tests."""

    def __getitem__(self, index: int, /) -> int: ...
    def __setitem__(self, index: int, value: int, /) -> None: ...


def bucket_of(ns: int) -> int:
    """The bucket for a duration, UNDER to OVER."""
    if ns < FIRST_NS:
        return UNDER
    if ns >= LAST_NS:
        return OVER
    # The top four bits are 1xxx: the leading one gives the octave, the other three one of its 8 parts.
    shift = ns.bit_length() - 4
    return (shift << 3) + (ns >> shift) - 63


def bounds_of(bucket: int) -> tuple[int, int]:
    """The durations of a bucket, in nanoseconds: from the first to before the second."""
    if bucket == UNDER:
        return 0, FIRST_NS
    if bucket == OVER:
        return LAST_NS, _WORD + 1
    octave, part = divmod(bucket - 1, 8)
    shift = octave + 7
    return (8 + part) << shift, (9 + part) << shift


def record(words: Words, base: int, ns: int) -> None:
    """Count one duration in the histogram that begins at `words[base]`.  Only the owner of these words may call it."""
    cell = base + bucket_of(ns)
    words[cell] += 1
    # Masked, so that no clock, however odd, makes a store that raises in the middle of serving.
    words[base + SUM] = (words[base + SUM] + ns) & _WORD


class Histogram:
    """A histogram of one's own: a copy of recorded cells, or empty.  Not for several threads at once."""

    __slots__ = ("cells",)

    def __init__(self, cells: Sequence[int] | None = None) -> None:
        if cells is not None and len(cells) != CELLS:
            raise UsageError(f"a histogram has {CELLS} cells, not {len(cells)}")
        self.cells: MutableSequence[int] = [0] * CELLS if cells is None else list(cells)

    @classmethod
    def of(cls, durations_ns: Iterable[int]) -> "Histogram":
        """The histogram of these durations."""
        made = cls()
        for ns in durations_ns:
            made.record(ns)
        return made

    @classmethod
    def sum_of(cls, many: Iterable[Sequence[int]]) -> "Histogram":
        """The merger of copied cells; empty when there are none.  Some microseconds for each histogram."""
        rows = list(many)
        if any(len(row) != CELLS for row in rows):
            raise UsageError(f"a histogram has {CELLS} cells")
        return cls([total & _WORD for total in map(sum, zip(*rows, strict=True))] if rows else None)

    def record(self, ns: int) -> None:
        """Count one duration."""
        record(self.cells, 0, ns)

    def add(self, other: "Histogram") -> None:
        """Count all that the other has counted, too."""
        self.cells = [(mine + theirs) & _WORD for mine, theirs in zip(self.cells, other.cells, strict=True)]

    def since(self, earlier: "Histogram") -> "Histogram":
        """What was counted after `earlier`, a copy of the same histogram."""
        return Histogram([(now - then) & _WORD for now, then in zip(self.cells, earlier.cells, strict=True)])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Histogram) and self.cells == other.cells

    __hash__ = None  # type: ignore[assignment]  # it changes

    @property
    def count(self) -> int:
        """How many durations were counted."""
        return sum(self.cells[UNDER : OVER + 1])

    @property
    def mean_ns(self) -> float:
        """Their exact mean; 0 when there are none."""
        return self.cells[SUM] / self.count if self.count else 0.0

    def percentile_bounds(self, percent: float) -> tuple[int, int]:
        """Between which bounds the percentile lies: from the first to before the second, in nanoseconds.

        The percentile is the least recorded duration that at least `percent` of all do not exceed (nearest rank).
        Raises UsageError when nothing was counted or `percent` is not in 0 to 100.
        """
        if not 0 <= percent <= 100:
            raise UsageError(f"a percentile is between 0 and 100, not {percent}")
        count = self.count
        if not count:
            raise UsageError("an empty histogram has no percentiles: look at `count` first")
        # Rounded first: 16.1 % of 1,000 is 161.00000000000003 in binary floating point, and not the 162nd.
        rank = max(1, math.ceil(round(percent * count / 100, 6)))
        seen = 0
        bucket = UNDER
        for bucket in range(UNDER, OVER + 1):
            seen += self.cells[bucket]
            if seen >= rank:
                break
        return bounds_of(bucket)

    def percentile(self, percent: float) -> int:
        """The percentile in nanoseconds, at most 1/16 off; below 1,024 ns and from 2^40 ns on, only near that bound."""
        low, high = self.percentile_bounds(percent)
        return LAST_NS if low == LAST_NS else (low + high) // 2
