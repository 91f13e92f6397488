"""Networks and limits of connections in a real server: at its start, in a flood, across a reload."""

import re
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from leftovers import eventually
from paceline import clock
from testbed import Server, run_to_end, running

FILES = {"app.py": "def answer(message):\n    return message\n"}
SETTINGS = 'target = "app.py:answer"\nframing = "line"\nworkers = %d\n'
OURS, THEIRS = "127.0.0.2", "127.0.0.3"


@contextmanager
def client(server: Server, source: str) -> Iterator[socket.socket | None]:
    """One from this address; None: its reset came while it connected."""
    try:
        made = socket.create_connection(server.address, 10, (source, 0))
    except ConnectionResetError:
        yield None
        return
    with made:
        yield made


def is_served(peer: socket.socket | None) -> bool:
    if peer is None:
        return False
    try:
        peer.sendall(b"x\n")
        return peer.recv(2) == b"x\n"
    except (ConnectionResetError, BrokenPipeError):
        return False


def serves(server: Server, source: str) -> bool:
    with client(server, source) as peer:
        return is_served(peer)


def reload_with(server: Server, more: str) -> str:
    """Returns the log, when the old worker has left."""
    (server.folder / "paceline.toml").write_text(SETTINGS % 1 + more)
    since = server.log_length()
    server.send_signal(signal.SIGHUP)
    server.wait_for_log(re.compile(r"worker 0 \(pid \d+\) left"), 30, since=since)
    return server.log


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--allow", "10.0.0.1/8"), "--allow 10.0.0.1/8: must be a network .*; the nearest right value is 10.0.0.0/8"),
        (("--deny", "unix", "--deny", "::1,[::2]"), r"--deny \[::2\]: must be .*; the nearest right value is ::2"),
        (("--max-connections-per-address", "0"), "the nearest right value is off"),
        (("--max-connection-rate", "5/h"), "must be a number per second from "),
    ],
)
def test_a_wrong_value_is_refused_at_the_start(options: tuple[str, ...], said: str) -> None:
    ended = run_to_end("serve", "echo", "--bind", "127.0.0.1:0", *options)
    assert ended.code == 2
    assert re.search(said, ended.log)


def test_a_flood_of_those_who_may_not_connect_costs_a_line_a_second() -> None:
    with running("app.py:answer", "--workers", "2", "--deny", THEIRS, files=FILES) as server:
        begun = clock.now()
        for _ in range(500):
            assert not serves(server, THEIRS)
        with client(server, OURS) as peer:
            assert is_served(peer)
        lines = [line for line in server.log.splitlines() if " is refused: " in line]
        assert 1 <= len(lines) <= 2 * (clock.now() - begun + 1)
        assert re.search(r"127\.0\.0\.3:\d+ is refused: the network is one of those of --deny", lines[0])


def test_a_reload_brings_other_networks_for_those_who_come_then() -> None:
    """Whoever is connected stays, and moves to the new workers as ever."""
    files = FILES | {"paceline.toml": SETTINGS % 1 + f'allow = ["{OURS}", "{THEIRS}"]\n'}
    with running(None, files=files) as server, client(server, THEIRS) as kept:
        assert is_served(kept)
        reload_with(server, f'allow = ["{OURS}"]\n')
        assert is_served(kept)
        assert not serves(server, THEIRS)
        assert serves(server, OURS)
        assert is_served(kept)


def test_a_reload_with_a_wrong_network_changes_nothing() -> None:
    files = FILES | {"paceline.toml": SETTINGS % 1 + f'deny = "{THEIRS}"\n'}
    with running(None, files=files) as server:
        (server.folder / "paceline.toml").write_text(SETTINGS % 1 + f'deny = "{THEIRS}/8"\n')
        server.send_signal(signal.SIGHUP)
        server.wait_for_log(re.compile(r"the reload is refused .* the nearest right value is 127\.0\.0\.0/8"))
        assert not serves(server, THEIRS)
        assert serves(server, OURS)


def test_connections_that_a_reload_moves_are_counted_where_they_are_then() -> None:
    limit = "max_connections_per_address = 2\n"
    files = FILES | {"paceline.toml": SETTINGS % 1 + limit}
    with running(None, files=files) as server, client(server, OURS) as first:
        assert is_served(first)
        with client(server, OURS) as second:
            assert is_served(second)
            assert not serves(server, OURS)
            assert "handed over 2 connections" in reload_with(server, limit)
            assert is_served(first)
            assert is_served(second)
            assert not serves(server, OURS)
            assert serves(server, THEIRS)
        eventually(lambda: serves(server, OURS))  # as soon as the worker has seen the end of the second one
        assert is_served(first)


def test_with_several_workers_each_has_its_own_number() -> None:
    """So many times as there are workers is the most that one address has."""
    with running("app.py:answer", "--workers", "2", "--max-connections-per-address", "3", files=FILES) as server:
        made = []
        try:
            for _ in range(40):
                with client(server, OURS) as peer:
                    if is_served(peer):
                        assert peer is not None
                        made.append(peer.dup())
                        made[-1].settimeout(10)
            assert 3 <= len(made) <= 6
            assert serves(server, THEIRS)
            assert all(is_served(peer) for peer in made)
        finally:
            for peer in made:
                peer.close()


def test_over_the_rate_all_are_served_a_little_later() -> None:
    with running(
        "app.py:answer", "--workers", "1", "--max-connection-rate", "50", "--framing", "line", files=FILES
    ) as server:
        begun = clock.now()
        peers = [socket.create_connection(server.address, 10) for _ in range(30)]
        try:
            for peer in peers:
                peer.settimeout(10)
            assert all(is_served(peer) for peer in peers)
        finally:
            for peer in peers:
                peer.close()
        assert clock.now() - begun >= 0.45  # five at once, then fifty a second
        server.wait_for_log("connections come faster than 50/s, which is the limit of each worker")
