"""bench/latency.py: rulers, buckets, percentiles by nearest rank, merging."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paceline.bench.latency import FINE_SHIFT, LONGEST_NS, Latencies, Rulers, bounds_of, bucket_of
from paceline.errors import UsageError

durations = st.integers(0, 1 << 50)


@given(durations)
def test_a_bucket_holds_its_latency_and_is_at_most_a_128th_wide(ns: int) -> None:
    low, high = bounds_of(bucket_of(ns))
    assert low <= ns < high
    assert high - low <= max(1, low / 128)


def test_buckets_follow_each_other_without_a_gap() -> None:
    for bucket in range(5000):
        assert bounds_of(bucket)[1] == bounds_of(bucket + 1)[0]
        assert bucket_of(bounds_of(bucket)[0]) == bucket


@pytest.mark.parametrize("ns", [8_000, 64_001, 4_194_303, 4_194_304, 70_000_000, 1_073_741_824, 250_000_000_000])
def test_what_was_recorded_comes_back_within_one_percent(ns: int) -> None:
    rulers = Rulers()
    rulers.record(ns, 3)
    found = rulers.latencies()
    assert found.total == 3
    assert found.percentile(50) == pytest.approx(ns, rel=0.01)
    assert found.mean_ns == pytest.approx(ns, rel=0.01)


@pytest.mark.parametrize("ns", [5, 8_001, 4_194_303, 4_194_304, 70_000_001, 10 * LONGEST_NS])
def test_the_greatest_is_kept_as_it_was(ns: int) -> None:
    rulers = Rulers()
    rulers.record(3)
    rulers.record(ns)
    found = Latencies()
    found.add(rulers.latencies())
    assert found.most_ns == ns
    assert found.percentile(100) <= ns
    alone = Latencies.of([ns])
    assert alone.least_ns <= ns
    assert alone.mean_ns <= ns


def test_the_greatest_of_what_the_fast_loop_counts_is_known_by_its_mark() -> None:
    rulers = Rulers()
    rulers.record(1_000)
    rulers.fine[100_000 >> FINE_SHIFT] += 1
    assert rulers.latencies().most_ns == pytest.approx(100_000, abs=1 << FINE_SHIFT)


def test_too_long_and_below_zero_are_counted_at_the_ends() -> None:
    rulers = Rulers()
    rulers.record(10 * LONGEST_NS)
    rulers.record(-5)
    found = rulers.latencies()
    assert found.total == 2
    assert found.least_ns < 64
    assert found.most_ns == 10 * LONGEST_NS


@given(st.lists(st.integers(8_000, 1 << 36), min_size=1, max_size=200), st.floats(0, 100))
def test_a_percentile_is_the_nearest_rank(many: list[int], percent: float) -> None:
    ordered = sorted(many)
    rank = max(1, -(-round(percent * len(many) / 100, 6) // 1))
    assert Latencies.of(many).percentile(percent) == pytest.approx(ordered[int(rank) - 1], rel=0.01)


def test_the_last_percentiles_of_ten_thousand() -> None:
    found = Latencies.of(range(1_000_000, 10_001_000_000, 1_000_000))  # 1 ms … 10 s
    assert found.total == 10_000
    for percent, expected_ms in ((50, 5_000), (99, 9_900), (99.9, 9_990), (99.99, 9_999), (100, 10_000)):
        assert found.percentile(percent) == pytest.approx(expected_ms * 1e6, rel=0.005)
    assert found.mean_ns == pytest.approx(5_000.5e6, rel=0.005)


def test_parts_merge_into_the_whole() -> None:
    rng = random.Random(1)
    many = [rng.randrange(1 << 35) for _ in range(1000)]
    one, other = Latencies.of(many[:300]), Latencies.of(many[300:])
    one.add(other)
    assert one == Latencies.of(many)
    assert Latencies.from_json(one.to_json()) == one


def test_nothing_has_no_percentile_but_zero() -> None:
    found = Latencies()
    assert (found.total, found.mean_ns, found.least_ns, found.most_ns) == (0, 0.0, 0.0, 0.0)
    assert found.percentiles([50, 100]) == [0.0, 0.0]


@pytest.mark.parametrize("percent", [-0.1, 100.1])
def test_a_percentile_beyond_100_is_refused(percent: float) -> None:
    with pytest.raises(UsageError, match="between 0 and 100"):
        Latencies.of([1]).percentile(percent)


@pytest.mark.parametrize("pairs", [[[1, -1]], [["1", 1]], [[1]], [[-1, 1]], [[1, 2, 3]], [1]])
def test_what_is_no_histogram_is_refused(pairs: list[list[int]]) -> None:
    with pytest.raises((ValueError, TypeError)):
        Latencies.from_json(pairs)
