"""connect/escapes.py: what is shown is safe and can be typed back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paceline.connect.escapes import Dump, Stream, WrongEscape, dump, safe, shown, shown_by_line, typed
from splits import quick


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ("", b""),
        ("hello", b"hello"),
        (r"a\nb\r\t\0\\", b"a\nb\r\t\0\\"),
        (r"\x00\xFF\xff\x1b", b"\x00\xff\xff\x1b"),
        ("é €", "é €".encode()),
        ("\udcff\udc80", b"\xff\x80"),
        ("\ud800", b"?"),
        (r"\\n", b"\\n"),
    ],
)
def test_typed(text: str, data: bytes) -> None:
    assert typed(text) == data


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (r"\q", r"\q is no escape; there are \n"),
        (r"\xZZ", r"\x is no escape"),
        (r"\x1", r"\x is no escape"),
        ("end\\", "a backslash at the end is no escape"),
        ("\\\x1b", r"a backslash before \x1b is no escape"),
        ("\\\udcff", r"a backslash before \xff is no escape"),
        (r"\é", r"\é is no escape"),
    ],
)
def test_a_wrong_escape_is_named(text: str, named: str) -> None:
    with pytest.raises(WrongEscape) as caught:
        typed(text)
    assert str(caught.value).startswith(named)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"hello, world ~", "hello, world ~"),
        (b"\x1b[31m\x07", r"\x1b[31m\x07"),
        (b"a\\b", r"a\\b"),
        (b"\r\n\t\0", r"\r\n\t\0"),
        ("é €".encode(), "é €"),
        (b"\xff\xc3(", r"\xff\xc3("),
        ("\x9b1m".encode(), r"\xc2\x9b1m"),  # CSI in one character
        ("a\u202eb\u200b".encode(), r"a\xe2\x80\xaeb\xe2\x80\x8b"),
        ("\u2028\u00a0".encode(), r"\xe2\x80\xa8\xc2\xa0"),
        (b"\xed\xa0\x80", r"\xed\xa0\x80"),
        ("\U0010ffff".encode(), r"\xf4\x8f\xbf\xbf"),
    ],
)
def test_shown(data: bytes, text: str) -> None:
    assert shown(data) == text


@quick
@given(st.binary())
def test_what_is_shown_is_printable_and_can_be_typed_back(data: bytes) -> None:
    assert shown(data).isprintable()
    assert typed(shown(data)) == data


@quick
@given(st.text())
def test_what_is_typed_can_be_shown_as_text(text: str) -> None:
    assert typed(text.replace("\\", "\\\\")) == text.encode("utf-8", "replace")


@pytest.mark.parametrize(
    ("data", "lines"),
    [
        (b"", [""]),
        (b"a", ["a"]),
        (b"a\n", [r"a\n"]),
        (b"a\r\nb", [r"a\r\n", "b"]),
        (b"\n\n", [r"\n", r"\n"]),
    ],
)
def test_shown_by_line(data: bytes, lines: list[str]) -> None:
    assert shown_by_line(data) == lines


@quick
@given(st.binary())
def test_the_lines_together_are_what_is_shown(data: bytes) -> None:
    assert "".join(shown_by_line(data)) == shown(data)


def test_safe_leaves_lines_and_tabs_and_backslashes() -> None:
    assert safe(b"a\tb\\n\r\n\x1b[2Jc\xff") == "a\tb\\n\\r\n\\x1b[2Jc\\xff"


@quick
@given(st.binary())
def test_safe_is_safe(data: bytes) -> None:
    assert safe(data).replace("\n", "").replace("\t", "").isprintable()


@quick
@given(st.lists(st.binary()), st.booleans())
def test_a_stream_does_not_depend_on_how_it_was_cut(pieces: list[bytes], exactly: bool) -> None:
    stream = Stream(exactly=exactly)
    text = "".join([*map(stream.feed, pieces), stream.end()])
    whole = Stream(exactly=exactly)
    assert text == whole.feed(b"".join(pieces)) + whole.end()
    if exactly:
        assert typed(text.replace("\n", "")) == b"".join(pieces)
    else:
        assert text == safe(b"".join(pieces))


def test_a_stream_holds_back_no_more_than_a_part_of_a_character() -> None:
    stream = Stream(exactly=True)
    assert stream.feed(b"a\xe2\x82") == "a"
    assert stream.feed(b"\xacb\n") == "€b\\n\n"
    assert stream.feed(b"\xe2") == ""
    assert stream.end() == "\\xe2\n"


def test_a_dump() -> None:
    assert dump(b"") == []
    assert dump(b"hello\n") == ["00000000  68 65 6c 6c 6f 0a                                 |hello.|"]
    assert dump(bytes(range(32, 49)), 16) == [
        "00000010  20 21 22 23 24 25 26 27  28 29 2a 2b 2c 2d 2e 2f  | !\"#$%&'()*+,-./|",
        "00000020  30                                                |0|",
    ]


@quick
@given(st.lists(st.binary(max_size=40)))
def test_a_dump_does_not_depend_on_how_it_was_cut(pieces: list[bytes]) -> None:
    stream = Dump()
    text = "".join([*map(stream.feed, pieces), stream.end()])
    assert text.splitlines() == dump(b"".join(pieces))
