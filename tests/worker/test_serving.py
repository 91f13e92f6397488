"""worker/serving.py: whose turn it is, how far is read, and what becomes of a bug of ours."""

import socket
from collections.abc import Callable
from typing import Any

import pytest

from paceline.worker import serving
from paceline.worker.connection import Connection
from paceline.worker.estimate import BATCH_BYTES
from paceline.worker.roles import Why
from paceline.worker.writing import Writing
from workerbed import Bed, ByteByByte, Gate, bed, receive_all, receive_exactly


def echo(message: bytes) -> bytes:
    return message


def lead_away(worker: Bed) -> None:
    """The leader, wherever it is, loses the lead."""
    leader = worker.worker.crew.roles.leader
    assert leader is not None
    worker.worker.crew.promote(leader, Why.WATCHED)


# Turns


@pytest.mark.parametrize("most_calls", [1, 16, 256])
def test_ten_thousand_lines_keep_a_neighbour_waiting_for_one_turn(most_calls: int) -> None:
    """Both have sent when the worker begins; the neighbour's line comes after one turn of the other."""
    order: list[bytes] = []

    def handler(message: bytes) -> bytes:
        order.append(message)
        return message

    with bed(handler, framing="line", run=False) as worker:
        worker.worker.estimate.most_calls = most_calls
        busy, neighbour = worker.connect(), worker.connect()
        lines = b"".join(b"%d\n" % n for n in range(10_000))
        busy.sendall(lines)
        neighbour.sendall(b"me\n")
        assert worker.parts.start()
        assert receive_exactly(neighbour, 3) == b"me\n"
        assert order.index(b"me") <= most_calls
        assert receive_exactly(busy, len(lines)) == lines
        order.remove(b"me")
        assert order == lines.split()


def test_a_neighbour_that_comes_later_waits_for_one_turn_too() -> None:
    """It sends when the long batch has begun: who has more to do than one turn must not keep others unpolled."""
    order: list[bytes] = []
    clients: list[socket.socket] = []

    def handler(message: bytes) -> bytes:
        order.append(message)
        if message == b"0":
            clients[1].sendall(b"me\n")
        return message

    with bed(handler, framing="line", run=False) as worker:
        worker.worker.estimate.most_calls = 16
        clients += [worker.connect(), worker.connect()]
        lines = b"".join(b"%d\n" % n for n in range(10_000))
        clients[0].sendall(lines)
        assert worker.parts.start()
        assert receive_exactly(clients[1], 3) == b"me\n"
        assert order.index(b"me") <= 2 * 16
        assert receive_exactly(clients[0], len(lines)) == lines


@pytest.mark.parametrize("shape", ["replies", "generator", "list"])
def test_a_turn_is_over_after_so_many_bytes_too(shape: str) -> None:
    """The busy peer takes all that is sent to it, at once: only the bound ends its turn."""
    order: list[bytes] = []
    clients: list[socket.socket] = []
    piece = b"p" * 50_000

    def made() -> bytes:
        order.append(b"busy")
        clients[0].setblocking(False)
        try:
            while clients[0].recv(1 << 20):
                pass
        except BlockingIOError:
            pass
        return piece

    def handler(message: bytes) -> Any:
        if message == b"n":
            order.append(b"neighbour")
            return b"n"
        if shape == "list":
            return [made() for _ in range(40)]
        return made() if shape == "replies" else (made() for _ in range(40))

    with bed(handler, framing=ByteByByte(), run=False) as worker:
        worker.worker.estimate.most_calls = 256
        clients += [worker.connect(send_buffer=1 << 20), worker.connect()]
        clients[0].sendall(b"x" * (40 if shape == "replies" else 1))
        clients[1].sendall(b"n")
        assert worker.parts.start()
        assert clients[1].recv(1) == b"n"
        if shape != "list":  # whose pieces were all made in one call
            assert order.index(b"neighbour") <= BATCH_BYTES // len(piece) + 1


