"""What is known of a death: from a board, a memfd and a wait status made here."""

import os
import signal
from collections.abc import Iterator

import pytest

from paceline.host import memory, processes
from paceline.scoreboard.board import Board
from paceline.scoreboard.fields import THREAD, THREAD_STATES
from paceline.supervisor import child
from paceline.supervisor.inquest import DETAIL_CHARACTERS, MOST_CALLS, Inquest, OutOfMemory, inquire
from paceline.worker.messages import Message, Nudge, Stuck

EXITED_7 = 7 << 8
KILLED = int(signal.SIGKILL)


@pytest.fixture
def board() -> Iterator[Board]:
    board = Board.create(3, 4)
    yield board
    board.close()


@pytest.fixture
def fault_fd() -> Iterator[int]:
    fd = memory.create_growing("test")
    yield fd
    os.close(fd)


def does(board: Board, seat: int, *states: str) -> None:
    for thread, state in enumerate(states):
        board.words[board.layout.thread_index(seat, thread) + THREAD["state"]] = THREAD_STATES[state]


def oom(*counts: int | None) -> OutOfMemory:
    each = iter(counts)
    return OutOfMemory(count=lambda: next(each))


def test_what_it_was_doing(board: Board, fault_fd: int) -> None:
    board.sit(1, pid=5, slot=0, generation=1, now_ns=1)
    does(board, 0, "calling", "calling", "calling")
    does(board, 1, "calling", "peer", "polling", "serving")
    exited = inquire(1, fault_fd, EXITED_7, board, oom(), 0.0)
    assert (exited.seat, exited.cause, exited.code) == (1, "exited with code 7", 7)
    assert exited.doing == "2 threads were in calls, 1 was waiting for its peer in a call, 1 was polling"
    assert exited.calls == 3
    assert exited.detail == ""


def test_a_worker_that_had_not_begun(board: Board, fault_fd: int) -> None:
    exited = inquire(2, fault_fd, int(signal.SIGSEGV), board, oom(), 0.0)
    assert (exited.cause, exited.code, exited.calls) == ("was killed by SIGSEGV", None, 0)
    assert exited.doing == "no thread had started"


def test_what_faulthandler_wrote_is_the_detail_and_bounded(board: Board, fault_fd: int) -> None:
    os.write(fault_fd, b"Fatal Python error: Segmentation fault\n\xff\n" + b"x" * 2 * DETAIL_CHARACTERS)
    detail = inquire(0, fault_fd, EXITED_7, board, oom(), 0.0).detail
    assert detail.startswith("Fatal Python error: Segmentation fault\n\ufffd\nxxx")
    assert len(detail) <= DETAIL_CHARACTERS + 100


def test_the_frames_of_its_birth_are_left_out(board: Board, fault_fd: int) -> None:
    dump = f'''Fatal Python error: Segmentation fault

Thread 0x1 (most recent call first):
  File "hello.py", line 3 in handle
  File "{child.__file__}", line 59 in _live
  File "loop.py", line 9 in run

Thread 0x2 (most recent call first):
  File "hello.py", line 8 in other
'''
    os.write(fault_fd, dump.encode())
    detail = inquire(0, fault_fd, EXITED_7, board, oom(), 0.0).detail
    assert "line 3 in handle" in detail
    assert "line 8 in other" in detail
    assert "_live" not in detail
    assert "loop.py" not in detail


def test_an_end_that_somebody_else_was_told_of(board: Board, fault_fd: int) -> None:
    exited = inquire(0, fault_fd, processes.UNKNOWN, board, oom(), 0.0)
    assert (exited.cause, exited.code) == ("ended, and somebody else was told how", None)


def test_memory_that_ran_out_is_told_as_what_the_kernel_counts(board: Board, fault_fd: int) -> None:
    counts = oom(3, 4)
    counts.look(100.0)
    cause = inquire(0, fault_fd, KILLED, board, counts, 101.0).cause
    assert cause == "was killed by SIGKILL (the kernel counts out-of-memory kills in this control group just now)"


@pytest.mark.parametrize("counts", [(3, 3), (None, None), (None, 3), (3, None), (3, 2)])
def test_nothing_is_guessed(board: Board, fault_fd: int, counts: tuple[int | None, int | None]) -> None:
    watch = oom(*counts)
    watch.look(100.0)
    assert inquire(0, fault_fd, KILLED, board, watch, 101.0).cause == "was killed by SIGKILL"


