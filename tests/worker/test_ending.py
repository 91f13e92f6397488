"""worker/ending.py and serving.py: how a connection ends.  Lingering, half-close, resets in every state, truncation."""

import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from paceline.handlers import Close
from paceline.worker.connection import Connection
from paceline.worker.ending import LINGER_BYTES
from paceline.worker.roles import Why
from workerbed import Bed, ByteByByte, Gate, bed, receive_all, receive_exactly, reset


def say(client: socket.socket) -> None:
    client.sendall(b".\n")
    assert receive_exactly(client, 2) == b".\n"


def lead_away(worker: Bed) -> None:
    leader = worker.worker.crew.roles.leader
    assert leader is not None
    worker.worker.crew.promote(leader, Why.WATCHED)


# We close first: the last reply arrives although input is left


def closing(message: bytes) -> object:
    return Close(b"b" * 200_000) if message == b"close" else message


def test_the_last_reply_arrives_whole_though_input_is_left_unread() -> None:
    """A plain close with unread input would reset the connection, and the peer would lose what it had not read yet."""
    with bed(closing, framing="line") as worker:
        client = worker.connect_tcp()
        client.sendall(b"close\n" + b"more of what nobody reads\n" * 2000)
        assert receive_all(client) == b"b" * 200_000 + b"\n"
        client.sendall(b"and more\n")
        client.close()
        worker.wait_closed(1)
        assert worker.cell("closed_handler") == 1


def test_a_closing_connection_is_closed_when_the_peer_ends() -> None:
    with bed(closing, framing="line") as worker:
        client, other = worker.connect_tcp(), worker.connect()
        client.sendall(b"close\n")
        receive_all(client)
        say(other)
        assert worker.cell("closed") == 0, "it lingers, without a thread"
        assert len(worker.worker.crew.members) == 1
        client.close()
        worker.wait_closed(1)


def test_lingering_has_a_limit_of_bytes() -> None:
    with bed(closing, framing="line") as worker:
        client = worker.connect_tcp()
        client.sendall(b"close\n")
        receive_all(client)
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            client.sendall(b"x" * 100 * LINGER_BYTES)
        worker.wait_closed(1)


