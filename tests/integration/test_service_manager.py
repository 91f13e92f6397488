"""Under systemd, or what passes for it: sockets that are passed, and how the server tells that it is well.

The manager is this test: it holds the sockets, as systemd does, and reads what the server says on NOTIFY_SOCKET.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from leftovers import eventually, open_kinds
from paceline.clock import now, now_ns
from peer import Peer
from testbed import COMMAND, Server, running

LINES = ("--framing", "line", "--workers", "1")
APP = {
    "app.py": """
    import os
    import subprocess

    def answer(line):
        if line == b"fds":
            return subprocess.run(["ls", "/proc/self/fd"], capture_output=True).stdout.replace(b"\\n", b" ")
        if line == b"env":
            names = ("LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
            return b" ".join(name.encode() for name in names if name in os.environ) or b"none"
        return line
    """
}

LAUNCHER = """
import os, sys
numbers, names, words = sys.argv[1].split(","), sys.argv[2], sys.argv[3:]
for at, number in enumerate(numbers, 3):
    os.dup2(int(number), at, inheritable=True)
os.closerange(3 + len(numbers), 1000)
if "unbound" in names:
    place = words.index("--bind")
    del words[place : place + 2]
os.environ |= {"LISTEN_FDS": str(len(numbers)), "LISTEN_PID": str(os.getpid()), "LISTEN_FDNAMES": names}
os.execv(words[0], words)
"""
"""As systemd does between fork and exec.  For a socket whose name holds `unbound`, --bind is left out."""


def launcher(sockets: Sequence[socket.socket], names: str) -> tuple[str, ...]:
    """Before a command: it finds these sockets passed to it."""
    numbers = ",".join(str(listening.fileno()) for listening in sockets)
    return (sys.executable, "-c", LAUNCHER, numbers, names, *COMMAND)


@contextmanager
def listening(*places: str | tuple[str, int]) -> Iterator[list[socket.socket]]:
    """Listening sockets, under numbers beyond those that they will be passed as."""
    import fcntl

    made = []
    try:
        for place in places:
            family = socket.AF_UNIX if isinstance(place, str) else socket.AF_INET
            with socket.create_server(place, family=family) as first:
                made.append(socket.socket(fileno=fcntl.fcntl(first, fcntl.F_DUPFD_CLOEXEC, 50)))
        yield made
    finally:
        for one in made:
            one.close()


@contextmanager
def activated(
    sockets: Sequence[socket.socket], names: str, *options: str, env: dict[str, str] | None = None
) -> Iterator[Server]:
    fds = [one.fileno() for one in sockets]
    with running(
        "app.py:answer", *LINES, *options, files=APP, command=launcher(sockets, names), pass_fds=fds, env=env
    ) as server:
        yield server


def ask(peer: Peer, line: bytes) -> bytes:
    peer.send(line + b"\n")
    return peer.line().strip()


# Sockets


def test_without_bind_all_that_was_passed_is_served(tmp_path: Path) -> None:
    with listening(("127.0.0.1", 0), f"{tmp_path}/s") as sockets, activated(sockets, "unbound:other") as server:
        port = sockets[0].getsockname()[1]
        assert server.places == [f"127.0.0.1:{port}", f"unix:{tmp_path}/s"]
        assert "they are served: fd://3 (unbound), fd://4 (other)" in server.log
        with server.connect() as peer:
            assert ask(peer, b"env") == b"none"
            assert ask(peer, b"fds") == b"0 1 2 3", "3 is the listing's own"
        with Peer(f"unix:{tmp_path}/s") as peer:
            assert ask(peer, b"x") == b"x"
        server.stop()
        assert (tmp_path / "s").exists(), "the file is systemd's"


def test_sockets_are_found_by_their_names(tmp_path: Path) -> None:
    with (
        listening(("127.0.0.1", 0), f"{tmp_path}/s") as sockets,
        activated(sockets, "web:admin", "--bind", "fd://admin", "--bind", "127.0.0.1:0") as server,
    ):
        assert server.places[0] == f"unix:{tmp_path}/s"
        assert "sockets were passed (LISTEN_FDS) that --bind does not name: fd://3 (web)" in server.log
        with Peer(f"unix:{tmp_path}/s") as peer:
            assert ask(peer, b"x") == b"x"


def test_between_two_lives_connections_wait_in_the_socket() -> None:
    with listening(("127.0.0.1", 0)) as sockets:
        place = f"127.0.0.1:{sockets[0].getsockname()[1]}"
        with activated(sockets, "unbound"):
            pass
        with Peer(place) as peer:
            peer.send(b"early\n")
            with activated(sockets, "unbound"):
                assert peer.line() == b"early\n"


def test_a_reload_and_an_upgrade_keep_what_was_passed() -> None:
    with (
        listening(("127.0.0.1", 0)) as sockets,
        activated(sockets, "unbound") as server,
        server.connect() as peer,
    ):
        for number, said in ((signal.SIGHUP, "generation 2 serves"), (signal.SIGUSR2, "generation 3 serves")):
            server.send_signal(number)
            server.wait_for_log(said, 30)
            assert ask(peer, b"x") == b"x"
        server.send_signal(signal.SIGHUP)
        server.wait_for_log("generation 4 serves")
        assert ask(peer, b"env") == b"none"


def test_sockets_for_somebody_else_are_ignored() -> None:
    with running("app.py:answer", *LINES, files=APP, env={"LISTEN_FDS": "1", "LISTEN_PID": "1"}) as server:
        assert server.places[0].startswith("127.0.0.1:")


@pytest.mark.skipif(shutil.which("systemd-socket-activate") is None, reason="systemd-socket-activate is not installed")
def test_with_the_launcher_of_systemd(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("def answer(line):\n    return line\n")
    words = ["systemd-socket-activate", "--listen", f"{tmp_path}/s", "--fdname", "web", "-E", "PATH", *COMMAND]
    words += ["serve", "app.py:answer", *LINES, "--bind", "fd://web"]
    with subprocess.Popen(words, cwd=tmp_path, stderr=subprocess.PIPE, text=True, process_group=0) as process:
        try:
            eventually((tmp_path / "s").exists)
            eventually(lambda: _is_up(f"{tmp_path}/s"))
            with Peer(f"unix:{tmp_path}/s", 20) as peer:  # it starts the server
                assert ask(peer, b"hello") == b"hello"
            process.terminate()
            assert process.wait(15) == 0
            assert (tmp_path / "s").exists()
        finally:
            process.kill()
            assert process.stderr is not None
            print(process.stderr.read())


def _is_up(path: str) -> bool:
    with open("/proc/net/unix") as table:
        return any(row.split()[3] == "00010000" for row in table if row.rstrip().endswith(path))


# What the manager is told


class Manager:
    """The other end of NOTIFY_SOCKET."""

    def __init__(self, path: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(path)
        self.env = {"NOTIFY_SOCKET": path.replace("\0", "@")}
        self.heard: list[dict[str, str]] = []

    def wait_for(self, name: str, value: str = "", timeout: float = 20) -> dict[str, str]:
        """The next datagram that has this variable, and if it is given, with this in its value."""
        deadline = now() + timeout
        while True:
            self.socket.settimeout(max(0.01, deadline - now()))
            try:
                text = self.socket.recv(8192).decode()
            except TimeoutError:
                raise AssertionError(f"no {name}={value}; there was {self.heard}") from None
            said = dict(line.split("=", 1) for line in text.split("\n"))
            self.heard.append(said)
            if name in said and value in said[name]:
                return said


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    made = Manager(f"\0paceline-test-{os.getpid()}" if request.param == "abstract" else f"{tmp_path}/notify")
    yield made
    made.socket.close()


def test_a_life_as_it_is_told(manager: Manager) -> None:
    with running("app.py:answer", *LINES, files=APP, env=manager.env) as server:
        ready = manager.wait_for("READY")
        assert ready["MAINPID"] == str(server.pid)
        assert ready["STATUS"] == f"serving on {server.places[0]}, 1 worker, generation 1"
        with server.connect() as peer:
            assert ask(peer, b"env") == b"none"
        before_us = now_ns() // 1000
        server.send_signal(signal.SIGHUP)
        assert int(manager.wait_for("RELOADING", "1")["MONOTONIC_USEC"]) >= before_us
        assert "generation 2" in manager.wait_for("READY", "1")["STATUS"]
        (server.folder / "app.py").write_text("raise ValueError('boom')\n")
        server.send_signal(signal.SIGHUP)
        manager.wait_for("RELOADING", "1")
        status = manager.wait_for("READY", "1")["STATUS"]
        assert "generation 2; reload failed: " in status
        assert "ValueError" in status
        server.stop()
        assert "stopping" in manager.wait_for("STOPPING", "1")["STATUS"]


def test_no_worker_has_the_socket_to_the_manager(manager: Manager) -> None:
    plain = running("app.py:answer", *LINES, files=APP)
    with plain as server, running("app.py:answer", *LINES, files=APP, env=manager.env) as told:
        eventually(lambda: open_kinds(told.pids()[0]) == open_kinds(server.pids()[0]))


def test_a_reload_that_is_refused_is_over_at_once(manager: Manager) -> None:
    config = "framing = 'line'\nworkers = 1\n"
    with running("app.py:answer", files={**APP, "paceline.toml": config}, env=manager.env) as server:
        manager.wait_for("READY")
        (server.folder / "paceline.toml").write_text("framing = 'lines'\n")
        server.send_signal(signal.SIGHUP)
        manager.wait_for("RELOADING")
        assert "reload refused: framing = " in manager.wait_for("READY")["STATUS"]


def test_after_an_upgrade_it_is_told_as_before(manager: Manager) -> None:
    with running("app.py:answer", *LINES, files=APP, env={**manager.env, "WATCHDOG_USEC": "400000"}) as server:
        manager.wait_for("READY")
        server.send_signal(signal.SIGUSR2)
        server.wait_for_log("generation 2 serves", 30)
        assert manager.wait_for("READY")["MAINPID"] == str(server.pid)
        manager.wait_for("WATCHDOG")
        with server.connect() as peer:
            assert ask(peer, b"env") == b"none"


def test_signs_of_life_end_with_the_workers(manager: Manager) -> None:
    env = {**manager.env, "WATCHDOG_USEC": "200000"}
    with running("app.py:answer", *LINES, "--heartbeat", "3", files=APP, env=env) as server:
        manager.wait_for("READY")
        for _ in range(3):
            manager.wait_for("WATCHDOG")
        (server.folder / "app.py").write_text("raise ValueError('boom')\n")
        os.kill(server.pids()[0], signal.SIGKILL)
        server.wait_for_log("could not start")
        manager.wait_for("STATUS", "0 workers")
        server.wait_for_log("tried again in 0.", since=server.log_length())
        manager.heard.clear()
        server.stop()
        manager.wait_for("STOPPING")
        assert not any("WATCHDOG" in said for said in manager.heard), "for as long as two starts have failed"


def test_a_sign_of_life_counts_for_as_long_as_the_last_reload_says(tmp_path: Path) -> None:
    manager = Manager(f"{tmp_path}/notify")
    files = {**APP, "paceline.toml": "heartbeat = 3\n"}
    with (
        manager.socket,
        running("app.py:answer", *LINES, files=files, env={**manager.env, "WATCHDOG_USEC": "400000"}) as server,
    ):
        (server.folder / "paceline.toml").write_text("heartbeat = 60\n")
        server.send_signal(signal.SIGHUP)
        server.wait_for_log("generation 2 serves")
        eventually(lambda: len(server.pids()) == 1)
        (worker,) = server.pids()
        os.kill(worker, signal.SIGSTOP)
        stopped_at = now()
        while now() < stopped_at + 3.5:  # half a second longer than what counted at the start
            manager.wait_for("WATCHDOG", timeout=2)
        assert server.pids() == [worker]
        os.kill(worker, signal.SIGCONT)


def test_the_watchdog_of_somebody_else_gets_no_signs_of_life(manager: Manager) -> None:
    env = {**manager.env, "WATCHDOG_USEC": "100000", "WATCHDOG_PID": "1"}
    with running("app.py:answer", *LINES, files=APP, env=env) as server:
        manager.wait_for("READY")
        server.stop()
        manager.wait_for("STOPPING")
        assert not any("WATCHDOG" in said for said in manager.heard)


@pytest.mark.parametrize("address", ["vsock:2:9", "notify", "/no/such/socket"])
def test_a_manager_that_cannot_be_told_costs_nothing(address: str) -> None:
    with running("app.py:answer", *LINES, files=APP, env={"NOTIFY_SOCKET": address}) as server:
        if address != "/no/such/socket":
            server.wait_for_log("the service manager is not told everything: NOTIFY_SOCKET=")
        with server.connect() as peer:
            assert ask(peer, b"x") == b"x"


# The pid file


def test_a_second_server_does_not_take_the_pid_file_of_the_first(tmp_path: Path) -> None:
    path = str(tmp_path / "p")
    with running("app.py:answer", *LINES, "--pid", path, files=APP) as server:
        assert (tmp_path / "p").read_text() == f"{server.pid}\n"
        words = [*COMMAND, "serve", "echo", "--bind", "127.0.0.1:0", "--pid", path]
        second = subprocess.run(words, capture_output=True, text=True, timeout=30, check=False)
        assert second.returncode == 3
        assert f"--pid {path}: the file belongs to a running server, process {server.pid}; stop that" in second.stderr
        assert (tmp_path / "p").read_text() == f"{server.pid}\n"
        server.send_signal(signal.SIGKILL)
        server.wait()
    with running("app.py:answer", *LINES, "--pid", path, files=APP) as server:
        assert (tmp_path / "p").read_text() == f"{server.pid}\n"
    assert not (tmp_path / "p").exists()


# The unit files

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_the_unit_files_are_right(tmp_path: Path) -> None:
    """systemd finds nothing wrong with them, but that it may be older than Type=notify-reload."""
    service = (EXAMPLES / "paceline.service").read_text()
    assert "ExecStart=/srv/app/venv/bin/paceline serve " in service
    (tmp_path / "paceline.service").write_text(service.replace("/srv/app/venv/bin/paceline", sys.executable))
    shutil.copy(EXAMPLES / "paceline.socket", tmp_path)
    words = ["systemd-analyze", "verify", "--man=no", f"{tmp_path}/paceline.service", f"{tmp_path}/paceline.socket"]
    said = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    wrong = [line for line in said.stderr.splitlines() if str(tmp_path) in line and "notify-reload" not in line]
    assert wrong == []
    assert said.returncode == 0


def test_the_socket_of_the_unit_has_the_name_that_the_pages_use() -> None:
    assert "\nFileDescriptorName=web\n" in (EXAMPLES / "paceline.socket").read_text()
