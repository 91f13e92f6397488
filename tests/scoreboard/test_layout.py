"""Where everything lies, and that the header says it: to this version and to another one."""

import json
import struct
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paceline.errors import HostError, UsageError
from paceline.scoreboard.fields import CELL_BYTES, LINE_CELLS, THREAD_FIELDS, WORKER_FIELDS, Field, FieldKind
from paceline.scoreboard.layout import (
    HEADER_BYTES,
    MAX_SEATS,
    MAX_THREADS,
    PAGE_BYTES,
    VERSION,
    Header,
    Layout,
    decode_header,
    encode_header,
    rows_within,
    table_bytes,
)

seats_and_threads = st.tuples(st.integers(1, 40), st.integers(1, 200))


def header_of(layout: Layout) -> Header:
    return Header(layout, layout.fingerprint, supervisor_pid=4711, supervisor_start_ticks=99, created_ns=123_456)


def with_word(first: bytes, word: int, value: int) -> bytes:
    changed = bytearray(first)
    struct.pack_into("=Q", changed, word * CELL_BYTES, value)
    return bytes(changed)


def with_table(layout: Layout, table: bytes) -> bytes:
    first = encode_header(header_of(layout))
    return with_word(first, 3, len(table))[:HEADER_BYTES] + table


# Geometry


@given(seats_and_threads)
def test_no_two_rows_overlap_and_all_lie_within_the_board(size: tuple[int, int]) -> None:
    seats, threads = size
    layout = Layout(seats, threads)
    pairs = [(seat, thread) for seat in range(seats) for thread in range(threads)]
    rows = [
        *((layout.worker_index(seat), layout.worker_cells) for seat in range(seats)),
        *((layout.thread_index(*pair), layout.thread_cells) for pair in pairs),
        *((layout.histogram_index(*pair), layout.histogram_cells) for pair in pairs),
    ]
    end = (HEADER_BYTES + len(layout.table) + CELL_BYTES - 1) // CELL_BYTES
    for index, cells in rows:  # they are written down in the order of the board
        assert index >= end
        end = index + cells
    assert end * CELL_BYTES <= layout.size_bytes


@given(seats_and_threads)
def test_no_two_writers_share_a_cache_line(size: tuple[int, int]) -> None:
    layout = Layout(*size)
    starts = (layout.worker_index(0), layout.thread_index(0, 0), layout.histogram_index(0, 0))
    assert all(start % LINE_CELLS == 0 for start in starts)
    assert layout.worker_cells % LINE_CELLS == layout.thread_cells % LINE_CELLS == 0
    assert layout.histogram_cells % LINE_CELLS == 0


def test_each_kind_of_row_begins_on_a_page_of_its_own() -> None:
    layout = Layout(3, 5)
    for index in (layout.worker_index(0), layout.thread_index(0, 0), layout.histogram_index(0, 0)):
        assert index * CELL_BYTES % PAGE_BYTES == 0


def test_rows_hold_every_field_of_their_table() -> None:
    layout = Layout(1, 1)
    assert layout.worker_cells >= len(WORKER_FIELDS)
    assert layout.thread_cells >= len(THREAD_FIELDS)
    assert list(layout.worker_cell) == [field.name for field in WORKER_FIELDS]
    assert list(layout.thread_cell.values()) == list(range(len(THREAD_FIELDS)))


@pytest.mark.parametrize("index", ["worker_index", "thread_index", "histogram_index"])
@pytest.mark.parametrize("seat", [-1, 2])
def test_a_seat_that_the_board_has_not_is_refused(index: str, seat: int) -> None:
    arguments = (seat,) if index == "worker_index" else (seat, 0)
    with pytest.raises(IndexError, match=f"seat {seat}: the board has seats 0 to 1"):
        getattr(Layout(2, 3), index)(*arguments)


@pytest.mark.parametrize("thread", [-1, 3])
def test_a_thread_that_a_seat_has_not_is_refused(thread: int) -> None:
    with pytest.raises(IndexError, match=f"thread {thread}: a seat has threads 0 to 2"):
        Layout(2, 3).thread_index(1, thread)


@pytest.mark.parametrize(
    ("seats", "threads", "text"),
    [
        (0, 1, f"1 to {MAX_SEATS} seats, not 0"),
        (MAX_SEATS + 1, 1, "seats, not"),
        (1, 0, f"1 to {MAX_THREADS} threads per seat, not 0"),
        (1, MAX_THREADS + 1, "threads per seat, not"),
    ],
)
def test_a_board_of_impossible_size_is_refused(seats: int, threads: int, text: str) -> None:
    with pytest.raises(UsageError, match=text):
        Layout(seats, threads)


def test_a_table_that_names_a_field_twice_is_refused() -> None:
    with pytest.raises(UsageError, match="twice"):
        Layout(1, 1, thread_fields=THREAD_FIELDS + THREAD_FIELDS[:1])


@given(st.integers(0, 50), st.integers(1, 9), st.integers(0, 20), st.integers(0, 200), st.integers(0, 60))
def test_rows_within_a_range_are_those_with_a_cell_in_it(
    base: int, row_cells: int, rows: int, first: int, length: int
) -> None:
    wanted = set(range(first, first + length))
    expected = [row for row in range(rows) if wanted & set(range(base + row * row_cells, base + (row + 1) * row_cells))]
    found = list(rows_within(base, row_cells, rows, first, first + length))
    assert found == expected or (not length and len(found) <= 1)


