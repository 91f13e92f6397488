"""The process that watches files."""

import select
from collections.abc import Iterator
from pathlib import Path

import pytest

from paceline.host.processes import run_state
from paceline.supervisor.seats import Seat
from paceline.supervisor.vocabulary import Event
from paceline.supervisor.watching import Edits, Watching
from supervisor.scene import Log

pytest.importorskip("watchfiles", reason="the extra `watch` is not installed")


@pytest.fixture
def watching(tmp_path: Path) -> Iterator[Watching]:
    """Of tmp_path; it has seen a first change, so it watches by now."""
    watching = Watching([str(tmp_path)])
    probe = tmp_path / "probe.py"
    for number in range(1000):
        probe.write_text(f"{number}")
        if select.select([watching.fd], [], [], 0.05)[0]:
            break
    while select.select([watching.fd], [], [], 0.5)[0]:
        assert watching.take() == ["probe.py"]
    yield watching
    watching.close()
    assert run_state(watching.pid) != "R"


def nobody(_seat: Seat | None) -> Iterator[Event]:
    yield from ()


def changed(watching: Watching) -> list[str]:
    assert select.select([watching.fd], [], [], 10)[0]
    return watching.take()


def test_changes_close_together_are_one(watching: Watching, tmp_path: Path) -> None:
    for name in ("b.py", "a.py", "paceline.toml"):
        (tmp_path / name).write_text("x")
    assert changed(watching) == ["a.py", "b.py", "paceline.toml"]


def test_files_that_no_worker_imports_do_not_matter(watching: Watching, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__" / "x.py").write_text("x")
    (tmp_path / "last.py").write_text("x")
    assert changed(watching) == ["last.py"]


def test_its_end_is_told(watching: Watching) -> None:
    watching._process.kill()
    assert changed(watching) == []
    assert watching.has_ended


def test_a_folder_that_does_not_exist_is_its_end() -> None:
    watching = Watching(["/nowhere/at/all"])
    try:
        assert changed(watching) == []
        assert watching.has_ended
    finally:
        watching.close()


def test_the_log_names_some_of_them_and_says_when_nobody_watches_any_more(watching: Watching, tmp_path: Path) -> None:
    log = Log()
    edits = Edits((), log)
    assert edits.sources(nobody) == {}
    edits._watching = watching
    (source,) = edits.sources(nobody)
    assert edits.fds() == [source]
    for name in "abcde":
        (tmp_path / f"{name}.py").write_text("x")
    assert select.select([source], [], [], 10)[0]
    assert edits.hear()
    assert log.said == [("changed", {"files": "a.py, b.py, c.py and 2 more"})]
    watching._process.kill()
    assert select.select([source], [], [], 10)[0]
    assert not edits.hear()
    assert log.said[1:] == [("not-watched", {})]
    assert edits.sources(nobody) == {}
    assert edits.fds() == []


def test_it_can_be_taken_up_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = Log()
    edits = Edits((str(tmp_path),), log)
    try:
        edits.close()
        edits.begin()
        assert len(edits.sources(nobody)) == 1
        edits.begin()
        assert len(edits.sources(nobody)) == 1
        edits.close()
        monkeypatch.setattr("sys.executable", "/no/python")
        edits.begin()
        assert log.said == [("not-watched", {})]
    finally:
        edits.close()


def test_without_folders_nothing_is_taken_up() -> None:
    log = Log()
    edits = Edits((), log)
    edits.begin()
    assert edits.sources(nobody) == {}
    assert log.said == []
