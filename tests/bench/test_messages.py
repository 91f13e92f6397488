r"""bench/messages.py: escapes, files, and what a framing can carry."""

import pytest

from paceline.bench.messages import MOST_MESSAGES, framed_in, generated, lines_of, on_the_wire, written
from paceline.errors import UsageError
from paceline.wire import Fixed, Framing, LengthPrefixed, Lines, Netstring, Raw

LINES = Lines(limit=100)


def test_generated() -> None:
    assert generated(3) == b"abc"
    assert len(generated(1000)) == 1000
    assert b"\n" not in generated(1000)


@pytest.mark.parametrize(
    ("text", "message"),
    [("hi", b"hi"), (r"a\r\n\t\0\\\x7f", b"a\r\n\t\0\\\x7f"), ("ü", "ü".encode()), ("\udcff", b"\xff"), ("", b"")],
)
def test_written(text: str, message: bytes) -> None:
    assert written(text) == message


@pytest.mark.parametrize("text", [r"a\q", "\\", r"\x7", r"\xgg"])
def test_an_unknown_escape_is_named(text: str) -> None:
    with pytest.raises(UsageError, match="is no escape; there are"):
        written(text)


def test_lines_of_a_file() -> None:
    assert lines_of(b"a\nb c\r\n\nd", "f") == (b"a", b"b c", b"", b"d")
    assert lines_of(b"a\n", "f") == (b"a",)


def test_framed_in_a_file() -> None:
    framing = LengthPrefixed(1, limit=100)
    assert framed_in(b"\x01a\x02bc", framing, "f") == (b"a", b"bc")


@pytest.mark.parametrize(
    ("framing", "content", "said"),
    [
        (Raw(limit=9), b"a", "raw has no messages"),
        (LengthPrefixed(1, limit=100), b"\x01a\x05bc", "behind message 1, it ends inside a message"),
        (Netstring(limit=100), b"1:a,x", "behind message 1, "),
        (Netstring(limit=100), b"", "f holds no message"),
    ],
)
def test_what_a_file_does_not_hold(framing: Framing, content: bytes, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        framed_in(content, framing, "f")


def test_too_many_and_too_few() -> None:
    with pytest.raises(UsageError, match="f holds no message"):
        lines_of(b"", "f")
    with pytest.raises(UsageError, match=r"f holds 100,001 messages; the limit is 100,000"):
        lines_of(b"\n" * (MOST_MESSAGES + 1), "f")


def test_on_the_wire() -> None:
    assert on_the_wire([b"a", b"bc"], LINES, is_ours=True) == [b"a\n", b"bc\n"]
    assert on_the_wire([b"a\nb"], LINES, is_ours=False) == [b"a\nb\n"]  # whoever wrote the framing may mean that


@pytest.mark.parametrize(
    ("message", "framing", "said"),
    [
        (b"a\nb", LINES, "would not arrive as one message"),
        (b"a\r", LINES, "would not arrive as one message"),
        (b"a" * 101, LINES, "over the limit of 100 bytes"),
        (b"abc", Fixed(4), "it is a message of 3 bytes; with Fixed"),
        (b"", Raw(limit=9), "is empty"),
    ],
)
def test_what_a_framing_cannot_carry(message: bytes, framing: Framing, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        on_the_wire([message], framing, is_ours=True)
    with pytest.raises(UsageError, match="message 2 of 2"):
        on_the_wire([b"good", message], framing, is_ours=True)
