"""worker/naming.py: who a proxy says the peer is, however the header comes, and that nothing is served before it."""

import os
import socket
import socketserver
import struct
from contextlib import suppress
from ipaddress import IPv4Address
from typing import Any, ClassVar, cast

import pytest

from leftovers import eventually
from paceline.host import streams
from paceline.wire.proxy import SIGNATURE
from paceline.worker.connection import Connection
from paceline.worker.gate import Shut
from paceline.worker.held import HeldSocket
from paceline.worker.lifecycle import State
from paceline.worker.record import Record, encode
from takerbed import taker
from workerbed import Bed, Gate, bed, receive_all, receive_exactly, reset

LINE = b"PROXY TCP4 192.0.2.7 198.51.100.1 50312 443\r\n"
BINARY = SIGNATURE + struct.pack("!BBH", 0x21, 0x11, 12) + IPv4Address("192.0.2.7").packed * 2
BINARY += struct.pack("!HH", 50312, 443)
LOOPBACK: dict[str, Any] = {"proxy_protocol": ("127.0.0.0/8",)}


def who(_message: bytes, connection: Connection) -> bytes:
    return connection.peer.encode()


def only(worker: Bed) -> Connection:
    (found,) = worker.worker.tables.open.values()
    return found


@pytest.mark.parametrize("header", [LINE, BINARY], ids=["version 1", "version 2"])
@pytest.mark.parametrize("behind", [b"", b"hello"])
def test_the_peer_is_who_the_header_says(header: bytes, behind: bytes) -> None:
    with bed(who, **LOOPBACK) as worker:
        client = worker.connect_tcp()
        client.sendall(header + behind)
        if not behind:
            eventually(lambda: only(worker).phase is State.OPEN)
            client.sendall(b"hello")
        assert receive_exactly(client, 15) == b"192.0.2.7:50312"
        client.sendall(b"again")
        assert receive_exactly(client, 15) == b"192.0.2.7:50312"
        client.close()
        worker.wait_closed(1)


@pytest.mark.parametrize("header", [LINE, BINARY], ids=["version 1", "version 2"])
def test_it_may_come_byte_by_byte_and_holds_no_thread_meanwhile(header: bytes) -> None:
    with bed(who, **LOOPBACK) as worker:
        client, other = worker.connect_tcp(), worker.connect_tcp()
        other.sendall(LINE)
        for byte in header:
            client.sendall(bytes([byte]))
            other.sendall(b"x")
            assert receive_exactly(other, 15) == b"192.0.2.7:50312"
        client.sendall(b"x")
        assert receive_exactly(client, 15) == b"192.0.2.7:50312"
        assert worker.worker.crew.roles.members == 1
        for each in (client, other):
            each.close()
        worker.wait_closed(2)


def test_a_header_that_names_nobody_leaves_the_proxy_the_peer() -> None:
    with bed(who, **LOOPBACK) as worker:
        client = worker.connect_tcp()
        client.sendall(b"PROXY UNKNOWN\r\nx")
        host, port = client.getsockname()
        expected = f"{host}:{port}".encode()
        assert receive_exactly(client, len(expected)) == expected
        client.close()
        worker.wait_closed(1)


@pytest.mark.parametrize("data", [b"hello", b"PROXY TCP4 nonsense\r\n", b"\x16\x03\x01", b"PROXY TCP4 " + b"1" * 200])
def test_what_is_no_header_is_disconnected_and_said(data: bytes) -> None:
    with bed(who, **LOOPBACK) as worker:
        client = worker.connect_tcp()
        client.sendall(data)
        with suppress(ConnectionResetError):  # it had bytes that nobody has read
            assert receive_all(client) == b""
        worker.wait_closed(1)
        assert worker.cell("closed_broken") == 1
        assert worker.thread_total("calls") == 0
        (said,) = worker.log.find("header-refused")
        assert "127.0.0.1:" in str(said)
        client.close()


def test_from_elsewhere_no_header_is_expected_and_none_is_believed() -> None:
    with bed(lambda message: message, proxy_protocol=("10.0.0.0/8", "unix")) as worker:
        client = worker.connect_tcp()
        client.sendall(LINE)
        assert receive_exactly(client, len(LINE)) == LINE, "it is a message as any other"
        client.close()
        worker.wait_closed(1)


def test_one_that_leaves_without_a_word_is_no_error() -> None:
    with bed(who, **LOOPBACK) as worker:
        for said in (b"", LINE[:7]):
            client = worker.connect_tcp()
            client.sendall(said)
            client.close()
        worker.wait_closed(2)
        assert not worker.log.said


