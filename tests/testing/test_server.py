"""Clients of a server under test, and what is noted of its log."""

import socket
import textwrap
from typing import Any

import pytest

import paceline
from paceline.errors import ConnectionClosed, MessageTooLarge
from paceline.testing import running
from paceline.testing.server import NOTE_CHARACTERS, Server, reachable
from paceline.testing.terms import agree

pytestmark = pytest.mark.usefixtures("nothing_left")


@paceline.message(framing="netstring")
def shout(message: bytes) -> bytes:
    return message.upper()


@paceline.connection
def rev(conn: socket.socket) -> None:
    with conn.makefile("rb") as lines:
        for line in lines:
            conn.sendall(line.strip()[::-1] + b"\n")


@pytest.mark.parametrize("handler", [shout, paceline.message(framing="line")(lambda m: m.upper())])
def test_a_client_speaks_what_the_server_speaks(handler: object) -> None:
    with running(handler) as server, server.client() as client:
        assert client.call(b"hello") == b"HELLO"
        assert client.call(b"world") == b"WORLD"


def test_a_client_may_be_told_otherwise() -> None:
    with running(rev) as server:
        assert server.client(framing="line", timeout=5).call(b"abc") == b"cba"
        with server.client() as raw:
            raw.send(b"abc\n")
            assert raw.receive() == b"cba\n"


def test_a_client_of_another_place(tmp_path: Any) -> None:
    with running(shout, bind=["127.0.0.1:0", f"unix:{tmp_path}/x.sock"]) as server:
        assert server.client(address=server.addresses[1]).call(b"x") == b"X"


def test_clients_have_the_limit_of_the_server() -> None:
    with running(lambda _: b"x" * 100, max_message=10) as server, server.client(framing="line") as client:
        client.send(b"?")
        with pytest.raises(MessageTooLarge):
            client.receive()


def test_clients_that_were_closed_are_not_kept() -> None:
    with running(shout) as server:
        for _ in range(3):
            server.client().close()
        kept = server.client()
        assert server._clients == [kept]


def test_clients_that_are_left_open_are_closed_at_the_end() -> None:
    with running(shout) as server:
        client = server.client()
        assert client.call(b"x") == b"X"
    assert client.socket.fileno() == -1


def test_a_client_sees_the_end_of_the_server() -> None:
    with running(shout) as server, server.client() as client:
        assert server.stop() == 0
        with pytest.raises(ConnectionClosed):
            client.receive()


class Written(Server):
    """A server that has ended, of which only the log is left."""

    def __init__(self, log: bytes) -> None:
        super().__init__(agree("echo", None, None, None, {}))
        self.kept = log

    pid = 0

    def stop(self) -> int:
        return 0

    def _logged(self, at: int) -> bytes:
        return self.kept[at:]

    def _code(self) -> int | None:
        return 0

    def _is_asked(self) -> bool:
        return True

    def _is_over(self) -> bool:
        return True

    def _wait_until_over(self, timeout_s: float) -> None: ...

    def _framing(self) -> object:
        return "raw"

    def _give_back(self) -> None: ...


def test_a_note_has_the_end_of_a_long_log() -> None:
    assert Written(b"").note() == "The server's log is empty."
    assert Written(b"a\nb\n").note() == "The server's log:\n    a\n    b\n"
    note = textwrap.dedent(Written(b"x" * 100 + b"y" * NOTE_CHARACTERS).note().partition("\n")[2])
    assert note == "… (100 characters before this)\n" + "y" * NOTE_CHARACTERS


def test_a_log_is_noted_once() -> None:
    error = ValueError()
    for _ in range(2):
        Written(b"a\n").annotate(error)
    assert error.__notes__ == ["The server's log:\n    a\n"]


def test_lines_are_waited_for_in_what_is_no_text_either() -> None:
    server = Written("ä\n".encode() + b"\xff\nend".replace(b"\n", b" ") + b"\nlast")
    assert server.log == "ä\n\\xff end\nlast"
    assert server.wait_for_log("end") == "\\xff end"
    assert server.wait_for_log("last") == "last"
    assert server.wait_for_log("end", since=3) == "xff end"


def test_the_path_of_a_socket_is_made_absolute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    assert reachable("127.0.0.1:80") == "127.0.0.1:80"
    assert reachable("unix:a/b.sock") == "unix:/a/b.sock"
    assert reachable("unix:b.sock", "a") == reachable("unix:b.sock", "/a") == "unix:/a/b.sock"
    assert reachable("unix:@name") == "unix:@name"
    assert reachable(f"unix:{'x' * 107}") == f"unix:{'x' * 107}"
