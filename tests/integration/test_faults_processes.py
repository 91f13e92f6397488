"""Processes that die, stop, hang, are signalled: the others go on, and what is lost is only what the dead one had.

A client here asks over and over, on new connections, and notes which process has answered; each failure must be
explained by a process that was killed meanwhile.  Kills, stops and ends under load, counted, are in tests/faults.

A test prints its seed; PACELINE_SEED repeats it.  PACELINE_LONG=1 makes it many times more.
"""

import json
import os
import random
import re
import select
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Self

import pytest

from calm import cpu_share
from leftovers import eventually, wait_gone
from paceline.clock import now
from peer import Peer
from testbed import KEPT_ROOT, Server, run_to_end, running

IS_LONG = os.environ.get("PACELINE_LONG", "") not in ("", "0")
MANY = 10 if IS_LONG else 1

APP = {
    "app.py": '''
    import ctypes
    import os
    import signal
    import sys
    import time

    def answer(line):
        """In which process, and what it was asked to do before."""
        match line.split():
            case [b"crash"]:
                ctypes.string_at(0)
            case [b"exit", code]:
                os._exit(int(code))
            case [b"abort"]:
                os.abort()
            case [b"wait", b"at", b"gate"]:
                print("waits at the gate")
                with open("gate") as gate:
                    gate.read()
            case [b"fork", count]:
                for child in [os.fork() or os._exit(0) for _ in range(int(count))]:
                    os.waitpid(child, 0)
            case [b"return", b"twice"]:
                child = os.fork()
                if child:
                    os.waitpid(child, 0)
        return b"%d" % os.getpid()
    '''
}
LINES = ("--framing", "line")


@pytest.fixture
def chance() -> random.Random:
    seed = int(os.environ.get("PACELINE_SEED", random.randrange(2**32)))
    print(f"PACELINE_SEED={seed}")
    return random.Random(seed)


def ask(server: Server, line: bytes = b"who") -> int:
    """On a new connection: the process that answered."""
    with Peer(server.places[0]) as peer:
        peer.send(line + b"\n")
        return int(peer.line())


def wait_ready(server: Server, workers: int = 2) -> list[int]:
    """Until so many workers serve; their processes."""
    found: set[int] = set()

    def look() -> bool:
        with ExitStack() as stack:  # all at once, so that they are spread over all
            peers = [stack.enter_context(Peer(server.places[0])) for _ in range(4 * workers)]
            for peer in peers:
                peer.send(b"who\n")
            found.clear()
            with suppress(ConnectionError, AssertionError):
                found.update(int(peer.line()) for peer in peers)
        return len(found) == workers and found == set(server.pids())

    eventually(look, 20)
    return sorted(found)


def is_at_rest(server: Server) -> bool:
    """No thread is in a call."""
    told = json.loads(run_to_end("ctl", "status", "--json", "--pid", str(server.pid)).output)
    return not any(worker["threads_busy"] for worker in told["workers"])


class Clients:
    """Some threads that ask on and on, each time on a new connection, until the end of the `with`."""

    def __init__(self, server: Server, count: int = 4) -> None:
        self.server = server
        self.answered = 0  # guarded by lock
        self.failed: list[tuple[float, float, str]] = []  # guarded by lock: from when to when, and what went wrong
        self.worst_s = 0.0  # guarded by lock
        self.lock = threading.Lock()
        self.is_over = threading.Event()
        self.threads = [threading.Thread(target=self._ask) for _ in range(count)]

    def __enter__(self) -> Self:
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.is_over.set()
        for thread in self.threads:
            thread.join()

    def wait_answers(self, more: int) -> None:
        """Until so many more were answered."""
        until = self.answered + more
        eventually(lambda: self.answered >= until, 20)

    def unexplained(self, kills: list[tuple[float, float]]) -> list[tuple[float, float, str]]:
        """The failures during which nobody died; `kills` are the times of the signals and those of the ends."""
        return [each for each in self.failed if not any(each[0] <= end and begin <= each[1] for begin, end in kills)]

    def _ask(self) -> None:
        while not self.is_over.is_set():
            begun = now()
            try:
                ask(self.server)
            except (OSError, AssertionError) as error:
                with self.lock:
                    self.failed.append((begun, now(), str(error)))
            else:
                with self.lock:
                    self.answered += 1
                    self.worst_s = max(self.worst_s, now() - begun)


