"""Behind a real haproxy: the peer is who has connected to it, by both versions, and a server leaves without a loss."""

import signal
import socket
import threading
from pathlib import Path

import pytest

from leftovers import eventually
from proxybed import HAPROXY, haproxy, place, sessions, tell
from testbed import running

pytestmark = pytest.mark.skipif(HAPROXY is None, reason="haproxy is not installed")

APP = {
    "app.py": """
    def who(line, connection):
        return connection.peer.encode()

    def hold(conn):
        conn.sendall(conn.peer.encode() + b" " + repr(conn.peer_address).encode() + b"\\n")
        while data := conn.recv(100):
            conn.sendall(data)
    """
}
TRUSTED = ("--proxy-protocol", "127.0.0.0/8,unix")


def ask(address: tuple[str, int], line: bytes = b"who\n") -> tuple[str, str]:
    """(whom the server sees, who we are)."""
    with socket.create_connection(address, 20) as client:
        client.sendall(line)
        answer = client.makefile("rb").readline()
        host, port = client.getsockname()[:2]
        return answer.decode().rstrip("\n"), f"{host}:{port}"


@pytest.mark.parametrize("version", ["send-proxy", "send-proxy-v2", "send-proxy-v2 proxy-v2-options crc32c,unique-id"])
def test_the_peer_is_who_has_connected_to_the_proxy(version: str, tmp_path: Path) -> None:
    with (
        running("app.py:who", "--framing", "line", "--workers", "2", *TRUSTED, files=APP) as server,
        haproxy(tmp_path, [f"{place(server)} {version} check"]) as front,
    ):
        for _ in range(50):
            seen, ours = ask(front)
            assert seen == ours
        assert not server.warnings, "its health checks are no mistakes"


@pytest.mark.parametrize("start", ["accept", "data"])
def test_a_whole_connection_has_it_too(start: str, tmp_path: Path) -> None:
    with (
        running("app.py:hold", "--as", "connection", "--start", start, *TRUSTED, files=APP) as server,
        haproxy(tmp_path, [f"{place(server)} send-proxy-v2 check"]) as front,
    ):
        seen, ours = ask(front)
        host, _, port = ours.rpartition(":")
        assert seen == f"{ours} ({host!r}, {port})"


def test_by_a_unix_socket(tmp_path: Path) -> None:
    with (
        running("app.py:who", "--framing", "line", "--bind", "unix:here.sock", *TRUSTED, files=APP) as server,
        haproxy(tmp_path, [f"unix@{server.folder}/here.sock send-proxy check"]) as front,
    ):
        seen, ours = ask(front)
        assert seen == ours


def test_it_is_in_the_log_and_travels_with_a_connection_that_moves(tmp_path: Path) -> None:
    with (
        running("app.py:who", "--framing", "line", "--workers", "1", *TRUSTED, files=APP) as server,
        haproxy(tmp_path, [f"{place(server)} send-proxy"]) as front,
        socket.create_connection(front, 20) as client,
        client.makefile("rb") as answers,
    ):
        ours = "{}:{}".format(*client.getsockname()[:2])
        for generation in (1, 2):
            client.sendall(b"who\n")
            assert answers.readline().decode().strip() == ours
            if generation == 1:
                before = server.pids()
                server.send_signal(signal.SIGHUP)
                eventually(lambda before=before: set(server.pids()).isdisjoint(before), 20)  # type: ignore[misc]


@pytest.mark.parametrize("is_told", [True, False], ids=["the proxy is told first", "by itself"])
def test_one_that_leaves(is_told: bool, tmp_path: Path) -> None:
    """Its listener is closed at once, so the proxy's next look finds it gone, and calls are finished.

    But for who has connected and not said a word; that does not happen if the proxy sends it nobody any more.
    """
    with (
        running("app.py:who", "--framing", "line", "--workers", "1", *TRUSTED, files=APP) as leaving,
        running("app.py:who", "--framing", "line", "--workers", "1", *TRUSTED, files=APP) as staying,
        haproxy(tmp_path, [f"{place(server)} send-proxy-v2 check" for server in (leaving, staying)]) as front,
    ):
        answered, wrong = 0, []
        over = threading.Event()

        def load() -> None:
            nonlocal answered
            while not over.is_set():
                seen, ours = ask(front)
                answered += 1
                if seen != ours:
                    wrong.append((seen, ours))

        loading = threading.Thread(target=load)
        loading.start()
        try:
            eventually(lambda: answered > 50)
            if is_told:
                assert tell(tmp_path, "set server front/s0 state drain").strip() == ""
                eventually(lambda: sessions(tmp_path, "s0") == 0)
            assert leaving.stop() == 0
            until = answered + 100
            eventually(lambda: answered > until)
        finally:
            over.set()
            loading.join()
        assert wrong == [] if is_told else [seen for seen, _ in wrong] in ([], [""])


def test_from_elsewhere_no_header_is_believed() -> None:
    with running("app.py:who", "--framing", "line", "--proxy-protocol", "10.0.0.0/8", files=APP) as server:
        peer = server.connect()
        peer.send(b"PROXY TCP4 192.0.2.7 198.51.100.1 50312 443\r\n")
        assert peer.line().startswith(b"127.0.0.1:")


def test_garbage_instead_of_a_header_is_said_in_the_log_once_a_second_at_most() -> None:
    with running("app.py:who", "--framing", "line", *TRUSTED, files=APP) as server:
        for _ in range(5):
            with server.connect() as peer:
                peer.send(b"GET / HTTP/1.1\r\n\r\n")
                assert peer.ended()
        server.wait_for_log("it is in --proxy-protocol, and it begins with b'GET / HTTP/1")
