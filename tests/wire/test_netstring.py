"""wire/netstring.py"""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paceline.errors import BadFrame, MessageTooLarge
from paceline.wire import Broken, Netstring
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

TWELVE = Netstring(limit=12)


def test_the_examples_of_the_specification() -> None:
    check(TWELVE, b"12:hello world!,", [b"hello world!"])
    check(TWELVE, b"0:,", [b""])


def test_each_beginning_of_a_next_string_is_kept() -> None:
    check_trailing(TWELVE, [b"one", b"", b",:,:", b"0123456789"], [b"3:one,", b"0:,", b"4:,:,:,", b"10:0123456789,"])


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (b":,", "where the length of a netstring must stand"),
        (b"/", "where the length of a netstring must stand"),
        (b"hello", "where the length of a netstring must stand"),
        (b" 1:a,", "where the length of a netstring must stand"),
        (b"+1:a,", "where the length of a netstring must stand"),
        (b"-1:a,", "where the length of a netstring must stand"),
        (b"\n", "where the length of a netstring must stand"),
        ("٣:one,".encode(), "where the length of a netstring must stand"),
        (b"1 :a,", "b'1 ', where a digit or a colon must stand"),
        (b"1_0:0123456789,", "b'1_', where a digit or a colon must stand"),
        (b"1.0:a,", "where a digit or a colon must stand"),
        (b"1/", "where a digit or a colon must stand"),
        (b"1a", "where a digit or a colon must stand"),
        (b"1,", "where a digit or a colon must stand"),
        (b"01:a,", "b'01': no leading zeros"),
        (b"00:,", "b'00': no leading zeros"),
        (b"1:ab", "b'b' behind a netstring of 1 byte, where a comma must stand"),
        (b"0:a", "b'a' behind a netstring of 0 bytes, where a comma must stand"),
        (b"3:one\n", r"b'\\n' behind a netstring of 3 bytes, where a comma must stand"),
    ],
)
def test_what_is_no_netstring_is_refused(bad: bytes, why: str) -> None:
    assert why in check_broken(TWELVE, bad, [], BadFrame).replace("\\n", "\\\\n")
    check_broken(TWELVE, b"3:one,0:," + bad + b"3:two,", [b"one", b""], BadFrame)


@pytest.mark.parametrize(
    ("limit", "length", "seen"),
    [
        (12, b"13", b"13"),
        (12, b"99", b"99"),
        (12, b"100", b"100"),
        (12, b"20", b"20"),
        (5, b"6", b"6"),
        (5, b"10", b"10"),
        (99, b"100", b"100"),
        (500, b"501", b"501"),
        (500, b"99999999999999999999999", b"999"),
    ],
)
def test_a_length_over_the_limit_is_refused_as_soon_as_it_is_certain(limit: int, length: bytes, seen: bytes) -> None:
    framing = Netstring(limit=limit)
    for following in (b"", b":", b":x", b":" + b"x" * 20):
        text = check_broken(framing, b"1:a," + length + following, [b"a"], MessageTooLarge)
        assert f"begins {seen!r}, over the limit of {limit} bytes" in text
    for size in range(1, len(seen)):
        check(framing, seen[:size], [], seen[:size])


def test_a_string_of_the_limit_passes() -> None:
    for limit in (1, 9, 10, 12, 99, 100):
        string = b"x" * limit
        check(Netstring(limit=limit), b"%d:%b," % (limit, string), [string])


def test_replies_are_netstrings() -> None:
    assert TWELVE.join([]) == b""
    assert TWELVE.join([b"", b"one", b"longer than the limit"]) == b"0:,3:one,21:longer than the limit,"


def test_it_says_what_it_is() -> None:
    assert repr(TWELVE) == "Netstring(limit=12)"


def test_work_is_linear() -> None:
    check_linear(Netstring(limit=1 << 20), lambda size: b"%d:%b," % (size, bytes(size)))
    check_grows_in_place(Netstring(limit=1 << 20), b"5000:%b," % bytes(5000))


@quick
@given(st.lists(st.binary(max_size=20)), st.data())
def test_what_is_joined_is_cut_again(replies: list[bytes], data: st.DataObject) -> None:
    framing = Netstring(limit=20)
    pieces = data.draw(chopped(st.just(framing.join(replies))))
    assert receive(framing, pieces) == (replies, None)


def reference(data: bytes, limit: int) -> list[bytes]:
    """The strings at the front of `data`, by the grammar."""
    strings = []
    while (head := re.match(rb"(0|[1-9][0-9]*):", data)) and int(head[1]) <= limit:
        end = head.end() + int(head[1])
        if data[end : end + 1] != b",":
            break
        strings.append(data[head.end() : end])
        data = data[end + 1 :]
    return strings


@quick
@given(chopped(st.text("0123::,,x").map(str.encode) | st.binary()), st.integers(1, 30))
def test_any_bytes(pieces: list[bytes], limit: int) -> None:
    framing = Netstring(limit=limit)
    check_any_bytes(framing, pieces, len(str(limit)) + 1 + limit)
    messages, rest = receive(framing, pieces)
    assert messages == reference(b"".join(pieces), limit)
    assert isinstance(rest, Broken | bytes | bytearray | None)
