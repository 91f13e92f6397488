"""The supervisor's hands where the loop's tests do not reach: what goes wrong beside the way."""

import os
import socket
from collections.abc import Callable
from dataclasses import replace

import pytest

from paceline.addresses import parse_address
from paceline.host import processes
from paceline.host.descriptors import open_count
from paceline.host.listeners import open_listener
from paceline.scoreboard.fields import THREAD
from paceline.supervisor.hands import Hands
from paceline.supervisor.vocabulary import Forked, ForkFailed, Kill, Say, SeatEmptied, Spawn, StopListening, Vacate
from supervisor.scene import Log

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
"""The test runner has a thread for its time limit; the supervisor has none."""


SPAWN = Spawn(slot=0, seat=1, generation=1)


def test_a_process_is_made_and_ended(hands: Hands) -> None:
    answer = hands.carry_out(SPAWN)
    seat = hands.seats[1]
    assert answer == Forked(1, seat.pid)
    hands.carry_out(Kill(1))
    assert processes.cause_of(processes.reap_soon(seat.pid)) == "was killed by SIGKILL"
    hands.carry_out(Kill(1))  # it is gone; nobody else is hit
    seat.leave()


def test_a_process_that_cannot_be_watched_is_ended_again(hands: Hands, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(pid: int) -> int:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(processes, "open_pidfd", refuse)
    before = open_count()
    assert hands.carry_out(SPAWN) == ForkFailed(1, "Too many open files")
    assert processes.find_ended() is None
    assert not hands.seats[1].is_taken
    assert open_count() == before


@pytest.mark.parametrize("refusal", [BlockingIOError(11, "Resource temporarily unavailable"), OSError("no reason")])
def test_a_process_that_cannot_be_made_leaves_nothing(hands: Hands, refusal: OSError) -> None:
    def refuse() -> int:
        raise refusal

    hands.system = replace(hands.system, fork=refuse)
    before = open_count()
    answer = hands.carry_out(SPAWN)
    assert isinstance(answer, ForkFailed)
    assert answer.error in ("Resource temporarily unavailable", "no reason")
    assert open_count() == before


def test_a_bug_in_the_making_of_a_process_is_an_answer_too(hands: Hands, log: Log) -> None:
    def fail() -> int:
        raise ZeroDivisionError("a bug")

    hands.system = replace(hands.system, fork=fail)
    before = open_count()
    assert hands.carry_out(SPAWN) == ForkFailed(1, "ZeroDivisionError('a bug')")
    ((event, fields),) = log.said
    assert event == "supervisor-bug"
    assert "in fail" in str(fields["detail"])
    assert open_count() == before


def test_what_is_no_connection_is_told_and_the_seat_is_emptied(hands: Hands, log: Log) -> None:
    hands.ready = (hands.seats[0],)
    for _ in range(3):
        hands.seats[2].inbox.writer.send(b"no descriptor")
    assert hands.carry_out(Vacate(2)) == SeatEmptied(2)
    assert [event for event, _ in log.said] == ["supervisor-bug"] * 3


def test_a_seat_that_nobody_can_empty_is_not_free(hands: Hands) -> None:
    hands.seats[2].inbox.writer.send(b"something")
    assert hands.carry_out(Vacate(2)) is None
    assert not hands.seats[2].is_stuck, "it is not tried again before somebody is ready"


def test_calls_are_counted_over_all_seats(hands: Hands) -> None:
    layout = hands.board.layout
    for seat, thread, calls in ((0, 0, 5), (0, 1, 7), (2, 1, 100)):
        hands.board.words[layout.thread_index(seat, thread) + THREAD["calls"]] = calls
    assert hands.count_calls() == 112


def test_at_an_end_that_was_not_planned_everybody_is_ended(hands: Hands) -> None:
    answer = hands.carry_out(SPAWN)
    assert isinstance(answer, Forked)
    hands.bury_all(10_000)
    assert not hands.seats[1].is_taken
    with pytest.raises(ChildProcessError):
        os.waitpid(answer.pid, 0)


def test_only_listeners_with_waiting_connections_are_found(hands: Hands, opened: Callable[[], socket.socket]) -> None:
    quiet, busy = opened(), opened()
    assert hands.find_waiting() == ()
    with socket.create_connection(busy.getsockname()):
        # The handshake is over, so it is in the queue: on loopback both ends are this kernel's.
        assert hands.find_waiting() == (1,)
    assert hands.carry_out(StopListening()) is None
    assert hands.find_waiting() == ()
    assert quiet.fileno() == busy.fileno() == -1


@pytest.fixture
def opened(hands: Hands) -> Callable[[], socket.socket]:
    """One more listener each time."""

    def open_one() -> socket.socket:
        listener = open_listener(parse_address("127.0.0.1:0"), len(hands.listeners), 8, None)
        hands.listeners.append(listener)
        return listener.socket

    return open_one


def test_what_is_said_is_logged(hands: Hands, log: Log) -> None:
    hands.carry_out(Say("recovered", {"deaths": 3}))
    assert log.said == [("recovered", {"deaths": 3})]
