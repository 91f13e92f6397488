"""lab/records.py: what was written is read, also when it was cut short; what is not ours is refused by name."""

import json
import os
import re
from pathlib import Path

import pytest

from paceline.errors import HostError, UsageError
from paceline.lab import records
from paceline.lab.catalogue import NAMES
from paceline.lab.experiment import Prediction
from paceline.lab.records import Writer, home, new_folder, read, read_folder, read_newest
from paceline.lab.texts import Text

MACHINE = {"cores": 2, "gil": True}
SETTINGS = {"quick": True, "seed": 7}
NOON = 1_800_000_000.0
TOLD = Prediction(Text("It will.", "会的。"), {"times": 3.0})
CODE = "def work(): ...  # <線>"

pytestmark = pytest.mark.usefixtures("nothing_left")


@pytest.fixture(autouse=True)
def _at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "share"))
    monkeypatch.setattr(records, "wall_seconds", lambda: NOON)


def written(folder: Path, *lines: dict[str, object], name: str = "creation") -> Path:
    writer = Writer(folder, name, MACHINE, SETTINGS, TOLD, CODE)
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
    assert (kept.prediction, kept.code, kept.path) == (TOLD, CODE, tmp_path / "creation.jsonl")


def test_how_it_is_measured_comes_to_the_settings(tmp_path: Path) -> None:
    more: dict[str, object] = {"settings": {"clients": 16, "for_s": 0.2}}
    assert read(written(tmp_path, more, END)).settings == {**SETTINGS, "clients": 16, "for_s": 0.2}


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
    {
        "head": {
            "lab": 1, "experiment": "creation", "machine": MACHINE, "settings": SETTINGS, "began": NOON,
            "prediction": {"en": "It will.", "zh": "会的。", "figures": {}}, "code": CODE,
        }
    }
)  # fmt: skip


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"{}\n", "line 1: no result of the lab, which begins with its head"),
        (b"\x89PNG\r\n\x1a\n\0\0", "line 1: is no JSON object, so this is no result of the lab"),
        (b"[" * 100_000 + b"\n", "line 1: is no JSON object"),
        (b'{"head": 7}\n', "line 1: no result of the lab"),
        (b'{"head": {"lab": 2}}\n', "is of format 2, and this lab reads 1; use Paceline ?, which has written it"),
        (b'{"head": {"lab": 1}}\n', "line 1: is not as the lab writes it"),
        (
            HEAD.replace("creation", "../x").replace('"gil"', '"paceline": "9.9", "gil"').encode(),
            "this lab has no experiment '../x'; use Paceline 9.9, which has written it",
        ),
        (HEAD.replace(str(NOON), "Infinity").encode(), "line 1: is not as the lab writes it"),
        (HEAD.replace(str(NOON), "1e20").encode(), "line 1: is not as the lab writes it"),
        (HEAD.replace('"cores": 2', '"cores": "two"').encode(), "line 1: is not as the lab writes it"),
        (f"{HEAD}\nx\n{{}}\n".encode(), "line 2: is no JSON object"),
        (f"{HEAD}\n{HEAD}\n".encode(), "line 2: is not as the lab writes it"),
        (f'{HEAD}\n{{"sample": 1}}\n'.encode(), "line 2: is not as the lab writes it"),
        (f'{HEAD}\n{{"sample": {{"case": "a"}}}}\n'.encode(), "line 2: is not as the lab writes it"),
        (f'{HEAD}\n\n{{"end": null}}\n'.encode(), "line 3: is not as the lab writes it"),
        (f'{HEAD}\n{{"end": {{"seconds": "x", "finished": true, "why": ""}}}}\n'.encode(), "line 2: is not as"),
        (f'{HEAD}\n{{"end": {{"seconds": 1, "finished": true, "why": [1]}}}}\n'.encode(), "line 2: is not as"),
        (f'{HEAD}\n{{"settings": 7}}\n'.encode(), "line 2: is not as the lab writes it"),
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


def test_folders_are_named_by_the_time_and_none_is_used_twice() -> None:
    first, second, third = (new_folder(None, NAMES) for _ in range(3))
    assert first == home() / "2027-01-15T08-00-00Z"
    assert len({first, second, third}) == 3, "runs of the same second do not write over each other"


