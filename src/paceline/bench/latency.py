"""Latencies: recorded at the price of one addition, kept in buckets narrow enough for percentiles to 1 %.  Pure.

`Rulers` records.  It has three rulers of 65,536 marks, one behind the other, each 256 times coarser: 64 ns apart up to
4.2 ms, 16 µs apart up to 1.07 s, 4.2 ms apart up to 275 s.  So the fast path of the load generator counts a latency by
`rulers.fine[ns >> 6] += weight`, needs no function call and no list that grows, and never stops to tidy up, which
would be measured as a latency of the server.

`Latencies` keeps.  It is sparse and log-linear: each octave of nanoseconds in 128 parts, of which only those that
counted something exist.  What `Rulers` has becomes it at the end; by addition those of processes, and of runs, merge.

A value is nowhere further off than 1/128 for the mark and 1/256 for the bucket, from 8 µs on; below that, by 64 ns.
The histogram of the scoreboard (stats/histogram.py, 1/16) is too coarse to compare two runs by.  The hdrhistogram
package is no better for this: its `record_value` is a call for each latency, and `paceline bench` works without extras.
"""

import math
from collections.abc import Iterable, Mapping

from paceline.errors import UsageError

FINE_SHIFT = 6
_STEP = 8
_MARKS = 1 << 16
LONGEST_NS = _MARKS << (FINE_SHIFT + 2 * _STEP)
"""275 s: what takes longer is counted as this."""

SCHEME = "log-linear ns: below 256 ns each its own; then 128 per octave; [bucket, count] pairs"
"""What the pairs in a file mean, for readers of another version."""
_PARTS_BITS = 7


class Rulers:
    """Records latencies, for one thread."""

    __slots__ = ("_longest_ns", "coarse", "coarser", "fine")

    def __init__(self) -> None:
        self.fine, self.coarse, self.coarser = [0] * _MARKS, [0] * _MARKS, [0] * _MARKS
        self._longest_ns = 0

    def record(self, ns: int, weight: int = 1) -> None:
        """Count a latency, `weight` times.  Below 0 it is counted as 0: a negative index would count at the far end."""
        at = ns >> FINE_SHIFT
        self._longest_ns = max(self._longest_ns, ns)
        if at < _MARKS:
            self.fine[max(at, 0)] += weight
        elif at >> _STEP < _MARKS:
            self.coarse[at >> _STEP] += weight
        else:
            self.coarser[min(at >> 2 * _STEP, _MARKS - 1)] += weight

    def latencies(self) -> "Latencies":
        """What was recorded so far, each at the middle between two marks."""
        found = Latencies()
        for step, ruler in enumerate((self.fine, self.coarse, self.coarser)):
            shift = FINE_SHIFT + step * _STEP
            half = 1 << (shift - 1)
            for at, count in enumerate(ruler):
                if count:
                    found.count((at << shift) + half, count)
        # What `record` has counted is known exactly, and all from the second ruler on is; the rest, by its mark.
        if self._longest_ns >> FINE_SHIFT >= min(found.longest_ns >> FINE_SHIFT, _MARKS):
            found.longest_ns = self._longest_ns
        return found


def bucket_of(ns: int) -> int:
    """The bucket of a latency."""
    shift = max(0, ns.bit_length() - _PARTS_BITS - 1)
    return (shift << _PARTS_BITS) + (ns >> shift)


def bounds_of(bucket: int) -> tuple[int, int]:
    """The latencies of a bucket in nanoseconds: from the first to before the second."""
    shift = max(0, (bucket >> _PARTS_BITS) - 1)
    part = bucket - (shift << _PARTS_BITS)
    return part << shift, (part + 1) << shift


class Latencies:
    """How often which latency was measured."""

    __slots__ = ("counts", "longest_ns")

    def __init__(self, counts: Mapping[int, int] | None = None) -> None:
        self.counts: dict[int, int] = dict(counts or {})
        self.longest_ns = 0
        """The greatest that was counted, as it was; 0: not known, as buckets alone tell only where it is."""

    @classmethod
    def of(cls, many_ns: Iterable[int]) -> "Latencies":
        """The histogram of these latencies."""
        made = cls()
        for ns in many_ns:
            made.count(ns)
        return made

    def count(self, ns: int, weight: int = 1) -> None:
        bucket = bucket_of(ns)
        self.longest_ns = max(self.longest_ns, ns)
        self.counts[bucket] = self.counts.get(bucket, 0) + weight

    def add(self, other: "Latencies") -> None:
        """Count all that the other has counted, too."""
        for bucket, count in other.counts.items():
            self.counts[bucket] = self.counts.get(bucket, 0) + count
        self.longest_ns = max(self.longest_ns, other.longest_ns)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Latencies) and self.counts == other.counts

    __hash__ = None  # type: ignore[assignment]  # it changes

    @property
    def total(self) -> int:
        """How many there are."""
        return sum(self.counts.values())

    @property
    def mean_ns(self) -> float:
        """Their mean; 0 when there are none."""
        total = self.total
        mean_ns = sum(_middle(bucket) * count for bucket, count in self.counts.items()) / total if total else 0.0
        return min(mean_ns, self.most_ns)  # the middle of the last bucket may be beyond it

    @property
    def least_ns(self) -> float:
        """The least; 0 when there are none."""
        return min(_middle(min(self.counts)), self.most_ns) if self.counts else 0.0

    @property
    def most_ns(self) -> float:
        """The greatest, exactly if it is known; 0 when there are none."""
        return float(self.longest_ns or _middle(max(self.counts))) if self.counts else 0.0

    def percentiles(self, percents: Iterable[float]) -> list[float]:
        """For each: the least latency, in nanoseconds, that at least so many percent do not exceed (nearest rank).

        Ascending.  All 0 when there are none.  Raises UsageError for what is not in 0 to 100.
        """
        ordered = sorted(self.counts.items())
        total, found, seen, at = self.total, [], 0, 0
        most_ns = self.most_ns
        for percent in percents:
            if not 0 <= percent <= 100:
                raise UsageError(f"a percentile is between 0 and 100, not {percent}")
            # Rounded first: 16.1 % of 1,000 is 161.00000000000003 in binary floating point, and not the 162nd.
            rank = max(1, math.ceil(round(percent * total / 100, 6)))
            while at < len(ordered) and seen + ordered[at][1] < rank:
                seen += ordered[at][1]
                at += 1
            found.append(min(_middle(ordered[at][0]), most_ns) if ordered else 0.0)
        return found

    def percentile(self, percent: float) -> float:
        """One of them."""
        return self.percentiles([percent])[0]

    def to_json(self) -> list[list[int]]:
        """Pairs of bucket and count, ascending."""
        return [[bucket, count] for bucket, count in sorted(self.counts.items())]

    @classmethod
    def from_json(cls, pairs: Iterable[Iterable[int]]) -> "Latencies":
        """Raises ValueError or TypeError when these are no pairs of counts."""
        made = cls()
        for bucket, count in pairs:
            if not (type(bucket) is int and type(count) is int and bucket >= 0 and count >= 0):
                raise ValueError(f"[{bucket!r}, {count!r}] is no pair of a bucket and a count")
            made.counts[bucket] = made.counts.get(bucket, 0) + count
        return made


def _middle(bucket: int) -> float:
    low, high = bounds_of(bucket)
    return (low + high - 1) / 2