def test_lingering_within_the_limit_is_borne() -> None:
    with bed(closing, framing="line") as worker:
        client, other = worker.connect(), worker.connect()
        client.sendall(b"close\n")
        receive_all(client)
        for _ in range(10):
            client.sendall(b"x" * ((LINGER_BYTES - 1) // 10))
            say(other)
        assert worker.cell("closed") == 0
        client.sendall(b"x" * 10)
        worker.wait_closed(1)


def test_lingering_has_a_limit_of_time() -> None:
    with bed(closing, framing="line") as worker:
        client, other = worker.connect_tcp(), worker.connect()
        client.sendall(b"close\n")
        receive_all(client)
        worker.look()
        worker.look(1.9)
        say(other)
        assert worker.cell("closed") == 0
        worker.look()
        worker.wait_closed(1)
        assert worker.cell("closed_handler") == 1
        assert not worker.log.find("peer-slow"), "that is not worth a line"


def test_nothing_is_read_as_a_message_after_the_close() -> None:
    calls: list[bytes] = []

    def handler(message: bytes) -> object:
        calls.append(message)
        return Close() if message == b"close" else message

    with bed(handler, framing="line") as worker:
        client = worker.connect()
        client.sendall(b"a\nclose\nb\nc\n")
        assert receive_all(client) == b"a\n"
        client.sendall(b"d\n")
        client.close()
        worker.wait_closed(1)
        assert calls == [b"a", b"close"]


# The peer closes its half first


def pieces(message: bytes) -> Iterator[bytes]:
    yield message
    yield message


@pytest.mark.parametrize("handler", [lambda message: message, pieces], ids=["bytes", "pieces"])
@pytest.mark.parametrize("count", [1, 3, 1000])
def test_everything_sent_before_the_end_is_answered(handler: Callable[[bytes], Any], count: int) -> None:
    with bed(handler, framing="line") as worker:
        client = worker.connect_tcp()
        lines = [b"%d\n" % n for n in range(count)]
        client.sendall(b"".join(lines))
        client.shutdown(socket.SHUT_WR)
        times = 1 if handler is not pieces else 2
        assert receive_all(client) == b"".join(line * times for line in lines)
        worker.wait_closed(1)
        assert worker.cell("closed_peer") == 1


def test_the_end_in_the_middle_of_a_slow_call() -> None:
    gate = Gate()

    def handler(message: bytes) -> bytes:
        if message == b"slow":
            gate.wait()
        return message

    with bed(handler, framing="line") as worker:
        client, other = worker.connect_tcp(), worker.connect()
        client.sendall(b"slow\n")
        gate.wait_entered()
        lead_away(worker)
        client.sendall(b"last\n")
        client.shutdown(socket.SHUT_WR)
        say(other)  # the next leader has seen the input and the end, and could not take them
        gate.open()
        assert receive_all(client) == b"slow\nlast\n"
        worker.wait_closed(1)


# Resets


class Observed:
    """A handler with everything, and what became of its connections."""

    def __init__(self) -> None:
        self.gate = Gate()
        self.greeted: list[Connection] = []
        self.left: list[Connection] = []
        self.finished = 0

    def connected(self, connection: Connection) -> bytes | None:
        self.greeted.append(connection)
        if connection.listener == "slow":
            self.gate.wait()
        return None

    def disconnected(self, connection: Connection) -> None:
        self.left.append(connection)

    def __call__(self, message: bytes) -> object:
        match message:
            case b"slow":
                self.gate.wait()
                return b"s" * 200_000
            case b"large":
                return b"l" * 1_000_000
            case b"pieces":
                return self.make_pieces()
            case b"close":
                return Close(b"bye")
        return message

    def make_pieces(self) -> Iterator[bytes]:
        try:
            for _ in range(1000):
                yield b"p" * 100_000
        finally:
            self.finished += 1


STATES = ["fresh", "parked", "half a message", "in a call", "unsent bytes", "pieces", "lingering", "half-closed"]


@pytest.mark.parametrize("state", STATES)
def test_a_reset_costs_its_connection_and_nothing_else(state: str) -> None:
    handler = Observed()
    with bed(handler, framing="line") as worker:
        other = worker.connect()
        say(other)
        client = worker.connect_tcp(receive_buffer=4096, send_buffer=4096)
        match state:
            case "parked":
                say(client)
            case "half a message":
                client.sendall(b".\nhalf")
                receive_exactly(client, 2)
            case "in a call":
                client.sendall(b"slow\n.\n")
                handler.gate.wait_entered()
                lead_away(worker)
            case "unsent bytes":
                client.sendall(b"large\n")
                worker.wait_stuck()
            case "pieces":
                client.sendall(b"pieces\n")
                worker.wait_stuck()
            case "lingering":
                client.sendall(b"close\n")
                receive_all(client)
            case "half-closed":
                client.sendall(b"large\n")
                client.shutdown(socket.SHUT_WR)
                worker.wait_stuck()
        reset(client)
        if state == "in a call":
            say(other)
        handler.gate.open()
        worker.wait_closed(1)
        say(other)
        assert len(handler.left) == len(handler.greeted) - 1, "each is said good-bye to once"
        assert handler.finished == (state == "pieces")
        assert len(worker.worker.tables.open) == 1
        loud = {event for event, _ in worker.log.said} - {"peer-reset"}
        assert loud <= ({"peer-broke"} if state == "half a message" else set())


def test_a_reset_while_the_peer_is_greeted() -> None:
    handler = Observed()
    with bed(handler, framing="line") as worker:
        worker.parts.accepting.ways_in[0].text = "slow"
        client = worker.connect_tcp()
        handler.gate.wait_entered()
        lead_away(worker)
        reset(client)
        handler.gate.open()
        worker.wait_closed(1)
        assert len(handler.left) == 1
        assert {event for event, _ in worker.log.said} <= {"peer-reset"}


# Truncation


MESSAGES = {
    "line": b"hello\r\n",
    "delimiter:--": b"hello--",
    "length:1": b"\x05hello",
    "length:4": b"\0\0\0\x05hello",
    "length:8:little": b"\x05\0\0\0\0\0\0\0hello",
    "netstring": b"5:hello,",
    "fixed:5": b"hello",
}


@pytest.mark.parametrize("framing", MESSAGES)
@pytest.mark.parametrize("before", [b"", b"whole"], ids=["at first", "after a whole one"])
def test_a_truncated_message_is_never_delivered(framing: str, before: bytes) -> None:
    """The peer ends the connection after each byte of a message."""
    calls: list[bytes] = []

    def handler(message: bytes) -> bytes:
        calls.append(message)
        return message

    whole = MESSAGES[framing]
    first = whole if before else b""
    with bed(handler, framing=framing) as worker:
        for length in range(len(whole)):
            calls.clear()
            worker.log.said.clear()
            client = worker.connect_tcp()
            client.sendall(first + whole[:length])
            client.shutdown(socket.SHUT_WR)
            answer = receive_all(client)
            client.close()
            worker.wait_closed(length + 1)
            assert calls == ([b"hello"] if first else [])
            assert bool(answer) is bool(first)
            broke = worker.log.find("peer-broke")
            assert len(broke) == (length > 0)
            assert not broke or "ended the connection inside a message" in str(broke[0]["error"])
        assert worker.cell("closed_broken") == len(whole) - 1


@pytest.mark.parametrize("framing", MESSAGES)
def test_a_message_in_single_bytes_is_delivered(framing: str) -> None:
    """Each byte is received alone."""
    whole = MESSAGES[framing]
    with bed(lambda message: message, framing=framing) as worker:
        client, other = worker.connect(), worker.connect()
        for at in range(len(whole)):
            client.sendall(whole[at : at + 1])
            other.sendall(whole)
            receive_exactly(other, len(whole.replace(b"\r", b"")))
        assert receive_exactly(client, len(whole.replace(b"\r", b""))) == whole.replace(b"\r", b"")


def test_a_framing_without_rests_knows_no_truncation() -> None:
    with bed(lambda message: message, framing=ByteByByte()) as worker:
        client = worker.connect()
        client.sendall(b"abc")
        client.shutdown(socket.SHUT_WR)
        assert receive_all(client) == b"abc"
        worker.wait_closed(1)
        assert not worker.log.said
