"""From the fork to the worker's own code, with real forks; what a worker is born with is shown in test_loop.py, too."""

import gc
import os
import signal
import socket
from collections.abc import Iterator
from dataclasses import replace
from typing import NoReturn

import pytest

from paceline.host import processes
from paceline.scoreboard.board import Board
from paceline.settings import Settings
from paceline.supervisor import child
from paceline.supervisor.seats import Seat, close_seats, open_seats
from paceline.worker.messages import Failed, Message, Ready, encode
from paceline.worker.plan import Plan

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
"""The test runner has a thread for its time limit; the supervisor has none."""


@pytest.fixture
def seats() -> Iterator[list[Seat]]:
    seats = open_seats(2)
    yield seats
    close_seats(seats)


@pytest.fixture
def plan(seats: list[Seat]) -> Iterator[Plan]:
    """For a worker in seat 0."""
    board = Board.create(2, 1)
    with seats[0].open_control() as theirs:
        yield Plan(
            settings=Settings(),
            target="echo",
            listeners=(),
            inboxes=tuple(seat.inbox for seat in seats),
            board=board,
            control=theirs,
            fault_fd=seats[0].fault_fd,
            seat=0,
            slot=0,
            generation=1,
            supervisor_pid=os.getpid(),
            close_fds=(*seats[0].private_fds()[1:], *seats[1].private_fds()),
        )
    board.close()


def say(plan: Plan, text: str) -> None:
    plan.control.send(encode(Ready(text, "")))


def live(seats: list[Seat], plan: Plan, main: child.Main) -> tuple[str, list[Message]]:
    """(how it ended, what it said) of a worker that lives `main`."""
    pid = child.start(plan, main)
    status = processes.reap_soon(pid)
    return processes.cause_of(status), seats[0].hear()


def test_it_lives_main_and_never_comes_back(seats: list[Seat], plan: Plan) -> None:
    def main(plan: Plan) -> NoReturn:
        say(plan, str(os.getppid()))
        os._exit(5)

    assert live(seats, plan, main) == ("exited with code 5", [Ready(str(os.getpid()), "")])


def test_what_main_raises_is_told_as_a_bug_of_ours(seats: list[Seat], plan: Plan) -> None:
    def main(plan: Plan) -> NoReturn:
        raise SystemExit(0)

    ended, (said,) = live(seats, plan, main)
    assert ended == "exited with code 1"
    assert isinstance(said, Failed)
    assert (said.why, said.exit_code) == ("a bug in Paceline: SystemExit: 0", 1)
    assert said.traceback.endswith("SystemExit: 0\n")


def test_a_main_that_returns_is_the_end_too(seats: list[Seat], plan: Plan) -> None:
    def main(plan: Plan) -> NoReturn:
        return  # type: ignore[misc]

    assert live(seats, plan, main) == ("exited with code 1", [])


def test_without_a_supervisor_nothing_is_begun(seats: list[Seat], plan: Plan) -> None:
    def main(plan: Plan) -> NoReturn:
        say(plan, "begun")
        os._exit(0)

    assert live(seats, replace(plan, supervisor_pid=os.getpid() + 1), main) == ("exited with code 1", [])


def test_a_crash_writes_its_stack_although_signals_are_blocked(seats: list[Seat], plan: Plan) -> None:
    def main(plan: Plan) -> NoReturn:
        os.kill(os.getpid(), signal.SIGTERM)  # waits
        os.kill(os.getpid(), signal.SIGABRT)  # does not
        os._exit(0)

    ended, _ = live(seats, plan, main)
    assert ended.startswith("was killed by SIGABRT")
    assert b"in main" in os.pread(plan.fault_fd, 10_000, 0)


def test_what_belongs_to_others_is_closed(seats: list[Seat], plan: Plan) -> None:
    def main(plan: Plan) -> NoReturn:
        for fd in plan.close_fds:
            try:
                os.fstat(fd)
            except OSError:
                say(plan, "closed")
        say(plan, f"{plan.inboxes[1].reader.fileno()} {plan.inboxes[0].reader.fileno() >= 0}")
        os._exit(0)

    _, said = live(seats, plan, main)
    assert said == [Ready("closed", "")] * len(plan.close_fds) + [Ready("-1 True", "")]
    assert len(plan.close_fds) == 2


def test_what_came_from_the_supervisor_is_never_collected(seats: list[Seat], plan: Plan) -> None:
    frozen = gc.get_freeze_count()  # the tests themselves (conftest.py)
    more: list[list[int]] = [[] for _ in range(1000)]

    def main(plan: Plan) -> NoReturn:
        say(plan, str(gc.get_freeze_count() >= frozen + len(more)))
        os._exit(0)

    assert live(seats, plan, main)[1] == [Ready("True", "")]


def test_its_row_on_the_board_is_taken(seats: list[Seat], plan: Plan) -> None:
    def main(plan: Plan) -> NoReturn:
        os._exit(0)

    pid = child.start(plan, main)
    processes.reap_soon(pid)
    seat = plan.board.snapshot().seats[0]
    assert (seat.state, seat.worker["pid"], seat.worker["generation"]) == ("booting", pid, 1)


def test_when_no_process_can_be_made_signals_are_heard_again(plan: Plan) -> None:
    def refuse() -> int:
        assert signal.SIGTERM in signal.pthread_sigmask(signal.SIG_BLOCK, ())
        raise BlockingIOError(11, "Resource temporarily unavailable")

    def main(plan: Plan) -> NoReturn:
        raise AssertionError

    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    with pytest.raises(BlockingIOError):
        child.start(plan, main, refuse)
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before


def test_a_channel_that_is_gone_changes_nothing_about_the_end(seats: list[Seat], plan: Plan) -> None:
    def main(plan: Plan) -> NoReturn:
        plan.control.shutdown(socket.SHUT_RDWR)
        raise ValueError

    assert live(seats, plan, main) == ("exited with code 1", [])
