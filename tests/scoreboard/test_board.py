"""The mapped board in one process: making, attaching, what it costs, who sits down.  See also test_board_shared.py."""

import os
import time
from contextlib import ExitStack

import pytest

from paceline.errors import HostError, UsageError
from paceline.host import memory
from paceline.scoreboard import board as board_file
from paceline.scoreboard.board import Board
from paceline.scoreboard.fields import (
    CELL_BYTES,
    THREAD,
    THREAD_FIELDS,
    THREAD_STATES,
    WORKER,
    WORKER_FIELDS,
    WORKER_STATES,
    FieldKind,
)
from paceline.scoreboard.layout import Layout, encode_header
from paceline.scoreboard.snapshot import describe_threads
from paceline.stats.histogram import CELLS, Histogram, record

SECOND = 1_000_000_000

pytestmark = pytest.mark.usefixtures("nothing_left")


def open_to_read(fd: int) -> int:
    return os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC)


def sit(board: Board, seat: int, *, pid: int = 4711) -> None:
    board.sit(seat, pid=pid, slot=seat + 100, generation=3, now_ns=5 * SECOND)


def set_worker(board: Board, seat: int, **cells: int) -> None:
    for name, value in cells.items():
        board.words[board.layout.worker_index(seat) + WORKER[name]] = value


def set_thread(board: Board, seat: int, thread: int, **cells: int) -> None:
    for name, value in cells.items():
        board.words[board.layout.thread_index(seat, thread) + THREAD[name]] = value


# Made and attached


def test_a_new_board_is_free_writable_and_its_descriptor_close_on_exec(board: Board) -> None:
    assert (board.words.format, board.words.itemsize, board.words.readonly) == ("Q", 8, False)
    assert len(board.words) * CELL_BYTES == board.layout.size_bytes == memory.size_of(board.fd)
    assert not os.get_inheritable(board.fd)
    assert board.is_current
    assert board.snapshot().occupied == []


def test_the_header_says_whose_it_is_and_attaching_reads_it(cleanup: ExitStack) -> None:
    made = Board.create(2, 3, supervisor_pid=4711, supervisor_start_ticks=99, created_ns=7)
    cleanup.callback(made.close)
    other = Board.attach(os.dup(made.fd))
    cleanup.callback(other.close)
    header = other.header
    assert (header.supervisor_pid, header.supervisor_start_ticks, header.created_ns) == (4711, 99, 7)
    assert other.layout == made.layout == Layout(2, 3)
    assert other.is_current


def test_two_attached_boards_are_the_same_memory(cleanup: ExitStack, board: Board) -> None:
    other = Board.attach(os.dup(board.fd))
    cleanup.callback(other.close)
    sit(other, 1)
    set_thread(board, 1, 63, calls=12)
    assert other.snapshot() == board.snapshot()
    assert other.snapshot().calls == 12


def test_a_reader_needs_no_more_than_a_descriptor_to_read(cleanup: ExitStack, board: Board) -> None:
    reader = Board.attach(open_to_read(board.fd))
    cleanup.callback(reader.close)
    sit(board, 2, pid=99)
    assert [seat.worker["pid"] for seat in reader.snapshot().occupied] == [99]
    assert reader.words.readonly
    with pytest.raises(TypeError):
        reader.sit(3, pid=1, slot=0, generation=0, now_ns=0)


@pytest.mark.parametrize("kind", ["pipe", "file", "memory", "closed"])
def test_what_is_no_scoreboard_is_refused_and_stays_the_callers(cleanup: ExitStack, kind: str) -> None:
    if kind == "pipe":
        fd, other = os.pipe()
        cleanup.callback(os.close, other)
    elif kind == "file":
        fd = os.open(__file__, os.O_RDONLY)
    elif kind == "memory":
        fd = memory.create_fixed("other", 4096)
    else:
        fd = os.open(__file__, os.O_RDONLY)
        os.close(fd)
    with pytest.raises(UsageError, match="not a scoreboard"):
        Board.attach(fd)
    if kind != "closed":
        os.close(fd)  # raises if it had been closed


def test_a_board_that_could_shrink_under_its_readers_is_refused(cleanup: ExitStack, board: Board) -> None:
    fd = os.memfd_create("copy", os.MFD_CLOEXEC)
    cleanup.callback(os.close, fd)
    os.write(fd, encode_header(board.header))
    os.ftruncate(fd, board.layout.size_bytes)
    with pytest.raises(UsageError, match="not a scoreboard"):
        Board.attach(fd)


def test_a_board_that_ends_within_its_tables_is_damaged(cleanup: ExitStack, board: Board) -> None:
    fd = memory.create_fixed("short", 1024)
    cleanup.callback(os.close, fd)
    os.pwrite(fd, encode_header(board.header)[:1024], 0)
    with pytest.raises(HostError, match="damaged"):
        Board.attach(fd)


