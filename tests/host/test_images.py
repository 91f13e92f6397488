"""Programs in place of this one, and beside it: what is kept, what is put back, and that no signal is lost or kills."""

import json
import os
import select
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from paceline.host import images, memory, processes
from testbed import COMMAND

pytestmark = pytest.mark.usefixtures("nothing_left")

PYTHON = COMMAND[0]

BEFORE = """
import json, os, signal, sys
from paceline.host import images, signals
config = json.loads(sys.argv[1])
reader, writer = signals.open_wakeup_pipe()
signals.install_wakeup_fd(writer)
signals.deliver_to_wakeup(signal.SIGHUP, signal.SIGTERM, signal.SIGUSR1)
kept = os.memfd_create("kept")
os.write(kept, b"kept")
print(os.getpid(), flush=True)
sys.stdin.readline()
environment = {**os.environ, "KEPT": str(kept), "READER": str(reader)}
try:
    images.execute(config["command"], environment, config["folder"], [kept], lambda: signals.take_received(reader))
except OSError as error:
    print(json.dumps({
        "error": error.strerror,
        "inheritable": os.get_inheritable(kept),
        "folder": os.getcwd(),
        "blocked": [int(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, ())],
        "received": sorted(set(signals.take_received(reader))),
    }), flush=True)
"""
"""A program that executes another one when a line arrives, having been sent signals that it has not looked at."""

AFTER = """
import json, os, signal, sys
from paceline.host import signals
blocked = len(signal.pthread_sigmask(signal.SIG_BLOCK, ()))
kept = int(os.environ["KEPT"])
print(json.dumps({
    "pid": os.getpid(), "kept": os.pread(kept, 9, 0).decode(), "folder": os.getcwd(), "blocked": blocked,
    "closed": not os.path.exists("/proc/self/fd/" + os.environ["READER"]),
}), flush=True)
sys.stdin.readline()
reader, writer = signals.open_wakeup_pipe()
signals.install_wakeup_fd(writer)
signals.deliver_to_wakeup(signal.SIGHUP, signal.SIGTERM, signal.SIGUSR1)
signals.unblock_all()
print(json.dumps({"received": sorted(set(signals.take_received(reader)))}), flush=True)
"""


class Program:
    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process

    def line(self) -> Any:
        assert self.process.stdout is not None
        text = self.process.stdout.readline()
        assert text, "it has ended"
        return json.loads(text)

    def go_on(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()


@contextmanager
def program(command: list[str], folder: Path) -> Iterator[Program]:
    config = json.dumps({"command": command, "folder": str(folder)})
    words = [PYTHON, "-c", BEFORE, config]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Program(process)
        finally:
            process.kill()


def test_the_process_stays_and_keeps_what_it_is_to_keep(tmp_path: Path) -> None:
    with program([PYTHON, "-c", AFTER], tmp_path) as running:
        pid = running.line()
        assert pid == running.process.pid
        running.go_on()
        after = running.line()
        assert (after["pid"], after["kept"], after["folder"], after["closed"]) == (pid, "kept", str(tmp_path), True)
        assert after["blocked"] >= 60, "all signals wait until the new program has handlers"


def test_signals_before_and_during_are_neither_lost_nor_deadly(tmp_path: Path) -> None:
    """By default each of these would end the program that has no handler for it yet."""
    with program([PYTHON, "-c", AFTER], tmp_path) as running:
        pid = running.line()
        os.kill(pid, signal.SIGUSR1)  # before: it waits in the pipe of the old program
        running.go_on()
        running.line()
        for _ in range(100):
            os.kill(pid, signal.SIGHUP)
        os.kill(pid, signal.SIGTERM)
        running.go_on()
        assert running.line() == {"received": sorted([signal.SIGHUP, signal.SIGTERM, signal.SIGUSR1])}
        assert running.process.wait(10) == 0


def test_a_storm_of_signals_does_not_end_it(tmp_path: Path) -> None:
    for _ in range(5):
        with program([PYTHON, "-c", AFTER], tmp_path) as running:
            pid = running.line()
            assert running.process.stdout is not None
            running.go_on()
            sent = 0
            poll = select.poll()
            poll.register(running.process.stdout, select.POLLIN)
            while not poll.poll(1):  # until the new program runs
                os.kill(pid, signal.SIGHUP)
                sent += 1
            assert running.line()["pid"] == pid
            assert sent > 0
            running.go_on()
            assert running.line()["received"] == [signal.SIGHUP]
            assert running.process.wait(10) == 0


@pytest.mark.parametrize(
    ("command", "error"),
    [("no/such", "No such file or directory"), ("/", "Permission denied"), ("text", "Exec format error")],
)
def test_what_cannot_be_executed_leaves_everything_as_it_was(tmp_path: Path, command: str, error: str) -> None:
    text = tmp_path / "text"
    text.write_text("no program")
    text.chmod(0o755)
    with program([str(text) if command == "text" else command], tmp_path) as running:
        pid = running.line()
        os.kill(pid, signal.SIGUSR1)
        running.go_on()
        assert running.line() == {
            "error": error,
            "inheritable": False,
            "folder": os.getcwd(),
            "blocked": [],
            "received": [signal.SIGUSR1],
        }


def test_a_folder_that_is_gone_leaves_everything_as_it_was(tmp_path: Path) -> None:
    with program([PYTHON], tmp_path / "gone") as running:
        running.line()
        running.go_on()
        assert running.line()["error"] == "No such file or directory"


# A child


def started(command: list[str], folder: Path, keep: list[int] | None = None) -> tuple[int, str]:
    """(exit code, what it wrote)."""
    output_fd = memory.create_growing("output")
    try:
        pid = images.start(command, {**os.environ, "A": "b"}, str(folder), output_fd, keep or [])
        status = processes.reap_soon(pid)
        return os.waitstatus_to_exitcode(status), memory.read(output_fd, 0, 10_000).decode()
    finally:
        os.close(output_fd)


SHOW = """
import os, signal, sys
print(os.getcwd(), os.environ["A"], os.getpgid(0) == os.getpid(), repr(sys.stdin.read()))
print([os.path.exists(f"/proc/self/fd/{fd}") for fd in sys.argv[1:]], file=sys.stderr)
print(len(signal.pthread_sigmask(signal.SIG_BLOCK, ())), signal.getsignal(signal.SIGTERM) is signal.SIG_DFL)
"""


def test_a_child_has_its_own_surroundings(tmp_path: Path) -> None:
    kept, other = os.memfd_create("kept"), os.memfd_create("other")
    code, said = started([PYTHON, "-uc", SHOW, str(kept), str(other)], tmp_path, [kept])
    os.close(kept)
    os.close(other)
    assert (code, said) == (0, f"{tmp_path} b True ''\n[True, False]\n0 True\n")


def test_a_child_that_cannot_be_executed_says_why(tmp_path: Path) -> None:
    assert started(["/no/such"], tmp_path) == (127, "/no/such: No such file or directory\n")
    assert started([PYTHON], tmp_path / "gone") == (127, f"{PYTHON}: No such file or directory\n")


def test_a_child_that_cannot_be_made(tmp_path: Path) -> None:
    def refuse() -> int:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    with pytest.raises(BlockingIOError):
        images.start([PYTHON], {}, str(tmp_path), 1, [], refuse)
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == set()
