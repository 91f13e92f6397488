"""Where results lie: a folder per run, in it a file per experiment, in JSON lines, written as they come.

    {"head": {"lab": 1, "experiment", "machine", "settings", "began"}}    first
    {"sample": {"case", "round", …}}                                    each repetition
    {"end": {"seconds", "finished", "why"}}                             last; without it, it was cut short

A folder is named by the time; the newest one is the last by name.
"""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from paceline.clock import wall_seconds
from paceline.errors import HostError, UsageError
from paceline.lab.catalogue import NAMES
from paceline.lab.samples import Samples

FORMAT = 1
SUFFIX = ".jsonl"


@dataclass(frozen=True, slots=True)
class Kept:
    """What one file says.  `settings`: quick, seed.  `why` it did not finish, if that is known."""

    experiment: str
    machine: dict[str, Any]
    settings: dict[str, Any]
    began: float
    samples: Samples
    seconds: float | None
    finished: bool
    why: str


def home() -> Path:
    """Where folders are made when nobody says where: below $XDG_DATA_HOME, or ~/.local/share."""
    root = os.environ.get("XDG_DATA_HOME", "")
    return (Path(root) if os.path.isabs(root) else Path.home() / ".local" / "share") / "paceline" / "lab"


def new_folder(out: str | None) -> Path:
    """Make the folder of a run.  Raises HostError when it cannot be made."""
    name = datetime.fromtimestamp(wall_seconds(), UTC).strftime("%Y-%m-%dT%H-%M-%SZ")
    folder, number = home() / name if out is None else Path(out), 1
    try:
        while out is None and folder.exists():  # another run began in the same second
            folder, number = home() / f"{name}-{number:02}", number + 1
        folder.mkdir(parents=True, exist_ok=out is not None)
    except OSError as error:
        raise HostError(f"{folder}: results cannot be kept there ({error.strerror}); --out names another one") from None
    return folder


def newest_folder() -> Path:
    """The folder of the last run.  Raises UsageError when there is none."""
    found = sorted(path for path in home().glob("*") if any(path.glob(f"*{SUFFIX}")))
    if not found:
        raise UsageError(f"no results in {home()}; run `paceline lab run` first, or say --from FOLDER")
    return found[-1]


class Writer:
    """The file of one experiment, written line by line.  Raises HostError when it cannot be."""

    def __init__(self, folder: Path, experiment: str, machine: dict[str, Any], settings: dict[str, Any]) -> None:
        self.path = folder / f"{experiment}{SUFFIX}"
        try:
            self._file: TextIO = open(self.path, "w", encoding="utf-8")  # noqa: SIM115 - closed by close()
        except OSError as error:
            raise HostError(f"{self.path}: cannot be written ({error.strerror})") from None
        began = round(wall_seconds(), 3)
        head = {"lab": FORMAT, "experiment": experiment, "machine": machine, "settings": settings, "began": began}
        try:
            self.write(head=head)
        except HostError:
            self.close()
            raise

    def write(self, **line: Any) -> None:
        try:
            self._file.write(json.dumps(line, ensure_ascii=False) + "\n")
            self._file.flush()
        except OSError as error:
            raise HostError(f"{self.path}: cannot be written ({error.strerror}); is the disk full?") from None

    def close(self) -> None:
        with suppress(OSError):
            self._file.close()


def read(path: Path) -> Kept:
    """Raises UsageError, which names the file and the line, when it is no such file.

    A last line that was cut short is left out: whoever wrote it was killed.
    """
    lines = _lines(path)
    number, first = next(lines, (0, {}))
    if not number:
        raise UsageError(f"{path}: is empty")
    head = first.get("head")
    if not isinstance(head, dict):
        raise UsageError(f"{path}, line {number}: no result of the lab, which begins with its head")
    if head.get("lab") != FORMAT:
        raise UsageError(f"{path}: is of format {head.get('lab')}, and this lab reads {FORMAT}")
    if not _is_whole(head):
        raise UsageError(f"{path}, line {number}: is not as the lab writes it, or of an experiment that is not known")
    end: dict[str, Any] = {}
    samples = []
    for number, line in lines:
        found = line.get("sample", line.get("end"))
        if not isinstance(found, dict) or ("sample" in line and not _is_sample(found)):
            raise UsageError(f"{path}, line {number}: is not as the lab writes it")
        if "sample" in line:
            samples.append(found)
        else:
            end = found
    return Kept(
        head["experiment"], head["machine"], head["settings"], head["began"], Samples.made(samples),
        end.get("seconds"), end.get("finished", False), end.get("why", ""),
    )  # fmt: skip


def _is_whole(head: Mapping[str, Any]) -> bool:
    match head:
        case {
            "experiment": str(name), "machine": {"cores": int(), "gil": bool()}, "settings": dict(),
            "began": int() | float(),
        }:  # fmt: skip
            return name in NAMES
    return False


def _is_sample(found: Mapping[str, Any]) -> bool:
    return isinstance(found.get("case"), str) and isinstance(found.get("round"), int)


def _lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from None
    for number, line in enumerate(lines, 1):
        if not line:
            continue
        try:
            found = json.loads(line)
        except (ValueError, RecursionError):
            found = None
        if isinstance(found, dict):
            yield number, found
        elif number < len(lines):
            raise UsageError(f"{path}, line {number}: is no JSON object, so this is no result of the lab")


def read_folder(folder: Path) -> list[Kept]:
    """All results in it, in the order of the lesson.  Raises UsageError when there are none."""
    found = [read(path) for name in NAMES if (path := folder / f"{name}{SUFFIX}").exists()]
    if not found:
        raise UsageError(f"{folder}: no results of the lab are in there; --from names the folder of a run")
    return found
