"""What the command line reads besides itself: a TOML file.

The file that counts is the one that was named, else ./paceline.toml, else [tool.paceline] of ./pyproject.toml.  A file
that is there is read, or refused with its name and line; it is never skipped silently.
"""

import os
import re
import tomllib
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
    for name in ("paceline.toml", "pyproject.toml"):
        if os.path.lexists(name):  # a broken symbolic link is there, and shall be complained of
            table = _table_of(name, name, "mend that, or name another one with --config FILE")
            if table is not None:
                return File(table, _shown(name))
    return None


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
