"""The runtime folder: which one it is, what is refused, what is left there and what is cleared away."""

import json
import os
import signal
import socket
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from paceline.errors import HostError
from paceline.host import processes, runtime

pytestmark = pytest.mark.usefixtures("nothing_left")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(runtime.VARIABLE, str(tmp_path / "r"))
    return Path(runtime.folder())


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """No variable but those of the test, and a /run of its own, by a short path: it is one for sockets."""
    for name in (runtime.VARIABLE, "XDG_RUNTIME_DIR", "TMPDIR"):
        monkeypatch.delenv(name, raising=False)
    with tempfile.TemporaryDirectory(dir="/tmp") as above:
        monkeypatch.setattr(runtime, "_RUN", str(Path(above, "run", "paceline")))
        yield Path(above)


@pytest.fixture
def dead() -> int:
    """A number that nobody has any more."""
    pid = os.fork()
    if not pid:
        os._exit(0)
    processes.reap_soon(pid)
    return pid


@pytest.fixture
def child() -> Iterator[int]:
    """A process of ours that lives."""
    pid = os.fork()
    if not pid:
        while True:
            signal.pause()
    yield pid
    os.kill(pid, signal.SIGKILL)
    processes.reap_soon(pid)


def server(pid: int | None = None, **changes: Any) -> runtime.Running:
    pid = os.getpid() if pid is None else pid
    ticks = processes.start_ticks(pid) if os.path.exists(f"/proc/{pid}") else 7
    made = runtime.Running(pid, ticks, None, f"/proc/{pid}/fd/5", ("127.0.0.1:1",), "app:f", 12.5, "1.0")
    return replace(made, **changes)


# The folder


def test_it_is_made_for_us_alone(folder: Path) -> None:
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert runtime.folder() == str(folder)
    assert runtime.candidates() == [str(folder)]


