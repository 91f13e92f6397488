"""worker/packed.py: the same messages in the same order, in less memory."""

import sys
from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paceline.worker.packed import FEW, Packed, kept_by, packed


@given(st.lists(st.binary(max_size=5)))
def test_they_come_as_they_were(messages: list[bytes]) -> None:
    queue = Packed(deque(messages))
    for number, message in enumerate(messages):
        assert len(queue) == len(messages) - number
        assert queue.popleft() == message
    assert not queue
    with pytest.raises(IndexError):
        queue.popleft()


def test_small_ones_take_a_tenth() -> None:
    many = deque(b"%02d" % (number % 100) for number in range(2_700))
    few = packed(many)
    assert isinstance(few, Packed)
    assert packed(few) is few
    assert kept_by(few) == 6 * 2_700
    assert kept_by(many) == 50 * 2_700
    assert sum(map(sys.getsizeof, many)) + sys.getsizeof(many) > 100_000


def test_a_few_stay_as_they_are_and_so_do_those_of_another_type() -> None:
    few = deque([b"x"] * FEW)
    assert packed(few) is few
    views = deque([memoryview(b"x")] * 1_000)
    assert packed(views) is views  # type: ignore[comparison-overlap,arg-type]
