"""What is kept: one JSON object a line, written as it is measured, never rewritten.

    {"kind": "run", "run": ID, "machine": {…}, "settings": {…}}          first, once per run
    {"kind": "trial", "run": ID, "row": 1, "trial": "paceline", "round": 0, "at": …, "settings": {…}, "numbers": {…}}
    {"kind": "trial", …, "error": "why there are no numbers"}

A file may hold several runs.  `parse` is pure; only `Writer` and `read` touch files.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class Run:
    """One start of the command, on one machine."""

    run: str
    machine: dict[str, Any]
    settings: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Record:
    """One repetition of one trial; `numbers` is empty when there is an `error`."""

    run: str
    row: int
    trial: str
    round: int
    at: str
    settings: dict[str, Any]
    numbers: dict[str, float] = field(default_factory=dict)
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Kept:
    """All that a file holds."""

    runs: list[Run]
    records: list[Record]


def line_of(entry: Run | Record) -> str:
    """The entry as a line, without its end."""
    kind = "run" if isinstance(entry, Run) else "trial"
    return json.dumps({"kind": kind} | asdict(entry), ensure_ascii=False)


def parse(lines: Iterable[str]) -> Kept:
    """What the lines hold.  Raises ValueError, with the line's number, for one that is not an entry."""
    kept = Kept([], [])
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
            match entry.pop("kind"):
                case "run":
                    kept.runs.append(Run(**entry))
                case "trial":
                    kept.records.append(Record(**entry))
                case kind:
                    raise KeyError(kind)  # noqa: TRY301 - one place says which line it was
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"line {number} is not a record of a benchmark: {error}") from error
    return kept


def read(path: Path) -> Kept:
    """What a file holds.  Raises OSError, ValueError."""
    with path.open(encoding="utf-8") as file:
        return parse(file)


def read_all(paths: Iterable[Path]) -> Kept:
    """What several files hold together.  Raises OSError, ValueError, both with the file's name."""
    kept = Kept([], [])
    for path in paths:
        try:
            found = read(path)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
        if not found.runs or not found.records:
            raise ValueError(f"{path}: there are no results in it")
        kept.runs.extend(found.runs)
        kept.records.extend(found.records)
    return kept


class Writer:
    """Appends to a file, each line at once in the hands of the kernel: an interrupted run keeps what it had."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a", encoding="utf-8", buffering=1)

    def write(self, entry: Run | Record) -> None:
        self._file.write(line_of(entry) + "\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
