"""An upgrade in place: the process, its connections and the files of its sockets stay, whatever is upgraded to."""

import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from asker import Asker
from leftovers import children_of, eventually, open_kinds, wait_gone
from testbed import COMMAND, Server, running

APP = """\
import os

def answer(message):
    if message == b"who":
        return b"%d" % os.getpid()
    return message
"""
LINES = ("--framing", "line", "--workers", "2")


def who(server: Server) -> bytes:
    with server.connect() as peer:
        peer.send(b"who\n")
        return peer.line()


def upgraded(server: Server, generation: int) -> None:
    """Ask for it, and wait until the new program's own workers serve."""
    since = server.log_length()
    server.send_signal(signal.SIGUSR2)
    server.wait_for_log("upgraded from Paceline", 30, since=since)
    server.wait_for_log(f"generation {generation} serves", 30, since=since)


def refused(server: Server) -> str:
    since = server.log_length()
    server.send_signal(signal.SIGUSR2)
    return server.wait_for_log("no upgrade: ", 30, since=since)


def test_everything_stays_but_the_program() -> None:
    with (
        running(
            "app.py:answer", *LINES, "--bind", "127.0.0.1:0", "--bind", "unix:s", "--pid", "p", files={"app.py": APP}
        ) as server,
        server.connect() as peer,
        server.connect("unix:s") as other,
    ):
        for client in (peer, other):
            client.send(b"half a ")
        before, file = server.pids(), os.lstat(server.folder / "s")
        upgraded(server, 2)
        for client in (peer, other):
            client.send(b"line\n")
            assert client.line() == b"half a line\n"
        eventually(lambda: len(server.pids()) == 2)
        assert not set(before) & set(server.pids())
        assert int(who(server)) in server.pids()
        assert (server.folder / "p").read_text() == f"{server.pid}\n"
        assert os.lstat(server.folder / "s").st_ino == file.st_ino
        eventually(lambda: server.log.count(" left after ") == 2)  # said when all that was theirs is given back
        fds = open_kinds(server.pid)
        upgraded(server, 3)
        upgraded(server, 4)
        eventually(lambda: len(server.pids()) == 2)
        eventually(lambda: open_kinds(server.pid) == fds)
        assert server.stop() == 0
        assert sorted(os.listdir(server.folder)) == ["app.py"]


BROKEN = {
    "syntax": "def answer(:\n",
    "import": "import no_such_module\n",
    "raises": "raise ValueError('boom')\n",
    "exits": "import os; os._exit(7)\n",
    "missing": "",
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_target_refuses_the_upgrade_and_harms_nobody(kind: str) -> None:
    with (
        running("app.py:answer", *LINES, files={"app.py": APP}) as server,
        server.connect() as peer,
    ):
        workers = server.pids()
        (server.folder / "app.py").write_text(BROKEN[kind])
        said = refused(server)
        assert "; the running version goes on, nothing has changed" in said
        if kind != "exits":
            server.wait_for_log({"syntax": "SyntaxError", "import": "No module named", "raises": "ValueError: boom", "missing": "answer"}[kind])  # noqa: E501  # fmt: skip
        peer.send(b"still here\n")
        assert peer.line() == b"still here\n"
        assert server.pids() == workers
        (server.folder / "app.py").write_text(APP)
        upgraded(server, 2)
        peer.send(b"and now\n")
        assert peer.line() == b"and now\n"


@contextmanager
def exchangeable(folder: Path) -> Iterator[tuple[Server, Path]]:
    """A server, and its Python, which can be exchanged: a link, as a virtual environment has it."""
    link = folder / "python"
    link.symlink_to(sys.executable)
    path = ":".join(place for place in sys.path if place)
    command = (str(link), *COMMAND[1:])
    with running("app.py:answer", *LINES, files={"app.py": APP}, command=command, env={"PYTHONPATH": path}) as server:
        yield server, link


def exchanged(link: Path, script: str | None) -> None:
    """Another program stands at its place: a script, or, None, Python again."""
    beside = link.with_name("beside")
    if script is None:
        beside.symlink_to(sys.executable)
    else:
        beside.write_text(script)
        beside.chmod(0o755)
    beside.rename(link)


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("#!/bin/sh\necho no libpython >&2; exit 127\n", "no libpython"),
        ("#!/no/such/interpreter\n", "No such file or directory"),
        ("", "Exec format error"),
    ],
)
def test_a_broken_interpreter_refuses_the_upgrade(tmp_path: Path, script: str, why: str) -> None:
    with exchangeable(tmp_path) as (server, link):
        workers = server.pids()
        exchanged(link, script)
        refused(server)
        server.wait_for_log(why)
        assert int(who(server)) in workers
        exchanged(link, None)
        upgraded(server, 2)