@contextmanager
def stopped(*pids: int) -> Iterator[None]:
    """They do not run meanwhile; then they go on, if they are still there."""

    def all_stopped() -> bool:
        return {state for pid in pids for state in states_of(pid)} == {"T"}

    try:
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        eventually(all_stopped)
        yield
    finally:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def states_of(pid: int) -> list[str]:
    """R, S, T … of each thread (proc_pid_stat(5))."""
    texts = [stat.read_text() for stat in Path(f"/proc/{pid}/task").glob("*/stat")]
    return [text.rpartition(") ")[2][0] for text in texts]


@contextmanager
def gate_of(server: Server) -> Iterator[Path]:
    """Where `wait at gate` waits, until the end of the `with`, when it is opened for all and for good."""
    gate = server.folder / "gate"
    os.mkfifo(gate)
    fd = os.open(gate, os.O_RDWR | os.O_CLOEXEC)  # whoever opens it to read finds a writer, and waits
    try:
        yield gate
    finally:
        door = server.folder / "door"
        door.touch()
        door.rename(gate)  # who comes from now on reads an empty file
        os.close(fd)  # who is there reads end-of-file


def peers_of(server: Server, pids: list[int]) -> dict[int, Peer]:
    """A client of each of these workers."""
    found: dict[int, Peer] = {}
    spare: list[Peer] = []

    def look() -> bool:
        peer = server.connect()
        peer.send(b"who\n")
        if found.setdefault(int(peer.line()), peer) is not peer:
            spare.append(peer)  # kept open meanwhile: who has some more passes the next one on
        return found.keys() == set(pids)

    eventually(look)
    for peer in spare:
        peer.close()
    return found


def levels(server: Server) -> set[str]:
    """Of all that was logged, but for what is said of tests that run as root."""
    log = "\n".join(line for line in server.log.splitlines() if KEPT_ROOT not in line)
    return set(re.findall(r"^\d{4}-\S+ \S+ (\w+) ", log, re.MULTILINE))


# Killed


def test_what_waits_in_the_listener_is_not_lost() -> None:
    with running("app.py:answer", *LINES, "--workers", "2", files=APP) as server:
        workers = wait_ready(server)
        with stopped(*workers):
            peers = [server.connect() for _ in range(100)]
            for peer in peers:
                peer.send(b"who\n")
            for pid in workers:
                os.kill(pid, signal.SIGKILL)
        assert all(int(peer.line()) not in workers for peer in peers)


def test_what_waits_in_the_inbox_of_the_dead_is_not_lost() -> None:
    """Half of the connections were passed to the one that does not run; they had not been touched."""
    with running("app.py:answer", *LINES, "--workers", "2", files=APP) as server:
        for _ in range(3 * MANY):
            victim, survivor = wait_ready(server)
            with stopped(victim):
                peers = [server.connect() for _ in range(40)]
                for peer in peers:
                    peer.send(b"who\n")
                assert select.select([peer.socket for peer in peers], [], [], 10)[0]
                os.kill(victim, signal.SIGKILL)
            makers = [int(peer.line()) for peer in peers]
            assert survivor in makers
            assert victim not in makers
            for peer in peers:
                peer.close()


@pytest.mark.parametrize(
    ("line", "cause"),
    [
        (b"crash", "was killed by SIGSEGV"),
        (b"abort", "was killed by SIGABRT"),
        (b"exit 0", "exited with code 0"),
        (b"exit 3", "exited with code 3"),
        (b"exit 255", "exited with code 255"),
    ],
)
def test_a_handler_that_ends_its_process(line: bytes, cause: str) -> None:
    with running("app.py:answer", *LINES, "--workers", "2", files=APP) as server:
        workers = wait_ready(server)
        peers = peers_of(server, workers)
        victim, survivor = workers
        peers[victim].send(line + b"\n")
        assert peers[victim].ended()
        peers[survivor].send(b"who\n")
        assert int(peers[survivor].line()) == survivor
        said = server.wait_for_log(cause)
        assert f"(pid {victim})" in said
        assert said.endswith("replaced at once")
        wait_ready(server)


