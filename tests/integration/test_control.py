"""The control socket of real servers: each command, bad clients, and a server that is in trouble itself."""

import json
import os
import re
import signal
import socket
import stat
import time
from contextlib import suppress
from pathlib import Path

import pytest

import gates
from asker import Asker, found
from leftovers import children_of, eventually
from paceline.clock import now
from paceline.host import processes
from testbed import run_to_end, running

APP = """\
import os

def answer(message):
    return b"%d" % os.getpid()
"""
TWO = ("--framing", "line", "--workers", "2")


def fds_of(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def cpu_ticks(pid: int) -> int:
    """User and system time of a process."""
    line = Path(f"/proc/{pid}/stat").read_text()
    return sum(int(word) for word in line[line.rindex(")") + 2 :].split()[11:13])


# What can be asked


def test_the_server_is_found_and_answers() -> None:
    with running("app.py:answer", *TWO, "--bind", "127.0.0.1:0", "--bind", "unix:s", files={"app.py": APP}) as server:
        described = found(server)
        assert list(described.addresses) == server.places
        assert (described.target, described.start_ticks) == ("app.py:answer", processes.start_ticks(server.pid))
        assert abs(described.started - time.time()) < 60
        assert "paceline-scoreboard" in os.readlink(described.board)
        assert described.control is not None
        assert stat.S_IMODE(os.stat(described.control).st_mode) == 0o600
        with Asker.of(server) as asker:
            answer = asker.ask("ping")
            assert (answer["ok"], answer["pid"], answer["paceline"]) == (True, server.pid, described.paceline)
        folder = os.path.dirname(described.control)
        assert server.stop() == 0
        assert not [name for name in os.listdir(folder) if name.startswith(f"{server.pid}.")]


def test_reload() -> None:
    with running("app.py:answer", *TWO, files={"app.py": APP}) as server, Asker.of(server) as asker:
        before = set(server.pids())
        asker.send(b'{"do": "reload"}\n')
        *steps, last = asker.answers()
        assert last["ok"]
        assert last["text"].startswith("generation 2 serves, after ")
        assert [step["text"] for step in steps][:2] == ["generation 2 starts", "worker 0 of generation 2 is ready"]
        eventually(lambda: len(server.pids()) == 2)
        assert not before & set(server.pids())


def test_a_reload_of_broken_code_answers_with_the_users_traceback() -> None:
    with running("app.py:answer", *TWO, files={"app.py": APP}) as server, Asker.of(server) as asker:
        before = server.pids()
        (server.folder / "app.py").write_text("import no_such_module\n")
        last = asker.ask("reload")
        assert not last["ok"]
        assert last["text"].startswith("app.py:answer raised ModuleNotFoundError while it was loaded")
        assert last["text"].endswith("; generation 1 goes on, nothing has changed")
        assert 'app.py", line 1' in last["detail"]
        assert last["detail"].endswith("ModuleNotFoundError: No module named 'no_such_module'\n")
        assert server.pids() == before
        (server.folder / "paceline.toml").write_text("threads = 0\n")
        assert "paceline.toml: must be a whole number from 1" in asker.ask("reload")["text"]


def test_scale() -> None:
    with running("echo", *TWO) as server, Asker.of(server) as asker:
        assert asker.ask("scale", workers=3)["text"] == "3 workers, before 2"
        eventually(lambda: len(server.pids()) == 3)
        assert asker.ask("scale", by=-2)["text"] == "1 worker, before 3"
        eventually(lambda: len(server.pids()) == 1)
        refused = asker.ask("scale", workers=1000)
        assert not refused["ok"]
        assert "--max-workers" in refused["text"]
        server.wait_for_log(f"scale 3 is asked for on the control socket by process {os.getpid()} (uid {os.getuid()})")


def test_drain() -> None:
    with running("echo", *TWO) as server, Asker.of(server) as asker:
        before = server.pids()
        assert asker.ask("drain", slot=1)["ok"]
        eventually(lambda: len(server.pids()) == 2)
        assert len(set(before) & set(server.pids())) == 1
        assert asker.ask("drain", slot=7)["text"] == "there is no worker 7; there are 0 to 1"


def test_config_is_a_file_for_config() -> None:
    with running("echo", *TWO, "--timeout", "7s") as server, Asker.of(server) as asker:
        toml = asker.ask("config")["toml"]
        assert re.search(r'^timeout = "7s" +# set$', toml, re.MULTILINE)
        assert re.search(r"^threads = 64 +# default$", toml, re.MULTILINE)
        (server.folder / "again.toml").write_text(toml)
        ended = run_to_end("serve", "--config", str(server.folder / "again.toml"), "--check")
        assert ended.code == 0, ended.log


def test_config_shows_what_a_reload_has_changed() -> None:
    with running("echo", *TWO, files={"paceline.toml": "threads = 5\n"}) as server, Asker.of(server) as asker:
        assert "\nthreads = 5 " in asker.ask("config")["toml"]
        (server.folder / "paceline.toml").write_text("threads = 4\n")
        assert asker.ask("reload")["ok"]
        assert "\nthreads = 4 " in asker.ask("config")["toml"]


def test_stop() -> None:
    with running("echo", *TWO) as server, Asker.of(server) as asker:
        assert asker.ask("stop")["text"] == "the server stops; calls have 30 s to finish"
        assert asker.is_ended(), "the connection ends with the server"
        assert server.wait() == 0
        server.wait_for_log("the control socket: stopping")


SLEEPS = "import time\n\ndef answer(message):\n    time.sleep(600)\n"


def test_stop_now_cuts_what_runs_and_a_second_stop_does_not() -> None:
    with (
        running("app.py:answer", *TWO, files={"app.py": SLEEPS}) as server,
        Asker.of(server) as asker,
        server.connect() as peer,
    ):
        peer.send(b"wait\n")
        eventually(lambda: "time.sleep(600)" in json.dumps(asker.ask("dump")["workers"]))
        asker.ask("stop")
        assert "stops already" in asker.ask("stop")["text"]
        assert asker.ask("reload")["text"] == "the server stops"
        assert asker.ask("stop", now=True)["ok"]
        assert server.wait() == 4


def test_upgrade_tells_the_outcome_on_the_same_connection() -> None:
    with running("app.py:answer", *TWO, files={"app.py": APP}) as server:
        before = found(server)
        with Asker.of(server) as asker, Asker.of(server) as other:
            asker.send(b'{"do": "upgrade"}\n')
            *steps, last = asker.answers()
            assert last["ok"]
            assert last["text"].startswith("generation 2 serves")
            taken = f"has taken over in process {server.pid}; its workers follow"
            assert any(step["text"].endswith(taken) for step in steps)
            assert asker.ask("ping")["pid"] == server.pid
            (parted,) = other.answers()
            assert parted["text"] == "the server is just being upgraded in place; ask once more"
            assert other.is_ended(), "only who asked for it goes on"
        after = found(server)
        assert (after.control, after.addresses, after.pid) == (before.control, before.addresses, before.pid)
        assert abs(after.started - before.started) < 1
        with Asker.of(server) as asker:
            assert asker.ask("scale", by=1)["ok"]
            (server.folder / "app.py").write_text("import no_such_module\n")
            refused = asker.ask("upgrade")
            assert not refused["ok"]
            assert "no_such_module" in refused["text"] + refused["detail"]
            assert asker.ask("ping")["ok"]


def test_an_upgrade_does_not_come_before_a_reload_that_waits() -> None:
    with (
        running(*gates.LINES, "--workers", "2", files=gates.FILES) as server,
        gates.Gate(server) as gate,
        server.connect() as peer,
        Asker.of(server) as asker,
    ):
        peer.send(b"wait gate\n")
        gate.wait_reached()
        assert asker.ask("reload")["ok"]
        asker.send(b'{"do": "reload"}\n')
        assert "the generation before is still leaving" in asker.answer()["text"]
        server.send_signal(signal.SIGUSR2)
        tried = server.wait_for_log("the new version is tried")
        (pid,) = map(int, re.findall(r"\(pid (\d+)\)", tried.partition("tried")[2]))
        eventually(lambda: not os.path.exists(f"/proc/{pid}"), 20)  # it is reaped: the upgrade could be done
        gate.open()
        assert asker.answers()[-1]["text"].startswith("generation 3 serves")
        server.wait_for_log("generation 4 serves", 20)
        assert server.log.index("generation 3 serves") < server.log.index("takes over in this process")


# Dumps


def test_a_dump_shows_every_worker() -> None:
    with running("echo", *TWO) as server, Asker.of(server) as asker:
        workers = asker.ask("dump")["workers"]
        assert [(worker["slot"], worker["generation"], worker["state"]) for worker in workers] == [
            (0, 1, "ready"),
            (1, 1, "ready"),
        ]
        assert {worker["pid"] for worker in workers} == set(server.pids())
        assert all("thread 0" in worker["text"] and "File " in worker["text"] for worker in workers)


def test_a_stopped_worker_says_so_and_the_others_show_their_stacks() -> None:
    with running("echo", *TWO) as server, Asker.of(server) as asker:
        stopped = server.pids()[0]
        os.kill(stopped, signal.SIGSTOP)
        eventually(lambda: processes.run_state(stopped) == "T")
        workers = asker.ask("dump")["workers"]
        os.kill(stopped, signal.SIGCONT)
        texts = {worker["pid"]: worker["text"] for worker in workers}
        assert texts.pop(stopped).startswith("stopped")
        assert all("File " in text for text in texts.values())


GIL = """\
import ctypes

def holds_the_gil():
    ctypes.PyDLL(None).sleep(600)  # PyDLL keeps it

def answer(message):
    holds_the_gil()
"""


def test_a_worker_that_holds_the_gil_shows_its_stack() -> None:
    with running("app.py:answer", *TWO, files={"app.py": GIL}) as server, Asker.of(server) as asker:
        with server.connect() as peer:
            peer.send(b"now\n")
            eventually(lambda: "holds_the_gil" in json.dumps(asker.ask("dump")["workers"]), 20)
        assert asker.ask("stop", now=True)["ok"]
        assert server.wait() == 4


def test_dumps_at_the_same_time() -> None:
    with running("echo", *TWO) as server:
        askers = [Asker.of(server) for _ in range(8)]
        for asker in askers:
            asker.send(b'{"do": "dump"}\n' * 3)
        for asker in askers:
            for _ in range(3):
                (answer,) = asker.answers()
                assert ["File " in worker["text"] for worker in answer["workers"]] == [True, True]
            asker.close()


# Bad clients


def test_garbage_is_answered_and_the_connection_goes_on() -> None:
    with running("echo", *TWO) as server, Asker.of(server) as asker:
        for line in (
            b"hello\n",
            b"[" * 5000 + b"\n",
            b'{"do": "dance"}\n',
            b"\xff\xfe\n",
            b'{"do": "scale"}\n',
            b"null\n",
        ):
            asker.send(line)
            answer = asker.answer()
            assert (answer["ok"], answer["is_last"]) == (False, True)
        assert asker.ask("ping")["ok"]


def test_a_request_byte_by_byte_and_many_at_once() -> None:
    with running("echo", *TWO) as server, Asker.of(server) as asker:
        for byte in b'{"do": "ping"}\r\n':
            asker.send(bytes([byte]))
        assert asker.answer()["ok"]
        asker.send(b'{"do": "ping"}\n{"do": "scale", "by": 1}\n\n{"do": "ping"}\n{"do":')
        assert [asker.answer()["text"].split(",")[0] for _ in range(2)][1] == "3 workers"
        assert asker.answer()["pid"] == server.pid
        asker.send(b' "ping"}\n')
        assert asker.answer()["ok"]


def test_a_client_that_has_said_all_still_hears_the_answer() -> None:
    with running("echo", *TWO) as server, Asker.of(server) as asker:
        asker.send(b'{"do": "reload"}\n')
        asker.socket.shutdown(socket.SHUT_WR)
        assert asker.answers()[-1]["ok"]
        assert asker.is_ended()


def test_a_line_without_an_end() -> None:
    with running("echo", *TWO) as server, Asker.of(server) as asker:
        asker.send(b"x" * 65536)
        assert asker.answer()["text"] == "a request may have at most 65536 bytes"
        assert asker.is_ended()


def test_twenty_clients_at_once() -> None:
    with running("echo", *TWO) as server:
        askers = [Asker.of(server) for _ in range(20)]
        for asker in askers[:16]:
            assert asker.ask("ping")["ok"]
        for asker in askers[16:]:
            answer = asker.answer()
            assert not answer["ok"]
            assert answer["text"].startswith("busy: 16 clients")
            assert asker.is_ended()
        askers[0].close()

        def one_more_is_heard() -> bool:
            with Asker.of(server) as asker:
                return asker.is_heard()

        eventually(one_more_is_heard)
        for asker in askers:
            asker.close()


def test_a_client_that_never_reads_is_dropped_and_others_are_answered() -> None:
    with running("echo", *TWO) as server, Asker.of(server) as deaf, Asker.of(server) as asker:
        deaf.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.socket.setblocking(False)
        with suppress(BlockingIOError):  # until the server stops reading, because it cannot send
            while deaf.socket.send(b'{"do": "config"}\n{"do": "dump"}\n' * 500):
                pass
        for _ in range(10):
            began = now()
            assert asker.ask("ping")["ok"]
            assert now() - began < 0.5
        assert server.log.count("bug") == 0


def test_a_client_that_leaves_in_the_middle_of_a_reload() -> None:
    with running("app.py:answer", *TWO, files={"app.py": "import time\ntime.sleep(0.1)\n" + APP}) as server:
        since = server.log_length()
        with Asker.of(server) as asker:
            asker.send(b'{"do": "reload"}\n')
            assert asker.answer()["text"] == "generation 2 starts"
        server.wait_for_log("generation 2 serves", since=since)
        with Asker.of(server) as asker:
            assert asker.ask("ping")["ok"]
        with Asker.of(server) as asker:
            asker.send(b'{"do": "reload"}\n')
        server.wait_for_log("generation 3 serves", since=since)
        assert "bug" not in server.log


def test_a_thousand_connections_leave_nothing_behind() -> None:
    with running("echo", *TWO) as server, Asker.of(server) as asker:
        assert asker.ask("ping")["ok"]
        before = fds_of(server.pid)
        for n in range(1000):
            with Asker.of(server) as other:
                if n % 2:
                    other.send(b'{"do": "ping"}\n{"do"')
                if n % 3:
                    assert n % 2 == 0 or other.answer()["ok"]
        eventually(lambda: fds_of(server.pid) == before)
        assert asker.ask("ping")["ok"]


def test_idle_clients_cost_nothing() -> None:
    with running("echo", *TWO) as server:
        askers = [Asker.of(server) for _ in range(16)]
        for asker in askers:
            assert asker.ask("ping")["ok"]
        askers[0].socket.shutdown(socket.SHUT_WR)
        before, began = cpu_ticks(server.pid), now()
        for asker in askers[1:]:
            asker.socket.settimeout(1.0 / 15)
            with pytest.raises(TimeoutError):
                asker.answer()
        ticks, took = cpu_ticks(server.pid) - before, now() - began
        assert ticks / os.sysconf("SC_CLK_TCK") < 0.2 * took
        for asker in askers:
            asker.close()


# Children


CHILD = """\
import subprocess, sys

LISTING = (
    "import os\\n"
    "for name in os.listdir('/proc/self/fd'):\\n"
    "    if os.path.exists('/proc/self/fd/' + name): print(os.readlink('/proc/self/fd/' + name), end=' ')\\n"
)

def answer(message):
    return subprocess.run([sys.executable, "-c", LISTING], capture_output=True, close_fds=False).stdout
"""
"""A program that is started with all that its parent lets it have."""


def sockets_of(pid: int) -> set[str]:
    """And whatever else it has open."""
    found = set()
    for name in os.listdir(f"/proc/{pid}/fd"):
        with suppress(FileNotFoundError):  # closed meanwhile
            found.add(os.readlink(f"/proc/{pid}/fd/{name}"))
    return found


def inodes_of_control(server_pid: int, path: str) -> set[str]:
    """The sockets of the supervisor that are bound to the path: its listener, and its ends of connections."""
    lines = [line.split() for line in Path("/proc/net/unix").read_text().splitlines()]
    return {f"socket:[{words[6]}]" for words in lines if words[7:] == [path]} & sockets_of(server_pid)


def test_no_child_has_the_socket_or_its_clients() -> None:
    with running("app.py:answer", *TWO, files={"app.py": CHILD}) as server, Asker.of(server) as asker:
        assert asker.ask("reload")["ok"]  # so that workers are made while a client is connected
        path = found(server).control
        assert path is not None
        control = inodes_of_control(server.pid, path)
        assert len(control) == 2
        eventually(lambda: len(server.pids()) == 2)
        assert not any(control & sockets_of(pid) for pid in server.pids())
        with server.connect() as peer:
            peer.send(b"go\n")
            listed = peer.line().decode().split()
            assert listed
            assert not control & set(listed)


# In trouble


def test_a_crash_loop_does_not_keep_it_from_answering() -> None:
    with running("app.py:answer", *TWO, files={"app.py": APP}) as server, Asker.of(server) as asker:
        (server.folder / "app.py").write_text("import os\nos._exit(1)\n")
        for pid in server.pids():
            os.kill(pid, signal.SIGKILL)
        server.wait_for_log("could not start")
        for _ in range(20):
            began = now()
            assert asker.ask("ping")["ok"]
            assert now() - began < 0.5
        assert asker.ask("stop", now=True)["ok"]
        assert server.wait() == 0


def test_a_server_that_was_killed_leaves_nothing_that_hurts() -> None:
    with running("echo", *TWO) as server:
        left = found(server)
        server.process.kill()
        server.wait()
    assert left.control is not None
    assert os.path.exists(left.control)
    with running("echo", *TWO) as server, Asker.of(server) as asker:
        assert asker.ask("ping")["pid"] == server.pid
        assert not os.path.exists(left.control), "whoever comes next removes it"


# Settings


def test_a_path_of_ones_own() -> None:
    with running("echo", *TWO, "--control", "c.sock") as server:
        path = str(server.folder / "c.sock")
        assert found(server).control == path
        with Asker(path) as asker:
            assert asker.ask("ping")["ok"]
        assert server.stop() == 0
        assert not os.path.exists(path)


def test_off() -> None:
    with running("echo", *TWO, "--control", "off") as server:
        assert found(server).control is None


@pytest.mark.parametrize(
    ("path", "why"), [("no/such/c", "the folder"), ("f", "a file of that name"), ("x" * 108, "107")]
)
def test_a_path_that_cannot_be_had_is_an_error(path: str, why: str) -> None:
    ended = run_to_end("serve", "--bind", "127.0.0.1:0", "--control", path, files={"f": ""})
    assert ended.code == 3
    assert "--control " in ended.log
    assert why in ended.log


def test_two_servers_with_one_path() -> None:
    with running("echo", *TWO, "--control", "c") as server:
        path = str(server.folder / "c")
        ended = run_to_end("serve", "--bind", "127.0.0.1:0", "--control", path)
        assert ended.code == 3
        assert "serves there; stop that one, or choose another path" in ended.log
        with Asker(path) as asker:
            assert asker.ask("ping")["pid"] == server.pid


def test_without_a_folder_it_serves_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with running("echo", *TWO, env={"PACELINE_RUNTIME_DIR": str(tmp_path / "file")}) as server:
        server.wait_for_log("paceline ctl cannot find and reach this server: ")
        assert server.log.count("paceline ctl") == 1
        with server.connect() as peer:
            peer.send(b"hello\n")
            assert peer.line() == b"hello\n"


def test_a_folder_in_which_nothing_can_be_written(tmp_path: Path) -> None:
    folder = tmp_path / "r"
    folder.mkdir()
    (folder / "x").symlink_to(folder)
    with running("echo", *TWO, env={"PACELINE_RUNTIME_DIR": str(folder / "x")}) as server:
        server.wait_for_log("is a symbolic link")
    with running("echo", *TWO, env={"PACELINE_RUNTIME_DIR": "/proc/self/no"}) as server:
        server.wait_for_log("name another folder with PACELINE_RUNTIME_DIR")
    assert not list(folder.glob("*.json"))


def test_off_by_variable() -> None:
    with running("echo", *TWO, env={"PACELINE_RUNTIME_DIR": "off"}) as server:
        assert "paceline ctl" not in server.log
        assert children_of(server.pid)
