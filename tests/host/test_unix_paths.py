"""Unix sockets: nothing of anybody else's is touched, and nothing of our own is left."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from paceline.host import unix_paths
from paceline.host.listeners import close_listener
from pathbed import dead_socket, opened, refusal
from testbed import UNPRIVILEGED

pytestmark = pytest.mark.usefixtures("nothing_left")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    assert len(str(tmp_path)) < 90, "the paths of this machine's temporary folders are too long for a socket"
    return tmp_path


def connects(path: Path | str) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        return True


def test_it_listens_and_its_file_goes_with_it(folder: Path) -> None:
    with opened(folder / "s") as listener:
        assert (listener.kind, listener.text) == ("unix", f"unix:{folder}/s")
        assert connects(folder / "s")
    assert os.listdir(folder) == []


def test_the_longest_path(folder: Path) -> None:
    longest = f"{folder}/{'x' * (unix_paths.PATH_BYTES - len(str(folder)) - 1)}"
    with opened(longest):
        assert connects(longest)
    words = refusal(longest + "x")
    assert "the path has 108 bytes, and a Unix socket's may have at most 107; choose a shorter one" in words


def test_bytes_count_not_characters(folder: Path) -> None:
    assert "the path has 120 bytes" in refusal("é" * 60)


@pytest.mark.parametrize("path", ["", "a\0b", "\0abstract"])
def test_no_path_at_all(path: str) -> None:
    assert "no path of a file" in refusal(path)


def test_a_path_is_removed_though_the_folder_was_left(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    with opened("s") as listener:
        assert listener.text == "unix:s"
        monkeypatch.chdir("/")
    assert os.listdir(folder) == []


def test_the_file_of_a_dead_server_is_replaced(folder: Path) -> None:
    dead_socket(folder / "s")
    assert not connects(folder / "s")
    with opened(folder / "s"):
        assert connects(folder / "s")
    assert os.listdir(folder) == []


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET])
def test_a_live_socket_is_never_touched_and_notices_nothing(folder: Path, kind: socket.SocketKind) -> None:
    with socket.socket(socket.AF_UNIX, kind) as live:
        live.bind(f"{folder}/s")
        before = os.lstat(folder / "s")
        assert "another of the addresses to be served is the same" in refusal(folder / "s")
        if kind != socket.SOCK_DGRAM:
            live.listen()
            refusal(folder / "s")
            live.setblocking(False)
            with pytest.raises(BlockingIOError):
                live.accept()  # there was no connection to test it
        after = os.lstat(folder / "s")
        assert (after.st_ino, after.st_ctime_ns) == (before.st_ino, before.st_ctime_ns)


def test_a_live_datagram_socket_that_talks_to_another(folder: Path) -> None:
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as live,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as far,
    ):
        live.bind(f"{folder}/s")
        far.bind(f"{folder}/far")
        live.connect(f"{folder}/far")
        refusal(folder / "s")
        assert (folder / "s").exists()


LISTEN = """
import socket, sys
listening = socket.socket(socket.AF_UNIX)
listening.bind(sys.argv[1])
if len(sys.argv) > 2:
    listening.listen()
