"""One look at the scoreboard: a copy, read by names.  Pure: board.py copies, and hands the words over.

    Snapshot      per seat a `Seat`; totals over every row that was ever used
    Seat          the worker's `Row`, the `Row` of each thread that was ever there, their histograms
    Row           the cells of one row by the names of their fields; codes also as words

Names come from the tables in the board's own header, so a reader shows what another version wrote: ask with `get`
for a field that not every version has.  Rows that nobody has used are not there (threads) or all zeros (seats).

Each word is whole, and was true at some moment of the copying; two words need not be of the same moment.  A sum over a
counter therefore never falls from one snapshot to the next, but the sum of two counters may differ by what happened in
between.
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from paceline.errors import HostError, UsageError
from paceline.scoreboard.fields import Field, FieldKind
from paceline.scoreboard.layout import Layout, rows_within
from paceline.stats.histogram import CELLS, SCHEME, Histogram

Part = tuple[int, Sequence[int]]
"""Copied words, and the index in the board of the first of them."""


class Row(Mapping[str, int]):
    """The cells of one row by name."""

    __slots__ = ("_cell_of", "_cells", "_fields")

    def __init__(self, fields: Sequence[Field], cell_of: Mapping[str, int], cells: Sequence[int]) -> None:
        self._fields = fields
        self._cell_of = cell_of
        self._cells = cells

    def __getitem__(self, name: str) -> int:
        return self._cells[self._cell_of[name]]

    def __iter__(self) -> Iterator[str]:
        return iter(self._cell_of)

    def __len__(self) -> int:
        return len(self._cell_of)

    def __repr__(self) -> str:
        return f"Row({self.plain()})"

    def word(self, name: str) -> str:
        """What the code in this cell means; its number as text when the table has no word for it."""
        cell = self._cell_of[name]
        code = self._cells[cell]
        codes = self._fields[cell].codes
        return codes[code] if code < len(codes) else str(code)

    def plain(self) -> dict[str, int | str]:
        """All of it, codes as words: for JSON."""
        return {
            field.name: self.word(field.name) if field.kind is FieldKind.CODE else cell
            for field, cell in zip(self._fields, self._cells, strict=False)
        }


@dataclass(frozen=True, slots=True)
class Seat:
    """One seat: the worker that sits there, or what its last one left."""

    layout: Layout = field(repr=False)
    index: int
    worker: Row
    threads: Mapping[int, Row]
    """By index; only rows that were ever used."""
    samples: Mapping[int, Sequence[int]] = field(repr=False)
    """The cells of each thread's histogram, of those that have one."""

    @property
    def state(self) -> str:
        """The worker's state as a word."""
        return self.worker.word("state")

    @property
    def is_occupied(self) -> bool:
        """A worker sits here and is not known to be dead."""
        return self.state not in ("free", "gone")

    def doing(self, thread: int) -> str:
        """What a thread does: its state as a word, but "calling" also for one that serves and has lost the lead.

        That one was in a call of the fast path, which says nothing, when the watcher promoted another.
        """
        state = self.threads[thread].word("state")
        led = thread + 1
        return "calling" if state == "serving" and self.worker.get("leader", led) != led else state

    def total(self, name: str) -> int:
        """The worker's cell of this name, or the sum over its threads.

        Raises UsageError when there is no such field, or its sum means nothing.
        """
        for fields, rows in (
            (self.layout.worker_fields, (self.worker,)),
            (self.layout.thread_fields, self.threads.values()),
        ):
            if any(field.name == name and field.kind.adds for field in fields):
                return sum(row[name] for row in rows)
        raise UsageError(f"{name!r} is no counter or gauge of this scoreboard")

    def histogram(self) -> Histogram:
        """The sampled durations of the calls on this seat, since the board was made.

        Raises HostError when another version made the board and its histograms mean something else.
        """
        return _merged(self.layout, self.samples.values())


