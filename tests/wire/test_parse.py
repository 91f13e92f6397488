"""wire/parse.py"""

import re
from collections.abc import Sequence
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paceline.errors import SettingError, TargetError
from paceline.wire import (
    Delimited,
    Fixed,
    Framing,
    LengthPrefixed,
    Lines,
    Netstring,
    Raw,
    as_framing,
    describe,
    framing_from_text,
)
from splits import quick

LIMIT = 65536


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("raw", "Raw(limit=65536)"),
        ("line", r"Lines(limit=65536, end=b'\n')"),
        ("netstring", "Netstring(limit=65536)"),
        ("length:1", "LengthPrefixed(1, 'big', limit=65536)"),
        ("length:2", "LengthPrefixed(2, 'big', limit=65536)"),
        ("length:4", "LengthPrefixed(4, 'big', limit=65536)"),
        ("length:8", "LengthPrefixed(8, 'big', limit=65536)"),
        ("length:4:big", "LengthPrefixed(4, 'big', limit=65536)"),
        ("length:4:little", "LengthPrefixed(4, 'little', limit=65536)"),
        ("fixed:1", "Fixed(1)"),
        ("fixed:0016", "Fixed(16)"),
        ("fixed:65536", "Fixed(65536)"),
        ("delimiter:|", "Delimited(b'|', limit=65536)"),
        ("delimiter: ", "Delimited(b' ', limit=65536)"),
        ("delimiter::", "Delimited(b':', limit=65536)"),
        ("delimiter:a:b", "Delimited(b'a:b', limit=65536)"),
        ("delimiter:\r\n", r"Delimited(b'\r\n', limit=65536)"),
        (r"delimiter:\r\n", r"Delimited(b'\r\n', limit=65536)"),
        (r"delimiter:\r\n.\r\n", r"Delimited(b'\r\n.\r\n', limit=65536)"),
        (r"delimiter:\x00\xfF", r"Delimited(b'\x00\xff', limit=65536)"),
        (r"delimiter:\0\t", r"Delimited(b'\x00\t', limit=65536)"),
        (r"delimiter:\\n", r"Delimited(b'\\n', limit=65536)"),
        ("delimiter:" + "-" * 256, f"Delimited({b'-' * 256!r}, limit=65536)"),
        ("delimiter:¶", r"Delimited(b'\xc2\xb6', limit=65536)"),
        ("delimiter:\udcff", r"Delimited(b'\xff', limit=65536)"),
    ],
)
def test_a_text_is_a_framing(text: str, made: str) -> None:
    assert repr(framing_from_text(text, LIMIT)) == made


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "there are raw, line, length:N"),
        ("json", "there are raw, line, length:N"),
        ("lines", "did you mean line?"),
        ("LINE", "did you mean line?"),
        ("netstrings", "did you mean netstring?"),
        ("len:4", "did you mean length:N (N is 1, 2, 4 or 8)"),
        ("delim:x", r"did you mean delimiter:X, such as delimiter:\r\n?"),
        ("line:80", "line takes nothing behind it; write just line"),
        ("raw:", "raw takes nothing behind it; write just raw"),
        ("netstring:10", "write just netstring"),
        ("length", "a number is missing; write length:N"),
        ("length:", "a number is missing; write length:N"),
        ("length:four", "'four' is no whole number; write length:N"),
        ("length:-4", "'-4' is no whole number"),
        ("length:٤", "is no whole number"),
        ("length:0", "not 0; the nearest is length:1"),
        ("length:3", "not 3; the nearest is length:4"),
        ("length:5", "not 5; the nearest is length:4"),
        ("length:7", "not 7; the nearest is length:8"),
        ("length:32", "not 32; the nearest is length:8"),
        ("length:" + "9" * 5000, "the nearest is length:8"),
        ("length:4:", "the order of the bytes is big or little, not ''; write length:4:big"),
        ("length:4:LE", "not 'LE'; write length:4:little"),
        ("length:4:network", "write length:4:big"),
        ("fixed", "a number is missing; write fixed:N"),
        ("fixed:4k", "'4k' is no whole number; write fixed:N"),
        ("fixed:0", "the nearest is fixed:1"),
        ("fixed:65537", "--max-message allows 65,536 bytes at most; the nearest is fixed:65536, or allow more"),
        ("fixed:" + "9" * 5000, "the nearest is fixed:65536"),
        ("delimiter", r"the delimiter is missing; write delimiter:X, such as delimiter:\r\n"),
        ("delimiter:", "the delimiter is missing"),
        ("delimiter:\\", r"\ is no escape"),
        (r"delimiter:\q", r"\q is no escape; there are \r \n \t \0 \\ and \xHH (two hex digits), a backslash is \\"),
        (r"delimiter:\x0", r"\x is no escape"),
        (r"delimiter:\xgg", r"\x is no escape"),
        ("delimiter:" + "-" * 257, "a delimiter has at most 256 bytes, this one has 257"),
    ],
)
def test_a_wrong_text_is_refused_with_what_is_wrong_and_what_would_be_right(text: str, why: str) -> None:
    with pytest.raises(SettingError, match=re.escape(why)) as refused:
        framing_from_text(text, LIMIT)
    assert str(refused.value).startswith(f"framing {text!r}: ")