def test_one_that_does_not_say_it_is_cut_off_at_its_deadline() -> None:
    with bed(who, proxy_timeout=3.0, **LOOPBACK) as worker:
        client = worker.connect_tcp()
        client.sendall(LINE[:-1])
        eventually(lambda: worker.worker.tables.parked)
        timing = worker.parts.serving.ending.timing
        timing.look(1000.0)
        timing.look(1002.9)
        assert not worker.log.said
        timing.look(1003.1)
        worker.wait_closed(1)
        assert worker.cell("closed_timeout") == 1
        assert "did not say for whom it had connected within 3 s (--proxy-timeout)" in str(worker.log.find("peer-slow"))
        client.close()


def test_the_greeting_comes_after_the_header_and_knows_the_peer() -> None:
    class Greeter:
        seen: ClassVar[list[str]] = []

        def connected(self, connection: Connection) -> bytes:
            return f"hello {connection.peer}\n".encode()

        def disconnected(self, connection: Connection) -> None:
            self.seen.append(connection.peer)

        def __call__(self, message: bytes) -> bytes:
            return message

    with bed(Greeter(), **LOOPBACK) as worker:
        client = worker.connect_tcp()
        client.sendall(LINE)
        assert receive_exactly(client, 22) == b"hello 192.0.2.7:50312\n"
        client.close()
        worker.wait_closed(1)
        assert Greeter.seen == ["192.0.2.7:50312"]


@pytest.mark.parametrize("start", ["accept", "data"])
def test_a_whole_connection_begins_behind_the_header(start: str) -> None:
    def handler(conn: HeldSocket) -> None:
        conn.sendall(f"{conn.peer} {conn.peer_address} ".encode())
        conn.sendall(conn.recv(100))

    with bed(handler, as_="connection", start=start, **LOOPBACK) as worker:
        client = worker.connect_tcp()
        client.sendall(LINE[:20])
        assert worker.worker.crew.roles.members == 1, "no thread is held by a header"
        client.sendall(LINE[20:] + b"hello")
        assert receive_all(client) == b"192.0.2.7:50312 ('192.0.2.7', 50312) hello"
        client.close()
        worker.wait_closed(1)


