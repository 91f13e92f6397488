"""Does the handler block?  Sequences of samples and promotions, and what is made of them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paceline.worker.estimate import (
    BATCH_BYTES,
    BATCH_CALLS,
    ENTER_BLOCKED_NS,
    FIRST_BATCH_CALLS,
    LEAVE_BLOCKED_NS,
    LONG_NS,
    RARE,
    WINDOW_CALLS,
    Estimate,
    Times,
    Verdict,
    judge,
)

US, MS = 1_000, 1_000_000

Samples = list[tuple[int, int]]


def fed(samples: Samples, *, busy: bool = False, at_once: int = 1) -> Estimate:
    estimate = Estimate()
    feed(estimate, samples, busy=busy, at_once=at_once)
    return estimate


def feed(estimate: Estimate, samples: Samples, *, busy: bool = False, at_once: int = 1) -> None:
    for start in range(0, len(samples), at_once):
        estimate.on_samples(samples[start : start + at_once], busy)


def blocked(count: int, ns: int) -> Samples:
    return [(ns + 10 * US, ns)] * count


def computed(count: int, ns: int) -> Samples:
    return [(ns, 0)] * count


def blocking() -> Estimate:
    estimate = fed(blocked(10, 5 * MS))
    assert estimate.blocking
    return estimate


# Entering


@pytest.mark.parametrize("at_once", [1, 7, 100])
@pytest.mark.parametrize(
    ("samples", "verdict"),
    [
        ([], False),
        (computed(1000, 20 * MS), False),
        (blocked(1000, 90 * US), False),
        (blocked(1000, 110 * US), True),
        (blocked(10, 5 * MS), True),
        ([*computed(1000, 10 * US), *blocked(2, 5 * MS)], True),
        (blocked(5, 150 * US), False),  # it takes some to believe it
        ([(200 * US, 40 * US), (10 * US, 0)] * 500, False),
        ([(400 * US, 300 * US), (10 * US, 0)] * 500, True),
    ],
    ids=["nothing", "computes", "90 us", "110 us", "5 ms", "begins to", "five times", "mean 20 us", "mean 150 us"],
)
def test_over_100_us_of_blocked_time_in_the_mean(samples: Samples, verdict: bool, at_once: int) -> None:
    assert fed(samples, at_once=at_once).blocking is verdict


def test_what_was_measured_while_the_process_was_busy_does_not_count() -> None:
    """A thread that waits for the interpreter lock looks blocked."""
    estimate = fed(blocked(1000, 5 * MS), busy=True)
    assert not estimate.blocking
    assert estimate.mean_blocked_ns == 0
    assert estimate.mean_wall_ns > 4 * MS  # the duration is what it is


@pytest.mark.parametrize(
    ("calls", "promotions", "verdict"),
    [
        (10_000, 5, False),  # one per 2,000
        (10_000, 6, True),
        (1_000_000, 5, False),
        (1_000_000, 6, True),
        (2_000, 1, False),
        (100, 1, False),  # one is none
        (2, 2, True),
        (3_999, 2, True),
        (4_000, 2, False),
        (6_000, 3, False),
        (5_999, 3, True),
    ],
)
def test_promoted_by_the_watcher_more_than_once_per_2000_calls(calls: int, promotions: int, verdict: bool) -> None:
    estimate = Estimate()
    for _ in range(promotions):
        estimate.on_watched(calls)
    assert estimate.blocking is verdict


@pytest.mark.parametrize(("every", "verdict"), [(RARE, False), (RARE - 100, True), (5 * RARE, False), (100, True)])
def test_rare_long_blocks_are_not_missed(every: int, verdict: bool) -> None:
    estimate = Estimate()
    for call in range(every, 20 * WINDOW_CALLS, every):
        estimate.on_watched(call)
    assert estimate.blocking is verdict
    assert len(estimate.promotions) <= WINDOW_CALLS // every + 1


# Leaving


def test_it_is_left_after_ten_thousand_quiet_calls_and_not_before() -> None:
    estimate = blocking()
    feed(estimate, computed(WINDOW_CALLS - 10, 10 * US), at_once=500)
    assert estimate.blocking
    feed(estimate, computed(30, 10 * US))
    assert not estimate.blocking
    assert estimate.mean_blocked_ns < ENTER_BLOCKED_NS


def test_it_is_left_under_load_too() -> None:
    """Busy samples do not move the mean, which stands where it was when the handler last blocked."""
    estimate = blocking()
    feed(estimate, computed(2 * WINDOW_CALLS, 10 * US), busy=True, at_once=100)
    assert not estimate.blocking
    feed(estimate, computed(100, 10 * US), busy=True)
    assert not estimate.blocking


@pytest.mark.parametrize("busy", [False, True])
@pytest.mark.parametrize(
    ("window", "verdict"),
    [
        (blocked(WINDOW_CALLS, LEAVE_BLOCKED_NS + US), True),
        (blocked(WINDOW_CALLS, LEAVE_BLOCKED_NS - US), False),
        ([*blocked(5, 50 * MS), *computed(WINDOW_CALLS - 5, 10 * US)], False),
        ([*blocked(6, 50 * MS), *computed(WINDOW_CALLS - 6, 10 * US)], True),
        ([*blocked(150, LONG_NS - 1), *computed(WINDOW_CALLS - 150, 10 * US)], True),  # 75 us in the mean
    ],
    ids=["51 us", "49 us", "one long in 2000", "more", "not long but many"],
)
def test_what_a_window_says(window: Samples, verdict: bool, busy: bool) -> None:
    estimate = Estimate(blocking=True)
    feed(estimate, window, busy=busy, at_once=250)
    feed(estimate, window, busy=busy, at_once=250)
    assert estimate.blocking is verdict


def test_a_window_begins_anew_when_the_watcher_had_to_promote() -> None:
    estimate = blocking()
    feed(estimate, computed(WINDOW_CALLS - 100, 10 * US), at_once=100)
    for _ in range(6):
        estimate.on_watched(50_000)
    feed(estimate, computed(200, 10 * US), at_once=100)
    assert estimate.blocking
    feed(estimate, computed(WINDOW_CALLS, 10 * US), at_once=100)
    assert not estimate.blocking


def test_what_was_left_is_entered_again_as_at_first() -> None:
    estimate = blocking()
    for _ in range(6):
        estimate.on_watched(50_000)
    feed(estimate, computed(WINDOW_CALLS, 10 * US), at_once=100)
    assert not estimate.blocking
    estimate.on_watched(55_000)  # the old ones are forgotten
    assert not estimate.blocking
    feed(estimate, blocked(3, 5 * MS))
    assert estimate.blocking


def test_it_does_not_flutter_between_the_two_limits() -> None:
    """75 µs: too little to enter, too much to leave."""
    estimate = fed(blocked(5000, 75 * US), at_once=100)
    assert not estimate.blocking
    estimate.blocking = True
    feed(estimate, blocked(5 * WINDOW_CALLS, 75 * US), at_once=100)
    assert estimate.blocking


# The bounds of a batch


@pytest.mark.parametrize(
    ("wall_ns", "calls", "bytes_out", "most"),
    [
        (US, 1000, 64_000, BATCH_CALLS),
        (10 * US, 1000, 64_000, 100),
        (100 * US, 1000, 64_000, 10),
        (5 * MS, 10, 640, 1),
        (5 * MS, 10, 0, 1),
        (US, 1000, 1000 * 64 * 1024, 4),
        (US, 10, 10 * BATCH_BYTES * 8, 1),
        (US, 1000, 0, BATCH_CALLS),
        (0, 1000, 64_000, FIRST_BATCH_CALLS),  # nothing was measured yet
        (0, 1000, 1000 * 64 * 1024, 4),
    ],
)
def test_a_batch_stays_within_its_bounds(wall_ns: int, calls: int, bytes_out: int, most: int) -> None:
    estimate = fed(computed(500, wall_ns) if wall_ns else [])
    estimate.on_traffic(calls, bytes_out)
    assert estimate.most_calls == most


def test_without_traffic_the_bound_stays() -> None:
    estimate = fed(computed(500, 10 * US))
    estimate.on_traffic(100, 100)
    before = estimate.most_calls
    estimate.on_traffic(0, 0)
    estimate.on_traffic(0, 10_000_000)  # the rest of a reply, without a call
    assert estimate.most_calls == before == 100


@given(
    samples=st.lists(st.tuples(st.integers(0, 10**11), st.integers(-1000, 10**11)), max_size=50),
    calls=st.integers(0, 10**7),
    bytes_out=st.integers(0, 10**12),
)
def test_a_batch_has_at_least_one_call_and_at_most_256(samples: Samples, calls: int, bytes_out: int) -> None:
    estimate = fed(samples)
    estimate.on_traffic(calls, bytes_out)
    assert 1 <= estimate.most_calls <= BATCH_CALLS


# Why a call goes on

TICK_NS = 5 * MS


def judged(ran_us: int, waited_us: int, slices: int, *, runnable: bool = False, busy: bool = False) -> Verdict:
    before: Times = (7 * MS, 8 * MS, 9)
    after: Times = (7 * MS + ran_us * US, 8 * MS + waited_us * US, 9 + slices)
    return judge(before, after, runnable, TICK_NS, busy)


@pytest.mark.parametrize("busy", [False, True])
@pytest.mark.parametrize("runnable", [False, True])
@pytest.mark.parametrize(
    ("ran_us", "waited_us", "slices"), [(5000, 0, 1), (2500, 0, 3), (2500, 2500, 40)], ids=["all", "half", "in turns"]
)
def test_who_runs_half_a_tick_computes(ran_us: int, waited_us: int, slices: int, runnable: bool, busy: bool) -> None:
    assert judged(ran_us, waited_us, slices, runnable=runnable, busy=busy) is Verdict.COMPUTES


@pytest.mark.parametrize("busy", [False, True])
def test_who_could_run_and_does_not_queues(busy: bool) -> None:
    assert judged(0, 0, 0, runnable=True, busy=busy) is Verdict.QUEUES
    assert judged(2000, 3000, 5, runnable=True, busy=busy) is Verdict.QUEUES


@pytest.mark.parametrize("busy", [False, True])
def test_who_slept_all_the_time_blocks(busy: bool) -> None:
    """Even beside a neighbour that computes."""
    assert judged(0, 0, 0, busy=busy) is Verdict.BLOCKS
    assert judged(100, 50, 1, busy=busy) is Verdict.BLOCKS


@pytest.mark.parametrize(
    ("ran_us", "waited_us", "busy", "verdict"),
    [
        (200, 100, False, Verdict.BLOCKS),  # many short waits
        (200, 100, True, Verdict.QUEUES),  # for the GIL, which somebody else has
        (200, 2300, False, Verdict.QUEUES),  # for a processor
        (200, 2200, False, Verdict.BLOCKS),
    ],
)
def test_who_woke_again_and_again(ran_us: int, waited_us: int, busy: bool, verdict: Verdict) -> None:
    assert judged(ran_us, waited_us, 5, busy=busy) is verdict


@pytest.mark.parametrize("runnable", [False, True])
@pytest.mark.parametrize(("before", "after"), [(None, None), (None, (1, 1, 1)), ((1, 1, 1), None)])
def test_where_the_kernel_does_not_tell_only_the_process_is_known(
    before: Times | None, after: Times | None, runnable: bool
) -> None:
    assert judge(before, after, runnable, TICK_NS, busy=False) is Verdict.BLOCKS
    assert judge(before, after, runnable, TICK_NS, busy=True) is Verdict.COMPUTES


def test_the_first_batches_are_short() -> None:
    assert Estimate().most_calls == FIRST_BATCH_CALLS < BATCH_CALLS
