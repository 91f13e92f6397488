"""lab/records.py: what was written is read, also when it was cut short; what is not ours is refused by name."""

import json
import re
from pathlib import Path

import pytest

from paceline.errors import HostError, UsageError
from paceline.lab import records
from paceline.lab.catalogue import NAMES
from paceline.lab.records import Writer, home, new_folder, newest_folder, read, read_folder

MACHINE = {"cores": 2, "gil": True}
SETTINGS = {"quick": True, "seed": 7}
NOON = 1_800_000_000.0

pytestmark = pytest.mark.usefixtures("nothing_left")


@pytest.fixture(autouse=True)
def _at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "share"))
    monkeypatch.setattr(records, "wall_seconds", lambda: NOON)


def written(folder: Path, *lines: dict[str, object], name: str = "creation") -> Path:
    writer = Writer(folder, name, MACHINE, SETTINGS)
    for line in lines:
        writer.write(**line)
    writer.close()
    return writer.path


def sample(case: str, number: int, **values: object) -> dict[str, object]:
    return {"sample": {"case": case, "round": number, **values}}


END: dict[str, object] = {"end": {"seconds": 1.5, "finished": True, "why": ""}}


def test_what_was_written_is_read(tmp_path: Path) -> None:
    kept = read(written(tmp_path, sample("fork", 1, took_us=[1.0, 2.0]), sample("线程", 2), END))
    assert (kept.experiment, kept.machine, kept.settings, kept.began) == ("creation", MACHINE, SETTINGS, NOON)
    assert kept.samples.cases == ["fork", "线程"]
    assert kept.samples.values("fork", "took_us") == [1.0, 2.0]
    assert (kept.seconds, kept.finished, kept.why) == (1.5, True, "")


def test_without_an_end_it_was_cut_short(tmp_path: Path) -> None:
    kept = read(written(tmp_path, sample("fork", 1)))
    assert (len(kept.samples), kept.seconds, kept.finished) == (1, None, False)


@pytest.mark.parametrize("at_last", ['{"sample": {"case": "for', "{", "\0\0\0", "7"])
def test_a_last_line_that_was_cut_short_is_left_out(at_last: str, tmp_path: Path) -> None:
    path = written(tmp_path, sample("fork", 1))
    with path.open("a") as file:
        file.write(at_last)
    assert len(read(path).samples) == 1


HEAD = json.dumps(
    {"head": {"lab": 1, "experiment": "creation", "machine": MACHINE, "settings": SETTINGS, "began": NOON}}
)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"{}\n", "line 1: no result of the lab, which begins with its head"),
        (b"\x89PNG\r\n\x1a\n\0\0", "line 1: is no JSON object, so this is no result of the lab"),
        (b"[" * 100_000 + b"\n", "line 1: is no JSON object"),
        (b'{"head": 7}\n', "line 1: no result of the lab"),
        (b'{"head": {"lab": 2}}\n', "is of format 2, and this lab reads 1"),
        (b'{"head": {"lab": 1}}\n', "line 1: is not as the lab writes it"),
        (HEAD.replace("creation", "../creation").encode(), "line 1: is not as the lab writes it, or of an experiment"),
        (HEAD.replace('"cores": 2', '"cores": "two"').encode(), "line 1: is not as the lab writes it"),
        (f"{HEAD}\nx\n{{}}\n".encode(), "line 2: is no JSON object"),
        (f"{HEAD}\n{HEAD}\n".encode(), "line 2: is not as the lab writes it"),
        (f'{HEAD}\n{{"sample": 1}}\n'.encode(), "line 2: is not as the lab writes it"),
        (f'{HEAD}\n{{"sample": {{"case": "a"}}}}\n'.encode(), "line 2: is not as the lab writes it"),
        (f'{HEAD}\n\n{{"end": null}}\n'.encode(), "line 3: is not as the lab writes it"),
    ],
)
def test_what_is_no_result_is_refused_by_file_and_line(content: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "creation.jsonl"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=rf"^{re.escape(str(path))}.*{re.escape(said)}"):
        read(path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"creation\.jsonl: cannot be read \(No such file"):
        read(tmp_path / "creation.jsonl")


def test_folders_are_named_by_the_time_and_the_newest_is_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=r"no results in .*lab; run `paceline lab run` first"):
        newest_folder()
    first, second, third = (new_folder(None) for _ in range(3))
    assert first == home() / "2027-01-15T08-00-00Z"
    assert len({first, second, third}) == 3, "runs of the same second do not write over each other"
    for folder in (first, second):
        written(folder)
        assert newest_folder() == folder
    monkeypatch.setattr(records, "wall_seconds", lambda: NOON + 1)
    written(new_folder(None))
    assert newest_folder() == home() / "2027-01-15T08-00-01Z"


def test_the_home_is_that_of_the_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert home() == tmp_path / "share" / "paceline" / "lab"
    monkeypatch.setenv("HOME", "/home/somebody")
    for nothing in ("", "not/absolute"):
        monkeypatch.setenv("XDG_DATA_HOME", nothing)
        assert home() == Path("/home/somebody/.local/share/paceline/lab")


def test_a_folder_that_the_user_names_may_be_there_already(tmp_path: Path) -> None:
    assert new_folder(str(tmp_path)) == new_folder(str(tmp_path)) == tmp_path
    assert new_folder(str(tmp_path / "a" / "b")).is_dir()


def test_a_folder_that_cannot_be_made_or_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in ("file", "file/below"):
        with pytest.raises(HostError, match=f"{path}: results cannot be kept there .*--out names another one"):
            new_folder(str(tmp_path / path))
    (tmp_path / "creation.jsonl").mkdir()
    with pytest.raises(HostError, match=r"creation\.jsonl: cannot be written \(Is a directory"):
        Writer(tmp_path, "creation", MACHINE, SETTINGS)


def test_a_full_disk_is_said_and_leaves_nothing_open(tmp_path: Path) -> None:
    (tmp_path / "creation.jsonl").symlink_to("/dev/full")
    with pytest.raises(HostError, match=r"cannot be written \(No space left on device\); is the disk full"):
        Writer(tmp_path, "creation", MACHINE, SETTINGS)


def test_a_folder_is_read_in_the_order_of_the_lesson(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"{tmp_path}: no results of the lab are in there"):
        read_folder(tmp_path)
    names = list(NAMES)
    for name in reversed(names):
        written(tmp_path, name=name)
    written(tmp_path, name="of_another_lab")
    assert [kept.experiment for kept in read_folder(tmp_path)] == names