def test_a_kill_that_was_counted_long_ago_says_nothing(board: Board, fault_fd: int) -> None:
    watch = oom(0, 1, 1)
    watch.look(0.0)
    watch.look(1.0)
    assert inquire(0, fault_fd, KILLED, board, watch, 60.0).cause == "was killed by SIGKILL"


def test_other_signals_are_not_the_kernels_for_want_of_memory(board: Board, fault_fd: int) -> None:
    watch = oom(0, 1)
    watch.look(0.0)
    watch.look(1.0)
    assert inquire(0, fault_fd, int(signal.SIGABRT), board, watch, 1.0).cause == "was killed by SIGABRT"


# What was seen while it lived


def begins_call(board: Board, seat: int, thread: int) -> None:
    row = board.layout.thread_index(seat, thread)
    board.words[row + THREAD["calls"]] += 1
    board.words[row + THREAD["state"]] = THREAD_STATES["calling"]


def test_how_long_each_call_had_run_the_longest_first(board: Board, fault_fd: int) -> None:
    board.sit(1, pid=5, slot=0, generation=1, now_ns=1)
    inquest = Inquest(board, oom())
    inquest.oom.count = lambda: None
    begins_call(board, 1, 2)
    inquest.look(100.0)
    begins_call(board, 1, 0)
    begins_call(board, 1, 1)
    inquest.look(101.0)
    begins_call(board, 1, 1)  # another one: nobody has seen it yet
    os.write(fault_fd, b"Fatal Python error: Aborted\n")
    exited = inquest.inquire(1, fault_fd, EXITED_7, 112.0)
    assert exited.detail.splitlines() == [
        "thread 2 had been in a call for 12 s",
        "thread 0 had been in a call for 11 s",
        "Fatal Python error: Aborted",
    ]
    assert exited.doing == "3 threads were in calls"


def test_what_the_worker_said_of_a_call_is_told_with_it(board: Board, fault_fd: int) -> None:
    board.sit(1, pid=5, slot=0, generation=1, now_ns=1)
    inquest = Inquest(board, oom())
    inquest.oom.count = lambda: None
    begins_call(board, 1, 0)
    begins_call(board, 1, 1)
    inquest.look(100.0)
    said: list[Message] = [Stuck(0, 30.2, 30.0, "192.0.2.7:5000"), Nudge()]
    assert inquest.heard(1, said) is said
    inquest.heard(1, [Stuck(1, 300.0, 30.0, "of an earlier call")])
    inquest.look(131.0)
    assert inquest.inquire(1, fault_fd, KILLED, 140.0).detail.splitlines() == [
        "thread 0 had been in a call for 40 s, over its limit of 30 s, for 192.0.2.7:5000",
        "thread 1 had been in a call for 40 s",
    ]


def test_the_next_worker_of_the_seat_begins_anew(board: Board, fault_fd: int) -> None:
    board.sit(1, pid=5, slot=0, generation=1, now_ns=1)
    inquest = Inquest(board, oom())
    inquest.oom.count = lambda: None
    begins_call(board, 1, 0)
    inquest.look(100.0)
    inquest.heard(1, [Stuck(0, 5.0, 5.0, "x")])
    inquest.inquire(1, fault_fd, KILLED, 140.0)
    board.leave(1)
    inquest.look(141.0)
    board.sit(1, pid=6, slot=0, generation=1, now_ns=2)
    begins_call(board, 1, 0)
    inquest.look(150.0)
    assert inquest.inquire(1, fault_fd, KILLED, 160.0).detail == "thread 0 had been in a call for 10 s"


def test_of_many_calls_the_others_are_counted(fault_fd: int) -> None:
    board = Board.create(1, MOST_CALLS + 5)
    board.sit(0, pid=5, slot=0, generation=1, now_ns=1)
    inquest = Inquest(board, OutOfMemory(count=lambda: None))
    for thread in range(MOST_CALLS + 5):
        begins_call(board, 0, thread)
    inquest.look(100.0)
    lines = inquest.inquire(0, fault_fd, KILLED, 140.0).detail.splitlines()
    assert len(lines) == MOST_CALLS + 1
    assert lines[-1] == "… and 5 more"
    board.close()