def test_a_setting_that_only_a_restart_changes_refuses_the_upgrade() -> None:
    config = "backlog = 100\nworkers = 1\nframing = 'line'\n"
    with running("app.py:answer", files={"app.py": APP, "paceline.toml": config}) as server:
        (server.folder / "paceline.toml").write_text(config.replace("100", "200"))
        refused(server)
        server.wait_for_log("backlog was 100 and is 200: only a restart can change that; take it back, or restart")
        (server.folder / "paceline.toml").write_text(config.replace("framing = 'line'", "framing = 'raw'"))
        upgraded(server, 2)
        with server.connect() as peer:
            peer.send(b"no line")
            assert peer.receive(7) == b"no line"


GOES_AWAY = """
import os

if os.path.exists("armed"):  # once it has been tried, the folder where the server was started is not there any more
    with open("armed") as names:
        os.rename(*names.read().split())
    os.unlink("armed")

"""


def test_files_are_watched_again_after_a_program_that_cannot_be_executed(tmp_path: Path) -> None:
    pytest.importorskip("watchfiles", reason="the extra `watch` is not installed")
    place = tmp_path / "place"
    place.mkdir()
    (place / "app.py").write_text(GOES_AWAY + APP)
    with running("app.py:answer", *LINES, "--dev", "--chdir", str(place)) as server, server.connect() as peer:
        aside = tmp_path / "aside"
        (place / "armed").write_text(f"{server.folder} {aside}")
        since = server.log_length()
        server.send_signal(signal.SIGUSR2)
        server.wait_for_log("cannot be executed: No such file or directory; the running", 30, since=since)
        aside.rename(server.folder)

        def is_seen() -> bool:
            (place / "next").write_text(APP)
            os.replace(place / "next", place / "app.py")
            return "app.py changed" in server.log

        eventually(is_seen)
        peer.send(b"still here\n")
        assert peer.line() == b"still here\n"


def test_a_storm_of_signals_during_the_upgrade_kills_nobody() -> None:
    with running("app.py:answer", *LINES, files={"app.py": APP}) as server, server.connect() as peer:
        stop = threading.Event()

        def storm() -> None:
            while not stop.wait(0.002):
                server.send_signal(signal.SIGHUP)
                server.send_signal(signal.SIGUSR1)

        thread = threading.Thread(target=storm)
        thread.start()
        try:
            for _ in range(2):
                since = server.log_length()
                server.send_signal(signal.SIGUSR2)
                server.wait_for_log("upgraded from Paceline", 30, since=since)
        finally:
            stop.set()
            thread.join()
        peer.send(b"still here\n")
        assert peer.line() == b"still here\n"
        assert server.stop() == 0


def test_a_signal_to_stop_during_the_upgrade_is_heard_afterwards() -> None:
    with running("app.py:answer", *LINES, files={"app.py": APP}) as server:
        server.send_signal(signal.SIGUSR2)
        server.wait_for_log("takes over in this process", 30)
        assert server.stop() == 0


def test_who_connects_meanwhile_never_finds_a_path_or_port_missing() -> None:
    with running("app.py:answer", *LINES, "--bind", "unix:s", files={"app.py": APP}) as server:
        stop, wrong = threading.Event(), []

        def knock() -> None:
            while not stop.is_set():
                with socket.socket(socket.AF_UNIX) as client:
                    client.settimeout(20)
                    try:
                        client.connect(f"{server.folder}/s")
                        client.sendall(b"x\n")
                        if client.recv(9) != b"x\n":
                            wrong.append("no answer")
                    except OSError as error:
                        wrong.append(repr(error))

        thread = threading.Thread(target=knock)
        thread.start()
        try:
            for generation in (2, 3):
                upgraded(server, generation)
        finally:
            stop.set()
            thread.join()
        assert wrong == []


def test_a_worker_that_dies_at_the_same_time_is_replaced() -> None:
    with running("app.py:answer", *LINES, files={"app.py": APP}) as server:
        server.send_signal(signal.SIGUSR2)
        server.wait_for_log("takes over in this process", 30)
        os.kill(server.pids()[0], signal.SIGKILL)
        server.wait_for_log("generation 2 serves", 30)
        eventually(lambda: len(server.pids()) == 2)
        assert int(who(server)) in server.pids()


def test_a_second_one_waits_for_its_turn() -> None:
    with running("app.py:answer", *LINES, files={"app.py": APP}) as server:
        server.send_signal(signal.SIGUSR2)
        server.wait_for_log("the new version is tried")
        children = len(children_of(server.pid))
        server.send_signal(signal.SIGUSR2)
        server.wait_for_log("generation 2 serves", 30)
        assert children == 3


