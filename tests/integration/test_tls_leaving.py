"""A server that speaks TLS leaves: each end is said inside TLS; who is in the middle of a handshake holds nobody up."""

import fcntl
import re
import signal
import sys
import termios
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from integration.test_reload import reloaded
from leftovers import eventually
from paceline.clock import now
from securepeer import TLS, SecurePeer, pem
from testbed import Server, running

APP = {
    "app.py": """
    def shout(message):
        return bytes(message).upper()

    def hold(conn):
        while data := conn.recv(65536):
            conn.sendall(data.upper())
        conn.sendall(b"goodbye\\n")
    """
}
LINES = ("--framing", "line")
SOON_S = 6.0
"""More than twice what a drain may take here: its own waiting for peers that do not end is 0.5 s."""


@contextmanager
def secure_peers(server: Server, count: int) -> Iterator[list[SecurePeer]]:
    with ExitStack() as stack:
        yield [stack.enter_context(SecurePeer(server)) for _ in range(count)]


def has_arrived(peer: SecurePeer) -> bool:
    """All that it has sent lies where the server can read it."""
    waiting = fcntl.ioctl(peer.socket.plain.fileno(), termios.TIOCOUTQ, bytes(4))  # tcp(7), SIOCOUTQ
    return int.from_bytes(waiting, sys.byteorder) == 0


def said(peer: SecurePeer, text: bytes = b"hello\n") -> bytes:
    peer.send(text)
    return peer.line()


def test_quiet_connections_get_the_end_of_tls() -> None:
    with running("app.py:shout", *LINES, "--workers", "2", *TLS, files={**APP, **pem()}) as server:
        with secure_peers(server, 50) as peers:
            for peer in peers[:25]:
                assert said(peer) == b"HELLO\n"
            begun = now()
            server.send_signal(signal.SIGTERM)
            for peer in peers:
                assert peer.receive_all() == b"", "an end without close_notify would be ConnectionResetError"
        assert server.wait() == 0
        assert now() - begun < SOON_S


def test_what_had_arrived_is_answered_first() -> None:
    with running("app.py:shout", *LINES, "--workers", "1", *TLS, files={**APP, **pem()}) as server:
        with secure_peers(server, 20) as peers:
            for peer in peers:
                peer.send(b"a\n", b"b\n", b"c\nhalf")
            for peer in peers:
                eventually(lambda peer=peer: has_arrived(peer))  # type: ignore[misc]
            server.send_signal(signal.SIGTERM)
            for peer in peers:
                assert peer.receive_all() == b"A\nB\nC\n"
        assert server.wait() == 0


def test_whole_connections_see_the_end() -> None:
    with running("app.py:hold", "--as", "connection", "--workers", "1", *TLS, files={**APP, **pem()}) as server:
        with secure_peers(server, 10) as peers:
            for peer in peers:
                assert said(peer) == b"HELLO\n"
            server.send_signal(signal.SIGTERM)
            for peer in peers:
                assert peer.receive_all() == b"goodbye\n"
        assert server.wait() == 0
        assert " error " not in server.log


def test_who_is_in_the_middle_of_a_handshake_holds_nobody_up() -> None:
    patient = ("--handshake-timeout", "60s")
    with (
        running("app.py:shout", *LINES, "--workers", "1", *TLS, *patient, files={**APP, **pem()}) as server,
        ExitStack() as stack,
    ):
        for most in (0, 1, 3, 100, 1000):
            peer = stack.enter_context(SecurePeer(server, shakes=False))
            hello = peer.socket.step()
            assert hello is not None
            peer.socket.plain.sendall(hello[:most])
            if most > len(hello):
                assert peer.socket.plain.recv(65536)
        with SecurePeer(server) as peer:
            assert said(peer) == b"HELLO\n"
        begun = now()
        server.send_signal(signal.SIGTERM)
        assert server.wait() == 0
        assert now() - begun < SOON_S


@pytest.mark.parametrize("target", ["shout", "hold"])
def test_a_reload(target: str) -> None:
    """Messages go on being answered by the worker that has the connection, until the time to leave is up."""
    handler = LINES if target == "shout" else ("--as", "connection")
    with running(f"app.py:{target}", *handler, "--workers", "1", "--drain-timeout", "4s", *TLS,
                 files={**APP, **pem()}) as server:  # fmt: skip
        with secure_peers(server, 5) as peers:
            for peer in peers:
                assert said(peer) == b"HELLO\n"
            old = server.pids()
            reloaded(server, 2)
            begun = now()
            if target == "shout":
                for peer in peers * 50:
                    assert said(peer) == b"HELLO\n"
                assert set(old) < set(server.pids()), "the old worker has them"
            for peer in peers:
                assert peer.receive_all() == (b"" if target == "shout" else b"goodbye\n")
            eventually(lambda: set(old).isdisjoint(server.pids()))
            assert now() - begun < 4 + SOON_S
        if target == "shout":
            server.wait_for_log(re.compile(r"handed over no connection; not handed over: 5 whose TLS cannot move"))
        with SecurePeer(server) as peer:
            assert said(peer) == b"HELLO\n"
        assert not re.search(" (error|critical) ", server.log)


def test_a_reload_moves_who_has_not_begun() -> None:
    """Before the first byte there are no keys: the new worker goes on with the handshake."""
    patient = ("--handshake-timeout", "30s")
    with (
        running("app.py:shout", *LINES, "--workers", "1", *TLS, *patient, files={**APP, **pem()}) as server,
        ExitStack() as stack,
    ):
        peers = [stack.enter_context(SecurePeer(server, shakes=False)) for _ in range(5)]
        with SecurePeer(server) as other:
            assert said(other) == b"HELLO\n", "those before it were accepted"
        old = server.pids()
        reloaded(server, 2)
        eventually(lambda: set(old).isdisjoint(server.pids()))
        for peer in peers:
            peer.socket.shake()
            assert said(peer) == b"HELLO\n"
        server.wait_for_log("handed over 5 connections")
