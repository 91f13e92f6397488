"""The scoreboard: one piece of shared memory in which every thread publishes what it does, and which anyone may read.

The supervisor makes it before the first fork; every worker has it by inheritance; a supervisor that replaced itself,
and a reader that was never part of the family, `attach` to its descriptor.  Workers store to `words` directly, at the
indices that `layout` gives; the rules of who stores where are in fields.py.

**No lock, so nobody is blocked by one that died or was stopped.**  That rests on one fact: an aligned 64-bit word is
stored and loaded whole.  CPython packs and unpacks an item of a memoryview of format Q by a memcpy of 8 bytes between
the memory and a local variable (Objects/memoryobject.c, PACK_SINGLE and UNPACK_SINGLE), which compilers make one `mov`;
the words lie on multiples of 8, where one load or store is atomic on x86-64 (Intel SDM 3A, 9.1.1) and on 64-bit Arm
(Arm ARM, B2.2.1).  A copy of many words at once, by `bytes`, a slice of the mmap or read(2), has no such promise: so a
snapshot is taken with `tolist`, word by word.

**Memory is what was used.**  Untouched pages are holes, which neither `sit` nor `snapshot` fills: both ask the kernel
first which pages hold something, because a load through the mapping would make the page.

Any thread may call `snapshot`.  `sit` and `leave` are for the one process that gives the seat away.
"""

import contextlib
from collections.abc import Iterator
from mmap import mmap

from paceline.errors import UsageError
from paceline.host import memory
from paceline.scoreboard.fields import CELL_BYTES, WORKER_STATES, Field
from paceline.scoreboard.layout import (
    HEADER_BYTES,
    Header,
    Layout,
    decode_header,
    encode_header,
    rows_within,
    table_bytes,
)
from paceline.scoreboard.snapshot import Snapshot


class Board:
    """A mapped scoreboard.  Made by `create` or `attach`."""

    __slots__ = ("_mapped", "fd", "header", "layout", "words")

    def __init__(self, fd: int, header: Header, mapped: mmap) -> None:
        self.fd = fd
        self.header = header
        self.layout = header.layout
        self._mapped = mapped
        self.words: memoryview[int] = memoryview(mapped).cast("Q")
        """All of it, as 64-bit words; not writable when the descriptor is not."""

    @classmethod
    def create(
        cls, seats: int, threads: int, *, supervisor_pid: int = 0, supervisor_start_ticks: int = 0, created_ns: int = 0
    ) -> "Board":
        """A new board, all seats free; its descriptor is close-on-exec.

        The other arguments go into the header for readers (layout.py, `Header`).  Raises UsageError for a geometry that
        cannot be, HostError when the machine has no memory or no descriptor for it.
        """
        layout = Layout(seats, threads)
        header = Header(layout, layout.fingerprint, supervisor_pid, supervisor_start_ticks, created_ns)
        fd = memory.create_fixed("paceline-scoreboard", layout.size_bytes)
        try:
            mapped = memory.attach(fd, layout.size_bytes)
        except BaseException:
            memory.close(fd)
            raise
        first = encode_header(header)
        mapped[: len(first)] = first
        return cls(fd, header, mapped)

    @classmethod
    def attach(cls, fd: int) -> "Board":
        """The board behind a descriptor, which belongs to it from now on; one open for reading will do for a reader.

        Raises UsageError when that is no scoreboard, HostError when it cannot be read or mapped; then the descriptor
        stays the caller's.
        """
        try:
            if not memory.is_fixed(fd):
                raise UsageError(f"descriptor {fd} is not a scoreboard: pass the one that a running supervisor names")
            size = memory.size_of(fd)
            length = table_bytes(memory.read(fd, 0, HEADER_BYTES))
            first = memory.read(fd, 0, min(HEADER_BYTES + length, size))
        except OSError as error:
            raise UsageError(
                f"descriptor {fd} is not a scoreboard ({error.strerror}): pass the one that a running supervisor names"
            ) from error
        header = decode_header(first, size)
        return cls(fd, header, memory.attach(fd, header.layout.size_bytes))

    @property
    def is_current(self) -> bool:
        """Every cell means what this version says it means: only then may its workers sit here."""
        return self.header.fingerprint == Layout(self.layout.seats, self.layout.threads).fingerprint

    def sit(self, seat: int, *, pid: int, slot: int, generation: int, now_ns: int) -> None:
        """Give the seat to a worker that boots.  Before the worker's first store; nobody else stores to the seat.

        Gauges, codes, times and ids of its row and of its threads' rows begin anew; counters and histograms continue.
        """
        self._begin_anew(seat)
        row = self.layout.worker_index(seat)
        new = {"pid": pid, "slot": slot, "generation": generation, "started_ns": now_ns, "heartbeat_ns": now_ns}
        for name, value in new.items():
            self.words[row + self.layout.worker_cell[name]] = value
        # Last, so that whoever sees the seat taken sees by whom.
        self.words[row + self.layout.worker_cell["state"]] = WORKER_STATES["booting"]

    def leave(self, seat: int) -> None:
        """The seat is free; its worker is dead.  What it did stays counted, what it was doing is gone."""
        self._begin_anew(seat)

    def total(self, seat: int, name: str) -> int:
        """The sum of a thread's cell over all threads that the seat ever had."""
        cell, words = self.layout.thread_cell[name], self.words
        return sum(words[row + cell] for row in self._thread_rows(seat))

    def snapshot(self) -> Snapshot:
        """A copy of all that was ever used."""
        layout, parts = self.layout, []
        for start, end in memory.touched(self.fd, layout.workers_at * CELL_BYTES, layout.size_bytes):
            first = start // CELL_BYTES
            parts.append((first, self.words[first : end // CELL_BYTES].tolist()))
        return Snapshot.of(layout, parts)

    def close(self) -> None:
        """Give up the mapping and the descriptor, in this process; may be called again."""
        if self.fd < 0:
            return
        fd, self.fd = self.fd, -1
        with contextlib.suppress(BufferError):  # somebody has a slice of it: unmapped with the last one
            self.words.release()
            self._mapped.close()
        memory.close(fd)

    def _begin_anew(self, seat: int) -> None:
        layout, words = self.layout, self.words
        row = layout.worker_index(seat)
        words[row + layout.worker_cell["state"]] = WORKER_STATES["free"]  # first: the others are not to be believed now
        _clear(words, row, layout.worker_fields)
        for thread_row in self._thread_rows(seat):
            _clear(words, thread_row, layout.thread_fields)

    def _thread_rows(self, seat: int) -> Iterator[int]:
        """Where the rows of a seat's threads begin, of those that were ever used, and some of their neighbours."""
        layout = self.layout
        at, cells = layout.thread_index(seat, 0), layout.thread_cells
        for start, end in memory.touched(self.fd, at * CELL_BYTES, (at + layout.threads * cells) * CELL_BYTES):
            for thread in rows_within(at, cells, layout.threads, start // CELL_BYTES, end // CELL_BYTES):
                yield at + thread * cells


def _clear(words: "memoryview[int]", row: int, fields: tuple[Field, ...]) -> None:
    for cell, field in enumerate(fields, row):
        if not field.kind.continues and words[cell]:
            words[cell] = 0