def test_the_pieces_of_a_list_are_sent_together() -> None:
    with bed(lambda _message: [b"%03d" % n for n in range(1000)], framing="line") as worker:
        client = worker.connect()
        client.sendall(b"x\n")
        assert receive_exactly(client, 4000) == b"".join(b"%03d\n" % n for n in range(1000))
        # 16 pieces at a time, until there is an estimate; one by one it would be a thousand.
        client.sendall(b"y\n")
        receive_exactly(client, 4000)
        assert worker.thread_total("calls") <= 2 * (1 + 1000 // 16 + 2)


def test_promoted_calls_send_after_each_call() -> None:
    """While the handler counts as blocking, a reply does not wait for the call after it."""
    gate = Gate()

    def handler(message: bytes) -> bytes:
        if message == b"2":
            gate.wait()
        return message

    with bed(handler, framing="line") as worker:
        worker.worker.estimate.blocking = True
        client = worker.connect()
        client.sendall(b"1\n2\n3\n")
        gate.wait_entered()
        assert receive_exactly(client, 2) == b"1\n"
        gate.open()
        assert receive_exactly(client, 4) == b"2\n3\n"
        assert worker.worker.crew.roles.eager >= 1


# Who serves a connection while its thread is in a call


def test_a_thread_that_lost_the_lead_finishes_its_connection() -> None:
    """The rest of its batch, what came meanwhile and the end: all in order, by the thread that has the connection."""
    gate = Gate()

    def handler(message: bytes) -> bytes:
        if message == b"0":
            gate.wait()
        return message

    with bed(handler, framing="line") as worker:
        client, other = worker.connect(), worker.connect()
        client.sendall(b"".join(b"%d\n" % n for n in range(500)))
        gate.wait_entered()
        lead_away(worker)
        client.sendall(b"".join(b"%d\n" % n for n in range(500, 1000)))
        client.shutdown(socket.SHUT_WR)
        other.sendall(b"other\n")
        assert receive_exactly(other, 6) == b"other\n"
        gate.open()
        assert receive_all(client) == b"".join(b"%d\n" % n for n in range(1000))
        worker.wait_closed(1)


def test_a_requeued_connection_wakes_a_leader_that_polls() -> None:
    """Its turn is over while another thread leads, and sleeps in its poll."""
    gate = Gate()

    def handler(message: bytes) -> bytes:
        if message == b"0":
            gate.wait()
        return message

    with bed(handler, framing="line") as worker:
        worker.worker.estimate.most_calls = 2
        client = worker.connect()
        client.sendall(b"0\n")
        gate.wait_entered()
        lead_away(worker)
        lines = b"".join(b"%d\n" % n for n in range(1, 100))
        client.sendall(lines)
        gate.open()
        assert receive_exactly(client, len(lines) + 2) == b"0\n" + lines


# A bug of ours costs one connection


def receive_until_the_end(client: socket.socket) -> bytes:
    received = b""
    try:
        while piece := client.recv(65536):
            received += piece
    except ConnectionResetError:  # its input was not read
        pass
    return received


@pytest.mark.parametrize("method", ["read", "put", "park", "cut_next", "flush"])
def test_a_bug_of_ours_costs_one_connection(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Writing if method in ("put", "flush") else serving.Serving
    whole: Callable[..., Any] = getattr(made, method)
    is_broken = [True]

    def once_broken(self: Any, *arguments: Any) -> Any:
        if is_broken:
            is_broken.pop()
            raise RuntimeError("a bug")
        return whole(self, *arguments)

    monkeypatch.setattr(made, method, once_broken)
    left: list[Connection] = []

    class Handler:
        def __call__(self, message: bytes) -> bytes:
            return message

        def disconnected(self, connection: Connection) -> None:
            left.append(connection)

    with bed(Handler(), framing="line", run=False) as worker:
        client, other = worker.connect(), worker.connect()
        client.sendall(b"x\n")
        assert worker.parts.start()
        assert receive_until_the_end(client) == (b"x\n" if method == "park" else b"")
        worker.wait_closed(1)
        assert len(left) == 1
        said = worker.log.wait_for("bug")
        assert "RuntimeError" in str(said["error"])
        assert "once_broken" in str(said["detail"])
        other.sendall(b"y\n")
        assert receive_exactly(other, 2) == b"y\n"
        assert len(worker.worker.crew.members) == 1, "the thread goes on"
        worker.log.said.clear()