def test_a_handler_that_forks_many_children() -> None:
    with running("app.py:answer", *LINES, "--workers", "2", files=APP) as server:
        workers = wait_ready(server)
        with server.connect() as peer:
            peer.send(b"fork 100\n" * 5)
            assert {int(line) for line in peer.lines(5)} <= set(workers)
        assert wait_ready(server) == workers
        assert levels(server) == {"info"}


def test_a_forked_child_that_returns() -> None:
    """It is ended, and its parent answers, once."""
    with running("app.py:answer", *LINES, "--workers", "1", files=APP) as server:
        with server.connect() as peer:
            peer.send(b"return twice\n")
            assert int(peer.line()) in server.pids()
            server.wait_for_log("a process forked by the handler returned into the server's code")
            peer.half_close()
            assert peer.receive_all() == b""
        assert "error" not in levels(server)


# Stopped


def test_a_short_stop_does_no_harm() -> None:
    with running("app.py:answer", *LINES, "--workers", "2", files=APP) as server:
        workers = wait_ready(server)
        peers = peers_of(server, workers)
        with stopped(*workers, server.pid):
            for peer in peers.values():
                peer.send(b"who\n")
            waiting = [server.connect() for _ in range(20)]
            for peer in waiting:
                peer.send(b"who\n")
        for pid, peer in peers.items():
            assert int(peer.line()) == pid
        assert {int(peer.line()) for peer in waiting} <= set(workers)
        assert wait_ready(server) == workers
        assert levels(server) == {"info"}


def test_a_machine_that_stood_still_for_longer_than_the_heartbeat_replaces_nobody() -> None:
    """And a call that began before is not late because of it."""
    limits = ("--heartbeat", "3s", "--timeout", "3s", "--message-timeout", "3s")
    with running("app.py:answer", *LINES, "--workers", "2", *limits, files=APP) as server, gate_of(server):
        before = wait_ready(server)
        peers = peers_of(server, before)
        slow, halfway = server.connect(), server.connect()
        slow.send(b"wait at gate\n")
        server.wait_for_log("waits at the gate")
        halfway.send(b"wh")
        with stopped(server.pid, *before):
            threading.Event().wait(4.0)  # that it lasts is the fault
        halfway.send(b"o\n")
        assert int(halfway.line()) in before
        for pid, peer in peers.items():
            peer.send(b"who\n")
            assert int(peer.line()) == pid
        assert server.pids() == before
        assert "has run for" not in server.log


# The end of the supervisor


def _is_past(at: float) -> bool:
    return now() >= at


def test_term_while_calls_run_lets_them_finish() -> None:
    with running("app.py:answer", *LINES, "--workers", "2", files=APP) as server, server.connect() as peer:
        with gate_of(server):
            peer.send(b"wait at gate\n")
            server.wait_for_log("waits at the gate")
            server.send_signal(signal.SIGTERM)
            server.wait_for_log("SIGTERM: stopping")
            eventually(lambda: refuses(server))
        assert int(peer.line())
        assert peer.ended()
        assert server.wait() == 0
    assert levels(server) == {"info"}


def refuses(server: Server) -> bool:
    try:
        server.connect().close()
    except ConnectionRefusedError:
        return True
    except ConnectionResetError:  # it was in the queue when the last copy of the listener was closed
        return False
    return False


