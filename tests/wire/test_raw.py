"""wire/raw.py"""

from hypothesis import given
from hypothesis import strategies as st

from paceline.wire import Raw
from splits import chopped, quick, receive, splits


def test_what_arrived_is_the_message() -> None:
    data = b"some bytes"
    messages, rest = Raw(limit=64).cut(None, data)
    assert list(messages) == [data]
    assert messages[0] is data, "it is not copied"
    assert rest is None


def test_more_than_the_limit_is_cut_into_pieces_and_breaks_nobody() -> None:
    raw = Raw(limit=4)
    assert list(raw.cut(None, b"1234")[0]) == [b"1234"]
    assert list(raw.cut(None, b"12345")[0]) == [b"1234", b"5"]
    assert list(raw.cut(None, b"123412341")[0]) == [b"1234", b"1234", b"1"]
    assert raw.cut(None, b"123412341")[1] is None


def test_nothing_is_no_message() -> None:
    assert list(Raw(limit=4).cut(None, b"")[0]) == []


def test_bytes_and_order_do_not_depend_on_how_they_arrived() -> None:
    data = bytes(range(40))
    for pieces in splits(data):
        messages, rest = receive(Raw(limit=7), pieces)
        assert b"".join(messages) == data
        assert rest is None


def test_replies_are_sent_as_they_are() -> None:
    join = Raw(limit=4).join
    assert join([]) == b""
    assert join([b"", b""]) == b""
    assert join([b"longer than the limit", b"!"]) == b"longer than the limit!"


def test_it_says_what_it_is() -> None:
    assert repr(Raw(limit=4)) == "Raw(limit=4)"


@quick
@given(chopped(st.binary(max_size=200)), st.integers(1, 50))
def test_any_bytes(pieces: list[bytes], limit: int) -> None:
    messages, rest = receive(Raw(limit=limit), pieces)
    assert b"".join(messages) == b"".join(pieces)
    assert all(0 < len(message) <= limit for message in messages)
    assert rest is None