def test_others_may_not_write_there(folder: Path) -> None:
    folder.chmod(0o777)
    assert runtime.folder() == str(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_folder_that_a_service_manager_has_made_keeps_its_mode(folder: Path) -> None:
    folder.chmod(0o755)
    assert runtime.folder() == str(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o755


def test_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(runtime.VARIABLE, "off")
    assert runtime.is_off()
    assert runtime.candidates() == []
    assert runtime.running() == []
    with pytest.raises(HostError, match="PACELINE_RUNTIME_DIR is off"):
        runtime.folder()


def test_the_order(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(elsewhere / "user"))
    monkeypatch.setenv("TMPDIR", str(elsewhere / "tmp"))
    name = f"paceline-{os.geteuid()}"
    places = ["run/paceline", "user/paceline", f"tmp/{name}"]
    assert runtime.candidates() == [*(str(elsewhere / place) for place in places), f"/tmp/{name}"]
    for parent in ("run", "user", "tmp"):
        (elsewhere / parent).mkdir()
    is_root = os.geteuid() == 0
    assert runtime.folder() == str(elsewhere / places[0 if is_root else 1])
    (elsewhere / "run" / "paceline").mkdir(exist_ok=True)
    assert runtime.folder() == str(elsewhere / places[0]), "a service manager has made it for us"
    (elsewhere / "run" / "paceline").rmdir()
    (elsewhere / "run").rmdir()
    assert runtime.folder() == str(elsewhere / places[1])
    (elsewhere / "user" / "paceline").rmdir()
    (elsewhere / "user").rmdir()
    assert runtime.folder() == str(elsewhere / places[2])


def test_a_relative_folder_of_the_user_is_ignored(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", "user")
    assert not [path for path in runtime.candidates() if "user" in path]


def test_a_folder_too_long_for_sockets_is_passed_over(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = elsewhere / ("x" * 100)
    long.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(long))
    monkeypatch.setenv("TMPDIR", str(elsewhere))
    assert runtime.folder() == str(elsewhere / f"paceline-{os.geteuid()}")
    monkeypatch.setenv(runtime.VARIABLE, str(long))
    with pytest.raises(HostError, match="at most 107; name a shorter one"):
        runtime.folder()


def test_what_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    remedy = f"name another folder with {runtime.VARIABLE}"
    place = tmp_path / "r"
    monkeypatch.setenv(runtime.VARIABLE, str(place))
    place.symlink_to(tmp_path)
    with pytest.raises(HostError, match=f"is a symbolic link, .* remove it, or {remedy}"):
        runtime.folder()
    place.unlink()
    place.write_text("")
    with pytest.raises(HostError, match=f"is no folder; remove it, or {remedy}"):
        runtime.folder()
    monkeypatch.setenv(runtime.VARIABLE, str(tmp_path / "no" / "such"))
    with pytest.raises(HostError, match=f"No such file or directory; {remedy}"):
        runtime.folder()


def test_a_folder_of_somebody_else_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: folder.stat().st_uid + 1)
    with pytest.raises(HostError, match=r"belongs to another user \(uid \d+, we are \d+\); have that user remove it"):
        runtime.folder()
    assert runtime.running() == []


# Files in it


def test_what_is_published_is_found_until_it_is_withdrawn(folder: Path) -> None:
    path = runtime.publish(server(), str(folder))
    assert path == str(folder / f"{os.getpid()}.json")
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert json.loads(Path(path).read_text())["version"] == 1
    assert runtime.running() == [server()]
    runtime.publish(server(addresses=("[::]:1", "unix:s"), words=("IPv4 and IPv6", "")), str(folder))
    assert runtime.running()[0].words == ("IPv4 and IPv6", "")
    runtime.publish(server(target="other"), str(folder))
    assert [found.target for found in runtime.running()] == ["other"]
    runtime.withdraw(path)
    assert os.listdir(folder) == []
    runtime.withdraw(path)


def test_only_ones_own_file_is_withdrawn(folder: Path, child: int) -> None:
    path = runtime.publish(server(child), str(folder))
    runtime.withdraw(path)
    assert os.path.exists(path)


def test_the_oldest_is_first(folder: Path, child: int) -> None:
    runtime.publish(server(started=9.0), str(folder))
    runtime.publish(server(child, started=3.0), str(folder))
    assert [found.pid for found in runtime.running()] == [child, os.getpid()]


def test_what_cannot_be_written(folder: Path) -> None:
    (folder / f"{os.getpid()}.json").mkdir()
    with pytest.raises(HostError, match="cannot be written: Is a directory"):
        runtime.publish(server(), str(folder))
    assert os.listdir(folder) == [f"{os.getpid()}.json"]


def test_what_the_dead_have_left_is_removed(folder: Path, dead: int, child: int) -> None:
    runtime.publish(server(dead), str(folder))
    runtime.publish(server(child, start_ticks=1), str(folder))  # the number was given to somebody else meanwhile
    (folder / f"{dead}.json.new").write_text("{")
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(folder / f"{dead}.sock"))
    left.close()
    (folder / "notes.txt").write_text("somebody's own")
    assert runtime.running() == []
    assert os.listdir(folder) == ["notes.txt"]


def test_a_socket_that_somebody_holds_stays(folder: Path, dead: int) -> None:
    with socket.socket(socket.AF_UNIX) as held:  # by a process of another namespace, say
        held.bind(str(folder / f"{dead}.sock"))
        held.listen()
        runtime.sweep(str(folder))
        assert os.listdir(folder) == [f"{dead}.sock"]


def test_a_server_that_is_dead_and_not_yet_reaped_is_dead(folder: Path) -> None:
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(writer)
        os.read(reader, 1)
        os._exit(0)
    runtime.publish(server(pid), str(folder))
    assert [found.pid for found in runtime.running()] == [pid]
    os.close(reader)
    os.close(writer)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert runtime.running() == []
    processes.reap_soon(pid)


def test_other_process_namespaces_are_none_of_our_business(folder: Path, dead: int) -> None:
    path = Path(runtime.publish(server(dead), str(folder)))
    path.write_text(json.dumps({**json.loads(path.read_text()), "namespace": 1}))
    assert runtime.running() == []
    assert path.exists()


def test_one_that_an_older_server_has_written_is_read(folder: Path) -> None:
    path = Path(runtime.publish(server(), str(folder)))
    record = json.loads(path.read_text())
    for words in (None, "IPv4", [1, "IPv4 and IPv6"]):
        path.write_text(json.dumps({name: value for name, value in record.items() if name != "words"}))
        if words is not None:
            path.write_text(json.dumps({**record, "words": words}))
        (found,) = runtime.running()
        assert found.addresses == ("127.0.0.1:1",)
        assert found.words == (("IPv4 and IPv6",) if isinstance(words, list) else ())


REST = '"board": "", "addresses": [], "target": "", "started": 1, "paceline": ""}'


@pytest.mark.parametrize(
    "text",
    [
        "", "null", "[]", "{", "[" * 100_000, '"\\ud800"', "{}", '{"pid": 1}', "\0" * 10,
        '{"pid": true, "start_ticks": 1, "control": null, ' + REST,
        '{"pid": 1, "start_ticks": 1, "control": 5, ' + REST,
    ],
)  # fmt: skip
def test_what_is_no_such_file_is_left_alone(folder: Path, text: str) -> None:
    path = folder / "4711.json"
    path.write_text(text)
    assert runtime.running() == []
    assert path.exists()


def test_files_that_are_none(folder: Path) -> None:
    (folder / "1.json").symlink_to("/etc/passwd")
    os.mkfifo(folder / "2.json")
    (folder / "3.json").mkdir()
    assert runtime.running() == []


def test_a_later_version_of_the_file_is_understood(folder: Path) -> None:
    path = Path(runtime.publish(server(), str(folder)))
    path.write_text(json.dumps({**json.loads(path.read_text()), "version": 2, "colour": "green"}))
    assert runtime.running() == [server()]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to somebody else")
def test_a_file_of_another_user_about_our_process_is_not_believed(folder: Path, child: int) -> None:
    path = runtime.publish(server(child), str(folder))
    os.chown(path, 12345, 12345)
    assert runtime.running() == []


def test_the_path_of_the_socket(folder: Path) -> None:
    assert runtime.control_path(str(folder)) == f"{folder}/{os.getpid()}.sock"


# Folders that root makes for the users of its servers

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to somebody else")


@as_root
def test_a_folder_for_another_user(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (elsewhere / "run").mkdir()
    own = elsewhere / "run" / "paceline-1234"
    assert str(own) not in runtime.candidates()
    runtime.make_for(1234, 2345)
    found = own.stat()
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (1234, 2345, 0o700)
    assert runtime.candidates()[1] == str(own), "root looks there, too"
    (elsewhere / "run" / "paceline-99").mkdir()
    (elsewhere / "run" / "paceline-of-somebody").mkdir()
    assert runtime.folder() == str(elsewhere / "run" / "paceline")
    monkeypatch.setattr(os, "geteuid", lambda: 1234)
    assert runtime.candidates()[:2] == [str(elsewhere / "run" / "paceline"), str(own)]
    assert runtime.folder() == str(own)


@as_root
def test_the_folder_that_is_named(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(runtime.VARIABLE, str(elsewhere / "named"))
    runtime.make_for(1234, 2345)
    assert (elsewhere / "named").stat().st_uid == 1234
    runtime.make_for(4321, 2345)
    assert (elsewhere / "named").stat().st_uid == 1234, "it was there"
    monkeypatch.setenv(runtime.VARIABLE, "off")
    runtime.make_for(1234, 2345)
    monkeypatch.setenv(runtime.VARIABLE, str(elsewhere / "no" / "such"))
    runtime.make_for(1234, 2345)
    assert sorted(os.listdir(elsewhere)) == ["named"]


@as_root
def test_what_a_service_manager_has_made_for_that_user_is_enough(elsewhere: Path) -> None:
    (elsewhere / "run" / "paceline").mkdir(parents=True)
    os.chown(elsewhere / "run" / "paceline", 1234, 2345)
    runtime.make_for(1234, 2345)
    assert os.listdir(elsewhere / "run") == ["paceline"]


@as_root
def test_root_finds_a_server_of_another_user(elsewhere: Path, child: int) -> None:
    (elsewhere / "run").mkdir()
    runtime.make_for(0, 0)
    own = elsewhere / "run" / "paceline-0"
    runtime.publish(server(child), str(own))
    assert [found.pid for found in runtime.running()] == [child]
