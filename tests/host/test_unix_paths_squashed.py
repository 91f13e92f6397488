"""host/unix_paths.py: the file that was just made is another user's, or is another one by now.

A file system may give what one user makes to another (NFS with root_squash, mounts with uid=).  None can be had in a
test; here it is we who say that we are somebody else.
"""

import errno
import os
import socket
from pathlib import Path

import pytest

from paceline.host.unix_paths import AS_MADE, FileRights
from pathbed import dead_socket, opened, refusal

pytestmark = pytest.mark.usefixtures("nothing_left")

OTHERS = 4711
"""Who we say that we are."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    assert len(str(tmp_path)) < 90, "the paths of this machine's temporary folders are too long for a socket"
    return tmp_path


@pytest.fixture
def squashed(monkeypatch: pytest.MonkeyPatch) -> int:
    """Our uid, to which everything goes that we make as another user."""
    uid = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: OTHERS)
    return uid


@pytest.mark.parametrize("rights", [AS_MADE, FileRights(0o660)])
@pytest.mark.parametrize("is_dead", [False, True])
def test_where_what_we_make_is_another_users_it_is_said_and_nothing_left(
    folder: Path, squashed: int, is_dead: bool, rights: FileRights
) -> None:
    if is_dead:
        dead_socket(folder / "s")
    before = os.listdir(folder)
    words = refusal(folder / "s", rights)
    assert f"the file system of the folder {folder} gives what this user (uid {OTHERS}) makes to another" in words
    assert f"one (uid {squashed}), so nobody can say who may connect; choose a folder on another one" in words
    assert "remove" not in words
    assert os.listdir(folder) == before


def test_a_file_of_another_user_that_may_not_be_asked_is_left_alone(
    folder: Path, squashed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    class NoAsking(socket.socket):
        def connect(self, address: object, /) -> None:
            raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(socket, "socket", NoAsking)
    assert f"on another one; remove the file {folder}/s if no server answers there" in refusal(folder / "s")
    assert os.listdir(folder) == ["s"]


@pytest.mark.parametrize("what", ["gone", "alive", "a file"])
def test_what_a_quick_one_puts_in_its_place_is_not_touched(
    folder: Path, squashed: int, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    lstat, times = os.lstat, iter(range(10))

    def quick(path: str) -> os.stat_result:
        if path == f"{folder}/s" and next(times) == 0:
            os.unlink(path)
            if what == "alive":
                alive.bind(path)
            elif what == "a file":
                (folder / "s").write_text("precious")
        return lstat(path)

    with socket.socket(socket.AF_UNIX) as alive:
        monkeypatch.setattr(os, "lstat", quick)
        words = refusal(folder / "s")
        monkeypatch.setattr(os, "lstat", lstat)
        assert {
            "gone": "the file system of the folder",  # looked at anew, and then it is ours
            "alive": "another of the addresses to be served is the same",
            "a file": "a file of that name is in the way and is left alone",
        }[what] in words
        assert os.listdir(folder) == ["s"] * (what != "gone")


@pytest.mark.parametrize("often", [1, 2, 100])
def test_one_that_is_removed_as_soon_as_it_is_made_is_made_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch, often: int
) -> None:
    """The folder is there, and nobody says that it is not."""
    lstat, times = os.lstat, iter(range(often))

    def quick(path: str) -> os.stat_result:
        if os.path.exists(path) and next(times, None) is not None:
            os.unlink(path)
        return lstat(path)

    monkeypatch.setattr(os, "lstat", quick)
    if often == 100:
        assert "other processes keep taking this path" in refusal(folder / "s")
    else:
        with opened(folder / "s"):
            assert os.listdir(folder) == ["s"]
    assert os.listdir(folder) == []
