"""An overload of a real server: who waits for too long is refused at once, and nobody else is."""

import os
import re
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from gates import FILES, LINES, Gate, answer, ask
from leftovers import eventually
from paceline.clock import now
from peer import Peer
from testbed import Server, run_to_end, running


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A runtime folder where only this test's servers are."""
    place = tmp_path / "r"
    place.mkdir(0o700)
    monkeypatch.setenv("PACELINE_RUNTIME_DIR", str(place))


@contextmanager
def clients(server: Server, count: int) -> Iterator[list[Peer | None]]:
    """None: it was refused while it connected."""
    with ExitStack() as stack:
        made: list[Peer | None] = []
        for _ in range(count):
            try:
                made.append(stack.enter_context(server.connect()))
            except ConnectionResetError:
                made.append(None)
        yield made


def send(peers: list[Peer | None], line: bytes) -> None:
    for peer in peers:
        if peer is not None:
            with suppress(ConnectionResetError, BrokenPipeError):
                peer.send(line)


def is_refused(peer: Peer | None) -> bool:
    """By a reset, without an answer."""
    if peer is None:
        return True
    try:
        received = peer.receive()
    except ConnectionResetError:
        return True
    raise AssertionError(f"it was not refused: {received!r}")


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        continued(pid)


def continued(pid: int) -> None:
    os.kill(pid, signal.SIGCONT)


GREETING = """
from app import answer


class Greeting:
    def connected(self, connection):
        pass

    def __call__(self, line):
        return answer(line)


greeting = Greeting()
"""
TARGETS = {
    "message": LINES,
    "greeted": ("greeting.py:greeting", "--framing", "line"),
    "connection": ("app.py:whole", "--as", "connection"),
}


@pytest.mark.parametrize("kind", TARGETS)
def test_who_waits_too_long_is_refused_while_the_calls_go_on(kind: str) -> None:
    options = (*TARGETS[kind], "--workers", "1", "--threads", "2", "--queue-timeout", "50ms")
    files = {**FILES, "greeting.py": GREETING}
    with running(*options, files=files) as server, Gate(server) as gate, clients(server, 2) as held:
        send(held, b"wait gate\n")
        gate.wait_reached(2)
        with clients(server, 6) as waiting:
            send(waiting, b"who\n")
            assert all(is_refused(peer) for peer in waiting)
        server.wait_for_log("overloaded: who is next has waited for ")
        server.wait_for_log(re.compile(r"no longer overloaded, after [\d.]+ s: \d connections? w"))
        assert "refused: 6 connections (6 by --queue-timeout)" in run_to_end("ctl", "status").output
        gate.open()
        for peer in held:
            assert peer is not None
            answer(peer)
            peer.close()
        with server.connect() as peer:
            ask(peer)


def test_whose_message_waits_too_long_is_refused_and_who_is_quiet_stays() -> None:
    options = (*LINES, "--workers", "1", "--threads", "2", "--queue-timeout", "50ms")
    with running(*options, files=FILES) as server, clients(server, 4) as kept, Gate(server) as gate:
        for peer in kept:
            assert peer is not None
            ask(peer)
        with clients(server, 2) as held:
            send(held, b"wait gate\n")
            gate.wait_reached(2)
            send(kept[:3], b"who\n")
            assert all(is_refused(peer) for peer in kept[:3])
            gate.open()
            for peer in [*held, kept[3]]:
                assert peer is not None
                if peer is kept[3]:
                    ask(peer)
                else:
                    answer(peer)
        assert "refused: 3 connections (3 by --queue-timeout)" in run_to_end("ctl", "status").output


def test_nobody_is_refused_who_waits_for_a_process_that_was_stopped() -> None:
    """All of them have waited for longer than the limit when it goes on: a burst, and no overload."""
    options = (*LINES, "--workers", "1", "--queue-timeout", "50ms")
    with running(*options, files=FILES) as server, clients(server, 10) as kept:
        pids = set()
        for peer in kept:
            assert peer is not None
            pids.add(ask(peer)[0])
        (pid,) = pids
        with stopped(pid), clients(server, 10) as fresh:
            begun = now()
            send([*kept, *fresh], b"who\n")
            eventually(lambda: now() - begun > 0.3)
            continued(pid)
            for peer in [*kept, *fresh]:
                assert peer is not None
                answer(peer)
        assert "refused" not in run_to_end("ctl", "status").output


def test_beside_an_idle_sibling_nobody_is_refused() -> None:
    options = (*LINES, "--workers", "2", "--threads", "1", "--queue-timeout", "1s")
    with running(*options, files=FILES) as server, Gate(server) as gate, server.connect() as held:
        held.send(b"wait gate\n")
        gate.wait_reached(1)
        with clients(server, 40) as fresh:
            send(fresh, b"who\n")
            answered = set()
            for peer in fresh:
                assert peer is not None
                answered.add(answer(peer)[0])
        assert len(answered) == 1
        gate.open()
        assert answer(held)[0] not in answered
        assert "refused" not in run_to_end("ctl", "status").output


def test_in_an_overload_a_sibling_that_is_free_again_is_left_those_who_wait() -> None:
    options = (*LINES, "--workers", "2", "--threads", "1", "--queue-timeout", "500ms")
    with (
        running(*options, files=FILES) as server,
        Gate(server, "one") as one,
        Gate(server, "two") as two,
        server.connect() as held,
        server.connect() as freed,
    ):
        held.send(b"wait one\n")
        one.wait_reached()
        freed.send(b"wait two\n")
        two.wait_reached()
        with clients(server, 6) as waiting:
            send(waiting, b"who\n")
            assert all(is_refused(peer) for peer in waiting)
        with clients(server, 6) as young:  # each of the two takes one of them in its hand
            send(young, b"who\n")
            two.open()
            pid = answer(freed)[0]
            for peer in young:
                assert peer is not None
                assert answer(peer)[0] == pid
        assert "refused: 6 connections (6 by --queue-timeout)" in run_to_end("ctl", "status").output
        one.open()
        assert answer(held)[0] != pid


def test_a_burst_is_worked_off() -> None:
    options = (*LINES, "--workers", "1", "--threads", "2", "--queue-timeout", "5s")
    with running(*options, files=FILES) as server, clients(server, 200) as many:
        send(many, b"who\nwho\n")
        for peer in many:
            assert peer is not None
            answer(peer)
            answer(peer)
        assert "refused" not in run_to_end("ctl", "status").output
        assert "overloaded" not in server.log