print(flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("listens", [True, False])
def test_another_server_is_named(folder: Path, listens: bool) -> None:
    words = [sys.executable, "-c", LISTEN, f"{folder}/s", *["listen"] * listens]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        said = refusal(folder / "s")
        holder.communicate("")
    assert f"(pid {holder.pid}) serves there; stop that one, or choose another path" in said
    with opened(folder / "s"):  # now it is dead
        assert connects(folder / "s")


def test_a_server_whose_queue_is_full_is_alive(folder: Path) -> None:
    with socket.socket(socket.AF_UNIX) as live, socket.socket(socket.AF_UNIX) as client:
        live.bind(f"{folder}/s")
        live.listen(0)
        client.connect(f"{folder}/s")
        refusal(folder / "s")


def test_what_is_no_socket_is_left_alone(folder: Path) -> None:
    (folder / "file").write_text("precious")
    (folder / "folder").mkdir()
    (folder / "link").symlink_to("nowhere")
    os.mkfifo(folder / "pipe")
    for name, words in (
        ("file", "a file of that name"),
        ("folder", "a folder of that name"),
        ("link", "a symbolic link of that name"),
        ("pipe", "a pipe of that name"),
    ):
        assert f"{words} is in the way and is left alone; move it away" in refusal(folder / name)
    assert (folder / "file").read_text() == "precious"
    assert sorted(os.listdir(folder)) == ["file", "folder", "link", "pipe"]


def test_a_link_to_a_dead_socket_is_left_alone(folder: Path) -> None:
    dead_socket(folder / "dead")
    (folder / "s").symlink_to("dead")
    assert "a symbolic link" in refusal(folder / "s")
    assert sorted(os.listdir(folder)) == ["dead", "s"]


def test_a_missing_folder(folder: Path) -> None:
    assert f"the folder {folder}/no does not exist; make it first" in refusal(folder / "no" / "s")


def test_a_folder_that_is_none(folder: Path) -> None:
    (folder / "f").touch()
    assert f"{folder}/f is not a folder" in refusal(folder / "f" / "s")


OPEN = """
import sys
from paceline.addresses import Address
from paceline.errors import HostError
from paceline.host.listeners import open_listener
try:
    open_listener(Address("unix", path=sys.argv[1]), 0, 16, None)
except HostError as error:
    print(error)
"""


def unprivileged_refusal(path: Path) -> str:
    return subprocess.run(
        [*UNPRIVILEGED, sys.executable, "-c", OPEN, str(path)], capture_output=True, text=True, check=True, timeout=10
    ).stdout.strip()


def test_a_folder_without_permission(folder: Path) -> None:
    dead_socket(folder / "dead")
    folder.chmod(0o555)
    try:
        for name in ("new", "dead"):
            words = unprivileged_refusal(folder / name)
            assert words.startswith(
                f"cannot listen on unix:{folder}/{name}: the user (uid {os.getuid()}) may not make or"
            )
            assert "give it the right to, or choose another path" in words
    finally:
        folder.chmod(0o755)


def test_a_socket_that_may_not_be_asked(folder: Path) -> None:
    with socket.socket(socket.AF_UNIX) as live:
        live.bind(f"{folder}/s")
        (folder / "s").chmod(0)
        assert (
            "this user may not ask whether a server answers it; remove the file if none does"
            in unprivileged_refusal(folder / "s")
        )
        assert (folder / "s").exists()


def test_a_file_that_is_no_longer_ours_stays(folder: Path) -> None:
    with opened(folder / "s"):
        (folder / "s").unlink()
        successor = socket.socket(socket.AF_UNIX)
        successor.bind(f"{folder}/s")
    assert (folder / "s").exists()
    successor.close()
    with opened(folder / "s"):
        (folder / "s").unlink()  # closing what is gone is no error


def test_a_process_that_did_not_make_it_does_not_remove_it(folder: Path) -> None:
    with opened(folder / "s") as listener:
        child = os.fork()
        if child == 0:
            close_listener(listener)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        assert connects(folder / "s")


def test_a_failed_listen_leaves_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class NoListening(socket.socket):
        def listen(self, backlog: int = 0, /) -> None:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(socket, "socket", NoListening)
    assert "No space left on device (ENOSPC)" in refusal(folder / "s")
    assert os.listdir(folder) == []


# two servers at once


def test_one_that_finds_another_at_the_same_dead_file_gives_way(folder: Path) -> None:
    dead_socket(folder / "s")
    with unix_paths._sole_remover(os.lstat(folder / "s")):
        assert "another server is just starting there" in refusal(folder / "s")
    with opened(folder / "s"):
        assert connects(folder / "s")


def test_one_that_comes_too_late_does_not_remove_the_other(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other replaces the dead file between our look at it and our turn to remove it."""
    dead_socket(folder / "s")
    other: list[socket.socket] = []
    sole_remover = unix_paths._sole_remover

    @contextmanager
    def late(found: os.stat_result) -> Iterator[None]:
        if not other:
            other.append(socket.socket(socket.AF_UNIX))
            (folder / "s").unlink()
            other[0].bind(f"{folder}/s")
        with sole_remover(found):
            yield

    monkeypatch.setattr(unix_paths, "_sole_remover", late)
    refusal(folder / "s")
    other[0].listen()
    assert connects(folder / "s")
    other[0].close()


def test_one_that_finds_the_dead_file_gone_takes_its_place(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dead_socket(folder / "s")
    sole_remover = unix_paths._sole_remover

    @contextmanager
    def late(found: os.stat_result) -> Iterator[None]:
        (folder / "s").unlink()
        with sole_remover(found):
            yield

    monkeypatch.setattr(unix_paths, "_sole_remover", late)
    with opened(folder / "s"):
        assert connects(folder / "s")


def test_a_path_that_is_taken_again_and_again_is_given_up(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dead_socket(folder / "s")

    def gone(path: str) -> None:
        raise FileNotFoundError(path)

    monkeypatch.setattr(os, "lstat", gone)
    assert "other processes keep taking this path" in refusal(folder / "s")


# replacing a dead one in one step


LOOK = """
import errno, os, socket, sys
path, stop = sys.argv[1:]
found = set()
print(flush=True)
while not os.path.exists(stop):
    with socket.socket(socket.AF_UNIX) as client:
        found.add(errno.errorcode.get(client.connect_ex(path), "served"))
print(*sorted(found))
"""


def test_who_connects_meanwhile_never_finds_the_path_missing(folder: Path) -> None:
    dead_socket(folder / "s")
    words = [sys.executable, "-c", LOOK, f"{folder}/s", f"{folder}/stop"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as client:
        assert client.stdout is not None
        client.stdout.readline()
        for _ in range(100):
            with opened(folder / "s") as listener:
                assert listener.text == f"unix:{folder}/s"
                dead_socket(folder / "dead")
                os.rename(folder / "dead", folder / "s")  # it dies as if by SIGKILL, but for the rest of this test
        (folder / "stop").touch()
        said = client.communicate()[0].split()
    assert {"ECONNREFUSED"} <= set(said) <= {"ECONNREFUSED", "served"}
    assert sorted(os.listdir(folder)) == ["s", "stop"]


def test_the_replacement_is_ours_and_goes_with_us(folder: Path) -> None:
    dead_socket(folder / "s")
    with opened(folder / "s"):
        assert connects(folder / "s")
        assert os.listdir(folder) == ["s"]
        assert "another of the addresses to be served is the same" in refusal(folder / "s")
    assert os.listdir(folder) == []


def test_what_died_beside_the_path_is_cleared_away(folder: Path) -> None:
    dead_socket(folder / "s")
    dead_socket(folder / "s.new")
    with opened(folder / "s"):
        assert os.listdir(folder) == ["s"]


@pytest.mark.parametrize("kind", ["file", "live", "too long"])
def test_where_the_place_beside_cannot_be_had_the_dead_file_is_removed_first(folder: Path, kind: str) -> None:
    path = folder / "s"
    if kind == "too long":
        path = folder / ("x" * (unix_paths.PATH_BYTES - len(str(folder)) - 1))
    dead_socket(path)
    with socket.socket(socket.AF_UNIX) as live:
        if kind == "live":
            live.bind(f"{folder}/s.new")
        elif kind == "file":
            (folder / "s.new").write_text("precious")
        with opened(path):
            assert connects(path)
    assert [name for name in os.listdir(folder) if name != "s.new"] == []
    assert (folder / "s.new").exists() is (kind != "too long")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to somebody else")
def test_a_socket_is_given_to_a_user_and_what_replaced_it_is_not(folder: Path) -> None:
    path = folder / "s"
    with opened(path) as listener:
        assert listener.made is not None
        listener.made.give_to(1234, 2345)
        assert (path.lstat().st_uid, path.lstat().st_gid) == (1234, 2345)
        path.rename(folder / "moved")
        (folder / "victim").touch()
        path.symlink_to(folder / "victim")
        listener.made.give_to(4321, 4321)
        assert path.lstat().st_uid == (folder / "victim").stat().st_uid == 0
        path.unlink()
        os.link(folder / "victim", path)
        listener.made.give_to(4321, 4321)
        assert path.lstat().st_uid == 0
        path.unlink()
        (folder / "moved").unlink()
