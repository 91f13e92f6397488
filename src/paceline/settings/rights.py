"""The kinds of values that say with which rights a server runs.  Pure.

    Account    www-data, or 33
    Owner      www-data, www-data:adm, or :adm
    FileMode   027: octal digits

Whether there is such a user or group is looked at by whoever uses it (cli/rights.py).
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from paceline.addresses import parse_address
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
        if not isinstance(text, str) or not _may_be_account(text.strip()):
            raise WrongValueError(self.rule)
        return text.strip()


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner(Text):
    """A user, a group, or both, as chown(1) reads them; but for `USER:`, of which nobody remembers what it means."""

    @property
    def body(self) -> str:
        return f"USER, USER:GROUP or :GROUP, each of them a name, or a number from 0 to {MOST_ID}"

    def body_of(self, raw: object) -> str:
        text = str(raw) if type(raw) is int else raw
        if not isinstance(text, str):
            raise WrongValueError(self.rule)
        user, colon, group = (part.strip() for part in text.strip().partition(":"))
        parts = [group, *([user] if user else [])] if colon else [user]
        if ":" in group or not all(map(_may_be_account, parts)):
            raise WrongValueError(self.rule)
        return user + colon + group


def _may_be_account(text: str) -> bool:
    if not text or "\0" in text:
        return False
    if re.fullmatch("[+-]?[0-9]+", text) and not re.fullmatch("0*[0-9]{1,10}", text):
        return False
    return not (text.isdecimal() and int(text) > MOST_ID)


@dataclass(frozen=True, slots=True, kw_only=True)
class FileMode(Kind):
    """Bits of a file's mode, a text of three octal digits.  Of a file that says umask = 27, nobody knows which 27."""

    metavar: str = "MODE"
    example: str = "027"

    @property
    def body(self) -> str:
        return f'octal digits from 000 to 777, as a text: "{self.example}"'

    @property
    def allowed(self) -> str:
        return "000 to 777, octal"

    def body_of(self, raw: object) -> str:
        found = re.fullmatch("(?:0o)?([0-7]{1,4})", raw.strip()) if isinstance(raw, str) else None
        if found is None or int(found[1], 8) > 0o777:
            raise WrongValueError(self.rule)
        return f"{int(found[1], 8):03o}"


# What belongs together

SOCKET_FILES = ("socket_mode", "socket_owner")
"""The settings that say with which rights the files of Unix sockets are made."""
NO_SOCKET_FILE = (
    "no address to be served is a Unix socket whose file the server makes (the files of inherited ones are their "
    "owner's); give --bind unix:PATH, or leave this out"
)


def makes_files(bind: Iterable[str]) -> bool:
    """Whether a file is made for one of these addresses."""
    return any(parse_address(text).kind == "unix" for text in bind)
