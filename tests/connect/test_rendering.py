"""connect/rendering.py: replies and notes as lines."""

import pytest

from paceline.connect.rendering import ESCAPE, MOST_SHOWN, duration, lines_of, note, plain, trouble
from paceline.connect.session import Reply


@pytest.mark.parametrize(
    ("took_ns", "text"),
    [
        (0, "0 µs"), (85_400, "85 µs"), (212_000, "0.21 ms"), (9_876_000, "9.88 ms"), (12_345_678, "12.3 ms"),
        (123_456_789, "123 ms"), (1_520_000_000, "1.52 s"), (61_000_000_000, "61.00 s"),
    ],
)  # fmt: skip
def test_durations(took_ns: int, text: str) -> None:
    assert duration(took_ns) == text


@pytest.mark.parametrize(
    ("message", "took_ns", "is_raw", "as_hex", "shown"),
    [
        (b"hi", 212_000, False, False, "< hi   0.21 ms\n"),
        (b"hi", None, False, False, "< hi   not asked for\n"),
        (b"hi", None, True, False, "< hi\n"),
        (b"a\nb\n", None, False, False, "< a\\nb\\n   not asked for\n"),
        (b"a\nb\n", 212_000, True, False, "< a\\n\n< b\\n   0.21 ms\n"),
        (b"", 212_000, False, False, "<    0.21 ms\n"),
        (b"", 212_000, False, True, "<    0.21 ms\n"),
        (b"a", None, True, True, "< 00000000  61                                                |a|\n"),
    ],
)
def test_a_reply(message: bytes, took_ns: int | None, is_raw: bool, as_hex: bool, shown: str) -> None:
    assert plain(lines_of(Reply(message, took_ns), is_raw=is_raw, as_hex=as_hex)) == shown


def test_escapes_have_a_style_of_their_own_so_that_text_cannot_look_like_one() -> None:
    (line,) = lines_of(Reply(b"a\x1b\\x1b", 1), is_raw=False, as_hex=False)
    assert line[1:5] == [("", "a"), (ESCAPE, r"\x1b"), (ESCAPE, r"\\"), ("", "x1b")]


@pytest.mark.parametrize("as_hex", [True, False])
def test_a_long_reply_is_shown_in_part(as_hex: bool) -> None:
    lines = lines_of(Reply(b"a" * (MOST_SHOWN + 1000), 1), is_raw=False, as_hex=as_hex)
    assert "… and 1,000 bytes more" in plain(lines[-1:])
    assert len(plain(lines)) < 6 * MOST_SHOWN


def test_notes() -> None:
    assert plain([note("so"), trouble("no")]) == "* so\n* no\n"
