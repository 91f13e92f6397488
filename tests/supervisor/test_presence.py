"""How a server is found: what is opened, published, left to the next program, and said when it cannot be."""

import os
import stat
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from paceline import __version__
from paceline.errors import HostError
from paceline.host import runtime
from paceline.host.rights import Account
from paceline.supervisor.presence import Presence, open_presence

pytestmark = pytest.mark.usefixtures("nothing_left")

Said = list[tuple[str, dict[str, Any]]]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(runtime.VARIABLE, str(tmp_path / "r"))
    return tmp_path / "r"


def opened(control: str | None, left: Any = None, said: Said | None = None) -> Presence:
    lines = [] if said is None else said
    return open_presence(control, left, lambda event, **fields: lines.append((event, fields)), 12.0)


def test_auto(folder: Path) -> None:
    said: Said = []
    presence = opened("auto", None, said)
    pid = os.getpid()
    assert presence.path == str(folder / f"{pid}.sock")
    assert stat.S_IMODE(os.stat(presence.path).st_mode) == 0o600
    assert presence.fds() == [presence.listener.fileno()] if presence.listener else False
    assert runtime.running() == [], "it is not published before it listens"
    presence.publish(9, ["127.0.0.1:1"], "echo")
    (found,) = runtime.running()
    assert (found.pid, found.control, found.board) == (pid, presence.path, f"/proc/{pid}/fd/9")
    assert (found.addresses, found.target, found.started) == (("127.0.0.1:1",), "echo", 12.0)
    assert found.paceline == __version__
    presence.close()
    presence.close()
    assert os.listdir(folder) == []
    assert said == []


@pytest.mark.parametrize("umask", [0o000, 0o027, 0o377])
def test_the_umask_is_not_touched_and_makes_no_difference(
    folder: Path, monkeypatch: pytest.MonkeyPatch, umask: int
) -> None:
    """It is that of all threads; another one may be making a file just now."""
    folder.mkdir(mode=0o700)
    before = os.umask(umask)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(os, "umask", lambda _: pytest.fail("it was touched"))
            presence = opened("auto")
            assert presence.path is not None
            assert stat.S_IMODE(os.stat(presence.path).st_mode) == 0o600
            presence.close()
            with pytest.raises(HostError):
                opened(str(folder / "no" / "such"))
        assert os.umask(umask) == umask
    finally:
        os.umask(before)


def test_off(folder: Path) -> None:
    presence = opened(None)
    assert (presence.path, presence.fds()) == (None, [])
    presence.publish(9, [], "echo")
    assert [found.control for found in runtime.running()] == [None]
    presence.close()


