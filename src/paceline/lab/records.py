"""Where results lie: a folder per run, in it a file per experiment, in JSON lines, written as they come.

    {"head": {"lab": 1, "experiment", "machine", "settings", "began", "prediction", "code"}}    first
    {"settings": {…}}                                                   how it is measured; more of the same
    {"sample": {"case", "round", …}}                                    each repetition
    {"end": {"seconds", "finished", "why"}}                             last; without it, it was cut short

What was predicted, and the code that was run, are kept before anything is measured: a later version may predict
something else.  A folder is named by the time; the newest one is the last by name.
"""

import json
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from paceline.clock import wall_seconds
from paceline.errors import HostError, UsageError
from paceline.lab.catalogue import NAMES
from paceline.lab.experiment import Prediction
from paceline.lab.samples import Samples
from paceline.lab.texts import Text

FORMAT = 1
SUFFIX = ".jsonl"
_FOLDER = re.compile(r"\d{4}-\d\d-\d\dT\d\d-\d\d-\d\dZ(-\d+)?")


@dataclass(frozen=True, slots=True)
class Kept:
    """What one file says.  `settings`: quick, seed, and how it was measured.  `why` it did not finish, if known."""

    experiment: str
    machine: dict[str, Any]
    settings: dict[str, Any]
    began: float
    prediction: Prediction
    code: str
    samples: Samples
    seconds: float | None
    finished: bool
    why: str
    path: Path


def home() -> Path:
    """Where folders are made when nobody says where: below $XDG_DATA_HOME, or ~/.local/share.  Raises HostError."""
    root = os.environ.get("XDG_DATA_HOME", "")
    try:
        return (Path(root) if os.path.isabs(root) else Path.home() / ".local" / "share") / "paceline" / "lab"
    except RuntimeError:
        raise HostError(
            "you have no home folder, in which results are kept; set XDG_DATA_HOME, or name a folder: --out, --from"
        ) from None


def new_folder(out: str | None, names: Sequence[str]) -> Path:
    """Make the folder of a run of these experiments.

    Raises HostError when it cannot be made, UsageError when results of one of them are in it.
    """
    name = datetime.fromtimestamp(wall_seconds(), UTC).strftime("%Y-%m-%dT%H-%M-%SZ")
    folder, number = home() / name if out is None else Path(out), 1
    try:
        while out is None and folder.exists():  # another run began in the same second
            folder, number = home() / f"{name}-{number:02}", number + 1
        folder.mkdir(parents=True, exist_ok=out is not None)
    except OSError as error:
        raise HostError(f"{folder}: results cannot be kept there ({error.strerror}); --out names another one") from None
    for path in (folder / f"{name}{SUFFIX}" for name in names):
        if path.exists():
            raise UsageError(f"--out {out}: {path.name} of another run is in there; name another folder, or remove it")
    return folder


class Writer:
    """The file of one experiment, written line by line.  Raises HostError when it cannot be."""

    def __init__(
        self,
        folder: Path,
        experiment: str,
        machine: Mapping[str, Any],
        settings: Mapping[str, Any],
        prediction: Prediction,
        code: str,
    ) -> None:
        self.path = folder / f"{experiment}{SUFFIX}"
        try:
            self._file: TextIO = open(self.path, "x", encoding="utf-8")  # noqa: SIM115 - closed by close()
        except OSError as error:
            raise self._unwritable(error) from None
        told = {"en": prediction.text.en, "zh": prediction.text.zh, "figures": dict(prediction.figures)}
        head = {
            "lab": FORMAT, "experiment": experiment, "machine": dict(machine), "settings": dict(settings),
            "began": round(wall_seconds(), 3), "prediction": told, "code": code,
        }  # fmt: skip
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
            raise self._unwritable(error) from None

    def close(self) -> None:
        with suppress(OSError):
            self._file.close()

    def _unwritable(self, error: OSError) -> HostError:
        return HostError(f"{self.path}: cannot be written ({error.strerror}); --out names another folder")


# Reading


