"""The kinds of values that say with which rights a server runs.  Pure.

    Account    www-data, or 33
    Owner      www-data, www-data:adm, or :adm
    FileMode   027: octal digits
    SocketMode 660: those of them that say who may connect

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
    return not (is_number(text) and int(text) > MOST_ID)


def is_number(text: str) -> bool:
    """Whether it is a number and no name; digits of other scripts, which int() reads as well, make a name."""
    return text.isascii() and text.isdecimal()


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


@dataclass(frozen=True, slots=True, kw_only=True)
class SocketMode(FileMode):
    """The mode of a Unix socket's file.  Connecting needs the right to write (unix(7)): a digit that gives others and
    not that one means something else than it says, and one that gives it to nobody leaves root alone."""

    @property
    def body(self) -> str:
        return (
            'octal digits 0, 2, 3, 6 and 7, and not 0 alone (who connects needs the right to write), as a text: "660"'
        )

    @property
    def allowed(self) -> str:
        return "octal, of the digits 02367"

    def body_of(self, raw: object) -> str:
        mode = FileMode.body_of(self, raw)
        if mode == "000" or set(mode) & set("145"):
            raise WrongValueError(self.rule, remedy="660 lets its user and its group in, 666 everybody")
        return mode


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
