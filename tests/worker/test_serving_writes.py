"""worker/serving.py: what the peer does not take.  Partial writes, backpressure, the limits of memory and of time."""

import os
import socket

import pytest

from paceline.host import streams
from paceline.worker.connection import Connection
from paceline.worker.tables import Tables
from workerbed import Bed, ByteByByte, Gate, bed, receive_all, receive_exactly, reset, unread_bytes

PIECE = 64 * 1024


def numbered(number: int, size: int = PIECE) -> bytes:
    """Bytes that show where they belong."""
    return (b"%08d" % number) * (size // 8)


class Numbers:
    """A handler: each message is answered with its number among all, 64 KiB long; `.` at once with a dot."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, message: bytes) -> bytes:
        if message == b".":
            return b"."
        self.calls += 1
        return numbered(self.calls)


def connect(worker: Bed, kind: str, *, send_buffer: int | None = None) -> socket.socket:
    if kind == "tcp":
        return worker.connect_tcp(send_buffer=send_buffer, receive_buffer=8192)
    return worker.connect(send_buffer=send_buffer)


def say_dot(client: socket.socket) -> None:
    client.sendall(b".")
    assert client.recv(1) == b"."


@pytest.mark.parametrize("kind", ["pair", "tcp"])
def test_a_peer_that_does_not_read_stops_its_own_calls_and_nobody_elses(kind: str) -> None:
    handler = Numbers()
    with bed(handler, framing=ByteByByte()) as worker:
        slow, other = connect(worker, kind), worker.connect()
        slow.sendall(b"x" * 200)
        stuck = worker.wait_stuck()
        calls = handler.calls
        assert calls < 200
        slow.sendall(b"y" * 50)
        for _ in range(10):
            say_dot(other)  # an edge of the slow one's input, if it is served at all, comes before
        # TCP may still have taken some: a kernel's buffers grow while they are full.
        assert handler.calls == calls or (kind == "tcp" and handler.calls < 200), "nothing more is made for it"
        assert unread_bytes(stuck.fd) == 50, "nor is it read"
        for number in range(1, 251):
            assert receive_exactly(slow, PIECE) == numbered(number)
        assert handler.calls == 250
        say_dot(slow)


@pytest.mark.parametrize("kind", ["pair", "tcp"])
@pytest.mark.parametrize("send_buffer", [1, 4096, 65536])
def test_a_reply_arrives_whole_through_any_buffer(kind: str, send_buffer: int) -> None:
    whole = b"".join(b"%07d\n" % n for n in range(131072))

    def handler(message: bytes) -> bytes:
        return whole if message == b"all" else message

    with bed(handler, framing="line", max_buffer=2**21) as worker:
        client = connect(worker, kind, send_buffer=send_buffer)
        client.sendall(b"first\nall\nlast\n")
        assert receive_exactly(client, len(whole) + 12) == b"first\n" + whole + b"\nlast\n"


def test_input_that_waited_behind_unsent_bytes_is_read_when_these_are_gone() -> None:
    """While the reply waits, more input and the end come in: they make no event of their own later."""
    with bed(Numbers(), framing=ByteByByte()) as worker:
        client = worker.connect(send_buffer=4096)
        client.sendall(b"x")
        worker.wait_stuck()
        client.sendall(b"x.")
        client.shutdown(socket.SHUT_WR)
        assert receive_all(client) == numbered(1) + numbered(2) + b"."
        worker.wait_closed(1)


def test_the_peer_may_be_lost_with_bytes_unsent() -> None:
    with bed(Numbers(), framing=ByteByByte()) as worker:
        client, other = worker.connect_tcp(send_buffer=4096, receive_buffer=4096), worker.connect()
        client.sendall(b"x" * 10)
        worker.wait_stuck()
        reset(client)
        worker.wait_closed(1)
        assert worker.log.find("peer-reset")
        say_dot(other)


def test_a_peer_that_is_lost_at_the_end_of_a_turn_is_not_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its descriptor may be another connection's by then, which nobody would look at any more."""
    put_back: list[Connection] = []

    def requeue(tables: Tables, connection: Connection) -> None:
        put_back.append(connection)
        assert not connection.is_closed
        requeue_as_ever(tables, connection)

    requeue_as_ever = Tables.requeue
    monkeypatch.setattr(Tables, "requeue", requeue)

    def handler(message: bytes) -> bytes:
        if message == b"!":
            reset(client)
        return message

    with bed(handler, framing=ByteByByte()) as worker:
        client = worker.connect_tcp()
        # Turn by turn, each but the first begins with what is left of `ready`: read on until there is nothing more.
        client.sendall(b"." * 1_000 + b"!" + b"." * 1_000)
        worker.wait_closed(1)
        assert put_back
        assert not worker.worker.tables.open
        assert not worker.log.find("bug")


@pytest.mark.parametrize("max_buffer", [4096, 100_000])
def test_what_is_kept_for_a_peer_is_bounded(max_buffer: int) -> None:
    """Many small replies are not made at once if they could not be kept."""
    with bed(lambda _message: b"r" * 1000, framing=ByteByByte(), max_buffer=max_buffer) as worker:
        worker.worker.estimate.most_calls = 256
        client = worker.connect(send_buffer=1)
        client.sendall(b"x" * 2000)
        stuck = worker.wait_stuck()
        assert stuck.out is not None
        assert len(stuck.out) <= max_buffer + 1000
        assert receive_exactly(client, 2_000_000) == b"r" * 2_000_000


BIG = b"b" * 5000


@pytest.mark.parametrize("big", [BIG, bytearray(BIG), [b"ok", BIG]], ids=["bytes", "bytearray", "piece"])
@pytest.mark.parametrize("way", ["fast", "measured", "blocking"])
def test_a_reply_over_the_buffer_is_refused_by_name(big: object, way: str) -> None:
    def handler(message: bytes) -> object:
        return big if message == b"!" else message

    with bed(handler, framing=ByteByByte(), max_buffer=4096) as worker:
        worker.worker.sample_due = way == "measured"
        worker.worker.estimate.blocking = way == "blocking"
        client, other = worker.connect(), worker.connect()
        client.sendall(b"ab!c")
        assert receive_all(client) == (b"abok" if isinstance(big, list) else b"ab")
        said = worker.log.wait_for("reply-too-large")
        assert (said["bytes"], said["limit"]) == ("5,000", "4,096")
        assert said["message"] == 3
        client.close()
        worker.wait_closed(1)
        assert worker.cell("closed_error") == 1
        other.sendall(b"d")
        assert other.recv(1) == b"d"


def test_a_reply_of_exactly_the_buffer_is_sent() -> None:
    with bed(lambda _message: b"b" * 4096, framing=ByteByByte(), max_buffer=4096) as worker:
        client = worker.connect()
        client.sendall(b"xx")
        assert receive_exactly(client, 8192) == b"b" * 8192


class Watched(Numbers):
    """The same, and it counts farewells."""

    def __init__(self) -> None:
        super().__init__()
        self.left = 0

    def disconnected(self, _connection: Connection) -> None:
        self.left += 1


def test_of_a_reply_in_pieces_no_more_is_kept_than_some_of_them() -> None:
    with bed(lambda _message: [bytes(1_000)] * 2_000, framing=ByteByByte()) as worker:
        client = worker.connect(send_buffer=4096)
        client.sendall(b"x")
        assert worker.wait_stuck().kept_bytes <= 65_000
        receive_exactly(client, 2_000_000)


@pytest.mark.parametrize("kind", ["pair", "tcp"])
def test_a_peer_that_takes_nothing_for_the_write_timeout_is_cut_off(kind: str) -> None:
    handler = Watched()
    with bed(handler, framing=ByteByByte(), write_timeout=10.0) as worker:
        client, other = connect(worker, kind, send_buffer=4096), worker.connect()
        client.sendall(b"x" * 200)
        worker.wait_stuck()
        worker.look()
        worker.look(9.9)
        say_dot(other)  # what the look found, if it found anything, was served before
        assert worker.cell("closed") == 0
        worker.look(1)
        worker.wait_closed(1)
        assert handler.left == 1
        assert worker.cell("closed_timeout") == 1
        assert "--write-timeout" in str(worker.log.find("peer-slow")[0]["why"])
        assert len(worker.log.find("peer-slow")) == 1


def test_a_peer_that_takes_something_now_and_then_is_not_cut_off() -> None:
    handler = Numbers()
    with bed(handler, framing=ByteByByte(), write_timeout=10.0) as worker:
        client, other = worker.connect_tcp(send_buffer=65536, receive_buffer=65536), worker.connect()
        client.sendall(b"x" * 200)
        stuck = worker.wait_stuck()
        worker.look()
        received = 0
        for _ in range(20):
            before = stuck.sent
            while stuck.sent == before:
                received += len(client.recv(4096))
            worker.look(9)
            say_dot(other)
        assert worker.cell("closed") == 0
        receive_exactly(client, 200 * PIECE - received)
        assert handler.calls == 200


def test_less_than_the_kernel_tells_of_counts_as_taken_too() -> None:
    """EPOLLOUT waits until much of the buffer is free; a peer that takes less of it is slow, and not cut off."""
    with bed(Numbers(), framing=ByteByByte(), write_timeout=10.0) as worker:
        client, other = worker.connect(), worker.connect()
        client.sendall(b"x" * 200)
        worker.wait_stuck()
        for _ in range(5):
            worker.look()
            receive_exactly(client, PIECE)
            worker.look(11)
            say_dot(other)
            assert worker.cell("closed") == 0
        for _ in range(2):  # of a Unix socket it is not known that what is sent at the first time is nobody's doing
            worker.look()
            worker.look(11)
            say_dot(other)
        worker.wait_closed(1)


def test_room_in_our_own_kernel_is_nothing_that_the_peer_has_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """That more could be sent when its time is up does not give it as much time again."""
    with bed(Numbers(), framing=ByteByByte(), write_timeout=10.0) as worker:
        client = connect(worker, "tcp", send_buffer=65536)
        client.sendall(b"x" * 200)
        stuck = worker.wait_stuck()
        # Of all that is sent the peer's side says that it has got a hundred bytes, and no more.
        monkeypatch.setattr(streams, "unsent_bytes", lambda _fd: stuck.sent - 100)
        worker.look()
        before = stuck.sent
        with socket.socket(fileno=os.dup(stuck.fd)) as ours:
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 100_000)
        worker.look(11)
        worker.wait_closed(1)
        assert stuck.sent > before, "there was room, and it was used"
        assert worker.cell("closed_timeout") == 1


def test_room_that_nobody_saw_in_time_is_seen_before_the_judgement() -> None:
    """All threads are in calls for longer than the write time-out, and the peer has read everything meanwhile."""
    gate = Gate()
    numbers = Numbers()

    def handler(message: bytes) -> bytes:
        if message == b"!":
            gate.wait()
        return numbers(message)

    with bed(handler, framing=ByteByByte(), write_timeout=10.0, threads=1) as worker:
        client, blocker = worker.connect(send_buffer=4096), worker.connect()
        client.sendall(b"x")
        worker.wait_stuck()
        worker.look()
        blocker.sendall(b"!")
        gate.wait_entered()
        taken = receive_what_is_there(client)
        worker.look(11, in_calls=True)
        worker.look(11, in_calls=True)
        gate.open()
        receive_exactly(blocker, PIECE)
        receive_exactly(client, PIECE - taken)
        say_dot(client)


def receive_what_is_there(client: socket.socket) -> int:
    """How many bytes had arrived."""
    client.setblocking(False)
    taken = 0
    try:
        while True:
            taken += len(client.recv(65536))
    except BlockingIOError:
        client.settimeout(10)
        return taken
