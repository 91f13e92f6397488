"""What the command line reads besides itself: a TOML file.

The file that counts is the one that was named, else ./paceline.toml, else [tool.paceline] of ./pyproject.toml.  A file
that is there is read, or refused with its name and line; it is never skipped silently.

At a reload the same file counts as at the start (`ConfigFile`).
"""

import os
import re
import stat
import tomllib
from contextlib import suppress
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


class ConfigFile:
    """The file that counts, from the start of a server on.

    A reload reads it again, and neither goes over to another one nor to the defaults because it has gone or has become
    empty: such a reload is refused.  Where there was none, one that is found later counts from then on.  What is no
    file (--config <(…)) can be read once only, and goes on to say what it said.
    """

    def __init__(self, name: str | None, cited: str) -> None:
        """`name` and `cited` are those of `named`; without a name it is the one that is found."""
        self._name = name
        self._cited = cited
        self._path = ""
        self._is_file = True
        self._last: File | None = None

    def read(self) -> File | None:
        """What it says now; None: there is none.  Raises SettingError."""
        if self._last is None:
            self._last = self._begin()
        elif self._is_file:
            self._last = self._again(self._last)
        return self._last

    def _begin(self) -> File | None:
        if self._name is None:
            self._path, file_found = _find()
            self._cited = self._path
            return file_found
        file = named(self._name, self._cited)
        self._path = self._name
        with suppress(OSError):  # it has just gone; a reload will say so
            self._is_file = _is_file(self._path)
        return file

    def _again(self, last: File) -> File:
        remedy = "put it back, or restart the server to do without it"
        try:
            is_file = _is_file(self._path)
        except OSError as error:
            raise SettingError(f"{self._cited}: the file cannot be read any more: {error.strerror}; {remedy}") from None
        if not is_file:  # opening a pipe could wait for ever
            raise SettingError(f"{self._cited}: that is no regular file any more; {remedy}")
        table = _table_of(self._path, self._cited, remedy)
        if not table and last.values:
            raise SettingError(f"{self._cited}: there are no settings in it any more; {remedy}")
        return File(table or {}, last.name)


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
