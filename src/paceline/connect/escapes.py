r"""Bytes as text that a terminal can be trusted with, and typed text as bytes.  Pure.

What a server sends is never written to a terminal as it is: an escape sequence in it could set the title, move the
cursor over what was shown before, or make the terminal type (CWE-150).  So whatever is no printable character of valid
UTF-8 is shown as the escape that would be typed for it; that includes the invisible ones that turn the direction of
text around (Unicode category Cf).  A backslash is shown doubled, so what is shown can be typed back: for all bytes,
`typed(shown(data)) == data`.

    \n \r \t \0 \\     the bytes they are in Python
    \xHH               the byte with this number, two hex digits
"""

import codecs
from collections.abc import Mapping

from paceline.errors import UsageError
from paceline.wire.escapes import WRITTEN, NotAnEscapeError, encoded, unescaped

BYTES_A_ROW = 16


class WrongEscape(UsageError):
    """A backslash in what was typed stands before something that is no escape."""


def typed(text: str) -> bytes:
    """The bytes of what somebody typed.  Raises WrongEscape.

    Surrogates are bytes that were no UTF-8 (PEP 383) and become those again; a lone one that is not is "?".
    """
    try:
        return unescaped(text, _encoded)
    except NotAnEscapeError as error:
        raise WrongEscape(
            rf"{_named(error.letter)} is no escape; there are \n \r \t \0 \\ and \xHH (two hex digits), a backslash is "
            r"\\"
        ) from None


def _named(letter: str) -> str:
    """A backslash and what stands behind it, for a message."""
    if not letter:
        return "a backslash at the end"
    return f"\\{letter}" if letter.isprintable() else f"a backslash before {shown(_encoded(letter))}"


def _encoded(text: str) -> bytes:
    try:
        return encoded(text)
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace")


class _Table(dict[int, str]):
    """Of `str.translate`: what each character is shown as; filled as characters come up."""

    def __init__(self, known: Mapping[int, str]) -> None:
        super().__init__(known)

    def __missing__(self, code: int) -> str:
        letter = chr(code)
        if letter.isprintable():
            text = letter
        elif 0xDC80 <= code <= 0xDCFF:  # a byte that is no UTF-8 (PEP 383)
            text = f"\\x{code - 0xDC00:02x}"
        else:
            text = "".join(f"\\x{byte:02x}" for byte in letter.encode())
        self[code] = text
        return text


_EXACT = _Table(WRITTEN)
_BY_LINE = _Table(WRITTEN | {10: "\\n\n"})
_SAFE = _Table({10: "\n", 9: "\t", 92: "\\", 13: r"\r", 0: r"\0"})


def shown(data: bytes) -> str:
    """One line of printable characters, which `typed` reads back as these bytes."""
    return data.decode("utf-8", "surrogateescape").translate(_EXACT)


def shown_by_line(data: bytes) -> list[str]:
    r"""The same, in several lines: each ends where a \n ends one (which is shown); [""] for nothing."""
    lines = data.decode("utf-8", "surrogateescape").translate(_BY_LINE).split("\n")
    return lines[:-1] if len(lines) > 1 and not lines[-1] else lines


def safe(data: bytes) -> str:
    """Text for a terminal as it would be without us, but for what could harm it: line ends and tabs are kept."""
    return data.decode("utf-8", "surrogateescape").translate(_SAFE)


class Stream:
    """A stream of bytes as text.  It does not depend on how the bytes were cut, a character's bytes included.

    exactly   as `shown_by_line`; else as `safe`
    """

    def __init__(self, *, exactly: bool) -> None:
        self._table = _BY_LINE if exactly else _SAFE
        self._decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        self._is_exact = exactly
        self._is_line_open = False

    def feed(self, data: bytes) -> str:
        """The text of these bytes; the last three may be kept until their character is whole."""
        return self._text(self._decoder.decode(data))

    def end(self) -> str:
        """What was kept; with `exactly` the last line is ended."""
        text = self._text(self._decoder.decode(b"", True))
        return text + "\n" if self._is_exact and self._is_line_open else text

    def _text(self, decoded: str) -> str:
        text = decoded.translate(self._table)
        if text:
            self._is_line_open = text[-1] != "\n"
        return text


def dump(data: bytes, first: int = 0) -> list[str]:
    """Rows of a hex dump, `first` being the offset of its first byte; [] for nothing.

    00000000  68 65 6c 6c 6f 0a                                 |hello.|
    """
    rows = []
    for at in range(0, len(data), BYTES_A_ROW):
        row = data[at : at + BYTES_A_ROW]
        left, right = row[: BYTES_A_ROW // 2].hex(" "), row[BYTES_A_ROW // 2 :].hex(" ")
        letters = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
        rows.append(f"{first + at:08x}  {left:23}  {right:23}  |{letters}|")
    return rows


class Dump:
    """A stream of bytes as a hex dump: whole rows as they fill, the last one at the end."""

    def __init__(self) -> None:
        self._kept = b""
        self._at = 0

    def feed(self, data: bytes) -> str:
        data = self._kept + data
        whole = len(data) - len(data) % BYTES_A_ROW
        text = "".join(f"{row}\n" for row in dump(data[:whole], self._at))
        self._kept = data[whole:]
        self._at += whole
        return text

    def end(self) -> str:
        rows, self._kept = dump(self._kept, self._at), b""
        return "".join(f"{row}\n" for row in rows)