def test_a_server_inside_a_program_of_its_own_cannot_be_executed_anew() -> None:
    program = "import paceline\npaceline.serve('app.py:answer', bind='127.0.0.1:0', workers=1)\n"
    command = (sys.executable, "-P", "-c", "import runpy, sys; runpy.run_path('main.py')")
    with running("app.py:answer", files={"app.py": APP, "main.py": program}, command=command) as server:
        assert "the server was started from Python code (paceline.serve)" in refused(server)
        assert who(server)


def test_the_variable_of_an_upgrade_means_nothing_to_others() -> None:
    from testbed import run_to_end

    ended = run_to_end("serve", "echo", env={"PACELINE_UPGRADE_FD": "77"})
    assert ended.code == 3
    assert "PACELINE_UPGRADE_FD=77: Bad file descriptor; Paceline sets it itself, in an upgrade; unset it" in ended.log


def test_the_number_of_workers_follows_the_file() -> None:
    files = {"app.py": APP, "paceline.toml": "workers = 1\n"}
    with running("app.py:answer", "--framing", "line", files=files) as server:
        (server.folder / "paceline.toml").write_text("workers = 3\n")
        upgraded(server, 2)
        eventually(lambda: len(server.pids()) == 3)
        server.send_signal(signal.SIGTTOU)
        eventually(lambda: len(server.pids()) == 2)
        upgraded(server, 3)
        server.wait_for_log("generation 3 serves")
        eventually(lambda: len(server.pids()) == 2)
        assert server.log.count(" from now on, before ") == 2, "who was scaled by hand stays so"


def test_more_workers_than_there_is_room_for_refuse_the_upgrade() -> None:
    files = {"app.py": APP, "paceline.toml": "workers = 1\n"}
    with running("app.py:answer", "--framing", "line", files=files) as server:
        workers = server.pids()
        (server.folder / "paceline.toml").write_text("workers = 1000\n")
        refused(server)
        server.wait_for_log("workers = 1000: there is room for ")
        assert server.pids() == workers


SLOW_PROGRAM = """#!/bin/sh
exec %s -c 'import os, time; open("tried", "x").close(); time.sleep(60)'
"""


def test_a_worker_that_starts_meanwhile_has_nothing_of_the_trial(tmp_path: Path) -> None:
    with exchangeable(tmp_path) as (server, link):
        old = server.pids()
        fds = open_kinds(old[1])
        exchanged(link, SLOW_PROGRAM % sys.executable)
        server.send_signal(signal.SIGUSR2)
        eventually(lambda: (server.folder / "tried").exists())
        os.kill(old[1], signal.SIGKILL)
        server.wait_for_log(f"(pid {old[1]}) was killed")
        eventually(lambda: len(server.pids()) == 3)
        (tried,) = [pid for pid in server.pids() if "time.sleep(60)" in _command(pid)]
        (new,) = set(server.pids()) - {tried, *old}
        eventually(lambda: open_kinds(new) == fds)


def test_a_stop_ends_the_trial_and_whoever_asked_for_it_hears_so(tmp_path: Path) -> None:
    with exchangeable(tmp_path) as (server, link), Asker.of(server) as asker:
        exchanged(link, SLOW_PROGRAM % sys.executable)
        asker.send(b'{"do": "upgrade"}\n')
        eventually(lambda: (server.folder / "tried").exists())
        server.send_signal(signal.SIGTERM)
        last = asker.answers()[-1]
        assert (last["ok"], last["text"]) == (False, "the server stops")
        assert server.wait() == 0


def test_nothing_of_a_trial_outlives_a_server_that_is_killed(tmp_path: Path) -> None:
    with exchangeable(tmp_path) as (server, link):
        exchanged(link, SLOW_PROGRAM % sys.executable)
        server.send_signal(signal.SIGUSR2)
        eventually(lambda: (server.folder / "tried").exists())
        server.send_signal(signal.SIGKILL)
        assert server.wait() == -signal.SIGKILL  # the rig sees to it that nobody is left


SLOW_APP = """
import time
open("tried", "x").close()
time.sleep(600)
"""


def test_nor_does_the_process_in_which_a_trial_imports() -> None:
    with running("app.py:answer", *LINES, files={"app.py": APP}) as server:
        (server.folder / "app.py").write_text(SLOW_APP)
        server.send_signal(signal.SIGUSR2)
        eventually(lambda: (server.folder / "tried").exists(), 20)
        (tried,) = [pid for pid in server.pids() if children_of(pid)]
        (importing,) = children_of(tried)
        server.send_signal(signal.SIGKILL)
        assert server.wait() == -signal.SIGKILL
        wait_gone([tried, importing])


def _command(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text()
