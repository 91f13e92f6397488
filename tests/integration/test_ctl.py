"""`paceline ctl` against servers that run, that are stopped, and that hang; what the supervisor does with what it is
asked is in test_control.py."""

import json
import os
import pty
import re
import signal
import struct
import subprocess
import termios
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from fcntl import ioctl
from pathlib import Path

import pytest

from controlbed import answering
from gates import FILES, LINES, Gate, ask, peers_of_all
from leftovers import eventually
from paceline.clock import now
from paceline.ctl import looking
from paceline.ctl.finding import find
from testbed import COMMAND, Ended, run_to_end, running


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A runtime folder where only this test's servers are."""
    place = tmp_path / "r"
    place.mkdir(0o700)
    monkeypatch.setenv("PACELINE_RUNTIME_DIR", str(place))
    return place


def ctl(*words: str, **more: str) -> Ended:
    return run_to_end("ctl", *words, env=more)


def status(*words: str) -> dict[str, object]:
    ended = ctl("status", "--json", *words)
    assert (ended.code, ended.log) == (0, "")
    record = json.loads(ended.output)
    assert isinstance(record, dict)
    return record


@contextmanager
def stopped(*pids: int) -> Iterator[None]:
    """By SIGSTOP."""
    try:
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        eventually(lambda: all(_state(pid) == "T" for pid in pids))
        yield
    finally:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]


def test_the_one_server_is_found_and_shown() -> None:
    with running(*LINES, "--workers", "2", files=FILES) as server:
        peers = peers_of_all(server, 2)
        record = status()
        assert (record["pid"], record["target"], record["addresses"]) == (server.pid, "app.py:answer", server.places)
        assert (record["healthy"], record["generation"], record["supervisor"]) == (True, 1, "running")
        assert record["warnings"] == []
        workers = record["workers"]
        assert isinstance(workers, list)
        assert [(worker["slot"], worker["state"]) for worker in workers] == [(0, "ready"), (1, "ready")]
        assert {worker["pid"] for worker in workers} == set(peers)
        text = ctl("status").output
        assert text.startswith(f"{server.places[0]} · app.py:answer · generation 1 · up ")
        assert re.search(r"^ +1 +\d+  ready +1 .* 0/64 .* MiB$", text, re.MULTILINE)
        assert ctl("health") == Ended(0, "healthy: 2 workers serve\n", "")


def test_a_stopped_supervisor_and_workers_that_hang_are_looked_at_all_the_same() -> None:
    with (
        running(*LINES, "--workers", "1", "--threads", "2", files=FILES) as server,
        Gate(server) as gate,
    ):
        peers = [server.connect(), server.connect()]
        for peer in peers:
            peer.send(b"wait gate\n")
        gate.wait_reached(2)
        with stopped(server.pid):
            eventually(lambda: '"saturated"' in ctl("status", "--json").output)
            text = ctl("status").output
            assert re.search(r"^ +0 +\d+  saturated .* 2/2 .* > 0\.\d s ", text, re.MULTILINE)
            assert "! the supervisor is stopped (SIGSTOP, or a debugger)" in text
            assert f"kill -CONT {server.pid}" in text
            assert "is saturated: all its 2 threads are inside calls" in text
            ended = ctl("health")
            assert (ended.code, ended.log) == (1, "")
            assert ended.output.startswith("unhealthy: all threads of the one worker that serves are inside calls")
            before = now()
            asked = ctl("reload", "--timeout", "0.2")
            assert asked.code == 3
            assert f"the server (pid {server.pid}) is stopped" in asked.log
            assert now() - before < 15
        gate.open()
        for peer in peers:
            peer.line()
        eventually(lambda: ctl("health").code == 0)


def test_a_dump_shows_a_thread_that_hangs_and_a_worker_that_is_stopped() -> None:
    with (
        running(*LINES, "--workers", "2", "--threads", "2", files=FILES) as server,
        Gate(server) as gate,
    ):
        peers = peers_of_all(server, 2)
        pids = {worker["slot"]: worker["pid"] for worker in status()["workers"]}  # type: ignore[attr-defined]
        peers[pids[0]].send(b"wait gate\n")
        gate.wait_reached()
        with stopped(pids[1]):
            ended = ctl("dump")
            assert (ended.code, ended.log) == (0, "")
            first, second = _sections(ended.output)
            assert first.startswith(f"worker 0 · pid {pids[0]} · ready · generation 1\n")
            assert "in wait_at" in first
            assert second.startswith(f"worker 1 · pid {pids[1]} · ")
            assert "stopped" in second
            assert "worker 1 (pid" in ctl("status").output
            assert ctl("health").output == "healthy: 1 worker serves; worker 1 is stopped\n"


def _sections(text: str) -> list[str]:
    return re.split(r"\n(?=worker \d)", text)


