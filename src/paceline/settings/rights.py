"""The kinds of values that say with which rights a server runs.  Pure.

    Account    www-data, or 33
    FileMode   027: octal digits

Whether there is such a user or group is looked at by whoever uses it (cli/rights.py).
"""

import re
from dataclasses import dataclass

from paceline.settings.values import Kind, Text, WrongValueError

MOST_ID = 2**32 - 2
"""The highest number of a user or group; the next one means "unchanged" (setresuid(2))."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Account(Text):
    """A user or group, by its name or its number."""

    @property
    def body(self) -> str:
        return f"a name, or a number from 0 to {MOST_ID}"

    def body_of(self, raw: object) -> str:
        text = str(raw) if type(raw) is int else raw
        if not isinstance(text, str) or not text.strip() or "\0" in text:
            raise WrongValueError(self.rule)
        text = text.strip()
        if re.fullmatch("[+-]?[0-9]+", text) and not re.fullmatch("0*[0-9]{1,10}", text):
            raise WrongValueError(self.rule)
        if text.isdecimal() and int(text) > MOST_ID:
            raise WrongValueError(self.rule)
        return text


@dataclass(frozen=True, slots=True, kw_only=True)
class FileMode(Kind):
    """Bits of a file's mode, a text of three octal digits.  Of a file that says umask = 27, nobody knows which 27."""

    metavar: str = "MODE"

    @property
    def body(self) -> str:
        return 'octal digits from 000 to 777, as a text: "027"'

    @property
    def allowed(self) -> str:
        return "000 to 777, octal"

    def body_of(self, raw: object) -> str:
        found = re.fullmatch("(?:0o)?([0-7]{1,4})", raw.strip()) if isinstance(raw, str) else None
        if found is None or int(found[1], 8) > 0o777:
            raise WrongValueError(self.rule)
        return f"{int(found[1], 8):03o}"
