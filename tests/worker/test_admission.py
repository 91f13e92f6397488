"""worker/admission.py: the networks, the places and the rate, without sockets and without a clock."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paceline.errors import SettingError
from paceline.networks import IPV4, UNIX
from paceline.scoreboard.fields import WORKER
from paceline.worker.admission import Bucket, Census, Refusal, Rules


def ipv4(a: int, b: int, c: int, d: int) -> int:
    return IPV4 | int.from_bytes(bytes((a, b, c, d)))


# Networks


@pytest.mark.parametrize(
    ("allow", "deny", "address", "why"),
    [
        (None, None, ipv4(10, 0, 0, 1), ""),
        (("10.0.0.0/8",), None, ipv4(10, 0, 0, 1), ""),
        (("10.0.0.0/8",), None, ipv4(11, 0, 0, 1), "--allow"),
        (("10.0.0.0/8",), None, UNIX, "--allow"),
        (("10.0.0.0/8", "unix"), None, UNIX, ""),
        (None, ("10.0.0.0/8",), ipv4(10, 0, 0, 1), "--deny"),
        (None, ("10.0.0.0/8",), ipv4(11, 0, 0, 1), ""),
        (None, ("unix",), UNIX, "--deny"),
        (("10.0.0.0/8",), ("10.0.0.1",), ipv4(10, 0, 0, 1), "--deny"),
        (("10.0.0.1",), ("10.0.0.0/8",), ipv4(10, 0, 0, 1), "--deny"),
        (("10.0.0.0/8",), ("10.0.0.1",), ipv4(10, 0, 0, 2), ""),
        (("::/0",), None, ipv4(10, 0, 0, 1), "--allow"),
    ],
)
def test_denied_wins_and_with_an_allowed_one_the_others_are_refused(
    allow: tuple[str, ...] | None, deny: tuple[str, ...] | None, address: int, why: str
) -> None:
    said = Rules(allow, deny).why_not(address)
    assert said.endswith(why)
    assert bool(said) == bool(why)


def test_a_wrong_network_is_refused_at_the_start() -> None:
    with pytest.raises(SettingError):
        Rules(("10.0.0.1/8",), None)


def test_each_refusal_has_its_cell() -> None:
    assert {refusal.value for refusal in Refusal} < WORKER.keys()


# Places


def test_as_many_as_may_be_and_no_more() -> None:
    census = Census(2)
    assert census.try_add(5, 1)
    assert census.try_add(6, 1)
    assert not census.try_add(7, 1)
    assert census.try_add(7, 2)  # somewhere else
    census.remove(5)
    assert census.try_add(8, 1)
    assert (census.count(1), census.count(2), census.count(3)) == (2, 1, 0)


def test_one_that_was_let_in_elsewhere_is_counted_though_there_are_too_many() -> None:
    census = Census(1)
    census.add(5, 1)
    census.add(6, 1)
    assert census.count(1) == 2
    census.remove(5)
    assert not census.try_add(7, 1)
    census.remove(6)
    assert census.try_add(7, 1)


def test_what_is_not_counted_is_not_missed() -> None:
    census = Census(1)
    census.remove(5)
    assert census.try_add(5, 1)
    census.remove(5)
    census.remove(5)
    assert census.count(1) == len(census) == 0


step = st.tuples(st.sampled_from(["try", "add", "remove"]), st.integers(3, 8), st.integers(1, 3))


@given(st.integers(1, 3), st.lists(step, max_size=60))
def test_it_counts_what_is_there_and_keeps_nothing_else(limit: int, done: list[tuple[str, int, int]]) -> None:
    census = Census(limit)
    there: dict[int, int] = {}
    for step, fd, place in done:
        before = Counter(there.values())
        match step:
            case "try" if fd not in there:  # a fresh descriptor is nobody else's
                if census.try_add(fd, place):
                    assert before[place] < limit
                    there[fd] = place
                else:
                    assert before[place] >= limit
            case "add":
                census.add(fd, place)
                there[fd] = place
            case "remove":
                census.remove(fd)
                there.pop(fd, None)
        counted = Counter(there.values())
        assert {place: census.count(place) for place in (1, 2, 3)} == {place: counted[place] for place in (1, 2, 3)}
        assert len(census) == len(counted)


# The rate


def test_what_has_saved_up_goes_at_once_then_it_is_the_rate() -> None:
    bucket = Bucket(100.0, 50.0)
    for _ in range(10):  # a tenth of a second's
        assert bucket.wait_s(50.0) == 0.0
        bucket.spend()
    assert bucket.wait_s(50.0) == pytest.approx(0.01)
    assert bucket.wait_s(50.005) == pytest.approx(0.005)
    assert bucket.wait_s(50.0101) == 0.0
    bucket.spend()
    assert bucket.wait_s(50.0101) > 0.0


def test_less_than_one_a_second_still_lets_one_in() -> None:
    bucket = Bucket(0.1, 0.0)
    assert bucket.wait_s(0.0) == 0.0
    bucket.spend()
    assert bucket.wait_s(0.0) == pytest.approx(10.0)
    assert bucket.wait_s(10.001) == 0.0
    bucket.spend()
    assert bucket.wait_s(10.001) > 9.0


def test_a_long_rest_saves_no_more_than_there_is_room_for() -> None:
    bucket = Bucket(1000.0, 0.0)
    assert bucket.wait_s(1e9) == 0.0
    for _ in range(100):
        assert bucket.wait_s(1e9) == 0.0
        bucket.spend()
    assert bucket.wait_s(1e9) > 0.0


def test_a_clock_that_is_read_out_of_order_gives_nothing() -> None:
    bucket = Bucket(1.0, 10.0)
    bucket.spend()
    assert bucket.wait_s(9.0) == pytest.approx(1.0)
    assert bucket.wait_s(10.0) == pytest.approx(1.0)


@given(
    st.floats(0.01, 1e6),
    st.lists(st.floats(0.0, 5.0), min_size=1, max_size=200),
)
def test_in_no_span_of_time_are_more_let_in_than_the_rate_allows(rate: float, gaps: list[float]) -> None:
    bucket = Bucket(rate, 0.0)
    now = 0.0
    let_in: list[float] = []
    for gap in gaps:
        now += gap / rate  # about the time of one token
        while bucket.wait_s(now) == 0.0 and len(let_in) < 2000:
            bucket.spend()
            let_in.append(now)
    room = max(1.0, rate * Bucket.ROOM_S)
    for first in range(0, len(let_in), 7):
        for last in range(first, len(let_in), 11):
            allowed = room + rate * (let_in[last] - let_in[first])
            assert last - first + 1 <= allowed * (1 + 1e-6) + 1e-6


@given(st.floats(0.01, 1e6), st.floats(0.0, 1e9))
def test_who_waits_as_long_as_is_said_is_let_in(rate: float, begun: float) -> None:
    bucket = Bucket(rate, begun)
    while (wait_s := bucket.wait_s(begun)) == 0.0 and bucket.tokens > 1.0:
        bucket.tokens = 1.0
    bucket.spend()
    wait_s = bucket.wait_s(begun)
    assert 0.0 < wait_s <= 1.0 / rate
    later = begun + wait_s + max(0.001, begun * 1e-9)  # a clock of doubles has no finer steps
    assert bucket.wait_s(later) == 0.0
