"""connect/history.py: what was typed, kept in a file."""

import os
from pathlib import Path

import pytest

from paceline.connect.history import MOST_BYTES, MOST_LINES, NAME, History, place


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "paceline" / NAME


def test_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert place({"XDG_STATE_HOME": "/state"}) == f"/state/paceline/{NAME}"
    for given in ({}, {"XDG_STATE_HOME": ""}, {"XDG_STATE_HOME": "not/absolute"}):
        assert place(given) == f"/home/me/.local/state/paceline/{NAME}"
    monkeypatch.setenv("HOME", "nowhere")
    assert place({}) == ""


def test_it_is_kept_for_nobody_else(path: Path) -> None:
    history = History(str(path))
    assert history.lines == []
    for line in ("one", "two", "two", "", "  ", " secret", "three\nfour", "x" * (MOST_BYTES + 1), "é \\x00"):
        history.add(line)
    assert history.lines == ["one", "two", "é \\x00"]
    assert path.read_text() == "one\ntwo\né \\x00\n"
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert History(str(path)).lines == history.lines
    assert history.trouble == ""


def test_a_file_that_others_could_read_is_closed_to_them(path: Path) -> None:
    path.parent.mkdir(parents=True)
    path.write_text("one\n")
    path.chmod(0o644)
    History(str(path)).add("two")
    assert path.stat().st_mode & 0o777 == 0o600


def test_two_sessions_lose_nothing_of_each_other(path: Path) -> None:
    first, second = History(str(path)), History(str(path))
    first.add("one")
    second.add("two")
    first.add("three")
    assert History(str(path)).lines == ["one", "two", "three"]


def test_it_is_bounded(path: Path) -> None:
    path.parent.mkdir(parents=True)
    path.write_text("".join(f"{number}\n" for number in range(2 * MOST_LINES + 1)))
    history = History(str(path))
    assert len(history.lines) == MOST_LINES
    assert history.lines[-1] == str(2 * MOST_LINES)
    assert path.read_text().splitlines() == history.lines
    assert path.stat().st_mode & 0o777 == 0o600
    assert os.listdir(path.parent) == [NAME]
    history.add("one more")
    assert len(history.lines) == MOST_LINES


def test_what_is_no_text_for_a_terminal_is_left_out(path: Path) -> None:
    path.parent.mkdir(parents=True)
    path.write_bytes(b"one\n\x1b[2J\n\xff\nunfinished")
    assert History(str(path)).lines == ["one", "\ufffd"]


@pytest.mark.parametrize("what", ["folder", "pipe", "link", "file above"])
def test_what_goes_wrong_is_told_and_stops_nothing(what: str, path: Path, tmp_path: Path) -> None:
    if what == "file above":
        path.parent.parent.write_text("")
    else:
        path.parent.mkdir(parents=True)
    if what == "folder":
        path.mkdir()
    elif what == "pipe":
        os.mkfifo(path)
    elif what == "link":
        path.symlink_to(tmp_path / "elsewhere")
    history = History(str(path))
    history.add("one")
    history.add("two")
    assert history.lines == ["one", "two"]
    assert str(path) in history.trouble
    assert not (tmp_path / "elsewhere").exists()


def test_without_a_place_it_lasts_as_long_as_the_session() -> None:
    history = History("")
    history.add("one")
    assert (history.lines, history.trouble) == (["one"], "")
