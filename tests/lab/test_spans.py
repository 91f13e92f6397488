"""lab/spans.py: what spans say about who ran when, and a clock that is read for real."""

import pytest

from paceline.clock import now_ns
from paceline.lab.spans import (
    at_a_time,
    idle_of,
    in_ms,
    lengths_of,
    merged,
    overlap_of,
    shares_of,
    time_by_number,
    turns_of,
    watch_own_clock,
)


def test_turns_are_in_the_order_of_time_and_one_that_goes_on_is_one() -> None:
    assert turns_of([[(0, 3), (3.5, 4), (8, 9)], [(4, 8)]]) == [(0, 0, 4), (1, 4, 8), (0, 8, 9)]


def test_the_last_turn_was_cut_short_and_does_not_count() -> None:
    assert lengths_of([[(0, 3), (3.5, 5), (10, 12)], [(5, 10)]]) == [5, 5]


def test_time_is_divided_by_how_many_ran() -> None:
    ran = [[(0, 4)], [(3, 6), (8, 10)]]
    assert time_by_number(ran) == {1: 3 + 2 + 2, 2: 1, 0: 2}
    assert overlap_of(ran) == pytest.approx(0.1)
    assert idle_of(ran) == pytest.approx(0.2)
    assert at_a_time(ran) == pytest.approx((7 + 2 * 1) / 8)


def test_shares_are_of_what_they_got_together() -> None:
    assert shares_of([[(0, 3)], [(5, 6)]]) == [0.75, 0.25]


def test_nothing_can_be_said_of_nothing() -> None:
    assert (overlap_of([]), at_a_time([]), idle_of([[]]), shares_of([[], []])) == (0, 0, 0, [0, 0])


def test_spans_that_touch_are_one_and_what_lies_between_others_stays() -> None:
    assert merged([(4, 5), (0, 1), (1, 2)], 0.01) == [(0, 2), (4, 5)]
    assert merged([(0, 9), (1, 2)], 0.01) == [(0, 9)]


def test_spans_are_kept_in_milliseconds() -> None:
    assert in_ms([[(0, 1_234_567)], []]) == [[[0.0, 1.2346]], []]


def test_who_watches_its_clock_finds_out_when_it_ran() -> None:
    from_ns = now_ns()
    spans = watch_own_clock(from_ns, from_ns + 5_000_000)
    edges = [edge for span in spans for edge in span]
    assert edges == sorted(edges)
    assert edges[0] >= 0
