r"""Framings as texts: what stands behind `--framing`, and back.  Pure.

    raw              what arrived is the message
    line             lines, ended by LF or CRLF
    length:N         messages behind a length of N bytes (1, 2, 4, 8); length:N:little for little-endian
    delimiter:X      messages that end in X; \r \n \t \0 \\ and \xHH stand for the bytes they stand for in Python
    fixed:N          messages of N bytes
    netstring        5:hello,

The worker calls `as_framing` once, when it has loaded the target; the limit is the setting `max_message`.
"""

import re
from typing import Any, Literal

from paceline.errors import SettingError, TargetError
from paceline.wire.delimited import LONGEST, Delimited
from paceline.wire.escapes import WRITTEN, NotAnEscapeError, unescaped
from paceline.wire.fixed import Fixed
from paceline.wire.framing import Framing, size_text
from paceline.wire.length_prefixed import WIDTHS, LengthPrefixed
from paceline.wire.lines import Lines
from paceline.wire.netstring import Netstring
from paceline.wire.raw import Raw

FORMS = {
    "raw": "raw",
    "line": "line",
    "length": "length:N (N is 1, 2, 4 or 8) or length:N:little",
    "delimiter": r"delimiter:X, such as delimiter:\r\n",
    "fixed": "fixed:N (N bytes)",
    "netstring": "netstring",
}
"""What may be written, by its first word."""


def as_framing(given: object, max_message: int, of: str | None = None) -> Framing:
    """`given` as a framing: a text as for `--framing`, or an object with the methods `cut` and `join`.

    Raises SettingError when it is neither; it says what is missing.  `of` names the target that brought it, in a
    decorator or an attribute: then it is no setting, and the error is a TargetError that names the target.
    """
    try:
        return _as_framing(given, max_message)
    except SettingError as error:
        if of is None:
            raise
        raise TargetError(f"{of} asks for a framing that cannot be: {error}") from None


def _as_framing(given: object, max_message: int) -> Framing:
    if isinstance(given, str):
        return framing_from_text(given, max_message)
    named: Any = given
    if isinstance(given, type):
        raise SettingError(f"framing {given.__qualname__} is a class; give an object of it, such as {_call_of(given)}")
    for method, arguments in (("cut", "rest, data"), ("join", "replies")):
        if not callable(getattr(given, method, None)):
            raise SettingError(
                f"framing {given!r} has no method {method}({arguments}); a framing is an object with cut(rest, data) "
                f"and join(replies), or one of the texts {', '.join(FORMS)}"
            )
    framing: Framing = named
    return framing


def _call_of(framing: type) -> str:
    arguments = {LengthPrefixed: "4, limit=65536", Delimited: "b'\\0', limit=65536", Fixed: "16"}
    ours = framing in (Raw, Lines, Netstring)
    return f"{framing.__qualname__}({arguments.get(framing, 'limit=65536' if ours else '…')})"


def framing_from_text(text: str, max_message: int) -> Framing:
    """The framing that a text names, with `max_message` bytes as its limit.  Raises SettingError."""
    word, colon, argument = text.partition(":")
    match word:
        case "raw" | "line" | "netstring" if colon:
            raise _wrong(text, f"{word} takes nothing behind it; write just {word}")
        case "raw":
            return Raw(limit=max_message)
        case "line":
            return Lines(limit=max_message)
        case "netstring":
            return Netstring(limit=max_message)
        case "length":
            return _length(text, argument, max_message)
        case "delimiter":
            return Delimited(_delimiter(text, argument), limit=max_message)
        case "fixed":
            return _fixed(text, argument, max_message)
        case _:
            raise _unknown(text, word)


def describe(framing: object) -> str:
    """A framing as its text, which `framing_from_text` reads; one of the user's own as the name of its class."""
    match framing:
        case Raw():
            return "raw"
        case Lines(end=b"\n"):
            return "line"
        case Lines():
            return r"line, written with \r\n"
        case LengthPrefixed(width=width, order=order):
            return f"length:{width}" if order == "big" else f"length:{width}:little"
        case Delimited(delimiter=delimiter):
            return f"delimiter:{''.join(map(_written, delimiter))}"
        case Fixed(size=size):
            return f"fixed:{size}"
        case Netstring():
            return "netstring"
    return f"{type(framing).__module__}.{type(framing).__qualname__}"


def _written(byte: int) -> str:
    return WRITTEN.get(byte) or (chr(byte) if 32 <= byte < 127 else f"\\x{byte:02x}")


def _wrong(text: str, why: str) -> SettingError:
    return SettingError(f"framing {text!r}: {why}")


def _unknown(text: str, word: str) -> SettingError:
    import difflib  # here, because it is slow to import and almost never needed

    near = difflib.get_close_matches(word.lower(), FORMS, n=1, cutoff=0.5)
    meant = f"did you mean {FORMS[near[0]]}?" if near else f"there are {', '.join(FORMS.values())}"
    return _wrong(text, f"there is no framing {word!r}; {meant}")


def _number(text: str, digits: str, form: str, most: int) -> int:
    """Digits as a number from 1 to `most`, or `most` + 1 when it is more."""
    if not re.fullmatch("[0-9]+", digits):
        raise _wrong(
            text, f"{digits!r} is no whole number; write {form}" if digits else f"a number is missing; write {form}"
        )
    digits = digits.lstrip("0") or "0"
    return most + 1 if len(digits) > len(str(most)) else min(int(digits), most + 1)


def _length(text: str, argument: str, max_message: int) -> LengthPrefixed:
    digits, colon, order = argument.partition(":")
    width = _number(text, digits, FORMS["length"], 8)
    if width not in WIDTHS:
        nearest = min(WIDTHS, key=lambda known: (abs(known - width), -known))
        raise _wrong(text, f"a length has 1, 2, 4 or 8 bytes, not {digits}; the nearest is length:{nearest}")
    if colon and order not in ("big", "little"):
        meant: Literal["big", "little"] = "little" if order.lower().startswith("l") else "big"
        raise _wrong(text, f"the order of the bytes is big or little, not {order!r}; write length:{width}:{meant}")
    return LengthPrefixed(width, "little" if order == "little" else "big", limit=max_message)


def _fixed(text: str, argument: str, max_message: int) -> Fixed:
    size = _number(text, argument, FORMS["fixed"], max_message)
    if size < 1:
        raise _wrong(text, "a message has at least 1 byte; the nearest is fixed:1")
    if size > max_message:
        raise _wrong(
            text,
            f"--max-message allows {size_text(max_message)} at most; the nearest is fixed:{max_message}, or allow more",
        )
    return Fixed(size)


def _delimiter(text: str, written: str) -> bytes:
    try:
        made = unescaped(written)
    except NotAnEscapeError as error:
        raise _wrong(
            text,
            rf"\{error.letter} is no escape; there are \r \n \t \0 \\ and \xHH (two hex digits), a backslash is \\",
        ) from None
    if not made:
        raise _wrong(text, rf"the delimiter is missing; write {FORMS['delimiter']}")
    if len(made) > LONGEST:
        raise _wrong(text, f"a delimiter has at most {LONGEST} bytes, this one has {len(made)}")
    return made
