"""Which server is meant: the one that runs, the one that was named; and what is said when there is none, or several."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from controlbed import answering, short_folder
from paceline.ctl import finding
from paceline.ctl.finding import NoServerError, Server, find, open_board, servers
from paceline.errors import HostError, UsageError
from paceline.host import processes, runtime
from paceline.scoreboard.board import Board

pytestmark = pytest.mark.usefixtures("nothing_left")

NONE: dict[str, str] = {}
"""An environment."""

HAS_A_BOARD = """
import sys
from paceline.scoreboard.board import Board
board = Board.create(2, 2)
print(flush=True)
sys.stdin.read()
board.close()
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The runtime folder."""
    place = tmp_path / "run"
    place.mkdir(0o700)
    monkeypatch.setenv(runtime.VARIABLE, str(place))
    return place


@pytest.fixture
def cleanup() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def listed(folder: Path, pid: int, control: str | None = None, board: str = "") -> None:
    place = (f"127.0.0.1:{pid}",)
    ticks = processes.start_ticks(pid)
    runtime.publish(runtime.Running(pid, ticks, control, board, place, "app:f", float(pid), "1.0"), str(folder))


def process(cleanup: ExitStack, *words: str, fds: tuple[int, ...] = ()) -> int:
    """One that ends with its standard input."""
    made = cleanup.enter_context(
        subprocess.Popen(words or ("cat",), stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=fds)
    )
    if words:
        assert made.stdout
        assert made.stdout.readline() == b"\n"
    return made.pid


def with_a_board(cleanup: ExitStack) -> int:
    return process(cleanup, sys.executable, "-c", HAS_A_BOARD)


# Without a word


def test_the_one_that_runs_is_meant(folder: Path) -> None:
    listed(folder, os.getpid(), "/x/s")
    found = find(None, None, NONE)
    assert found == Server(
        os.getpid(), "/x/s", "", (f"127.0.0.1:{os.getpid()}",), "app:f", float(os.getpid()), "1.0", is_listed=True
    )
    assert str(found) == f"127.0.0.1:{os.getpid()} · app:f"


def test_several_are_listed(folder: Path, cleanup: ExitStack) -> None:
    first, second = process(cleanup), process(cleanup)
    listed(folder, first)
    listed(folder, second)
    with pytest.raises(UsageError) as error:
        find(None, None, NONE)
    assert str(error.value).splitlines() == [
        "2 servers run; say which one is meant:",
        f"  --pid {first}  127.0.0.1:{first} · app:f",
        f"  --pid {second}  127.0.0.1:{second} · app:f",
    ]


@pytest.mark.usefixtures("folder")
def test_that_there_is_none_is_said_with_the_place(folder: Path) -> None:
    with pytest.raises(NoServerError, match=f"no server of this user .*{folder}.*start one with paceline serve"):
        find(None, None, NONE)
    assert NoServerError.exit_code == 3


def test_with_the_folder_off_nobody_is_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(runtime.VARIABLE, "off")
    with pytest.raises(NoServerError, match="is off, so no server is looked for"):
        find(None, None, NONE)


def test_without_a_file_a_server_is_found_by_its_scoreboard(
    cleanup: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(runtime.VARIABLE, raising=False)
    monkeypatch.setattr(runtime, "running", list)
    pid = with_a_board(cleanup)
    assert Server(pid, None) in servers()
    with_no_file = next(server for server in servers() if server.pid == pid)
    board = cleanup.enter_context(closing(open_board(with_no_file)))
    assert board.layout.seats == 2


# By its number


def test_a_number_names_a_listed_server(folder: Path, cleanup: ExitStack) -> None:
    pid = process(cleanup)
    listed(folder, os.getpid())
    listed(folder, pid)
    assert find(None, pid, NONE).is_listed


@pytest.mark.usefixtures("folder")
def test_a_number_names_one_that_is_not_listed(cleanup: ExitStack) -> None:
    pid = with_a_board(cleanup)
    assert find(None, pid, NONE) == Server(pid, None)


@pytest.mark.usefixtures("folder")
def test_a_worker_is_no_server(cleanup: ExitStack) -> None:
    board = cleanup.enter_context(closing(Board.create(2, 2)))
    worker = process(cleanup, fds=(board.fd,))
    with pytest.raises(UsageError, match=rf"is a worker; the server is its supervisor: --pid {os.getpid()}"):
        find(None, worker, NONE)


def test_a_number_of_nobody_is_told_with_those_there_are(folder: Path, cleanup: ExitStack) -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    listed(folder, os.getpid())
    with pytest.raises(NoServerError, match=rf"there is no process {gone.pid}; there is --pid {os.getpid()} \("):
        find(None, gone.pid, NONE)
    other = process(cleanup)
    with pytest.raises(NoServerError, match=f"process {other} is no server of Paceline"):
        find(None, other, NONE)


# By its socket


def test_a_socket_of_a_listed_server_names_it(folder: Path) -> None:
    listed(folder, os.getpid(), str(folder / "s"))
    assert find(str(folder / "s"), None, NONE).is_listed
    assert find(f"unix:{folder / 's'}", None, NONE).is_listed
    assert find(str(folder / ".." / "run" / "s"), None, NONE).is_listed


@pytest.mark.usefixtures("folder")
def test_the_kernel_tells_whose_another_socket_is() -> None:
    with answering() as server:
        assert find(server.path, None, NONE) == Server(os.getpid(), server.path)
    with answering() as server:
        assert find(None, None, {finding.VARIABLE: server.path}) == Server(os.getpid(), server.path)


@pytest.mark.parametrize("value", ["", "auto", "off"])
def test_a_setting_that_is_no_path_names_nobody(folder: Path, value: str) -> None:
    listed(folder, os.getpid())
    assert find(None, None, {finding.VARIABLE: value}).is_listed


@pytest.mark.usefixtures("folder")
def test_a_socket_of_nobody_is_told() -> None:
    with short_folder() as place:
        with pytest.raises(NoServerError, match=r"--control /.*/nothing: there is no such socket"):
            find(f"{place}/nothing", None, NONE)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as dead:
            dead.bind(f"{place}/dead")
        with pytest.raises(NoServerError, match="no server listens there any more"):
            find(f"{place}/dead", None, NONE)
        with pytest.raises(NoServerError, match=r"PACELINE_CONTROL /.*/nothing"):
            find(None, None, {finding.VARIABLE: f"{place}/nothing"})
        with pytest.raises(NoServerError, match="--control /"):
            find("x" * 200, None, NONE)


# Its scoreboard


@pytest.mark.usefixtures("folder")
def test_the_board_is_the_newest_unless_the_server_names_one(cleanup: ExitStack) -> None:
    boards = [Board.create(seats, 2, created_ns=at) for seats, at in ((3, 5), (4, 9), (5, 7))]
    for board in boards:
        cleanup.callback(board.close)
    pid = os.getpid()
    newest = cleanup.enter_context(closing(open_board(Server(pid, None))))
    assert newest.layout.seats == 4
    named = f"/proc/{pid}/fd/{boards[2].fd}"
    assert cleanup.enter_context(closing(open_board(Server(pid, None, named)))).layout.seats == 5
    wrong = f"/proc/{pid}/fd/0"
    assert cleanup.enter_context(closing(open_board(Server(pid, None, wrong)))).layout.seats == 4
    with pytest.raises(TypeError, match="read-only"):
        newest.words[0] = 1


def test_a_board_that_cannot_be_had_is_told(cleanup: ExitStack) -> None:
    with pytest.raises(NoServerError, match="has no scoreboard"):
        open_board(Server(process(cleanup), None))
    gone = subprocess.Popen(["true"])
    gone.wait()
    with pytest.raises(NoServerError, match="has just ended"):
        open_board(Server(gone.pid, None))
    with pytest.raises(HostError, match="in another process namespace"):
        open_board(Server(0, "/s"))
