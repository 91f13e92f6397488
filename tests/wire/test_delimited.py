"""wire/delimited.py"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paceline.errors import MessageTooLarge, UsageError
from paceline.wire import BadReply, Broken, Delimited
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

MAIL = Delimited(b"\r\n.\r\n", limit=8)


@pytest.mark.parametrize(
    ("delimiter", "data", "messages", "kept"),
    [
        (b"\0", b"", [], None),
        (b"\0", b"\0", [b""], None),
        (b"\0", b"one\0two\0", [b"one", b"two"], None),
        (b"\0", b"one\0tw", [b"one"], b"tw"),
        (b"\n", b"one\r\n", [b"one\r"], None),
        (b"||", b"a|b||c|", [b"a|b"], b"c|"),
        (b"||", b"a|||b||", [b"a", b"|b"], None),
        (b"aa", b"xaaa", [b"x"], b"a"),
        (b"aa", b"aaaaa", [b"", b""], b"a"),
        (b"aab", b"aaaab", [b"aa"], None),
        (b"abab", b"ababab", [b""], b"ab"),
        (b"\r\n.\r\n", b"a\r\n.\r\r\n.\r\n", [b"a\r\n.\r"], None),
        ("¶".encode(), "aé¶".encode(), ["aé".encode()], None),
    ],
)
def test_the_first_delimiter_ends_a_message(
    delimiter: bytes, data: bytes, messages: list[bytes], kept: bytes | None
) -> None:
    check(Delimited(delimiter, limit=64), data, messages, kept)


def test_each_beginning_of_a_next_message_is_kept() -> None:
    check_trailing(MAIL, [b"one", b"", b"\r\n\r"], [b"one\r\n.\r\n", b"\r\n.\r\n", b"\r\n\r\r\n.\r\n"])


def test_a_message_of_the_limit_passes_and_one_byte_more_does_not() -> None:
    check(MAIL, b"12345678\r\n.\r\n", [b"12345678"])
    check(MAIL, b"ok\r\n.\r\n12345678", [b"ok"], b"12345678")
    for size in range(1, 5):
        check(MAIL, b"12345678" + b"\r\n.\r\n"[:size], [], b"12345678" + b"\r\n.\r\n"[:size])
        check_broken(MAIL, b"12345678" + b"\r\n.\r\n"[:size] + b"x", [], MessageTooLarge)
    # The delimiter may have begun before the limit, too.
    check(MAIL, b"12345\r\n.\r", [], b"12345\r\n.\r")
    for over in (b"123456789", b"123456789\r\n.\r\n", b"12345678\r\r\n.\r\nmore\r\n.\r\n"):
        check_broken(MAIL, b"ok\r\n.\r\n" + over, [b"ok"], MessageTooLarge)


def test_a_delimiter_may_be_longer_than_the_limit() -> None:
    one = Delimited(b"\r\n.\r\n", limit=1)
    for data in (b"", b"x"):
        check(one, data + b"\r\n.\r\n", [data])
        for size in range(1, 5):
            check(one, data + b"\r\n.\r\n"[:size], [], data + b"\r\n.\r\n"[:size])
    check(one, b"\r\r", [], b"\r\r")
    for over in (b"xx", b"xx\r", b"xx\r\n.\r\n", b"\r\r\r", b"\r\n\r", b"\r\n.\n"):
        check_broken(one, over, [], MessageTooLarge)


def test_the_error_names_the_limit_and_what_arrived() -> None:
    text = check_broken(Delimited(b"\0", limit=20), b"GET /a/long/path HTTP/1.1\r\n", [], MessageTooLarge)
    assert "a message over the limit of 20 bytes" in text
    assert text.endswith("it begins b'GET /a/long/path'")


def test_a_chunk_over_the_limit_may_hold_many_messages_within_it() -> None:
    data = b"12345678\0" * 5
    check(Delimited(b"\0", limit=8), data, [b"12345678"] * 5)


def test_replies_get_the_delimiter() -> None:
    assert MAIL.join([]) == b""
    assert MAIL.join([b"one", b""]) == b"one\r\n.\r\n\r\n.\r\n"


@pytest.mark.parametrize(
    ("delimiter", "reply"), [(b"\0", b"a\0b"), (b"\0", b"\0"), (b"||", b"a|"), (b"aa", b"a"), (b"aa", b"xaay")]
)
def test_a_reply_that_the_peer_would_read_as_several_is_refused_by_place(delimiter: bytes, reply: bytes) -> None:
    framing = Delimited(delimiter, limit=64)
    with pytest.raises(BadReply, match=r"the handler returned a reply of .* several messages") as refused:
        framing.join([b"good", b"", reply, reply])
    assert refused.value.index == 2
    assert framing.join([b"good", b""]) == b"good" + delimiter * 2


@pytest.mark.parametrize("delimiter", [b"", "\n", None, b"x" * 257, 10])
def test_nonsense_is_refused(delimiter: bytes) -> None:
    with pytest.raises(UsageError, match="a delimiter"):
        Delimited(delimiter, limit=8)


def test_the_longest_delimiter() -> None:
    check(Delimited(b"x" * 256, limit=8), b"one" + b"x" * 256 + b"x" * 255, [b"one"], b"x" * 255)


def test_it_says_what_it_is() -> None:
    assert repr(Delimited(b"\r\n", limit=8)) == r"Delimited(b'\r\n', limit=8)"


def test_work_is_linear() -> None:
    check_linear(Delimited(b"\r\n", limit=1 << 20), lambda size: bytes(size) + b"\r\n")
    check_grows_in_place(Delimited(b"\r\n", limit=1 << 20), b"\r" * 5000 + b"\r\n")


def test_work_is_linear_when_the_delimiter_is_almost_there_all_the_time() -> None:
    check_linear(Delimited(b"a" * 255 + b"b", limit=1 << 20), lambda size: b"a" * (size + 255) + b"b")


@quick
@given(
    st.sampled_from([b"\0", b"\r\n", b"aa", b"aba"]),
    st.lists(st.text("ab\r\n\0", max_size=8).map(str.encode)),
    st.data(),
)
def test_what_is_joined_is_cut_again(delimiter: bytes, replies: list[bytes], data: st.DataObject) -> None:
    framing = Delimited(delimiter, limit=8)
    good = [reply for reply in replies if (reply + delimiter).find(delimiter) == len(reply)]
    if good != replies:
        with pytest.raises(BadReply):
            framing.join(replies)
    pieces = data.draw(chopped(st.just(framing.join(good))))
    assert receive(framing, pieces) == (good, None)


def reference(data: bytes, delimiter: bytes, limit: int) -> tuple[list[bytes], bool]:
    """The messages of `data` and whether it breaks, byte after byte as the rule says it."""
    messages: list[bytes] = []
    message = b""
    for at in range(len(data)):
        message += data[at : at + 1]
        if message.endswith(delimiter):
            if len(message) > limit + len(delimiter):
                return messages, True
            messages.append(message[: -len(delimiter)])
            message = b""
        begun = max(size for size in range(len(delimiter)) if message.endswith(delimiter[:size]))
        if len(message) - begun > limit:
            return messages, True
    return messages, False


@quick
@given(chopped(st.text("aab").map(str.encode)), st.text("ab", min_size=1, max_size=4), st.integers(1, 6))
def test_any_bytes(pieces: list[bytes], delimiter: str, limit: int) -> None:
    framing = Delimited(delimiter.encode(), limit=limit)
    check_any_bytes(framing, pieces, limit + len(delimiter) - 1)
    messages, rest = receive(framing, pieces)
    assert (messages, isinstance(rest, Broken)) == reference(b"".join(pieces), delimiter.encode(), limit)
