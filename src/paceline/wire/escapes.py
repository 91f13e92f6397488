r"""Bytes that somebody typed: `\r \n \t \0 \\` and `\xHH` stand for what they stand for in Python.  Pure.

Used by whoever reads such text: the delimiter of a framing, the message of a load, the lines of a conversation.  What
is no escape is said by them, in their own words.
"""

import re
from collections.abc import Callable

BY_LETTER = {"r": b"\r", "n": b"\n", "t": b"\t", "0": b"\0", "\\": b"\\"}
WRITTEN = {13: r"\r", 10: r"\n", 9: r"\t", 0: r"\0", 92: r"\\"}
"""By byte: the escape that is written for it."""

_PIECE = re.compile(r"\\x([0-9A-Fa-f]{2})|\\(.?)|([^\\]+)", re.DOTALL)


class NotAnEscapeError(Exception):
    """A backslash stands before something that is no escape: `letter`, or nothing at the end of the text."""

    def __init__(self, letter: str) -> None:
        super().__init__(letter)
        self.letter = letter


def encoded(text: str) -> bytes:
    """UTF-8.  What the command line could not decode comes as surrogates (PEP 383), and becomes the bytes it was."""
    return text.encode("utf-8", "surrogateescape")


def unescaped(text: str, encoded: Callable[[str], bytes] = encoded) -> bytes:
    """The bytes of a text with escapes; `encoded` makes bytes of what lies between them.  Raises NotAnEscapeError."""
    made = []
    for piece in _PIECE.finditer(text):
        code, letter, plain = piece.groups()
        if plain is not None:
            made.append(encoded(plain))
        elif code is not None:
            made.append(bytes([int(code, 16)]))
        elif letter in BY_LETTER:
            made.append(BY_LETTER[letter])
        else:
            raise NotAnEscapeError(letter)
    return b"".join(made)