def test_what_is_asked_is_done() -> None:
    with running(*LINES, "--workers", "1", files=FILES) as server:
        assert ctl("scale", "3") == Ended(0, "3 workers, before 1\n", "")
        assert ctl("scale", "-1") == Ended(0, "2 workers, before 3\n", "")
        assert ctl("drain", "0").code == 0
        assert ctl("drain", "7").code == 1
        reloaded = ctl("reload")
        assert (reloaded.code, reloaded.output.startswith("generation 2 serves")) == (0, True)
        assert "paceline: generation 2 starts\n" in reloaded.log
        assert ask(server.connect())
        (server.folder / "app.py").write_text("def answer(line): return missing\nraise KeyError('not today')\n")
        failed = ctl("reload")
        assert (failed.code, failed.output) == (1, "")
        assert "KeyError: 'not today'" in failed.log
        assert "generation 2 goes on" in failed.log
        config = ctl("config").output
        assert re.search(r'^target = "app\.py:answer"', config, re.MULTILINE)
        (server.folder / "again.toml").write_text(config)


def test_stop_returns_when_the_server_is_gone() -> None:
    with running(*LINES, files=FILES) as server, Gate(server) as gate:
        peer = server.connect()
        peer.send(b"wait gate\n")
        gate.wait_reached()
        late = ctl("stop", "--timeout", "0.3")
        assert (late.code, late.output) == (1, "")
        assert "is not gone yet; stop --now does not wait" in late.log
        gate.open()
        assert peer.line()
        assert server.wait() == 0
    with running("echo") as server:
        assert ctl("stop") == Ended(
            0, "the server is gone\n", "paceline: the server stops; calls have 30 s to finish\n"
        )
        assert server.wait() == 0
    with running(*LINES, files=FILES, exit_code=None) as server, Gate(server) as gate:
        peer = server.connect()
        peer.send(b"wait gate\n")
        gate.wait_reached()
        assert ctl("stop", "--now").code == 0
        assert server.wait() == 4


def test_of_several_one_has_to_be_named(folder: Path) -> None:
    with running("echo") as first, running("echo", "--control", str(folder / "own")) as second:
        ended = ctl("status")
        assert (ended.code, ended.output) == (2, "")
        assert "2 servers run" in ended.log
        for server in (first, second):
            assert f"  --pid {server.pid}  {server.places[0]} · echo" in ended.log
            assert status("--pid", str(server.pid))["pid"] == server.pid
        assert status("--control", str(folder / "own"))["pid"] == second.pid
        assert json.loads(ctl("status", "--json", PACELINE_CONTROL=str(folder / "own")).output)["pid"] == second.pid
        assert ctl("--pid", str(first.pids()[0]), "status").log.endswith(f"its supervisor: --pid {first.pid}\n")


def test_a_server_that_nobody_can_find_is_named(folder: Path) -> None:
    path = str(folder / "own")
    with running("echo", "--control", path, env={"PACELINE_RUNTIME_DIR": "off"}) as server:
        assert ctl("status").code == 3
        assert status("--pid", str(server.pid))["pid"] == server.pid
        assert status("--control", path)["pid"] == server.pid
        assert ctl("--control", path, "reload").code == 0
        with stopped(server.pid):  # the kernel still tells who listens there
            assert ctl("--control", path, "health").code == 0
        asked = ctl("--pid", str(server.pid), "reload")
        assert asked.code == 3
        assert f"name its socket with --control PATH, or kill -HUP {server.pid} reloads it" in asked.log


def test_without_a_control_socket_it_can_be_looked_at() -> None:
    with running("echo", "--control", "off") as server:
        assert status()["control"] is None
        assert ctl("health").code == 0
        asked = ctl("stop")
        assert asked.code == 3
        assert (
            f"has no control socket (--control off, or the log says why); kill -TERM {server.pid} stops it" in asked.log
        )


def test_a_supervisor_that_does_not_answer_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looking, "ANSWER_S", 0.05)
    with running("echo"), answering(b"", stays=True) as silent:
        picture = looking.look_at(replace(find(None, None, {}), control=silent.path), 0.01)
        assert (picture.supervisor, picture.unhealthy_because) == ("silent", "")
        assert picture.warnings[0].startswith(f"the supervisor does not answer at its control socket {silent.path}")


def test_a_server_that_was_killed_is_none() -> None:
    with running("echo", exit_code=None) as server:
        server.send_signal(signal.SIGKILL)
        server.wait()
        assert ctl("status").code == 3
        assert ctl("health").code == 1


def test_no_line_is_wider_than_the_terminal() -> None:
    with running("echo", "--workers", "2") as server, stopped(server.pid):
        for columns in (30, 80):
            lines = _at_a_terminal(columns, "ctl", "status").splitlines()
            assert max(map(len, lines)) <= columns
            assert any(line.split()[:1] == ["worker"] for line in lines)
            assert "\x1b" not in "".join(lines)


def _at_a_terminal(columns: int, *words: str) -> str:
    """What a terminal of this width shows."""
    with ExitStack() as stack:
        ours, theirs = pty.openpty()
        stack.callback(os.close, ours)
        try:
            ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 24, columns, 0, 0))
            environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
            process = subprocess.Popen([*COMMAND, *words], stdout=theirs, stdin=subprocess.DEVNULL, env=environment)
        finally:
            os.close(theirs)
        shown = b""
        with suppress(OSError):  # EIO: the last one that had it open is gone
            while piece := os.read(ours, 4096):
                shown += piece
        assert process.wait(20) == 0
        return shown.decode().replace("\r\n", "\n")
