"""host/unix_paths.py: who may connect is as it was asked for from the first moment on, or nobody may."""

import errno
import os
import resource
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from paceline.host.unix_paths import FileRights
from pathbed import dead_socket, masked, opened, refusal
from testbed import UNPRIVILEGED

pytestmark = pytest.mark.usefixtures("nothing_left")

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to somebody else")
OTHERS = 4711
"""A user and a group that nobody is."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    assert len(str(tmp_path)) < 90, "the paths of this machine's temporary folders are too long for a socket"
    return tmp_path


def rights_of(path: Path | str) -> tuple[int, int, int]:
    found = os.lstat(path)
    return stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[int, int, int]]:
    """The rights of a socket's file: `bound`, just after bind(2), and `listens`, just before listen(2)."""
    found: dict[str, tuple[int, int, int]] = {}

    class Watched(socket.socket):
        def bind(self, address: object, /) -> None:
            super().bind(address)  # type: ignore[arg-type]
            if self.type == socket.SOCK_STREAM:
                assert isinstance(address, str)
                found["bound"] = rights_of(address)
                with socket.socket(socket.AF_UNIX) as client:
                    assert client.connect_ex(address) == errno.ECONNREFUSED, "root itself cannot connect yet"

        def listen(self, backlog: int = 0, /) -> None:
            found["listens"] = rights_of(self.getsockname())
            super().listen(backlog)

    monkeypatch.setattr(socket, "socket", Watched)
    return found


@pytest.fixture
def everybodys() -> Iterator[Path]:
    """A folder as /tmp is one: everybody may make files, and nobody may touch those of others."""
    made = Path(tempfile.mkdtemp(prefix="paceline-everybodys-"))
    made.chmod(0o1777)
    try:
        yield made
    finally:
        shutil.rmtree(made)


def as_somebody(work: Callable[[], None], uid: int = OTHERS, gid: int = OTHERS) -> int:
    """In a child that is this user and nothing else; its exit code."""
    return os.waitstatus_to_exitcode(os.waitpid(somebodys_child(work, uid, gid), 0)[1])


def somebodys_child(work: Callable[[], None], uid: int = OTHERS, gid: int = OTHERS) -> int:
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.setgroups([])
            os.setresgid(gid, gid, gid)
            os.setresuid(uid, uid, uid)
            work()
            code = 0
        except BaseException as error:  # noqa: BLE001
            print(repr(error), file=sys.stderr, flush=True)
        os._exit(code)
    return child


# the mode


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077, 0o777])
@pytest.mark.parametrize("mode", [0o600, 0o660, 0o666, 0o000, 0o777])
def test_the_mode_is_the_one_asked_for_and_never_more(
    folder: Path, seen: dict[str, tuple[int, int, int]], umask: int, mode: int
) -> None:
    with masked(umask), opened(folder / "s", FileRights(mode)):
        assert seen["bound"][0] == mode & ~umask
        assert seen["listens"][0] == rights_of(folder / "s")[0] == mode
        assert os.umask(umask) == umask, "it was not touched: it is that of all threads"
    assert os.listdir(folder) == []


def test_without_a_mode_the_umask_says_it(folder: Path) -> None:
    for umask in (0o022, 0o027, 0):
        with masked(umask), opened(folder / "s", FileRights()):
            assert rights_of(folder / "s")[0] == 0o777 & ~umask


def test_in_the_place_of_a_dead_one_it_has_its_own(folder: Path, seen: dict[str, tuple[int, int, int]]) -> None:
    """It listens before it is there, but not before it has its rights."""
    dead_socket(folder / "s", 0o777)
    with masked(0), opened(folder / "s", FileRights(0o640)):
        assert seen["bound"][0] == seen["listens"][0] == rights_of(folder / "s")[0] == 0o640
    dead_socket(folder / "s", 0o777)
    (folder / "s.new").touch()  # the dead one must be removed first
    with masked(0o077), opened(folder / "s", FileRights(0o640)):
        assert seen["bound"][0] == 0o600
        assert seen["listens"][0] == rights_of(folder / "s")[0] == 0o640
    assert os.listdir(folder) == ["s.new"]