@pytest.mark.parametrize("signals", [[signal.SIGTERM], [signal.SIGTERM] * 2, [signal.SIGTERM, signal.SIGINT]])
def test_a_call_that_hangs_is_cut(signals: list[int]) -> None:
    within = "500ms" if len(signals) == 1 else "1m"
    options = ("--workers", "2", "--drain-timeout", within)
    with running("app.py:answer", *LINES, *options, files=APP) as server, server.connect() as peer, gate_of(server):
        peer.send(b"wait at gate\n")
        server.wait_for_log("waits at the gate")
        for number in signals:
            server.send_signal(number)
            server.wait_for_log(signal.Signals(number).name + ":")
            eventually(partial(_is_past, now() + 0.3))  # the same signal sooner than that is taken for an echo
        assert server.wait() == 4
        server.wait_for_log(" was cut by ")
        assert peer.ended()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGQUIT])
def test_a_signal_to_the_whole_group(number: signal.Signals) -> None:
    """As from a terminal, or from systemd."""
    with running("app.py:answer", *LINES, "--workers", "2", files=APP) as server, server.connect() as peer:
        wait_ready(server)
        peer.send(b"who\n")
        assert peer.line()
        eventually(lambda: is_at_rest(server))  # a thread that has just replied is in the call until it has gone on
        os.killpg(server.pid, number)
        assert server.wait() == 0
        assert peer.ended()
    assert "error" not in levels(server)


def test_term_to_the_whole_group_lets_calls_finish() -> None:
    with running("app.py:answer", *LINES, "--workers", "2", files=APP) as server, server.connect() as peer:
        with gate_of(server):
            peer.send(b"wait at gate\n")
            server.wait_for_log("waits at the gate")
            os.killpg(server.pid, signal.SIGTERM)
            server.wait_for_log("SIGTERM: stopping")
            eventually(lambda: refuses(server))
        assert int(peer.line())
        assert server.wait() == 0
    assert "error" not in levels(server)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGQUIT])
def test_a_signal_while_it_boots(number: signal.Signals) -> None:
    """The first worker still imports, and would for ever."""
    app = """
    import os
    import time
    os.kill(os.getppid(), {number})
    time.sleep(600)
    """
    words = ("serve", "app.py:answer", "-b", "127.0.0.1:0")
    ended = run_to_end(*words, files={"app.py": app.format(number=int(number))})
    assert ended.code == 0, ended.log
    assert "error" not in ended.log


# Signals


def test_a_worker_that_is_told_to_stop_is_replaced() -> None:
    """It drains: nobody loses anything by it who had sent something; whoever was only connected is disconnected."""
    with running("app.py:answer", *LINES, "--workers", "2", files=APP) as server:
        drains: list[tuple[float, float]] = []
        with Clients(server) as clients:
            for _ in range(5 * MANY):
                victim = wait_ready(server)[0]
                begin = now()
                os.kill(victim, signal.SIGTERM)
                wait_gone([victim])
                drains.append((begin, now()))
        wait_ready(server)
        assert clients.unexplained(drains) == []
        assert levels(server) == {"info"}


# Crash loops


def test_a_target_that_is_broken_meanwhile() -> None:
    """The next worker cannot start: it is tried again less and less often, its sibling serves; then it is mended."""
    with running("app.py:answer", *LINES, "--workers", "2", files=APP) as server:
        workers = wait_ready(server)
        survivor = workers[1]
        app = server.folder / "app.py"
        good = app.read_text()
        replace(app, "raise RuntimeError('broken')\n")
        os.kill(workers[0], signal.SIGKILL)
        wait_gone(workers[:1])
        with Clients(server, 1) as clients:
            eventually(lambda: server.log.count("could not start") >= 4, 20)
            assert ask(server) == survivor
            assert cpu_share([server.pid]) < 0.3
            replace(app, good)
            wait_ready(server)
        assert clients.failed == []
        assert survivor in server.pids()
        waits = [float(found) for found in re.findall(r"tried again in ([\d.]+) s", server.log)]
        assert "could not start: app.py:answer raised RuntimeError while it was loaded; replaced at once" in server.log
        assert waits == sorted(waits)
        assert "RuntimeError: broken" in server.log


def replace(path: Path, text: str) -> None:
    """In one step: nobody reads half of it."""
    new = path.with_suffix(".new")
    new.write_text(text)
    new.rename(path)
