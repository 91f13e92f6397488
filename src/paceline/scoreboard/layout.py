"""Where everything lies in a scoreboard, and the header that says so.  Pure.

    header    32 words, then the field tables as JSON, padded to whole pages
    workers   one row per seat
    threads   per seat, one row per thread
    samples   per seat and thread, one histogram

Rows are whole cache lines.  The header holds the geometry and the tables, so that a reader of another version finds
every field by its name; whoever *writes* must have the same tables, and compares one word to know: `fingerprint`.
Words are in the byte order of the machine, because the board never leaves it.
"""

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from paceline.errors import HostError, UsageError
from paceline.scoreboard.fields import (
    CELL_BYTES,
    LINE_CELLS,
    THREAD_FIELDS,
    WORKER_FIELDS,
    Field,
    FieldKind,
)
from paceline.stats.histogram import CELLS as HISTOGRAM_CELLS
from paceline.stats.histogram import SCHEME as HISTOGRAM_SCHEME

MAGIC = int.from_bytes(b"PACELINE", "little")
VERSION = 1
PAGE_BYTES = 4096
HEADER_BYTES = 256
MAX_SEATS = 1 << 14
MAX_THREADS = 4096

_HEADER = struct.Struct("=32Q")


@dataclass(frozen=True)
class Layout:
    """The geometry of one board; every index counts 64-bit words from the start of the board."""

    seats: int
    threads: int
    worker_fields: tuple[Field, ...] = WORKER_FIELDS
    thread_fields: tuple[Field, ...] = THREAD_FIELDS
    histogram_scheme: str = HISTOGRAM_SCHEME
    histogram_cells: int = HISTOGRAM_CELLS

    def __post_init__(self) -> None:
        if not 1 <= self.seats <= MAX_SEATS:
            raise UsageError(f"a scoreboard has 1 to {MAX_SEATS} seats, not {self.seats}")
        if not 1 <= self.threads <= MAX_THREADS:
            raise UsageError(f"a scoreboard has 1 to {MAX_THREADS} threads per seat, not {self.threads}")
        if not 1 <= self.histogram_cells <= PAGE_BYTES:
            raise UsageError(f"a histogram has 1 to {PAGE_BYTES} cells, not {self.histogram_cells}")
        for fields in (self.worker_fields, self.thread_fields):
            if not fields or len({field.name for field in fields}) < len(fields):
                raise UsageError("a table of fields is empty or names a field twice")

    @cached_property
    def table(self) -> bytes:
        """The field tables as JSON."""
        return json.dumps(
            {
                "worker": [_field_row(field) for field in self.worker_fields],
                "thread": [_field_row(field) for field in self.thread_fields],
                "histogram": {"scheme": self.histogram_scheme, "cells": self.histogram_cells},
            },
            separators=(",", ":"),
        ).encode()

    @cached_property
    def fingerprint(self) -> int:
        """64 bits that differ when a cell means something else: FNV-1a over all but the help texts."""
        tables = [[(f.name, int(f.kind), f.unit, f.codes) for f in t] for t in (self.worker_fields, self.thread_fields)]
        said = repr((tables, self.histogram_scheme, self.histogram_cells))
        value = 0xCBF29CE484222325
        for byte in said.encode():
            value = (value ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
        return value

    @cached_property
    def worker_cell(self) -> Mapping[str, int]:
        """Cell of each field of a worker row by its name, counted from `worker_index`."""
        return {field.name: cell for cell, field in enumerate(self.worker_fields)}

    @cached_property
    def thread_cell(self) -> Mapping[str, int]:
        """Cell of each field of a thread row by its name, counted from `thread_index`."""
        return {field.name: cell for cell, field in enumerate(self.thread_fields)}

    @cached_property
    def worker_cells(self) -> int:
        return _whole(len(self.worker_fields), LINE_CELLS)

    @cached_property
    def thread_cells(self) -> int:
        return _whole(len(self.thread_fields), LINE_CELLS)

    @cached_property
    def workers_at(self) -> int:
        return _whole(HEADER_BYTES + len(self.table), PAGE_BYTES) // CELL_BYTES

    @cached_property
    def threads_at(self) -> int:
        return _whole_page(self.workers_at + self.seats * self.worker_cells)

    @cached_property
    def samples_at(self) -> int:
        return _whole_page(self.threads_at + self.seats * self.threads * self.thread_cells)

    @cached_property
    def size_bytes(self) -> int:
        return (self.samples_at + self.seats * self.threads * self.histogram_cells) * CELL_BYTES

    def worker_index(self, seat: int) -> int:
        """First cell of a seat's row."""
        if not 0 <= seat < self.seats:
            raise IndexError(f"seat {seat}: the board has seats 0 to {self.seats - 1}")
        return self.workers_at + seat * self.worker_cells

    def thread_index(self, seat: int, thread: int) -> int:
        """First cell of a thread's row."""
        return self.threads_at + self._ordinal(seat, thread) * self.thread_cells

    def histogram_index(self, seat: int, thread: int) -> int:
        """First cell of a thread's histogram."""
        return self.samples_at + self._ordinal(seat, thread) * self.histogram_cells

    def _ordinal(self, seat: int, thread: int) -> int:
        if not 0 <= seat < self.seats:
            raise IndexError(f"seat {seat}: the board has seats 0 to {self.seats - 1}")
        if not 0 <= thread < self.threads:
            raise IndexError(f"thread {thread}: a seat has threads 0 to {self.threads - 1}")
        return seat * self.threads + thread


@dataclass(frozen=True, slots=True)
class Header:
    """What the first bytes of a board say."""

    layout: Layout
    fingerprint: int
    supervisor_pid: int
    supervisor_start_ticks: int
    """Field 22 of /proc/PID/stat (proc_pid_stat(5)): with the pid it names one process for ever."""
    created_ns: int
    """CLOCK_MONOTONIC."""


def encode_header(header: Header) -> bytes:
    """The bytes a board begins with."""
    layout = header.layout
    words = (
        MAGIC,
        VERSION,
        header.fingerprint,
        len(layout.table),
        layout.seats,
        layout.threads,
        header.supervisor_pid,
        header.supervisor_start_ticks,
        header.created_ns,
    )
    return _HEADER.pack(*words, *[0] * (32 - len(words))) + layout.table


def decode_header(first: bytes, size_bytes: int) -> Header:
    """Read the first bytes of a board of `size_bytes`; `first` must reach to the end of the tables (see `table_bytes`).

    Raises UsageError when this is no scoreboard, HostError when it is one that cannot be read.
    """
    length = table_bytes(first)
    _, _, fingerprint, _, seats, threads, pid, ticks, created_ns = _HEADER.unpack_from(first)[:9]
    try:
        said = json.loads(first[HEADER_BYTES : HEADER_BYTES + length])
        layout = Layout(
            seats,
            threads,
            _field_rows(said["worker"]),
            _field_rows(said["thread"]),
            str(said["histogram"]["scheme"]),
            int(said["histogram"]["cells"]),
        )
    except (ValueError, TypeError, LookupError, RecursionError, UsageError) as error:
        raise _damaged(f"its field tables make no sense ({error})") from error
    if layout.fingerprint != fingerprint:
        raise _damaged("its fingerprint does not match its field tables")
    if layout.size_bytes > size_bytes:
        raise _damaged(f"it should have {layout.size_bytes} bytes and has {size_bytes}")
    return Header(layout, fingerprint, pid, ticks, created_ns)


def table_bytes(first: bytes) -> int:
    """How long the field tables are that follow the header in a board; `first` holds at least the header."""
    if len(first) < HEADER_BYTES or _HEADER.unpack_from(first)[0] != MAGIC:
        raise UsageError("this is not a scoreboard of Paceline: pass the descriptor that a running supervisor names")
    _, version, _, length = _HEADER.unpack_from(first)[:4]
    if version != VERSION:
        raise HostError(
            f"the scoreboard has a header of version {version}, and this Paceline reads version {VERSION}: "
            "use the paceline command that belongs to the running server"
        )
    return int(length)


def rows_within(base: int, row_cells: int, rows: int, first: int, end: int) -> range:
    """Which of the `rows` rows of `row_cells` cells from `base` on have a cell in `first` to before `end`."""
    return range(max(0, (first - base) // row_cells), max(0, min(rows, -(-(end - base) // row_cells))))


def _damaged(why: str) -> HostError:
    return HostError(f"the scoreboard is damaged: {why}; restart the server, which makes a new one")


def _field_row(field: Field) -> list[object]:
    return [field.name, field.kind.name.lower(), field.unit, field.help, list(field.codes)]


def _field_rows(rows: Sequence[Sequence[object]]) -> tuple[Field, ...]:
    fields = []
    for name, kind, unit, text, codes in rows:
        if not isinstance(codes, list):
            raise TypeError(f"the codes of {name} are not a list")
        fields.append(Field(str(name), FieldKind[str(kind).upper()], str(unit), str(text), tuple(map(str, codes))))
    return tuple(fields)


def _whole(n: int, unit: int) -> int:
    return -(-n // unit) * unit


def _whole_page(index: int) -> int:
    return _whole(index, PAGE_BYTES // CELL_BYTES)