def test_a_path_of_ones_own(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for text in ("c", "unix:c"):
        presence = opened(text)
        assert presence.path == str(tmp_path / "c")
        presence.close()
        assert not os.path.exists(tmp_path / "c")
    (tmp_path / "c").write_text("somebody's own")
    with pytest.raises(HostError, match=r"--control .*/c: a file of that name is in the way"):
        opened("c")


def test_what_is_lost_is_said_once(folder: Path, tmp_path: Path) -> None:
    folder.write_text("")
    cases = {
        "auto": "cannot find and reach this server",
        str(tmp_path / "c"): f"cannot find this server by itself (it answers at {tmp_path}/c)",
        None: "cannot find this server",
    }
    for setting, lost in cases.items():
        said: Said = []
        presence = opened(setting, None, said)
        presence.publish(9, [], "echo")
        presence.close()
        ((event, fields),) = said
        assert (event, fields["lost"]) == ("control-lost", lost)
        assert "is no folder" in fields["why"]


def test_a_socket_that_cannot_be_made(folder: Path) -> None:
    runtime.folder()
    (folder / f"{os.getpid()}.sock").write_text("")
    said: Said = []
    presence = opened("auto", None, said)
    presence.publish(9, [], "echo")
    assert [found.control for found in runtime.running()] == [None]
    presence.close()
    ((_, fields),) = said
    assert fields["lost"] == "can find and watch this server, but not reach it"
    assert "a file of that name is in the way" in fields["why"]


def test_a_file_that_cannot_be_written(folder: Path) -> None:
    said: Said = []
    presence = opened("auto", None, said)
    (folder / f"{os.getpid()}.json").mkdir()
    presence.publish(9, [], "echo")
    ((_, fields),) = said
    assert fields["lost"].startswith("cannot find this server by itself (it answers at ")
    presence.close()


def test_off_by_variable_is_no_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(runtime.VARIABLE, "off")
    said: Said = []
    presence = opened("auto", None, said)
    presence.publish(9, [], "echo")
    presence.close()
    assert said == []


def test_the_next_program_goes_on_with_it(folder: Path) -> None:
    presence = opened("auto")
    presence.publish(9, [], "echo")
    files = {file.role: file for file in presence.files_left()}
    assert presence.listener is not None
    presence.listener.detach()
    after = opened("auto", SimpleNamespace(file=files.get))
    assert after.path == presence.path
    assert after.fds() == [files["control"].fd]
    after.publish(9, ["a"], "other")
    assert [found.target for found in runtime.running()] == ["other"]
    after.close()
    assert os.listdir(folder) == []


def test_after_a_program_that_had_none_there_is_one(folder: Path) -> None:
    left = SimpleNamespace(file=lambda role: None)
    presence = opened("auto", left)
    assert presence.path == str(folder / f"{os.getpid()}.sock")
    presence.close()
    said: Said = []
    opened(str(folder / "no" / "such"), left, said).close()
    ((_, fields),) = said
    assert fields["lost"] == "can find and watch this server, but not reach it", "no error: it serves already"


def test_stale_files_are_cleared_away_by_whoever_starts(folder: Path) -> None:
    runtime.folder()
    pid = os.fork()
    if not pid:
        os._exit(0)
    os.waitpid(pid, 0)
    runtime.publish(runtime.Running(pid, 1, None, "", (), "", 0.0, ""), str(folder))
    presence = opened("auto")
    assert os.listdir(folder) == [f"{os.getpid()}.sock"]
    presence.close()


WHO = Account(1234, 2345, (2345,), "web")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to somebody else")
def test_a_named_socket_is_there_before_the_rights_are_given_up(folder: Path, tmp_path: Path) -> None:
    path, seen = tmp_path / "c", []
    presence = open_presence(
        str(path), None, lambda *_, **__: None, 12.0, WHO, lambda: seen.append((path.exists(), folder.exists()))
    )
    assert seen == [(True, False)], "the folder is the user's own business"
    assert (path.stat().st_uid, path.stat().st_gid, stat.S_IMODE(path.stat().st_mode)) == (1234, 2345, 0o600)
    assert presence.path == str(path)
    presence.close()
    assert not path.exists()


@pytest.mark.parametrize("control", [None, "auto"])
def test_what_nobody_named_is_made_afterwards(folder: Path, control: str | None) -> None:
    seen: list[bool] = []
    open_presence(control, None, lambda *_, **__: None, 12.0, WHO, lambda: seen.append(folder.exists())).close()
    assert seen == [False]


def test_a_named_socket_that_cannot_be_made_is_refused_before(folder: Path) -> None:
    with pytest.raises(HostError, match=r"^--control /no/such: the folder /no does not exist"):
        open_presence("/no/such", None, lambda *_, **__: None, 12.0, WHO, lambda: pytest.fail("too late"))


def test_when_the_rights_cannot_be_given_up_nothing_is_left(folder: Path, tmp_path: Path) -> None:
    def refuse() -> None:
        raise HostError("cannot become web")

    with pytest.raises(HostError, match="cannot become web"):
        open_presence("auto", None, lambda *_, **__: None, 12.0, None, refuse)
    assert os.listdir(tmp_path) == []
