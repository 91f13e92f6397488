"""The log's file opened anew: whoever moves it away (logrotate) gets the rest in a new one, and nothing is lost.

Standard error of the tests themselves must not move, so each case is a process of its own.
"""

import os
import socket
import stat
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import IO, Any

import pytest

HEAD = """
import os, sys, threading
from paceline.host.output import Log, redirect_prints
log = Log("worker 0", debug=True)
"""


def run(script: str, stderr: "int | IO[Any] | socket.socket", **options: Any) -> bytes:
    """The script after `HEAD`; returns what it wrote to descriptor 3, which it is to close nothing but."""
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb") as pipe:
        process = subprocess.Popen(
            [sys.executable, "-c", HEAD + textwrap.dedent(script), str(writer)],
            stdin=subprocess.DEVNULL,
            stderr=stderr if not isinstance(stderr, socket.socket) else stderr.fileno(),
            pass_fds=[writer],
            **options,
        )
        os.close(writer)
        with process:
            said = pipe.read()
            assert process.wait(30) == 0
    return said


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "server.log"


def test_no_line_is_lost_or_torn_while_four_threads_log(file: Path) -> None:
    script = """
    redirect_prints(log)
    def work(number):
        for count in range(1000):
            log.say("setting-unknown", text=f"thread {number} says {count} end")
            print(f"thread {number} prints {count} end")
    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for turn in range(20):
        os.rename("server.log", f"server.log.{turn}")
        assert log.reopen()
    for thread in threads:
        thread.join()
    """
    with open(file, "wb") as log:
        run(script, log, cwd=file.parent)
    found = [file, *(Path(f"{file}.{turn}") for turn in range(20))]
    lines = [line for path in found for line in path.read_text().splitlines()]
    assert sum("the log goes on" in line for line in lines) == 20
    wanted = {
        f"thread {n} {verb} {count} end" for n in range(4) for verb in ("says", "prints") for count in range(1000)
    }
    assert len(lines) == 20 + len(wanted)
    assert {line.rpartition("worker 0: ")[2] for line in lines if line.endswith(" end")} == wanted


def test_children_and_c_code_write_to_the_new_file_and_the_old_is_let_go(file: Path) -> None:
    script = """
    import subprocess
    other = Log("supervisor")  # what a worker has inherited
    redirect_prints(log)
    os.rename("server.log", "old")
    log.reopen()
    os.write(2, b"C code\\n")
    subprocess.run(["sh", "-c", "echo to one; echo to two >&2"], check=True)
    other.say("drained") or other.say("supervisor-gone")
    links = [os.readlink(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd") if int(name) < 64
             and os.path.exists(f"/proc/self/fd/{name}")]
    assert not [link for link in links if link.endswith("old")], links
    """
    with open(file, "wb") as log:
        run(script, log, cwd=file.parent)
    assert not (file.parent / "old").read_text()
    text = file.read_text()
    for part in ("C code", "to one", "to two", "the supervisor is gone"):
        assert part in text


def test_the_path_is_that_of_the_beginning_also_in_a_child_made_after_the_move(file: Path) -> None:
    script = """
    os.rename("server.log", "server.log.1")
    pid = os.fork()
    if pid == 0:
        mine = Log("worker 1", debug=True)
        os._exit(0 if mine.reopen() else 1)
    assert os.waitpid(pid, 0)[1] == 0
    """
    with open(file, "wb") as log:
        run(script, log, cwd=file.parent)
    assert "worker 1: the log goes on in " in file.read_text()
    assert not Path(f"{file}.1").read_text()


def test_a_new_file_has_the_mode_of_the_old_one_and_one_that_is_there_keeps_its_own(file: Path) -> None:
    script = """
    os.umask(0o077)
    os.rename("server.log", "first")
    log.reopen()
    os.rename("server.log", "second")
    os.close(os.open("server.log", os.O_CREAT | os.O_WRONLY, 0o600))
    log.reopen()
    """
    with open(file, "wb") as log:
        os.fchmod(log.fileno(), 0o644)
        run(script, log, cwd=file.parent)
    assert stat.S_IMODE((file.parent / "second").stat().st_mode) == 0o644
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_what_was_there_already_is_kept(file: Path) -> None:
    """Another process of the server has opened the new file first."""
    script = """
    os.rename("server.log", "old")
    with open("server.log", "w") as other:
        other.write("of a sibling\\n")
    log.reopen()
    """
    with open(file, "wb") as log:
        run(script, log, cwd=file.parent)
    first, second = file.read_text().splitlines()
    assert first == "of a sibling"
    assert second.endswith(f"the log goes on in {file}")


def test_a_file_that_was_not_moved_goes_on(file: Path) -> None:
    with open(file, "wb") as log:
        run("log.reopen(); log.say('supervisor-gone')", log)
    assert len(file.read_text().splitlines()) == 2


def test_a_failure_is_said_where_the_log_was_and_changes_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    file = folder / "server.log"
    script = """
    os.rename("logs", "moved")
    assert not log.reopen()
    log.say("supervisor-gone")
    """
    with open(file, "wb") as log:
        run(script, log, cwd=tmp_path)
    failure, after = (tmp_path / "moved" / "server.log").read_text().splitlines()
    assert f"the log cannot go on in {file}: No such file or directory; it stays where it was" in failure
    assert "the supervisor is gone" in after


def test_a_pipe_that_has_taken_the_name_is_refused_without_waiting(file: Path) -> None:
    script = """
    os.rename("server.log", "old")
    os.mkfifo("server.log")
    log.reopen()
    """
    with open(file, "wb") as log:
        run(script, log, cwd=file.parent)
    assert "the log cannot go on in " in (file.parent / "old").read_text()


@pytest.mark.parametrize("kind", ["pipe", "socket", "null"])
def test_for_what_is_no_file_there_is_nothing_to_do(kind: str) -> None:
    ours, theirs = socket.socketpair() if kind == "socket" else (None, None)
    script = """
    before = os.readlink("/proc/self/fd/2")
    assert not log.reopen()
    assert os.readlink("/proc/self/fd/2") == before
    log.say("supervisor-gone")
    os.write(int(sys.argv[1]), b"done")
    """
    if ours is not None and theirs is not None:
        with ours, theirs:
            assert run(script, theirs) == b"done"
            assert b"standard error is not a regular file" in ours.recv(65536)
    else:
        assert run(script, subprocess.PIPE if kind == "pipe" else subprocess.DEVNULL) == b"done"


def test_a_file_that_was_deleted_before_the_start_is_made_again(file: Path) -> None:
    script = "log.reopen()"
    with open(file, "wb") as log:
        file.unlink()
        run(script, log)
    assert "the log goes on in " in file.read_text()
