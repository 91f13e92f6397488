"""Buckets that are never more than 1/16 off, and cells that add."""

from fractions import Fraction
from math import ceil

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from paceline.errors import UsageError
from paceline.stats.histogram import (
    CELLS,
    FIRST_NS,
    LAST_NS,
    OVER,
    SUM,
    UNDER,
    Histogram,
    bounds_of,
    bucket_of,
    record,
)

durations = st.integers(0, 1 << 42)
many = st.lists(durations, max_size=60)
WORD = (1 << 64) - 1


# Buckets


def test_the_buckets_cover_all_durations_without_gap_or_overlap() -> None:
    end = 0
    for bucket in range(UNDER, OVER + 1):
        low, high = bounds_of(bucket)
        assert low == end
        assert high > low
        end = high
    assert end == 1 << 64


@given(durations)
@example(FIRST_NS - 1)
@example(FIRST_NS)
@example(LAST_NS - 1)
@example(LAST_NS)
@example(WORD)
def test_a_duration_lies_within_the_bounds_of_its_bucket(ns: int) -> None:
    low, high = bounds_of(bucket_of(ns))
    assert low <= ns < high


@pytest.mark.parametrize("bucket", range(UNDER + 1, OVER))
def test_the_first_and_the_last_of_a_bucket_belong_to_it(bucket: int) -> None:
    low, high = bounds_of(bucket)
    assert bucket_of(low) == bucket_of(high - 1) == bucket
    assert (high - low) / 2 <= low / 16, "the middle is at most 1/16 off"


@pytest.mark.parametrize("ns", [-1, -(10**12)])
def test_a_clock_that_went_backwards_counts_as_no_time(ns: int) -> None:
    assert bucket_of(ns) == UNDER


# Recording


def test_recording_changes_two_cells_of_the_owners_row_and_no_other() -> None:
    words = [7] * (3 * CELLS)
    record(words, CELLS, 5_000_000)
    changed = {index: value for index, value in enumerate(words) if value != 7}
    assert changed == {CELLS + bucket_of(5_000_000): 8, CELLS + SUM: 7 + 5_000_000}


def test_a_row_of_the_scoreboard_takes_whatever_the_clock_says() -> None:
    words = memoryview(bytearray(CELLS * 8)).cast("Q")
    for ns in (0, -5, 1 << 63, WORD, 1 << 80):
        record(words, 0, ns)  # a store of more than 64 bits would raise
    assert Histogram(words.tolist()).count == 5


@given(many)
def test_count_and_mean_are_exact(values: list[int]) -> None:
    histogram = Histogram.of(values)
    assert histogram.count == len(values)
    assert histogram.mean_ns == (sum(values) / len(values) if values else 0)


@pytest.mark.parametrize("cells", [0, CELLS - 1, CELLS + 1])
def test_cells_of_another_size_are_refused(cells: int) -> None:
    with pytest.raises(UsageError, match=f"{CELLS} cells"):
        Histogram([0] * cells)
    with pytest.raises(UsageError, match=f"{CELLS} cells"):
        Histogram.sum_of([[0] * CELLS, [0] * cells])


# Merging


@given(st.lists(many, max_size=5))
def test_parts_merge_into_the_whole(parts: list[list[int]]) -> None:
    whole = Histogram.of(value for part in parts for value in part)
    added = Histogram()
    for part in parts:
        added.add(Histogram.of(part))
    assert added == whole
    assert Histogram.sum_of(Histogram.of(part).cells for part in parts) == whole


@given(many, many)
def test_a_part_of_time_is_the_difference_of_two(before: list[int], after: list[int]) -> None:
    earlier = Histogram.of(before)
    later = Histogram.of(before + after)
    assert later.since(earlier) == Histogram.of(after)


def test_differences_survive_a_sum_that_ran_over() -> None:
    earlier = Histogram.of([WORD, 5])
    later = Histogram(earlier.cells)
    later.record(2_000)
    assert later.since(earlier) == Histogram.of([2_000])


def test_a_copy_does_not_change_with_its_origin() -> None:
    cells = Histogram.of([1, 2_000]).cells
    copy = Histogram(cells)
    cells[SUM] = 99
    assert copy == Histogram.of([1, 2_000])


def test_histograms_compare_by_content_and_cannot_be_keys() -> None:
    assert Histogram.of([1]) != Histogram.of([2_000])
    assert Histogram() != "a histogram"
    with pytest.raises(TypeError):
        hash(Histogram())


# Percentiles


@given(many.filter(bool), st.integers(0, 1000).map(lambda tenths: tenths / 10))
@example([1] * 161 + [1 << 20] * 839, 16.1)
def test_a_percentile_lies_in_the_bucket_of_the_nearest_rank(values: list[int], percent: float) -> None:
    rank = max(1, ceil(Fraction(str(percent)) * len(values) / 100))
    exact = sorted(values)[rank - 1]
    histogram = Histogram.of(values)
    low, high = histogram.percentile_bounds(percent)
    assert low <= exact < high
    if FIRST_NS <= exact < LAST_NS:
        assert abs(histogram.percentile(percent) - exact) <= exact / 16


def test_beyond_the_buckets_a_percentile_is_the_known_bound() -> None:
    assert Histogram.of([LAST_NS * 3]).percentile(50) == LAST_NS
    assert 0 <= Histogram.of([3]).percentile(50) < FIRST_NS


def test_the_extremes_are_the_least_and_the_greatest() -> None:
    histogram = Histogram.of([2_000, 1_000_000, 30_000_000])
    assert histogram.percentile_bounds(0) == bounds_of(bucket_of(2_000))
    assert histogram.percentile_bounds(100) == bounds_of(bucket_of(30_000_000))


@pytest.mark.parametrize("percent", [-0.1, 100.1, float("nan")])
def test_a_percentile_that_cannot_be_is_refused(percent: float) -> None:
    with pytest.raises(UsageError, match="between 0 and 100"):
        Histogram.of([1]).percentile(percent)


def test_an_empty_histogram_has_no_percentile() -> None:
    with pytest.raises(UsageError, match="empty"):
        Histogram().percentile(50)