def test_a_link_does_not_lead_the_mode_astray(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever may write to the folder puts a link to a file of ours in the place of what was just made."""
    victim = folder / "victim"
    victim.touch(0o600)
    lstat = os.lstat

    def quick(path: str) -> os.stat_result:
        found = lstat(path)
        if path == f"{folder}/s" and stat.S_ISSOCK(found.st_mode):
            os.rename(path, folder / "moved")
            os.symlink(victim, path)
        return found

    monkeypatch.setattr(os, "lstat", quick)
    with masked(0o077):
        assert "a symbolic link of that name is in the way" in refusal(folder / "s", FileRights(0o666))
    monkeypatch.undo()
    assert rights_of(victim)[0] == 0o600
    assert rights_of(folder / "moved")[0] == 0o600
    assert (folder / "s").is_symlink()


@pytest.mark.parametrize("what", ["gone", "a socket", "a second name"])
def test_another_file_at_the_path_is_looked_at_anew(folder: Path, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    """It happens once; the next try has its place to itself."""
    lstat, times = os.lstat, iter(range(10))

    def quick(path: str) -> os.stat_result:
        found = lstat(path)
        if path == f"{folder}/s" and stat.S_ISSOCK(found.st_mode) and next(times) == 0:
            if what == "a second name":
                os.link(path, folder / "second")
            else:
                os.unlink(path)
            if what == "a socket":
                dead_socket(folder / "s", 0o700)
        return found

    monkeypatch.setattr(os, "lstat", quick)
    with masked(0o077), opened(folder / "s", FileRights(0o666)) as listener:
        monkeypatch.undo()
        assert rights_of(folder / "s")[0] == 0o666
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(f"{folder}/s")
            listener.socket.accept()[0].close()
    if what == "a second name":
        assert rights_of(folder / "second")[0] == 0o600, "what has it is not given away"


def test_a_file_system_that_keeps_no_modes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "chmod", lambda *_: None)
    with masked(0o077):
        words = refusal(folder / "s", FileRights(0o660))
    assert f"it was to have mode 660, and has mode 600, uid {os.getuid()}, gid {os.getgid()}; choose a folder" in words
    assert os.listdir(folder) == []


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOENT, "that needs /proc, which is not there; mount it, or use --umask instead"),
        (errno.EPERM, "Operation not permitted (EPERM); a security policy of this machine forbids it"),
        (errno.EROFS, "Read-only file system (EROFS); choose another address"),
    ],
)
def test_a_mode_that_cannot_be_set(folder: Path, monkeypatch: pytest.MonkeyPatch, number: int, words: str) -> None:
    def failing(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "chmod", failing)
    with masked(0o077):
        said = refusal(folder / "s", FileRights(0o660))
    assert f"its file cannot be given the rights that were asked for (mode 660): {words}" in said
    assert os.listdir(folder) == []


@pytest.mark.parametrize("is_dead", [False, True])
def test_without_a_descriptor_to_spare_nothing_is_left(folder: Path, is_dead: bool) -> None:
    """One for the socket, one for the lock where something must be replaced; the one to hold the file by is missing."""
    if is_dead:
        dead_socket(folder / "s")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    os.close(free)
    with masked(0o077):
        for spare in range(3 if is_dead else 2):
            resource.setrlimit(resource.RLIMIT_NOFILE, (free + spare, hard))
            try:
                words = refusal(folder / "s", FileRights(0o660))
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            assert "raise the limit on open files (ulimit -n)" in words
            assert os.listdir(folder) == ["s"] * is_dead


# the owner


@as_root
def test_the_owner_is_another_before_anybody_can_connect(folder: Path, seen: dict[str, tuple[int, int, int]]) -> None:
    with masked(0o022), opened(folder / "s", FileRights(0o660, OTHERS, OTHERS + 1)):
        assert seen["bound"] == (0o640, 0, 0)
        assert seen["listens"] == rights_of(folder / "s") == (0o660, OTHERS, OTHERS + 1)
    assert os.listdir(folder) == []


@as_root
@pytest.mark.parametrize(
    ("rights", "after"),
    [(FileRights(uid=OTHERS), (OTHERS, 0)), (FileRights(gid=OTHERS), (0, OTHERS)), (FileRights(uid=0, gid=0), (0, 0))],
)
def test_one_of_both(folder: Path, rights: FileRights, after: tuple[int, int]) -> None:
    with masked(0o027), opened(folder / "s", rights):
        assert rights_of(folder / "s") == (0o750, *after)
    dead_socket(folder / "s")
    os.chown(folder / "s", OTHERS, OTHERS)  # as one that was killed left it
    with masked(0o027), opened(folder / "s", rights):
        assert rights_of(folder / "s") == (0o750, *after)


@as_root
def test_who_may_connect_is_who_was_asked_for(everybodys: Path) -> None:
    def tried(uid: int, gid: int) -> int:
        with socket.socket(socket.AF_UNIX) as client:
            return as_somebody(lambda: os._exit(client.connect_ex(f"{everybodys}/s")), uid, gid)

    with opened(everybodys / "s", FileRights(0o660, OTHERS, OTHERS + 1)):
        assert tried(OTHERS, 9) == 0
        assert tried(9, OTHERS + 1) == 0
        assert tried(9, 9) == errno.EACCES
    with opened(everybodys / "s", FileRights(0o606, OTHERS, OTHERS + 1)):
        assert tried(9, OTHERS + 1) == errno.EACCES
        assert tried(9, 9) == 0


@as_root
@pytest.mark.parametrize("is_dead", [False, True])
def test_who_may_not_connect_never_can_not_even_in_between(everybodys: Path, is_dead: bool) -> None:
    """Somebody tries all the time, while servers come and go that would be everybody's by their umask."""
    path, stop = everybodys / "s", everybodys / "stop"
    reading, writing = os.pipe()

    def look() -> None:
        found = set()
        os.write(writing, b"now ")
        while not stop.exists():
            with socket.socket(socket.AF_UNIX) as client:
                found.add(errno.errorcode.get(client.connect_ex(str(path)), "served"))
        os.write(writing, " ".join(found).encode())

    somebody = somebodys_child(look)
    try:
        assert os.read(reading, 4) == b"now "
        with masked(0):
            for _ in range(200):
                if is_dead:
                    dead_socket(path)
                with opened(path, FileRights(0o660, OTHERS + 1, OTHERS + 1)):
                    pass
    finally:
        stop.touch()
        assert os.waitstatus_to_exitcode(os.waitpid(somebody, 0)[1]) == 0
        os.close(writing)
        with open(reading) as said:
            found = set(said.read().split())
    assert found
    assert found <= {"ENOENT", "EACCES", "ECONNREFUSED"}


OPEN = """
import os, sys
from paceline.addresses import Address
from paceline.errors import HostError
from paceline.host.listeners import close_listener, open_listener
from paceline.host.unix_paths import FileRights
path, mode, uid, gid = sys.argv[1:5]
try:
    rights = FileRights(None if mode == "-" else int(mode, 8), int(uid), int(gid), f"{uid}:{gid}")
    listener = open_listener(Address("unix", path=path), 0, 16, None, rights)
except HostError as error:
    print(error)
else:
    found = os.stat(path)
    print(f"{found.st_mode & 0o7777:o} {found.st_uid} {found.st_gid}")
    close_listener(listener)
"""


def opened_without_capabilities(path: Path, mode: str, uid: int, gid: int) -> str:
    words = [*UNPRIVILEGED, sys.executable, "-c", OPEN, str(path), mode, str(uid), str(gid)]
    return subprocess.run(words, capture_output=True, text=True, check=True, timeout=20).stdout.strip()


def test_who_is_not_root_cannot_give_it_away(folder: Path) -> None:
    me, my_group = os.getuid(), os.getgid()
    said = opened_without_capabilities(folder / "s", "660", OTHERS, -1)
    assert "gives a file to another user, and this is the user (uid " in said
    assert "(mode 660, owner 4711:-1); start as root" not in said
    assert said.endswith("; start as root, name a group alone (--socket-owner :GROUP), or leave the owner out")
    said = opened_without_capabilities(folder / "s", "-", -1, OTHERS)
    assert f"the user (uid {me}) is not in that group, but in " in said
    assert said.endswith("gives a file to another one; start as root, or name one of these groups")
    assert os.listdir(folder) == []
    assert opened_without_capabilities(folder / "s", "660", me, my_group) == f"660 {me} {my_group}"
    assert os.listdir(folder) == []


def test_a_number_that_a_container_does_not_know(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: object) -> None:
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(os, "chown", failing)
    words = refusal(folder / "s", FileRights(uid=OTHERS, owner="www-data"))
    assert "asked for (owner www-data): no such number is known here; in a container, its user namespace must" in words
    assert os.listdir(folder) == []


# folders of others


@as_root
@pytest.mark.parametrize("mode", [0o777, 0o700])
def test_the_dead_socket_of_another_in_a_folder_of_everybodys_is_left_alone(everybodys: Path, mode: int) -> None:
    dead_socket(everybodys / "s", mode)
    before = os.lstat(everybodys / "s")

    def work() -> None:
        words = refusal(everybodys / "s", FileRights(0o666))
        why = "may not make or replace files in the folder" if mode & 0o002 else "may not ask whether a server answers"
        assert why in words, words

    assert as_somebody(work) == 0
    assert os.lstat(everybodys / "s") == before
    assert os.listdir(everybodys) == ["s"]


@as_root
def test_one_of_our_own_there_is_replaced(everybodys: Path) -> None:
    def work() -> None:
        dead_socket(everybodys / "s")
        with opened(everybodys / "s", FileRights(0o666)):
            assert rights_of(everybodys / "s") == (0o666, OTHERS, OTHERS)

    assert as_somebody(work) == 0
    assert os.listdir(everybodys) == []


@as_root
def test_one_that_others_put_there_is_not_given_away(everybodys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root makes a socket where somebody else may rename what it made: it is never that one's file that changes."""
    everybodys.chmod(0o777)  # not sticky: a mistake of whoever made it
    lstat = os.lstat

    def quick(path: str) -> os.stat_result:
        found = lstat(path)
        if path == f"{everybodys}/s" and stat.S_ISSOCK(found.st_mode) and found.st_uid == 0:

            def work() -> None:
                os.rename(path, f"{path}.moved")
                dead_socket(Path(path))

            assert as_somebody(work) == 0
        return found

    monkeypatch.setattr(os, "lstat", quick)
    with masked(0o022), opened(everybodys / "s", FileRights(0o666, 0, 0)):
        pass
    monkeypatch.undo()
    assert rights_of(everybodys / "s.moved")[1:] == (0, 0)
