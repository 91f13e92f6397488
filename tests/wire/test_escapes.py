"""wire/escapes.py: typed text as bytes."""

import pytest

from paceline.wire.escapes import BY_LETTER, WRITTEN, NotAnEscapeError, encoded, unescaped


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ("", b""),
        (r"a\r\n\t\0\\b", b"a\r\n\t\0\\b"),
        (r"\x00\xfF", b"\x00\xff"),
        ("\u00fc\udcff", b"\xc3\xbc\xff"),
        ("\n", b"\n"),
    ],
)
def test_what_stands_for_what(text: str, data: bytes) -> None:
    assert unescaped(text) == data


@pytest.mark.parametrize(("text", "letter"), [(r"a\q", "q"), ("a\\", ""), (r"\x4", "x"), (r"\xgg", "x")])
def test_what_is_no_escape(text: str, letter: str) -> None:
    with pytest.raises(NotAnEscapeError) as caught:
        unescaped(text)
    assert caught.value.letter == letter


def test_what_lies_between_may_be_encoded_otherwise() -> None:
    assert unescaped(r"a\nb", lambda text: encoded(text.upper())) == b"A\nB"


def test_what_is_written_is_read() -> None:
    assert {unescaped(text) for text in WRITTEN.values()} == set(BY_LETTER.values())
    assert all(unescaped(text) == bytes([byte]) for byte, text in WRITTEN.items())
