"""wire/length_prefixed.py"""

from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paceline.errors import MessageTooLarge, UsageError
from paceline.wire import BadReply, LengthPrefixed
from splits import (
    check,
    check_any_bytes,
    check_broken,
    check_grows_in_place,
    check_linear,
    check_trailing,
    chopped,
    quick,
    receive,
)

Order = Literal["big", "little"]
ALL: list[tuple[int, Order]] = [
    (1, "big"),
    (2, "big"),
    (4, "big"),
    (8, "big"),
    (2, "little"),
    (4, "little"),
    (8, "little"),
]
TWO = LengthPrefixed(2, limit=8)


@pytest.mark.parametrize(("width", "order"), ALL)
def test_a_message_comes_behind_its_length(width: int, order: Order) -> None:
    framing = LengthPrefixed(width, order, limit=8)
    messages = [b"", b"hello", b"12345678", b"x"]
    encoded = [len(message).to_bytes(width, order) + message for message in messages]
    check_trailing(framing, messages, encoded)
    assert framing.join(messages) == b"".join(encoded)


@pytest.mark.parametrize(("width", "order"), ALL)
def test_a_length_of_the_limit_passes_and_one_more_does_not(width: int, order: Order) -> None:
    framing = LengthPrefixed(width, order, limit=8)
    eight, nine, good = (8).to_bytes(width, order), (9).to_bytes(width, order), (2).to_bytes(width, order) + b"ok"
    check(framing, good + eight + b"1234567", [b"ok"], eight + b"1234567")
    check(framing, good + eight + b"12345678", [b"ok", b"12345678"])
    # Refused when the length is there, whatever of the message has come.
    for size in range(12):
        check_broken(framing, good + nine + b"x" * size, [b"ok"], MessageTooLarge)
    check_broken(framing, b"\xff" * width, [], MessageTooLarge)


def test_the_error_names_the_limit_and_what_arrived() -> None:
    text = check_broken(LengthPrefixed(4, limit=65536), b"GET / HTTP/1.1\r\n", [], MessageTooLarge)
    assert text == (
        "the peer announced a message of 1,195,725,856 bytes (its prefix is b'GET '), over the limit of 65,536 bytes "
        "(--max-message, or limit= where the framing is made)"
    )


def test_the_error_tells_when_the_other_order_would_make_sense() -> None:
    text = check_broken(LengthPrefixed(4, limit=65536), b"\x05\0\0\0hello", [], MessageTooLarge)
    assert text.endswith("; read as little-endian it would be 5 bytes: which order does the peer use?")
    text = check_broken(LengthPrefixed(4, "little", limit=65536), b"\0\0\0\x01x", [], MessageTooLarge)
    assert text.endswith("; read as big-endian it would be 1 byte: which order does the peer use?")


def test_a_chunk_over_the_limit_may_hold_many_messages_within_it() -> None:
    check(TWO, b"\0\x0812345678" * 5, [b"12345678"] * 5)


def test_nothing_is_no_reply() -> None:
    assert TWO.join([]) == b""


def test_a_reply_may_be_over_the_limit_but_not_over_the_prefix() -> None:
    one = LengthPrefixed(1, limit=8)
    assert one.join([b"x" * 255]) == b"\xff" + b"x" * 255
    with pytest.raises(
        BadReply, match="the handler returned a reply of 256 bytes; a prefix of 1 byte can announce at most 255"
    ) as refused:
        one.join([b"good", b"x" * 256, b"y" * 256])
    assert refused.value.index == 1
    with pytest.raises(BadReply, match="at most 65,535"):
        TWO.join([bytes(65536)])


@pytest.mark.parametrize("width", [0, 3, 16, -1, 4.0, "4", None, True])
def test_other_widths_are_refused(width: int) -> None:
    with pytest.raises(UsageError, match="1, 2, 4 or 8 bytes wide"):
        LengthPrefixed(width, limit=8)


@pytest.mark.parametrize("order", ["BIG", "network", ">", "", None])
def test_other_orders_are_refused(order: Order) -> None:
    with pytest.raises(UsageError, match=r"'big' .* or 'little'"):
        LengthPrefixed(4, order, limit=8)


def test_it_says_what_it_is() -> None:
    assert repr(LengthPrefixed(4, "little", limit=8)) == "LengthPrefixed(4, 'little', limit=8)"


def test_nothing_is_set_aside_for_a_length_that_is_only_announced() -> None:
    _, rest = LengthPrefixed(4, limit=1 << 31).cut(None, b"\x7f\xff\xff\xffx")
    assert rest == b"\x7f\xff\xff\xffx"


def test_work_is_linear() -> None:
    check_linear(LengthPrefixed(4, limit=1 << 20), lambda size: size.to_bytes(4, "big") + bytes(size))
    check_grows_in_place(LengthPrefixed(8, limit=1 << 20), (5000).to_bytes(8, "big") + bytes(5000))


@quick
@given(st.sampled_from(ALL), st.lists(st.binary(max_size=20)), st.data())
def test_what_is_joined_is_cut_again(kind: tuple[int, Order], replies: list[bytes], data: st.DataObject) -> None:
    framing = LengthPrefixed(*kind, limit=20)
    pieces = data.draw(chopped(st.just(framing.join(replies))))
    assert receive(framing, pieces) == (replies, None)


@quick
@given(st.sampled_from(ALL), chopped(st.lists(st.integers(0, 9)).map(bytes) | st.binary()), st.integers(1, 8))
def test_any_bytes(kind: tuple[int, Order], pieces: list[bytes], limit: int) -> None:
    check_any_bytes(LengthPrefixed(*kind, limit=limit), pieces, kind[0] + limit - 1)
