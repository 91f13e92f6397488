"""bench/pacing.py: what is due when; and a stalled server, simulated to the nanosecond."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paceline.bench.latency import Latencies
from paceline.bench.pacing import SECOND, Schedule

MS = 1_000_000


def due_times(schedule: Schedule, most: int = 10_000) -> list[int]:
    found: list[int] = []
    while (due := schedule.next_ns) is not None and len(found) < most:
        found.append(due)
        schedule.take()
    return found


def test_a_thousand_a_second_are_due_each_millisecond() -> None:
    schedule = Schedule(1000, 5 * SECOND, 6 * SECOND)
    assert schedule.total == schedule.left == 1000
    assert due_times(schedule) == [5 * SECOND + number * MS for number in range(1000)]
    assert (schedule.left, schedule.next_ns) == (0, None)


def test_what_is_due_at_the_end_is_not_sent_and_what_is_due_just_before_is() -> None:
    assert Schedule(1000, 0, 10 * MS).total == 10
    assert Schedule(1000, 0, 10 * MS + 1).total == 11
    assert Schedule(1000, 0, 1).total == 1
    assert Schedule(1000, 0, 0).total == 0


def test_a_count_and_an_end_whichever_comes_first() -> None:
    assert Schedule(10, 0, SECOND, most=3).total == 3
    assert Schedule(10, 0, SECOND, most=30).total == 10
    assert Schedule(10, 0, None, most=7).total == 7
    endless = Schedule(10, 0, None)
    assert endless.total is endless.left is None
    assert len(due_times(endless, most=50)) == 50


def test_nothing_drifts() -> None:
    """A third of a nanosecond lost on each would be 100 µs by then."""
    schedule = Schedule(3_000_000, 0, None)
    for _ in range(300_000):
        schedule.take()
    assert schedule.next_ns == SECOND // 10


@given(
    st.fractions(Fraction(1, 10), 100_000).map(lambda rate: float(round(rate, 3))),
    st.integers(1, 5),
    st.integers(0, 10**8),
)
def test_processes_share_one_schedule(rate: float, processes: int, length_ns: int) -> None:
    whole = Schedule(rate, 7, 7 + length_ns)
    parts = [Schedule(rate, 7, 7 + length_ns, first=first, stride=processes) for first in range(processes)]
    assert sorted(due for part in parts for due in due_times(part)) == due_times(whole)
    assert all(part.left == 0 for part in parts)


def test_an_interrupt_ends_what_is_due_later() -> None:
    schedule = Schedule(1000, 0, SECOND)
    for _ in range(5):
        schedule.take()
    schedule.end_at(8 * MS)
    assert schedule.left == 3
    schedule.end_at(2 * MS)  # in the past: what was taken stays taken
    assert (schedule.left, schedule.taken) == (0, 5)


def simulated(schedule: Schedule, connections: int, stall: tuple[int, int], serve_ns: int) -> Latencies:
    """An open loop against a server that takes `serve_ns` for each, one after the other, but nothing in a stall.

    `stall`: from, to.  Only the arithmetic of the loop: due, free connections, stamps.
    """
    stall_from, stall_to = stall
    found = Latencies()
    free_at = [0] * connections
    server_free = 0
    while (due := schedule.next_ns) is not None:
        schedule.take()
        connection = min(range(connections), key=free_at.__getitem__)
        sent = max(due, free_at[connection])
        begin = max(sent, server_free)
        if stall_from <= begin < stall_to:
            begin = stall_to
        server_free = free_at[connection] = begin + serve_ns
        found.count(server_free - due)
    return found


@pytest.mark.parametrize("connections", [1, 10, 2000])
def test_a_stall_of_a_second_is_what_those_saw_who_were_due_in_it(connections: int) -> None:
    """1,000 a second for 10 s, 0.1 ms each, stalled from 4 s to 5 s: however few connections there are to send by.

    Who is due at 4 s + t waits 1 s - t, and behind the others: 1,000 in the queue, worked off at 10 to 1.
    """
    found = simulated(Schedule(1000, 0, 10 * SECOND), connections, (4 * SECOND, 5 * SECOND), MS // 10)
    assert found.total == 10_000
    # Waited: those due within the stall and until the queue is worked off, 1,111 messages; the k-th of them (of 1,111)
    # waits 1 s - k ms + k × 0.1 ms = 1 s - 0.9 k ms (and its own 0.1 ms).
    for percent, behind in ((99.99, 1), (99.9, 10), (99, 100), (90, 1000)):
        expected_ms = 1000 - 0.9 * behind + 0.1
        assert found.percentile(percent) == pytest.approx(expected_ms * MS, rel=0.01), percent
    assert found.percentile(75) == pytest.approx(0.1 * MS, rel=0.01)
    assert found.most_ns == pytest.approx(1000.1 * MS, rel=0.01)


def test_stamped_when_sent_the_same_stall_would_hide() -> None:
    """The counter-example: one connection that waits for its reply sees a single slow message."""
    found, at = Latencies(), 0
    for _ in range(10_000 - 1000):
        reply = at + MS // 10
        if at == 4 * SECOND:
            reply += SECOND
        found.count(reply - at)
        at = reply + (MS - MS // 10 if reply - at < MS else 0)
    assert found.percentile(99.9) == pytest.approx(0.1 * MS, rel=0.01)