class Call(NamedTuple):
    """A run of the handler: two snapshots that hold the same one show the same run.

    A whole-connection call counts as another one after each time it has received something: it goes on, and is not
    stuck.
    """

    seat: int
    thread: int
    pid: int
    calls: int
    messages: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A copy of one scoreboard."""

    layout: Layout
    seats: tuple[Seat, ...]
    """All of them, by index."""

    @classmethod
    def of(cls, layout: Layout, parts: Sequence[Part]) -> "Snapshot":
        """The snapshot of copied words.  `parts` are in the order of the board; what lies in none of them is 0."""
        copy = _Copy(parts)
        each = layout.seats * layout.threads
        rows: list[dict[int, Row]] = [{} for _ in range(layout.seats)]
        for ordinal, cells in copy.rows(layout.threads_at, layout.thread_cells, each):
            seat, thread = divmod(ordinal, layout.threads)
            rows[seat][thread] = Row(layout.thread_fields, layout.thread_cell, cells)
        samples: list[dict[int, Sequence[int]]] = [{} for _ in range(layout.seats)]
        for ordinal, cells in copy.rows(layout.samples_at, layout.histogram_cells, each):
            seat, thread = divmod(ordinal, layout.threads)
            samples[seat][thread] = cells
        workers = (copy.cells(layout.worker_index(seat), layout.worker_cells) for seat in range(layout.seats))
        seats = (
            Seat(layout, seat, Row(layout.worker_fields, layout.worker_cell, cells), rows[seat], samples[seat])
            for seat, cells in enumerate(workers)
        )
        return cls(layout, tuple(seats))

    @property
    def occupied(self) -> list[Seat]:
        """The seats where a worker sits."""
        return [seat for seat in self.seats if seat.is_occupied]

    @property
    def calls(self) -> int:
        """Calls begun since the board was made."""
        return self.total("calls")

    @property
    def messages(self) -> int:
        """Messages taken in since the board was made."""
        return self.total("messages")

    def total(self, name: str) -> int:
        """The sum over all rows: of a counter since the board was made, of a gauge now.

        Raises UsageError when there is no such field, or its sum means nothing.
        """
        return sum(seat.total(name) for seat in self.seats)

    def counters(self) -> dict[str, int]:
        """The totals of all counters by name."""
        fields = self.layout.worker_fields + self.layout.thread_fields
        return {field.name: self.total(field.name) for field in fields if field.kind is FieldKind.COUNTER}

    def histogram(self) -> Histogram:
        """The sampled durations of all calls since the board was made.  Raises HostError as `Seat.histogram`."""
        return _merged(self.layout, (cells for seat in self.seats for cells in seat.samples.values()))

    def running(self) -> frozenset[Call]:
        """The calls that go on and do not wait for their peers: of a leader only once the watcher has seen that it is
        inside one."""
        return frozenset(
            Call(seat.index, thread, seat.worker["pid"], row["calls"], row["messages"])
            for seat in self.occupied
            for thread, row in seat.threads.items()
            if seat.doing(thread) == "calling"
        )


def same_calls(before: Snapshot, after: Snapshot) -> frozenset[Call]:
    """The calls that ran in both, and so all the time between."""
    return before.running() & after.running()


def first_seen(earlier: Mapping[Call, int], snapshot: Snapshot, now_ns: int) -> dict[Call, int]:
    """When each running call was first seen: what `earlier` says of it, else `now_ns`; the others are left out.

    Called with its last answer at every look, it tells how long each call has run, to within one look and without a
    clock in the worker.
    """
    return {call: earlier.get(call, now_ns) for call in snapshot.running()}


_DOING = {
    "calling": ("in a call", "in calls"),
    "peer": ("waiting for its peer in a call", "waiting for their peers in calls"),
    "serving": ("serving", "serving"),
    "polling": ("polling", "polling"),
    "starting": ("starting", "starting"),
    "waiting": ("waiting for work", "waiting for work"),
}
"""What one thread and what several do in each state, in the order in which it is said."""


def describe_threads(snapshot: Snapshot, seat: int) -> str:
    """What the threads of a seat do, or did when their worker died (before the board's `leave`): fits after "while".

    `2 threads were in calls, 1 was polling`; `no thread had started`.
    """
    there = snapshot.seats[seat]
    states = Counter(there.doing(thread) for thread in there.threads)
    del states["none"]
    said: list[str] = []
    for state in [*_DOING, *sorted(states.keys() - _DOING.keys())]:
        if n := states[state]:
            noun = "" if said else " thread" if n == 1 else " threads"
            one, many = _DOING.get(state, (f"in state {state}", f"in state {state}"))
            said.append(f"{n}{noun} was {one}" if n == 1 else f"{n}{noun} were {many}")
    return ", ".join(said) or "no thread had started"


def _merged(layout: Layout, samples: Iterable[Sequence[int]]) -> Histogram:
    if (layout.histogram_scheme, layout.histogram_cells) != (SCHEME, CELLS):
        raise HostError(
            f"the scoreboard's histograms are of another kind ({layout.histogram_scheme}): "
            "use the paceline command that belongs to the running server"
        )
    return Histogram.sum_of(samples)


class _Copy:
    """Copied words, with zeros in the holes between them."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self.parts = parts
        self.starts = [start for start, _ in parts]

    def cells(self, index: int, count: int) -> Sequence[int]:
        """`count` words from `index` on."""
        at = bisect_right(self.starts, index) - 1
        if at >= 0:
            start, words = self.parts[at]
            if index + count <= start + len(words):
                return words[index - start : index - start + count]
        cells = [0] * count  # it begins, ends or lies in a hole
        for start, words in self.parts[max(at, 0) :]:
            if start >= index + count:
                break
            first, end = max(index, start), min(index + count, start + len(words))
            if first < end:
                cells[first - index : end - index] = words[first - start : end - start]
        return cells

    def rows(self, base: int, row_cells: int, rows: int) -> Iterator[tuple[int, Sequence[int]]]:
        """Of the rows from `base` on, those with something in them, with their ordinals."""
        done = -1
        for start, words in self.parts:
            for ordinal in rows_within(base, row_cells, rows, start, start + len(words)):
                if ordinal > done:  # two parts may touch the same row
                    done = ordinal
                    cells = self.cells(base + ordinal * row_cells, row_cells)
                    if any(cells):
                        yield ordinal, cells
