"""The file with the process id: whose it is, is known by its lock, and nobody else's is ever touched."""

import errno
import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from paceline.errors import HostError
from paceline.host import pidfile
from paceline.host.pidfile import PidFile, adopt, claim
from testbed import UNPRIVILEGED

pytestmark = pytest.mark.usefixtures("nothing_left")


@contextmanager
def claimed(path: Path) -> Iterator[PidFile]:
    made = claim(str(path))
    try:
        yield made
    finally:
        made.remove()


def refusal(path: Path) -> str:
    before = sorted(os.listdir(path.parent)) if path.parent.is_dir() else []
    with pytest.raises(HostError) as caught, claimed(path):
        pytest.fail("it must not get here")
    assert (sorted(os.listdir(path.parent)) if path.parent.is_dir() else []) == before
    words = str(caught.value)
    assert words.startswith(f"--pid {path}: ")
    assert "; " in words, "there is a remedy"
    return words


CLAIM = """
import os, sys
from paceline.errors import HostError
from paceline.host.pidfile import claim
try:
    made = claim(sys.argv[1])
except HostError as error:
    print(error, flush=True)
else:
    print(os.getpid(), flush=True)
    word = sys.stdin.readline().strip()
    if word == "remove":
        made.remove()
    elif word == "fork":
        if os.fork():
            os._exit(0)  # the child has all our descriptors, and lives on
        print(os.getpid(), flush=True)
        sys.stdin.readline()
    elif word == "exec":
        os.set_inheritable(made.fd, True)
        os.execv(sys.executable, [sys.executable, "-c", "import sys; print('next', flush=True); sys.stdin.readline()"])
"""