def test_a_handler_of_socketserver_finds_the_address_in_its_shape() -> None:
    class Shown(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.sendall(repr(self.client_address).encode())

    for header, expected in (
        (LINE, b"('192.0.2.7', 50312)"),
        (b"PROXY TCP6 2001:db8::7 ::1 50312 443\r\n", b"('2001:db8::7', 50312, 0, 0)"),
    ):
        with bed(Shown, listen=True, **LOOPBACK) as worker:
            client = worker.connect_tcp()
            client.sendall(header + b"x")
            try:
                assert receive_exactly(client, len(expected)) == expected
            finally:
                client.close()
            worker.wait_closed(1)


def test_it_is_no_message_and_not_counted_as_one() -> None:
    def handler(message: bytes, connection: Connection) -> Any:
        return b"%d %s" % (connection.messages, message)

    with bed(handler, framing="line", **LOOPBACK) as worker:
        client = worker.connect_tcp()
        client.sendall(LINE + b"one\ntwo\n")
        assert receive_exactly(client, 12) == b"1 one\n2 two\n"
        client.shutdown(socket.SHUT_WR)
        assert receive_all(client) == b""
        client.close()
        worker.wait_closed(1)
        assert worker.thread_total("messages") == 2


@pytest.mark.parametrize("is_denied", [False, True])
def test_one_that_was_reset_before_it_was_accepted_is_a_proxys(is_denied: bool) -> None:
    """The kernel does not know its address any more; what it has sent is no message."""
    seen: list[bytes] = []
    denied: dict[str, Any] = {"deny": ("192.0.2.0/24",)} if is_denied else {}
    with bed(seen.append, listen=True, run=False, **denied, **LOOPBACK) as worker:
        client = worker.call_in()
        client.sendall(LINE + b"hello")
        reset(client)
        worker.worker.gate.open(Shut.STARTING)
        (fd,) = worker.parts.accepting.listeners
        worker.parts.accepting.accept(fd, cast("Any", None))
        if found := worker.connections():
            assert found[0].phase is State.UNNAMED
        assert not seen


def test_the_rest_of_a_header_that_comes_with_the_end_is_not_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    with bed(who, **LOOPBACK) as worker:
        client = worker.connect_tcp()
        peek, half = streams.peek, LINE[:20]

        def slow(fd: int, most: int) -> bytes:
            seen = peek(fd, most)
            if seen == half:
                client.sendall(LINE[20:] + b"hello")
                client.shutdown(socket.SHUT_WR)
            return seen

        monkeypatch.setattr(streams, "peek", slow)
        client.sendall(half)
        assert receive_all(client) == b"192.0.2.7:50312"
        client.close()
        worker.wait_closed(1)


@pytest.mark.parametrize("has_setting", [False, True])
def test_whether_it_is_named_travels_with_it(has_setting: bool) -> None:
    """A reload that brings or takes --proxy-protocol changes nothing for who is there."""
    with taker(who, proxy_protocol=("unix",) if has_setting else None) as there:
        there.post(encode(Record(listener=0, is_unnamed=True)))
        (unnamed,) = there.take_in()
        there.post(encode(Record(listener=0)))
        (other,) = there.take_in()
        assert (unnamed.phase, other.phase) == (State.UNNAMED, State.OPEN)
        first, second = there.seats.clients
        first.sendall(LINE + b"hello")
        assert receive_exactly(first, 15) == b"192.0.2.7:50312"
        second.sendall(b"hello")
        assert second.recv(100).startswith(b"unix pid ")


# Whose process it is


def test_it_is_known_until_the_last_hook() -> None:
    seen: list[Any] = []

    class Hooks:
        def connected(self, connection: Connection) -> None:
            seen.append(connection.credentials)

        def disconnected(self, connection: Connection) -> None:
            seen.append(connection.credentials)

        def __call__(self, message: bytes) -> bytes:
            return message

    with bed(Hooks) as worker:
        client = worker.connect()
        client.sendall(b"x")
        assert receive_exactly(client, 1) == b"x"
        client.close()
        worker.wait_closed(1)
    assert seen == [streams.Credentials(os.getpid(), os.geteuid(), os.getegid())] * 2


def whose(_message: bytes, connection: Connection) -> bytes:
    return repr(connection.credentials).encode()


@pytest.mark.parametrize("header", [LINE, b"PROXY UNKNOWN\r\n", SIGNATURE + struct.pack("!BBH", 0x20, 0, 0)])
def test_the_process_at_the_other_end_of_a_proxys_connection_is_not_the_peers(header: bytes) -> None:
    with bed(whose, proxy_protocol=("unix",)) as worker:
        client = worker.connect()
        client.sendall(header + b"hello")
        assert receive_exactly(client, 4) == b"None"
        client.close()
        worker.wait_closed(1)


@pytest.mark.parametrize("has_setting", [False, True])
def test_that_it_is_a_proxys_travels_with_it(has_setting: bool) -> None:
    with taker(whose, proxy_protocol=("unix",) if has_setting else None) as there:
        for record, is_known in (
            (Record(listener=0, is_unnamed=True), False),
            (Record(listener=0, is_proxied=True, messages=1), False),
            (Record(listener=0, messages=1), True),
            (Record(listener=7, is_proxied=True, messages=1), False),
        ):
            there.post(encode(record))
            there.take_in()
            client = there.seats.clients[-1]
            client.sendall(LINE * record.is_unnamed + b"hello")
            assert client.recv(100).startswith(b"Credentials(pid=" if is_known else b"None")


@pytest.mark.parametrize("start", ["accept", "data"])
@pytest.mark.parametrize("has_proxy", [False, True])
def test_whole_connections_have_it_too(start: str, has_proxy: bool) -> None:
    def hold(conn: HeldSocket) -> None:
        conn.sendall(repr(conn.credentials).encode() + conn.recv(5))

    with bed(hold, as_="connection", start=start, proxy_protocol=("unix",) if has_proxy else None) as worker:
        client = worker.connect()
        client.sendall(LINE * has_proxy + b"hello")
        who = None if has_proxy else streams.Credentials(os.getpid(), os.geteuid(), os.getegid())
        assert receive_all(client) == repr(who).encode() + b"hello"
        client.close()
        worker.wait_closed(1)


def test_a_held_socket_of_a_proxy_that_names_nobody_has_the_proxys_address() -> None:
    left, right = socket.socketpair()
    held = HeldSocket(left.detach(), cast("Any", None), "here", None, 10.0, peer="a peer that is gone")
    with right:
        assert held.peer_address == ""
        socket.socket(fileno=held.give_back()).close()


def test_the_clock_stands_while_nobody_could_look_at_a_header() -> None:
    gate = Gate()

    def handler(message: bytes) -> bytes:
        if message == b"wait":
            gate.wait()
        return message

    with bed(handler, **LOOPBACK, threads=1, proxy_timeout=10.0) as worker:
        slow = worker.connect_tcp()
        slow.sendall(LINE[:10])
        worker.look()
        caller = worker.connect_tcp()
        caller.sendall(LINE + b"wait")
        gate.wait_entered()

        def is_found() -> bool:
            worker.tick()
            return worker.worker.crew.roles.leader is None

        eventually(is_found)
        worker.look(5.0, in_calls=True)
        worker.look(5.0, in_calls=True)
        gate.open()
        assert receive_exactly(caller, 4) == b"wait"
        worker.look()
        worker.look(6.0)
        assert only_open(worker, slow), "only the time in which somebody led is counted"
        worker.look(10.0)
        with pytest.raises(ConnectionResetError):
            slow.recv(1)


def only_open(worker: Bed, client: socket.socket) -> bool:
    """After all that the last look found was served."""
    other = worker.connect_tcp()
    other.sendall(LINE + b"now")
    assert receive_exactly(other, 3) == b"now"
    client.setblocking(False)
    try:
        return client.recv(1) != b""
    except BlockingIOError:
        return True
    finally:
        client.settimeout(10)
