"""What the command line reads besides itself: a TOML file.

The file that counts is the one that was named, else ./paceline.toml, else [tool.paceline] of ./pyproject.toml.  A file
that is there is read, or refused with its name and line; it is never skipped silently.

At a reload the file that counted before counts again (`ConfigFile`).
"""

import os
import re
import stat
import tomllib
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from paceline.errors import SettingError
from paceline.settings.sources import File

VARIABLE = "PACELINE_CONFIG"
"""Names the file, as --config does."""
LARGEST_FILE = 1024 * 1024
"""Bytes.  Whoever names /dev/zero shall be told."""


def named(path: str, cited: str) -> File:
    """The file that somebody named, as a source of settings; `cited` is how: "--config server.toml".

    Raises SettingError for a file that cannot be read, is not TOML, is a pyproject.toml without [tool.paceline], or has
    a key that is no setting.
    """
    if not path or "\0" in path:
        raise SettingError(f"{cited}: must be the name of a file")
    table = _table_of(path, cited, "give the name of a TOML file that this user can read")
    if table is None:
        raise SettingError(f"{cited}: the file has no table [tool.paceline]; add it, or name another file")
    return File(table, _shown(path))


def found() -> File | None:
    """The file that counts when nobody named one; None when there is none.  Raises SettingError as `named` does."""
    return _find()[1]


def _find() -> tuple[str, File | None]:
    """(its path, what it says)"""
    for name in ("paceline.toml", "pyproject.toml"):
        if os.path.lexists(name):  # a broken symbolic link is there, and shall be complained of
            table = _table_of(name, name, "mend that, or name another one with --config FILE")
            if table is not None:
                return name, File(table, _shown(name))
    return "", None


@dataclass(frozen=True, slots=True)
class _Reading:
    """A file, and what it said."""

    path: str
    cited: str
    is_file: bool
    """It can be read again; else it is a pipe or the like."""
    said: File


class ConfigFile:
    """The file that counts, from the start of a server on.

    A reload reads it again, and neither goes over to another one nor to the defaults because it has gone or has become
    empty: such a reload is refused.  Where there was none, one that is found later counts from then on, unless what it
    says is refused.  What is no file (--config <(…)) can be read once only, and goes on to say what it said.
    """

    def __init__(self, name: str | None, cited: str) -> None:
        """`name` and `cited` are those of `named`; without a name it is the one that is found."""
        self._name = name
        self._cited = cited
        self._read: _Reading | None = None
        self._counting: _Reading | None = None

    def read(self) -> File | None:
        """What it says now; None: there is none.  Raises SettingError."""
        before = self._counting
        if before is None or (self._name is None and not before.said.values):
            self._read = self._begin()
        elif before.is_file:
            self._read = replace(before, said=self._again(before))
        return None if self._read is None else self._read.said

    def settle(self) -> None:
        """The server goes by what was read last."""
        self._counting = self._read

    @property
    def read_once(self) -> str:
        """The name of what has settings and cannot be read again; empty: it can, or has none."""
        counts = self._counting
        return counts.said.name if counts is not None and counts.said.values and not counts.is_file else ""

    def _begin(self) -> _Reading | None:
        if self._name is None:
            path, said = _find()
            cited = path
        else:
            path, cited, said = self._name, self._cited, named(self._name, self._cited)
        is_file = True
        with suppress(OSError):  # it has just gone; a reload will say so
            is_file = _is_file(path)
        return None if said is None else _Reading(path, cited, is_file, said)

    def _again(self, before: _Reading) -> File:
        path, cited = before.path, before.cited
        remedy = "put it back, or restart the server to do without it"
        try:
            is_file = _is_file(path)
        except OSError as error:
            raise SettingError(f"{cited}: the file cannot be read any more: {error.strerror}; {remedy}") from None
        if not is_file:  # opening a pipe could wait for ever
            raise SettingError(f"{cited}: that is no regular file any more; {remedy}")
        table = _table_of(path, cited, remedy)
        if not table and before.said.values:
            raise SettingError(f"{cited}: there are no settings in it any more; {remedy}")
        return File(table or {}, before.said.name)


def _is_file(path: str) -> bool:
    return stat.S_ISREG(os.stat(path).st_mode)


def _shown(path: str) -> str:
    return f"[tool.paceline] of {path}" if _is_project(path) else path


def _is_project(path: str) -> bool:
    return os.path.basename(path) == "pyproject.toml"


def _table_of(path: str, cited: str, remedy: str) -> dict[str, Any] | None:
    """`remedy` is what to do when the file cannot be read."""
    document = _parsed(_text_of(path, cited, remedy), cited)
    if not _is_project(path):
        _refuse_tables(document, cited)
        return document
    tools = document.get("tool", {})
    table = tools.get("paceline") if isinstance(tools, dict) else None
    if table is not None and not isinstance(table, dict):
        raise SettingError(f"{cited}: tool.paceline must be a table: write [tool.paceline] above its keys")
    return table


def _refuse_tables(document: dict[str, Any], cited: str) -> None:
    tools = document.get("tool")
    for name, holder in (("paceline", document), ("tool.paceline", tools)):
        if isinstance(holder, dict) and isinstance(holder.get("paceline"), dict):
            raise SettingError(
                f"{cited}: in this file the settings stand at the top, without a table; take the line [{name}] away"
            )


def _text_of(path: str, cited: str, remedy: str) -> str:
    try:
        with open(path, "rb") as file:
            data = file.read(LARGEST_FILE + 1)
    except OSError as error:
        raise SettingError(f"{cited}: the file cannot be read: {error.strerror}; {remedy}") from None
    if len(data) > LARGEST_FILE:
        raise SettingError(f"{cited}: the file has more than {LARGEST_FILE:,} bytes; no settings are that long")
    try:
        return data.decode("utf-8-sig")  # with or without the mark that some editors put in front
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise SettingError(
            f"{cited}, line {line}: the byte 0x{data[error.start]:02x} is not UTF-8, which TOML is written in"
        ) from None


def _parsed(text: str, cited: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except ValueError as error:  # TOMLDecodeError is one; int() raises a bare one for thousands of digits
        where = re.fullmatch(r"(.*) \(at (line \d+, column \d+|end of document)\)", str(error), re.DOTALL)
        place, why = (f", {where[2]}", where[1]) if where else ("", str(error))
        raise SettingError(f"{cited}{place}: this is not TOML: {why[:1].lower()}{why[1:]}") from None
    except RecursionError:
        raise SettingError(f"{cited}: arrays or tables are nested too deeply; no setting needs that") from None