def read(path: Path) -> Kept:
    """Raises UsageError, which names the file and the line, when it is no such file.

    A last line that was cut short is left out: whoever wrote it was killed.
    """
    lines = _lines(path)
    number, first = next(lines, (0, {}))
    if not number:
        raise UsageError(f"{path}: is empty; whoever wrote it was ended at once")
    head = first.get("head")
    if not isinstance(head, dict):
        raise UsageError(f"{path}, line {number}: no result of the lab, which begins with its head")
    machine = head.get("machine")
    writer = machine.get("paceline", "?") if isinstance(machine, dict) else "?"
    if head.get("lab") != FORMAT:
        raise UsageError(
            f"{path}: is of format {head.get('lab')}, and this lab reads {FORMAT}; use Paceline {writer}, "
            "which has written it"
        )
    if not _is_whole(head):
        raise UsageError(f"{path}, line {number}: is not as the lab writes it")
    if head["experiment"] not in NAMES:
        raise UsageError(
            f"{path}: this lab has no experiment {head['experiment']!r}; use Paceline {writer}, which has written it"
        )
    end: dict[str, Any] = {}
    samples = []
    settings = dict(head["settings"])
    for number, line in lines:
        match line:
            case {"sample": {"case": str(), "round": int()} as sample}:
                samples.append(sample)
            case {"settings": dict(more)}:
                settings |= more
            case {"end": dict(end)} if _is_end(end):
                pass
            case _:
                raise UsageError(f"{path}, line {number}: is not as the lab writes it")
    told = head["prediction"]
    return Kept(
        head["experiment"], head["machine"], settings, head["began"],
        Prediction(Text(told["en"], told["zh"]), told["figures"]), head["code"], Samples.made(samples),
        end.get("seconds"), end.get("finished", False), end.get("why", ""), path,
    )  # fmt: skip


def _is_whole(head: Mapping[str, Any]) -> bool:
    match head:
        case {
            "experiment": str(), "machine": {"cores": int(), "gil": bool()}, "settings": dict(), "began": began,
            "prediction": {"en": str(), "zh": str(), "figures": dict()}, "code": str(),
        }:  # fmt: skip
            return _is_time(began)
    return False


def _is_end(end: Mapping[str, Any]) -> bool:
    match end:
        case {"seconds": seconds, "finished": bool(), "why": str()}:
            return _is_time(seconds)
    return False


def _is_time(seconds: object) -> bool:
    """That a calendar of ours can say, too."""
    return isinstance(seconds, int | float) and math.isfinite(seconds) and 0 <= seconds < 1 << 37


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


def read_folder(folder: Path) -> tuple[list[Kept], list[str]]:
    """All results in it, in the order of the lesson; and what was left out, and why.

    Raises UsageError when there are none.
    """
    found, left_out = _readable(sorted(folder.glob(f"*{SUFFIX}")))
    if not found:
        why = left_out[0] if left_out else f"{folder}: no results of the lab are in there"
        raise UsageError(f"{why}; --from names the folder of a run")
    return found, left_out


def read_newest() -> tuple[list[Kept], list[str]]:
    """Of each experiment the newest result that came to its end, or at least has samples; and what was left out.

    Raises UsageError when there is none.
    """
    folders = [path for path in home().glob("*") if _FOLDER.fullmatch(path.name)]
    paths = [path for folder in sorted(folders, reverse=True) for path in sorted(folder.glob(f"*{SUFFIX}"))]
    found, left_out = _readable(paths)
    if not found:
        raise UsageError(f"no results in {home()}; run `paceline lab run` first, or say --from FOLDER")
    return found, left_out


def _readable(paths: Sequence[Path]) -> tuple[list[Kept], list[str]]:
    """Of each experiment the first one that came to its end, or has samples, or is there at all."""
    found: dict[str, list[Kept]] = {}
    left_out = []
    for path in paths:
        try:
            kept = read(path)
        except UsageError as error:
            left_out.append(str(error))
        else:
            found.setdefault(kept.experiment, []).append(kept)
    best = [
        max(found[name], key=lambda kept: (kept.finished, bool(kept.samples)))  # of equals the first
        for name in NAMES
        if name in found
    ]
    return best, left_out
