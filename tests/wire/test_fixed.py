"""wire/fixed.py"""

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paceline.errors import UsageError
from paceline.wire import BadReply, Fixed
from splits import check, check_any_bytes, check_grows_in_place, check_linear, check_trailing, chopped, quick, receive

FOUR = Fixed(4)


@pytest.mark.parametrize(
    ("data", "messages", "kept"),
    [
        (b"", [], None),
        (b"123", [], b"123"),
        (b"1234", [b"1234"], None),
        (b"12345", [b"1234"], b"5"),
        (b"12345678", [b"1234", b"5678"], None),
        (b"123456789", [b"1234", b"5678"], b"9"),
    ],
)
def test_messages_have_one_size(data: bytes, messages: list[bytes], kept: bytes | None) -> None:
    check(FOUR, data, messages, kept)


def test_each_beginning_of_a_next_message_is_kept() -> None:
    check_trailing(FOUR, [b"1234", b"\0\0\0\0", b"\r\n\r\n"], [b"1234", b"\0\0\0\0", b"\r\n\r\n"])


def test_single_bytes_are_messages_too() -> None:
    check(Fixed(1), b"abc", [b"a", b"b", b"c"])


def test_a_message_that_comes_alone_is_not_copied() -> None:
    data = b"abcd"
    assert FOUR.cut(None, data)[0][0] is data


def test_the_size_is_the_limit() -> None:
    assert FOUR.limit == FOUR.size == 4


def test_replies_have_the_size() -> None:
    assert FOUR.join([]) == b""
    assert FOUR.join([b"1234", b"5678"]) == b"12345678"


@pytest.mark.parametrize("reply", [b"", b"123", b"12345", b"12345678"])
def test_a_reply_of_another_size_is_refused_by_place(reply: bytes) -> None:
    with pytest.raises(BadReply, match=r"with Fixed\(4\) every reply has 4 bytes: pad it") as refused:
        FOUR.join([b"good", reply, reply])
    assert refused.value.index == 1


@pytest.mark.parametrize("size", [0, -1, 1.5, "4", None, True])
def test_nonsense_is_refused(size: int) -> None:
    with pytest.raises(UsageError, match="a whole number of bytes, at least 1"):
        Fixed(size)


def test_it_says_what_it_is() -> None:
    assert repr(FOUR) == "Fixed(4)"


class OfAnySize:
    """A Fixed of each size that is asked for: `check_linear` wants one framing for two sizes."""

    def __init__(self) -> None:
        self.fixed = Fixed(1)

    def encoded(self, size: int) -> bytes:
        self.fixed = Fixed(size)
        return bytes(size)

    def cut(self, rest: Any, data: bytes, /) -> tuple[Sequence[bytes], object]:
        return self.fixed.cut(rest, data)

    def join(self, replies: Sequence[bytes], /) -> bytes:
        return self.fixed.join(replies)


def test_work_is_linear() -> None:
    sized = OfAnySize()
    check_linear(sized, sized.encoded)
    check_grows_in_place(Fixed(20_000), bytes(20_000))


@quick
@given(st.integers(1, 9), st.lists(st.binary(min_size=9, max_size=9)), st.data())
def test_what_is_joined_is_cut_again(size: int, replies: list[bytes], data: st.DataObject) -> None:
    framing = Fixed(size)
    replies = [reply[:size] for reply in replies]
    pieces = data.draw(chopped(st.just(framing.join(replies))))
    assert receive(framing, pieces) == (replies, None)


@quick
@given(chopped(st.binary(max_size=200)), st.integers(1, 20))
def test_any_bytes(pieces: list[bytes], size: int) -> None:
    framing = Fixed(size)
    check_any_bytes(framing, pieces, size - 1)
    messages, rest = receive(framing, pieces)
    kept = rest if isinstance(rest, bytes | bytearray) else b""
    assert b"".join([*messages, kept]) == b"".join(pieces)
