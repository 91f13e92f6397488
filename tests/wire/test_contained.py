"""wire/contained.py: what the framing of a user does wrong is said to be its fault."""

from collections.abc import Sequence
from typing import Any

import pytest

from paceline.errors import UsageError
from paceline.wire import BadReply, Lines
from paceline.wire.contained import Contained, contained


class Odd:
    size = 7

    def __init__(self, given: Any = None) -> None:
        self.given = given

    def cut(self, _rest: Any, _data: bytes) -> Any:
        return self.given if self.given is not None else 1 / 0

    def join(self, replies: Sequence[bytes]) -> Any:
        if replies == [b"no"]:
            raise BadReply("not this one", 0)
        return self.given


def test_one_of_the_box_is_left_as_it_is() -> None:
    lines = Lines(limit=7)
    assert contained(lines, "line") is lines


def test_one_is_contained_once() -> None:
    once = contained(Odd(), "app:odd")
    assert isinstance(once, Contained)
    assert contained(once, "again") is once
    assert once.size == 7


def test_what_it_raises() -> None:
    with pytest.raises(
        UsageError, match=r"^the framing app:odd is at fault: its cut raised ZeroDivisionError: division"
    ):
        contained(Odd(), "app:odd").cut(None, b"x")
    with pytest.raises(BadReply, match="not this one"):
        contained(Odd(), "app:odd").join([b"no"])


@pytest.mark.parametrize("given", [5, "text", (None, None), ([b"a"],)], ids=repr)
def test_what_is_nothing_of_a_framings(given: Any) -> None:
    odd = contained(Odd(given), "app:odd")
    with pytest.raises(UsageError, match="its cut raised"):
        odd.cut(None, b"x")
    with pytest.raises(UsageError, match="its join raised"):
        odd.join([b"x"])


def test_any_sequence_of_messages_is_a_list() -> None:
    assert contained(Odd(((b"a", b"b"), None)), "app:odd").cut(None, b"x") == ([b"a", b"b"], None)