@contextmanager
def another(path: Path) -> Iterator["subprocess.Popen[str]"]:
    """Another process that has claimed the file; at the end it is killed."""
    words = [sys.executable, "-c", CLAIM, str(path)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            said = process.stdout.readline()
            assert said == f"{process.pid}\n", said
            yield process
        finally:
            process.kill()


def tell(process: "subprocess.Popen[str]", word: str) -> str:
    """The answer is its next line."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(word + "\n")
    process.stdin.flush()
    return process.stdout.readline()


def test_it_holds_our_number_and_goes_with_us(tmp_path: Path) -> None:
    with claimed(tmp_path / "p") as made:
        assert (tmp_path / "p").read_bytes() == b"%d\n" % os.getpid()
        assert (tmp_path / "p").stat().st_mode & 0o777 == 0o644 & ~_umask()
        assert os.listdir(tmp_path) == ["p"]
        assert not os.get_inheritable(made.fd)
    assert os.listdir(tmp_path) == []
    made.remove()  # once more is no error


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_a_relative_path_is_meant_from_where_we_were(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with claimed(Path("p")):
        monkeypatch.chdir("/")
    assert os.listdir(tmp_path) == []


def test_a_living_server_is_named(tmp_path: Path) -> None:
    with another(tmp_path / "p") as process:
        words = refusal(tmp_path / "p")
        assert f"belongs to a running server, process {process.pid}; stop that one, or choose another" in words
        assert (tmp_path / "p").read_text() == f"{process.pid}\n"


def test_a_dead_servers_file_is_replaced(tmp_path: Path) -> None:
    with another(tmp_path / "p") as process:
        process.kill()
        process.wait()
        with claimed(tmp_path / "p"):
            assert (tmp_path / "p").read_text() == f"{os.getpid()}\n"
    assert os.listdir(tmp_path) == []


def test_a_dead_server_whose_number_is_somebody_elses_now(tmp_path: Path) -> None:
    (tmp_path / "p").write_text(f"{os.getppid()}\n")
    os.utime(tmp_path / "p", (1.0, 1.0))  # long before that process began
    with claimed(tmp_path / "p"):
        assert (tmp_path / "p").read_text() == f"{os.getpid()}\n"


def test_a_server_that_does_not_lock_its_file_is_respected_while_it_lives(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL) as other:
        (tmp_path / "p").write_text(f"{other.pid}\n")
        assert f"belongs to a running server, process {other.pid};" in refusal(tmp_path / "p")
        other.communicate()
    with claimed(tmp_path / "p"):
        pass


@pytest.mark.parametrize("text", ["", "what?\n", "0\n", "-1\n", "1 2\n", "9" * 63, "\0\0\0", "99999999\n"])
def test_a_file_without_a_living_process_in_it_is_replaced(tmp_path: Path, text: str) -> None:
    (tmp_path / "p").write_text(text)
    with claimed(tmp_path / "p"):
        assert (tmp_path / "p").read_text() == f"{os.getpid()}\n"


def test_our_own_number_from_an_earlier_life_in_a_container(tmp_path: Path) -> None:
    (tmp_path / "p").write_text(f"{os.getpid()}\n")
    (tmp_path / f"p.{os.getpid()}").write_text("half")
    with claimed(tmp_path / "p"):
        assert os.listdir(tmp_path) == ["p"]


def test_forked_children_do_not_hold_it(tmp_path: Path) -> None:
    with another(tmp_path / "p") as process:
        child = int(tell(process, "fork"))
        process.wait()
        with claimed(tmp_path / "p"):
            assert (tmp_path / "p").read_text() == f"{os.getpid()}\n"
        os.kill(child, 9)


def test_an_exec_in_place_keeps_it(tmp_path: Path) -> None:
    with another(tmp_path / "p") as process:
        assert tell(process, "exec") == "next\n"
        assert f"process {process.pid};" in refusal(tmp_path / "p")


def test_what_was_kept_is_adopted_and_removed(tmp_path: Path) -> None:
    first = claim(str(tmp_path / "p"))
    os.set_inheritable(first.fd, True)
    again = adopt(str(tmp_path / "p"), first.fd)
    assert (again.device, again.inode, again.pid) == (first.device, first.inode, first.pid)
    assert not os.get_inheritable(again.fd)
    again.remove()
    assert os.listdir(tmp_path) == []


def test_a_successors_file_stays(tmp_path: Path) -> None:
    with claimed(tmp_path / "p"):
        (tmp_path / "p").unlink()
        (tmp_path / "p").write_text("4711\n")
    assert (tmp_path / "p").read_text() == "4711\n"


def test_a_child_does_not_remove_it(tmp_path: Path) -> None:
    with claimed(tmp_path / "p") as made:
        child = os.fork()
        if child == 0:
            made.remove()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        assert (tmp_path / "p").exists()


def test_what_is_no_file_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe")
    for name, sort in (("folder", "a folder"), ("link", "a symbolic link"), ("pipe", "a pipe")):
        assert f"{sort} of that name is in the way and is left alone; move it away" in refusal(tmp_path / name)


def test_a_missing_folder(tmp_path: Path) -> None:
    words = refusal(tmp_path / "no" / "p")
    assert "the file cannot be written: No such file or directory; make the folder first (mkdir -p; systemd:" in words


def test_a_folder_without_permission(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    words = [*UNPRIVILEGED, sys.executable, "-c", CLAIM, str(tmp_path / "p")]
    try:
        said = subprocess.run(words, capture_output=True, text=True, check=True, timeout=10).stdout
    finally:
        tmp_path.chmod(0o755)
    assert f"Permission denied; give the user (uid {os.getuid()}) the right to make files there" in said


def test_two_that_start_at_once(tmp_path: Path) -> None:
    """Many at the same dead file: one gets it, the others name it."""
    (tmp_path / "p").write_text("99999999\n")
    words = [sys.executable, "-c", CLAIM, str(tmp_path / "p")]
    processes = [subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(6)]
    said = []
    for process in processes:
        assert process.stdout is not None
        said.append(process.stdout.readline().strip())
    for process in processes:
        process.communicate("remove\n")
    won = [line for line in said if line.isdecimal()]
    assert len(won) == 1, said
    assert all(f"process {won[0]};" in line for line in said if line not in won), said
    assert os.listdir(tmp_path) == []


def test_a_file_system_without_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_from: str, _to: str) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    with claimed(tmp_path / "p"):
        assert os.listdir(tmp_path) == ["p"]
    (tmp_path / "p").write_text("99999999\n")
    with claimed(tmp_path / "p"):
        assert os.listdir(tmp_path) == ["p"]


def test_a_path_that_is_taken_again_and_again_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "p").write_text("99999999\n")
    monkeypatch.setattr(pidfile, "_replace_dead", lambda *_: False)
    assert "other processes keep writing this file" in refusal(tmp_path / "p")


def test_a_holder_that_cannot_be_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with another(tmp_path / "p"):
        monkeypatch.setattr(fcntl, "fcntl", lambda *_: pidfile._FLOCK.pack(fcntl.F_WRLCK, 0, 0, 0, 0))
        assert "a process that cannot be seen from here" in refusal(tmp_path / "p")


def test_one_that_may_not_be_removed_is_emptied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So it is after --user, in a folder of root's: its number may be somebody else's by then."""

    def refuse(path: str) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", path)

    path = tmp_path / "pid"
    made = pidfile.claim(str(path))
    with monkeypatch.context() as patched:
        patched.setattr(os, "unlink", refuse)
        made.remove()
    assert path.read_text() == ""
    with claimed(path):
        assert path.read_text() == f"{os.getpid()}\n"