def test_of_each_experiment_the_newest_that_came_to_its_end_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=r"no results in .*lab; run `paceline lab run` first"):
        read_newest()

    def run(at_s: float, **lines: list[dict[str, object]]) -> Path:
        monkeypatch.setattr(records, "wall_seconds", lambda: at_s)
        folder = new_folder(None, list(lines))
        for name, its in lines.items():
            written(folder, *its, name=name)
        return folder

    whole, part = [sample("a", 1), END], [sample("a", 1)]
    run(NOON, gil=whole, turns=whole, parallel=part)
    later = run(NOON + 10, gil=whole, turns=part, parallel=part, crash=[])
    last = run(NOON + 20, crash=[])
    (home() / "a backup").mkdir()
    written(home() / "a backup", *whole, name="servers")
    (last / "turns.jsonl").write_text("")
    found, left_out = read_newest()
    assert [(kept.experiment, kept.path.parent.name[-3:], kept.finished) for kept in found] == [
        ("turns", "00Z", True),
        ("parallel", "10Z", False),
        ("gil", "10Z", True),
        ("crash", "20Z", False),
    ]
    assert left_out == [f"{last}/turns.jsonl: is empty; whoever wrote it was ended at once"]
    assert later.name == "2027-01-15T08-00-10Z"


def test_one_file_that_cannot_be_read_does_not_cost_the_others(tmp_path: Path) -> None:
    written(tmp_path, END)
    (tmp_path / "gil.jsonl").write_text("x\ny\n")
    found, left_out = read_folder(tmp_path)
    assert [kept.experiment for kept in found] == ["creation"]
    assert left_out == [f"{tmp_path}/gil.jsonl, line 1: is no JSON object, so this is no result of the lab"]
    (tmp_path / "creation.jsonl").unlink()
    with pytest.raises(UsageError, match=r"gil\.jsonl, line 1: .*; --from names the folder of a run"):
        read_folder(tmp_path)


def test_the_home_is_that_of_the_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert home() == tmp_path / "share" / "paceline" / "lab"
    monkeypatch.setenv("HOME", "/home/somebody")
    for nothing in ("", "not/absolute"):
        monkeypatch.setenv("XDG_DATA_HOME", nothing)
        assert home() == Path("/home/somebody/.local/share/paceline/lab")


def test_who_has_no_home_is_told_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setenv("XDG_DATA_HOME", "")
    monkeypatch.setattr(Path, "home", nobody)
    with pytest.raises(HostError, match=r"you have no home folder.*set XDG_DATA_HOME, or name a folder: --out, --from"):
        home()


def test_a_folder_that_the_user_names_may_be_there_but_no_result_is_written_over(tmp_path: Path) -> None:
    assert new_folder(str(tmp_path), NAMES) == new_folder(str(tmp_path), NAMES) == tmp_path
    assert new_folder(str(tmp_path / "a" / "b"), NAMES).is_dir()
    path = written(tmp_path, END)
    before = path.read_bytes()
    with pytest.raises(UsageError, match=r"--out .*: creation\.jsonl of another run is in there; name another folder"):
        new_folder(str(tmp_path), ["gil", "creation"])
    with pytest.raises(HostError, match=r"creation\.jsonl: cannot be written \(File exists\)"):
        written(tmp_path, END)
    assert path.read_bytes() == before
    assert new_folder(str(tmp_path), ["gil"]) == tmp_path


def test_a_folder_that_cannot_be_made_or_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in ("file", "file/below"):
        with pytest.raises(HostError, match=f"{path}: results cannot be kept there .*--out names another one"):
            new_folder(str(tmp_path / path), NAMES)
    (tmp_path / "creation.jsonl").mkdir()
    with pytest.raises(HostError, match=r"creation\.jsonl: cannot be written \(File exists"):
        Writer(tmp_path, "creation", MACHINE, SETTINGS, TOLD, CODE)


def test_a_full_disk_is_said(tmp_path: Path) -> None:
    writer = Writer(tmp_path, "creation", MACHINE, SETTINGS, TOLD, CODE)
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, writer._file.fileno())
    os.close(full)
    with pytest.raises(HostError, match=r"cannot be written \(No space left on device\); --out names another folder"):
        writer.write(end={})
    writer.close()


def test_a_head_that_cannot_be_written_leaves_nothing_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_writer: Writer, **_line: object) -> None:
        raise HostError("no")

    monkeypatch.setattr(Writer, "write", refuse)
    with pytest.raises(HostError, match="no"):
        Writer(tmp_path, "creation", MACHINE, SETTINGS, TOLD, CODE)


def test_a_folder_is_read_in_the_order_of_the_lesson(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"{tmp_path}: no results of the lab are in there"):
        read_folder(tmp_path)
    names = list(NAMES)
    for name in reversed(names):
        written(tmp_path, name=name)
    written(tmp_path, name="of_another_lab")
    found, left_out = read_folder(tmp_path)
    assert [kept.experiment for kept in found] == names
    assert len(left_out) == 1
    assert "this lab has no experiment 'of_another_lab'; use Paceline ?" in left_out[0]
