"""bench/replies.py: the same count however the bytes arrive, learned or not; wrong ones; broken ones."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paceline.bench.replies import BrokenReply, Replies, raw_size_of
from paceline.bench.troubles import Kind
from paceline.wire import Fixed, LengthPrefixed, Lines, Raw
from splits import split_at

LINES = Lines(limit=100)


def made(framing: Any = LINES, messages: tuple[bytes, ...] = (b"abc",), check: bool = False) -> Replies:
    wires = [framing.join([message]) for message in messages]
    return Replies(framing, messages, wires, check=check, raw_size=raw_size_of(framing, len(messages[0])))


def counted(replies: Replies, pieces: list[bytes], oldest: int = 0) -> int:
    total, rest = 0, None
    for piece in pieces:
        count, rest = replies.count(rest, piece, oldest + total)
        total += count
    assert rest is None
    return total


@pytest.mark.parametrize("check", [False, True])
@given(cuts=st.lists(st.integers(1, 15), max_size=20))
def test_however_they_arrive(check: bool, cuts: list[int]) -> None:
    content, pieces = b"abc\n" * 12, []
    for size in cuts:
        pieces.append(content[:size])
        content = content[size:]
    replies = made(check=check)
    assert counted(replies, [piece for piece in (*pieces, content) if piece]) == 12
    assert not replies.errors


def test_byte_by_byte_teaches_nothing_and_counts_all_the_same() -> None:
    replies = made()
    assert counted(replies, split_at(b"abc\n" * 3, range(1, 12))) == 3
    assert replies.reply is None


def test_what_a_reply_looks_like_is_learned_once() -> None:
    replies = made()
    assert counted(replies, [b"ok\nok\n"]) == 2
    assert replies.reply == b"ok\n"
    assert counted(replies, [b"no\n", b"ok\nok\nok\n"]) == 4
    assert replies.reply == b"ok\n"


def test_replies_that_differ_are_not_learned() -> None:
    replies = made()
    assert counted(replies, [b"1\n22\n", b"333\n", b"333\n"]) == 4
    assert replies.reply is None


def test_a_reply_with_a_rest_behind_it_is_not_taken_for_a_whole_one() -> None:
    replies = made()
    assert counted(replies, [b"ok\no", b"k\nok\n", b"ok\n"]) == 4


def test_raw_is_told_apart_by_size() -> None:
    replies = made(Raw(limit=100))
    assert counted(replies, [b"x", b"yz", b"abcdefgh", b"i"]) == 4


def test_any_is_whatever_arrives() -> None:
    replies = Replies(Raw(limit=9), (b"abc",), [b"abc"], check=False, raw_size=0)
    assert counted(replies, [b"x", b"a longer one than the limit"]) == 2
    assert replies.reply is None


def test_wrong_ones_are_counted_and_one_is_shown() -> None:
    replies = made(messages=(b"abc", b"de"), check=True)
    assert counted(replies, [b"abc\nXX\nabc\nde\n"]) == 4
    assert replies.errors == {Kind.WRONG: 1}
    assert replies.example == "sent b'de', got b'XX'"


def test_each_connection_is_compared_from_its_own_message_on() -> None:
    replies = made(messages=(b"a", b"b", b"c"), check=True)
    assert counted(replies, [b"c\na\n", b"b\n"], oldest=5) == 3
    assert not replies.errors


@pytest.mark.parametrize(
    ("framing", "piece", "kind"),
    [
        (LINES, b"x" * 102, Kind.TOO_LARGE),
        (LengthPrefixed(4, limit=100), b"\xff\xff\xff\xff", Kind.TOO_LARGE),
    ],
)
def test_what_cannot_be_a_reply_says_why(framing: Any, piece: bytes, kind: Kind) -> None:
    with pytest.raises(BrokenReply, match=r"the server (sent|announced)") as caught:
        made(framing).count(None, piece, 0)
    assert caught.value.kind is kind


def test_fixed() -> None:
    assert counted(made(Fixed(3)), [b"abcab", b"c"]) == 2
