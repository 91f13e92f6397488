"""supervisor/dumping.py: who answers is heard, who cannot is looked at from outside, and nobody waits for anybody."""

import os
import select
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from leftovers import eventually
from paceline import clock
from paceline.host import memory, processes, signals
from paceline.supervisor import dumping
from paceline.supervisor.dumping import ASKED_S, SIGNALLED_S, Dumping
from paceline.supervisor.seats import Seat, close_seats, open_seats
from paceline.worker.messages import Dump, Dumped, decode

HEAD = """
import ctypes, faulthandler, os, signal, sys, threading, time
fault_fd, control_fd = int(sys.argv[1]), int(sys.argv[2])
faulthandler.register(signal.SIGRTMIN + 1, fault_fd, all_threads=True)
def ready():
    os.write(1, b"ready")
"""

QUIET = """
ready()
signal.pause()
"""

HOLDS_THE_GIL = """
def dig():
    ready()
    ctypes.PyDLL(None).sleep(30)
dig()
"""


@pytest.fixture
def seats() -> Iterator[list[Seat]]:
    made = open_seats(3)
    yield made
    close_seats(made)


@contextmanager
def sitting(seat: Seat, script: str) -> Iterator[Callable[[], object]]:
    """A process in the seat that runs this script; gives what reads the next message that it was told."""
    with seat.open_control() as theirs:
        process = subprocess.Popen(
            [sys.executable, "-c", HEAD + textwrap.dedent(script), str(seat.fault_fd), str(theirs.fileno())],
            stdout=subprocess.PIPE,
            pass_fds=[seat.fault_fd, theirs.fileno()],
        )
        theirs.settimeout(5)
        with process:
            assert process.stdout is not None
            try:
                assert process.stdout.read(5) == b"ready"
                seat.sit(process.pid, processes.open_pidfd(process.pid))
                yield lambda: decode(theirs.recv(65536))
            finally:
                process.kill()
                process.wait()
                seat.leave()


def wait_for_all(question: Dumping) -> dict[int, str]:
    """Do as the loop does, until it is over: number of the seat → what is said of it."""
    found: dict[int, str] = {}
    while not question.is_over:
        assert question.next_at is not None
        select.select([], [], [], max(0.0, question.next_at - clock.now()))
        for seat, text in question.on_time(clock.now()):
            assert seat.number not in found
            found[seat.number] = text
    assert question.next_at is None
    return found


def at(now: float) -> Dumping:
    return Dumping(lambda: now)


def test_who_answers_is_handed_over_once_and_at_once(seats: list[Seat]) -> None:
    with sitting(seats[0], QUIET) as hear, sitting(seats[1], QUIET):
        question = at(100.0)
        question.begin(7, seats)
        assert hear() == Dump(7)
        assert question.next_at == 100.0 + ASKED_S
        assert question.on_time(100.1) == []
        question.on_message(seats[1], Dumped(7, "second\n"))
        assert question.next_at == 100.0, "there is something to hand over"
        assert question.on_time(100.2) == [(seats[1], "second\n")]
        question.on_message(seats[1], Dumped(7, "again"))
        question.on_message(seats[0], Dumped(6, "to somebody else"))
        assert question.on_time(100.3) == []
        assert not question.is_over
        question.on_message(seats[0], Dumped(7, "first\n"))
        assert question.on_time(100.4) == [(seats[0], "first\n")]
        assert question.is_over
        assert question.next_at is None


def test_nobody_sits_there(seats: list[Seat]) -> None:
    question = at(100.0)
    question.begin(7, seats)
    assert question.is_over
    assert question.next_at is None


def test_a_worker_that_cannot_run_python_shows_its_stacks(seats: list[Seat], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dumping, "ASKED_S", 0.05)
    with sitting(seats[0], HOLDS_THE_GIL):
        os.write(seats[0].fault_fd, b"of an earlier time\n")
        question = Dumping(clock.now)
        question.begin(7, seats)
        text = wait_for_all(question)[0]
        assert text.startswith("it cannot run Python, so this is what C code sees (most recent call first):\n")
        assert ", line 10 in dig" in text or " in dig\n" in text
        assert "of an earlier time" not in text
        assert memory.size_of(seats[0].fault_fd) == 0, "a crash report would show it again"


def test_a_worker_that_is_stopped_is_told_to_be_so_at_once(seats: list[Seat]) -> None:
    with sitting(seats[0], QUIET):
        os.kill(seats[0].pid, signal.SIGSTOP)
        eventually(lambda: processes.run_state(seats[0].pid) == "T", 5)
        question = at(100.0)
        question.begin(7, seats)
        ((seat, text),) = question.on_time(100.0)
        assert seat is seats[0]
        assert text.startswith("stopped (by SIGSTOP or at its terminal)")
        assert question.is_over


def test_one_that_is_stopped_after_it_was_asked_is_found_out_too(seats: list[Seat]) -> None:
    with sitting(seats[0], QUIET):
        question = at(100.0)
        question.begin(7, seats)
        os.kill(seats[0].pid, signal.SIGSTOP)
        eventually(lambda: processes.run_state(seats[0].pid) == "T", 5)
        assert question.on_time(100.0 + ASKED_S) == []
        ((_, text),) = question.on_time(100.0 + ASKED_S + SIGNALLED_S)
        assert text.startswith("stopped ")


def test_a_worker_whose_handler_was_taken_is_not_ended_by_the_signal(seats: list[Seat]) -> None:
    script = "signal.signal(signal.SIGRTMIN + 1, signal.SIG_DFL)" + QUIET
    with sitting(seats[0], script):
        question = at(100.0)
        question.begin(7, seats)
        ((_, text),) = question.on_time(100.0 + ASKED_S)
        assert text == "does not answer, and the user's code has taken its handler for SIGRTMIN+1\n"
        assert processes.run_state(seats[0].pid) in ("R", "S")


def test_one_that_blocks_the_signal_is_given_up_in_time(seats: list[Seat]) -> None:
    script = "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGRTMIN + 1])" + QUIET
    with sitting(seats[0], script):
        question = at(100.0)
        question.begin(7, seats)
        assert question.on_time(100.0 + ASKED_S) == []
        ((_, text),) = question.on_time(100.0 + ASKED_S + SIGNALLED_S)
        assert text.startswith("does not answer, nor does it take signals (state ")


def test_one_that_has_ended_is_told_to_have(seats: list[Seat]) -> None:
    question = at(100.0)
    with sitting(seats[0], QUIET):
        question.begin(7, seats)
    assert question.on_time(100.1) == [(seats[0], "ended before it answered\n")]
    assert question.is_over


def test_a_long_stack_is_read_when_it_is_complete(seats: list[Seat]) -> None:
    with sitting(seats[0], QUIET):
        question = at(100.0)
        question.begin(7, seats)
        processes_signal = signals.STACKS
        assert processes.catches(seats[0].pid, processes_signal)
        assert question.on_time(100.0 + ASKED_S) == []
        eventually(lambda: memory.size_of(seats[0].fault_fd) > 0, 5)
        assert question.on_time(101.1) == [], "it may go on"
        os.write(seats[0].fault_fd, b"more\n")
        assert question.on_time(101.2) == [], "it did"
        ((_, text),) = question.on_time(101.3)
        assert text.endswith("more\n")
