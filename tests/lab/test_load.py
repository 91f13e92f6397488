"""lab/load.py: what a percentile counts, clients that come and go, messages that become due."""

from itertools import repeat

import pytest

from paceline.clock import now
from paceline.lab.load import Ran, closed, due
from paceline.lab.starting import peer, serving

pytestmark = pytest.mark.usefixtures("nothing_left")


def test_a_percentile_is_one_of_the_values() -> None:
    ran = Ran(answered_ms=[float(number) for number in range(1, 101)])
    assert [ran.percentile_ms(percent) for percent in (50, 99, 100)] == [50, 99, 100]
    assert Ran().percentile_ms(99) == 0


def test_without_an_answer_only_those_count_that_have_waited_long() -> None:
    ran = Ran(answered_ms=[1.0] * 98 + [2.0], unanswered_ms=[0.5, 300.0])
    assert ran.long_unanswered_ms() == [300.0]
    assert ran.percentile_ms(50) == 1
    assert ran.percentile_ms(100) == 300
    assert Ran(unanswered_ms=[7.0]).percentile_ms(99) == 7


def test_clients_leave_after_their_calls_and_others_come() -> None:
    with serving(peer("thread_per_connection")) as server:
        looked: list[int] = []
        ran = closed(server.address, 3, repeat(b"quick").__next__, calls=2, for_s=0.1, at_end=lambda: looked.append(1))
    assert looked == [1]
    assert ran.lost == 0
    assert len(ran.unanswered_ms) == 3
    assert ran.connections == pytest.approx(len(ran.answered_ms) / 2, abs=3)
    assert ran.took_s >= 0.1
    assert 0 < ran.cpu_s <= ran.took_s * 1.5


def test_where_one_is_served_at_a_time_the_others_are_not_forgotten() -> None:
    with serving(peer("one_at_a_time")) as server:
        ran = closed(server.address, 3, repeat(b"wait 1000").__next__, calls=1 << 20, for_s=0.1)
    assert ran.connections == 3
    assert len(ran.long_unanswered_ms()) == 2
    assert ran.percentile_ms(100) >= 99


def test_connections_that_the_server_ends_are_counted_and_others_come() -> None:
    with serving(peer("process_per_connection")) as server:
        ran = closed(server.address, 2, repeat(b"crash").__next__, calls=1, for_s=0.1)
    assert ran.lost >= 2
    assert ran.answered_ms == []


def test_messages_become_due_and_wait_from_then_on() -> None:
    with serving(peer("one_at_a_time")) as server:
        begun_s = now()
        ran = due(server.address, b"wait 20000", count=5, every_s=0.001, until_s=begun_s + 20)
    assert (len(ran.answered_ms), ran.unanswered_ms, ran.connections) == (5, [], 5)
    assert max(ran.answered_ms) >= 90  # four of 20 ms before it, and its own, less 4 ms


def test_who_is_not_answered_in_time_has_waited_until_then() -> None:
    with serving(peer("one_at_a_time")) as server, server.connect():
        ran = due(server.address, b"quick", count=2, every_s=0.001, until_s=now() + 0.05)
    assert (ran.answered_ms, len(ran.unanswered_ms)) == ([], 2)