def test_a_board_of_other_tables_is_readable_and_not_current(
    cleanup: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    def other_tables(seats: int, threads: int) -> Layout:
        return Layout(seats, threads, WORKER_FIELDS[::-1], THREAD_FIELDS[::-1])

    with monkeypatch.context() as patch:
        patch.setattr(board_file, "Layout", other_tables)
        theirs = Board.create(2, 2)
    cleanup.callback(theirs.close)
    read = Board.attach(open_to_read(theirs.fd))
    cleanup.callback(read.close)
    sit(theirs, 1, pid=77)
    assert not read.is_current
    assert [(seat.state, seat.worker["pid"]) for seat in read.snapshot().occupied] == [("booting", 77)]
    theirs.leave(1)
    assert read.snapshot().occupied == []


def test_closing_gives_every_descriptor_back_and_may_be_repeated() -> None:
    before = os.listdir("/proc/self/fd")
    made = Board.create(2, 2)
    other = Board.attach(os.dup(made.fd))
    made.close()
    other.close()
    other.close()
    assert os.listdir("/proc/self/fd") == before
    with pytest.raises(ValueError, match="released"):
        made.words[0]


def test_closing_leaves_a_slice_that_somebody_still_has_alone() -> None:
    made = Board.create(2, 2)
    row = made.words[made.layout.worker_index(0) :][:1]
    made.close()
    row[0] = 5
    assert row[0] == 5
    row.release()


def test_a_refused_mapping_leaves_no_descriptor(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(fd: int, size_bytes: int) -> None:
        raise HostError("no")

    before = os.listdir("/proc/self/fd")
    monkeypatch.setattr(memory, "attach", refuse)
    with pytest.raises(HostError):
        Board.create(1, 1)
    assert os.listdir("/proc/self/fd") == before


# What it costs


def test_a_board_costs_what_was_used_of_it(board: Board) -> None:
    page = os.sysconf("SC_PAGESIZE")
    assert board.layout.size_bytes > 2_000_000
    header = memory.used_by(board.fd)
    assert header <= 2 * page
    board.snapshot()
    assert memory.used_by(board.fd) == header, "a snapshot filled holes"
    sit(board, 0)
    assert memory.used_by(board.fd) == header + page
    set_thread(board, 0, 0, calls=1)
    record(board.words, board.layout.histogram_index(0, 0), 5_000)
    assert memory.used_by(board.fd) == header + 3 * page
    sit(board, 0)
    board.leave(0)
    sit(board, 3)
    board.snapshot()
    assert memory.used_by(board.fd) == header + 3 * page, "sitting, leaving or looking filled holes"


def test_the_greatest_board_is_made_read_and_given_back_in_a_moment() -> None:
    made = Board.create(512, 4096)
    try:
        sit(made, 511)
        set_thread(made, 511, 4095, calls=7)
        record(made.words, made.layout.histogram_index(511, 4095), 5_000)
        seen = made.snapshot()
        assert (seen.calls, seen.histogram().count) == (7, 1)
        assert memory.used_by(made.fd) < 100_000
    finally:
        made.close()


def test_a_snapshot_of_a_busy_server_takes_a_few_milliseconds(board: Board) -> None:
    for seat in range(4):
        sit(board, seat)
        for thread in range(64):
            set_thread(board, seat, thread, state=THREAD_STATES["calling"], calls=1 << 40)
            row = board.layout.histogram_index(seat, thread)
            board.words[row : row + CELLS] = memoryview(bytes(range(256)) * CELL_BYTES).cast("Q")
    took = []
    for _ in range(5):
        begun = time.perf_counter()
        seen = board.snapshot()
        took.append(time.perf_counter() - begun)
    assert (len(seen.running()), seen.histogram().count > 0) == (256, True)
    assert min(took) < 0.050  # the figure is 5 ms


# Sitting down and leaving


def test_whoever_sits_down_begins_anew_and_continues_the_counters(board: Board) -> None:
    sit(board, 1, pid=1)
    for field in WORKER_FIELDS:
        set_worker(board, 1, **{field.name: 5})
    for field in THREAD_FIELDS:
        set_thread(board, 1, 63, **{field.name: 3})
    record(board.words, board.layout.histogram_index(1, 63), 5_000)
    sit(board, 1, pid=2)
    seen = board.snapshot()
    new = {"pid": 2, "slot": 101, "generation": 3, "state": 1, "started_ns": 5 * SECOND, "heartbeat_ns": 5 * SECOND}
    counter = FieldKind.COUNTER
    assert dict(seen.seats[1].worker) == {
        field.name: 5 if field.kind is counter else new.get(field.name, 0) for field in WORKER_FIELDS
    }
    assert dict(seen.seats[1].threads[63]) == {field.name: 3 if field.kind is counter else 0 for field in THREAD_FIELDS}
    assert seen.histogram() == Histogram.of([5_000])


def test_a_seat_that_was_left_is_free_and_what_was_done_there_still_counts(board: Board) -> None:
    sit(board, 0)
    set_worker(board, 0, state=WORKER_STATES["ready"], accepted=9, connections=4)
    set_thread(board, 0, 2, state=THREAD_STATES["calling"], calls=8, fd=12)
    board.leave(0)
    seen = board.snapshot()
    seat = seen.seats[0]
    assert (seat.state, seat.worker["pid"], seat.worker["connections"], seat.threads[2]["fd"]) == ("free", 0, 0, 0)
    assert (seen.occupied, seen.running(), seen.calls, seen.total("accepted")) == ([], frozenset(), 8, 9)


def test_sitting_down_touches_no_other_seat(board: Board) -> None:
    for seat in (0, 1, 2):
        sit(board, seat)
        set_worker(board, seat, state=WORKER_STATES["ready"], connections=seat)
        for thread in (0, 63):
            set_thread(board, seat, thread, state=THREAD_STATES["polling"])
    before = board.snapshot()
    sit(board, 1, pid=2)
    after = board.snapshot()
    assert (after.seats[0], after.seats[2]) == (before.seats[0], before.seats[2])
    assert describe_threads(after, 1) == "no thread had started"


@pytest.mark.parametrize("seat", [-1, 18])
def test_a_seat_that_the_board_has_not_is_refused(board: Board, seat: int) -> None:
    with pytest.raises(IndexError, match="seats 0 to 17"):
        sit(board, seat)
    with pytest.raises(IndexError, match="seats 0 to 17"):
        board.leave(seat)