@pytest.mark.parametrize(
    "text",
    ["raw", "line", "netstring", "length:1", "length:8:little", "fixed:16", r"delimiter:\r\n", r"delimiter:\\x:\0\xff"],
)
def test_a_framing_is_described_by_its_text(text: str) -> None:
    assert describe(framing_from_text(text, LIMIT)) == text


@quick
@given(st.binary(min_size=1, max_size=20))
def test_every_delimiter_can_be_written(delimiter: bytes) -> None:
    text = describe(Delimited(delimiter, limit=LIMIT))
    assert text.isascii()
    assert text.isprintable()
    again = framing_from_text(text, LIMIT)
    assert isinstance(again, Delimited)
    assert again.delimiter == delimiter


@quick
@given(st.text(max_size=20) | st.text("length:fixed0123456789delimiter\\x", max_size=20))
def test_no_text_does_anything_but_make_a_framing_or_be_refused(text: str) -> None:
    for written in (text, f"length:{text}", f"fixed:{text}", f"delimiter:{text}"):
        with suppress(SettingError):
            framing = framing_from_text(written, LIMIT)
            assert repr(framing_from_text(describe(framing), LIMIT)) == repr(framing)


class Own:
    """A framing of the user's own."""

    def cut(self, rest: object, data: bytes) -> tuple[list[bytes], object]:
        return [data], rest

    def join(self, replies: Sequence[bytes]) -> bytes:
        return b"".join(replies)


def test_a_framing_of_ones_own_is_described_by_its_class() -> None:
    assert describe(Own()) == f"{__name__}.Own"
    assert describe(Lines(limit=8, end=b"\r\n")) == r"line, written with \r\n"


def test_what_a_handler_says_is_a_text_or_an_object() -> None:
    own: Framing = Own()
    lines = Lines(limit=8)
    assert as_framing(own, LIMIT) is own
    assert as_framing(lines, LIMIT) is lines
    assert repr(as_framing("fixed:16", LIMIT)) == "Fixed(16)"


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (Lines, "Lines is a class; give an object of it, such as Lines(limit=65536)"),
        (Raw, "such as Raw(limit=65536)"),
        (Netstring, "such as Netstring(limit=65536)"),
        (LengthPrefixed, "such as LengthPrefixed(4, limit=65536)"),
        (Delimited, r"such as Delimited(b'\0', limit=65536)"),
        (Fixed, "such as Fixed(16)"),
        (Own, "Own is a class; give an object of it, such as Own(…)"),
        (None, "framing None has no method cut(rest, data)"),
        (b"line", "framing b'line' has no method cut(rest, data)"),
        (type("Half", (), {"cut": len})(), "has no method join(replies)"),
    ],
)
def test_what_is_no_framing_is_refused(given: object, why: str) -> None:
    with pytest.raises(SettingError, match=re.escape(why)):
        as_framing(given, LIMIT)
    with pytest.raises(TargetError, match=rf"^app:f asks for a framing that cannot be: .*{re.escape(why)}") as caught:
        as_framing(given, LIMIT, "app:f")
    assert caught.value.exit_code == 3