# The header


@given(seats_and_threads)
def test_a_header_is_read_as_it_was_written(size: tuple[int, int]) -> None:
    header = header_of(Layout(*size))
    assert decode_header(encode_header(header), header.layout.size_bytes) == header


def test_a_reader_finds_the_tables_of_another_version() -> None:
    other = Layout(
        2,
        3,
        (Field("new", FieldKind.GAUGE, "things", "what nobody had before"), *WORKER_FIELDS[:4]),
        THREAD_FIELDS[::-1],
        "another scheme",
        64,
    )
    read = decode_header(encode_header(header_of(other)), other.size_bytes).layout
    assert read == other
    assert read.worker_cell["new"] == 0
    assert read.thread_index(1, 2) == other.thread_index(1, 2)


@pytest.mark.parametrize(
    "change",
    [
        lambda field: replace(field, name="other"),
        lambda field: replace(field, kind=FieldKind.TIME),
        lambda field: replace(field, unit="other"),
        lambda field: replace(field, codes=("some", "words")),
    ],
    ids=["name", "kind", "unit", "codes"],
)
@pytest.mark.parametrize("table", ["worker_fields", "thread_fields"])
def test_the_fingerprint_tells_when_a_cell_means_something_else(table: str, change: Callable[[Field], Field]) -> None:
    layout = Layout(1, 1)
    tables = {"worker_fields": WORKER_FIELDS, "thread_fields": THREAD_FIELDS}
    first, *others = tables[table]
    tables[table] = (change(first), *others)
    assert Layout(1, 1, tables["worker_fields"], tables["thread_fields"]).fingerprint != layout.fingerprint


def test_the_fingerprint_ignores_texts_and_size() -> None:
    first, *others = WORKER_FIELDS
    assert (
        Layout(7, 8, (replace(first, help="said better"), *others)).fingerprint
        == Layout(1, 1).fingerprint
        != Layout(1, 1, histogram_scheme="other").fingerprint
    )


def test_a_fingerprint_is_one_word() -> None:
    assert 0 < Layout(1, 1).fingerprint < 1 << 64


@pytest.mark.parametrize("first", [b"", b"PACELINE", bytes(HEADER_BYTES), b"\x7fELF" + bytes(4096)])
def test_what_is_no_scoreboard_is_the_callers_mistake(first: bytes) -> None:
    with pytest.raises(UsageError, match="not a scoreboard"):
        table_bytes(first)


def test_a_header_of_another_version_names_both_and_the_remedy() -> None:
    first = with_word(encode_header(header_of(Layout(1, 1))), 1, VERSION + 1)
    with pytest.raises(
        HostError, match=rf"version {VERSION + 1}.*reads version {VERSION}.*belongs to the running server"
    ):
        table_bytes(first)


def test_every_cut_of_a_header_is_refused() -> None:
    layout = Layout(1, 1)
    first = encode_header(header_of(layout))
    for length in [*range(0, len(first), 97), len(first) - 1]:
        with pytest.raises((UsageError, HostError)):
            decode_header(first[:length], layout.size_bytes)


def test_a_board_that_is_too_short_is_damaged() -> None:
    layout = Layout(1, 1)
    with pytest.raises(HostError, match=f"should have {layout.size_bytes} bytes and has {layout.size_bytes - 1}"):
        decode_header(encode_header(header_of(layout)), layout.size_bytes - 1)


def test_a_fingerprint_that_does_not_fit_is_damage() -> None:
    first = with_word(encode_header(header_of(Layout(1, 1))), 2, 12345)
    with pytest.raises(HostError, match="fingerprint"):
        decode_header(first, 1 << 30)


GOOD = json.loads(Layout(1, 1).table)


@pytest.mark.parametrize(
    "table",
    [
        b"{",
        b"[]",
        b"\xff\xfe",
        b"[" * 100_000,
        json.dumps({**GOOD, "worker": []}).encode(),
        json.dumps({**GOOD, "worker": [["name", "no-such-kind", "", "", []]]}).encode(),
        json.dumps({**GOOD, "worker": [["name", "gauge", "", "", "words"]]}).encode(),
        json.dumps({**GOOD, "thread": [["too", "short"]]}).encode(),
        json.dumps({**GOOD, "histogram": {"scheme": "", "cells": -8}}).encode(),
        json.dumps({"worker": GOOD["worker"]}).encode(),
    ],
    ids=["cut", "array", "not-text", "deep", "empty", "kind", "codes", "short-row", "negative", "missing"],
)
def test_tables_that_make_no_sense_are_damage(table: bytes) -> None:
    with pytest.raises(HostError, match="damaged: its field tables make no sense"):
        decode_header(with_table(Layout(1, 1), table), 1 << 30)


@given(st.binary(max_size=64), st.integers(0, 8))
def test_a_header_with_damage_anywhere_never_ends_in_a_bug(junk: bytes, word: int) -> None:
    layout = Layout(2, 2)
    first = encode_header(header_of(layout))
    at = word * CELL_BYTES
    damaged = first[:at] + junk + first[at + len(junk) :]
    try:
        header = decode_header(damaged, layout.size_bytes)
    except (UsageError, HostError):
        return
    assert header.layout.size_bytes <= layout.size_bytes
