"""connect/translation.py: what a pipe sends and writes, however the bytes come."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paceline.connect.framed import Framed
from paceline.connect.translation import ByLine, Inward, Outward, Verbatim, Written, inward
from paceline.errors import BadFrame
from paceline.wire import framing_from_text
from splits import quick, split_at


def framed(text: str, limit: int = 100) -> Framed:
    return Framed(framing_from_text(text, limit), text)


def fed(by: Outward | Inward, pieces: list[bytes]) -> bytes:
    return b"".join([*map(by.feed, pieces), by.end()])


def ways(data: bytes) -> list[list[bytes]]:
    return [[data], split_at(data, range(1, len(data)))]


def test_verbatim() -> None:
    assert fed(Verbatim(), [b"a", b"\xff\n"]) == b"a\xff\n"


@pytest.mark.parametrize(
    ("text", "is_typed", "ending", "data", "sent"),
    [
        ("length:1", False, b"", b"ab\n\nc", b"\x02ab\x00\x01c"),
        ("length:1", False, b"", b"a\\n\r\n", b"\x04a\\n\r"),
        ("length:1", True, b"", b"a\\n\n", b"\x02a\n"),
        ("netstring", True, b"", b"\\x00\xff\n", b"2:\0\xff,"),
        ("raw", True, b"\r\n", b"a\nb", b"a\r\nb\r\n"),
        ("raw", True, b"", b"a\nb\n", b"ab"),
        ("line", True, b"", b"a\\x00\n", b"a\0\n"),
        ("length:1", False, b"", b"", b""),
    ],
)
def test_by_line(text: str, is_typed: bool, ending: bytes, data: bytes, sent: bytes) -> None:
    for pieces in ways(data):
        outward = ByLine(framed(text), 100, is_typed=is_typed, ending=ending)
        assert fed(outward, pieces) == sent
        assert outward.broken is None


@pytest.mark.parametrize(
    ("text", "is_typed", "data", "sent", "said"),
    [
        ("fixed:2", False, b"ab\nabc\nab\n", b"ab", "line 2 of standard input: a message of fixed:2 has 2 bytes, and"),
        ("fixed:2", False, b"ab\nabc", b"ab", "line 2 of standard input: a message of fixed:2"),
        ("line", True, b"a\n\\q\n", b"a\n", r"line 2 of standard input: \q is no escape"),
        (
            "netstring",
            False,
            b"a" * 101 + b"\n",
            b"",
            "line 1 of standard input: it is longer than 100 bytes; --max-mess",
        ),
        ("netstring", False, b"a" * 1000, b"", "line 1 of standard input: it is longer than 100 bytes"),
        ("netstring", True, b"\\x41" * 101, b"", "line 1 of standard input: it is longer than 100 bytes"),
    ],
)
def test_input_that_cannot_be_sent(text: str, is_typed: bool, data: bytes, sent: bytes, said: str) -> None:
    for pieces in ways(data):
        outward = ByLine(framed(text), 100, is_typed=is_typed)
        got = b""
        for piece in pieces:
            got += outward.feed(piece)
            if outward.broken is not None:
                break
        got += outward.end()
        assert got == sent
        assert str(outward.broken).startswith(said)


def test_a_typed_line_may_be_four_times_as_long_as_its_message() -> None:
    outward = ByLine(framed("netstring"), 100, is_typed=True)
    assert fed(outward, [b"\\x41" * 100]) == b"100:" + b"A" * 100 + b","


@pytest.mark.parametrize(
    ("text", "how", "data", "written"),
    [
        ("raw", Written.VERBATIM, b"a\x1b\xff\n", b"a\x1b\xff\n"),
        ("raw", Written.SAFE, b"a\x1b\xff\n\xc3\xa9", b"a\\x1b\\xff\n\xc3\xa9"),
        ("raw", Written.ESCAPED, b"a\nb\x1b", b"a\\n\nb\\x1b\n"),
        ("raw", Written.HEX, b"a", b"00000000  61                                                |a|\n"),
        ("line", Written.VERBATIM, b"a\x1b\nb\r\n", b"a\x1b\nb\n"),
        ("line", Written.SAFE, b"a\x1b\n", b"a\\x1b\n"),
        ("line", Written.ESCAPED, b"a\\\x1b\n", b"a\\\\\\x1b\n"),
        ("line", Written.HEX, b"ab\n\n", b"6162\n\n"),
        ("netstring", Written.ESCAPED, b"3:a\nb,", b"a\\nb\n"),
        ("netstring", Written.VERBATIM, b"3:a\nb,", b"a\nb\n"),
    ],
)
def test_replies(text: str, how: Written, data: bytes, written: bytes) -> None:
    for pieces in ways(data):
        replies = inward(how, framed(text), "here")
        assert fed(replies, pieces) == written
        assert (replies.broken, replies.rest) == (None, None)


def test_what_is_no_reply_comes_behind_those_before_it() -> None:
    replies = inward(Written.VERBATIM, framed("netstring"), "here")
    assert replies.feed(b"1:a,x1:b,") == b"a\n"
    assert isinstance(replies.broken, BadFrame)
    assert replies.feed(b"1:c,") == b""


def test_an_unfinished_reply_is_kept() -> None:
    replies = inward(Written.VERBATIM, framed("line"), "here")
    assert replies.feed(b"a\nb") == b"a\n"
    assert replies.rest == b"b"


@quick
@given(st.lists(st.binary()))
def test_raw_replies_go_through_as_they_are(pieces: list[bytes]) -> None:
    assert fed(inward(Written.VERBATIM, framed("raw"), "here"), pieces) == b"".join(pieces)
