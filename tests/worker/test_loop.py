"""worker/loop.py: the fast path, and the orders of steps in which a naive loop loses something."""

import socket
import threading
from typing import Any

import pytest

from paceline.handlers import Close
from paceline.worker.connection import Connection
from paceline.worker.roles import Why
from workerbed import DEADLINE_S, Bed, Gate, bed


def echo(message: bytes) -> bytes:
    return message


def receive_exactly(client: socket.socket, count: int) -> bytes:
    received = b""
    while len(received) < count:
        piece = client.recv(65536)
        assert piece, f"end-of-file after {received!r}"
        received += piece
    return received


def receive_all(client: socket.socket) -> bytes:
    received = b""
    while piece := client.recv(65536):
        received += piece
    return received


def test_a_message_is_answered() -> None:
    with bed(echo) as worker:
        client = worker.connect()
        for message in (b"one", b"two", b"x" * 65536):
            client.sendall(message)
            assert receive_exactly(client, len(message)) == message


def test_every_message_of_a_batch_is_answered_in_order() -> None:
    with bed(echo, framing="line") as worker:
        client = worker.connect()
        lines = b"".join(b"%d\n" % n for n in range(5000))
        client.sendall(lines)
        assert receive_exactly(client, len(lines)) == lines


def test_data_and_end_of_file_in_one_edge() -> None:
    """The peer sends and ends before anybody polls: there is one event for both."""
    with bed(echo, run=False) as worker:
        client = worker.connect()
        client.sendall(b"last words")
        client.shutdown(socket.SHUT_WR)
        assert worker.parts.start()
        assert receive_all(client) == b"last words"


def test_what_fills_the_buffer_is_read_on() -> None:
    """A receive of exactly 64 KiB leaves a rest that makes no edge of its own."""
    with bed(echo, run=False) as worker:
        client = worker.connect()
        client.sendall(b"a" * 65536 + b"b" * 5)
        assert worker.parts.start()
        assert receive_exactly(client, 65541) == b"a" * 65536 + b"b" * 5


def promote_now(worker: Bed) -> None:
    leader = worker.worker.crew.roles.leader
    assert leader is not None
    worker.worker.crew.promote(leader, Why.WATCHED)


def test_a_blocked_handler_does_not_stop_the_others() -> None:
    gate = Gate()

    def handler(message: bytes) -> bytes:
        if message == b"slow":
            gate.wait()
        return message

    with bed(handler) as worker:
        slow, quick = worker.connect(), worker.connect()
        slow.sendall(b"slow")
        gate.wait_entered()
        worker.tick_until_led()
        quick.sendall(b"quick")
        assert quick.recv(100) == b"quick"
        gate.open()
        assert slow.recv(100) == b"slow"


def test_the_batch_belongs_to_the_worker() -> None:
    """Two events in one batch; the first blocks.  The next leader serves the second, which makes no event any more."""
    gate = Gate()

    def handler(message: bytes) -> bytes:
        if message == b"slow":
            gate.wait()
        return message

    with bed(handler, run=False) as worker:
        slow, quick = worker.connect(), worker.connect()
        slow.sendall(b"slow")
        quick.sendall(b"quick")
        assert worker.parts.start()
        gate.wait_entered()
        promote_now(worker)
        assert quick.recv(100) == b"quick"
        gate.open()
        assert slow.recv(100) == b"slow"


def test_an_event_for_a_connection_in_a_call_is_not_lost() -> None:
    """Data arrives while its connection is in a call: the edge goes to the next leader, who may not touch it."""
    gate = Gate()
    order: list[bytes] = []

    def handler(message: bytes) -> bytes:
        order.append(message)
        if message == b"first":
            gate.wait()
        return message

    with bed(handler) as worker:
        client, other = worker.connect(), worker.connect()
        client.sendall(b"first")
        gate.wait_entered()
        promote_now(worker)
        client.sendall(b"second")
        other.sendall(b"other")
        assert other.recv(100) == b"other"  # the next leader has polled, and seen both
        assert order == [b"first", b"other"]
        gate.open()
        assert receive_exactly(client, 11) == b"firstsecond"


class GatedParked(dict[int, Connection]):
    """`parked`, with a stop just after a connection was put back and just before it is taken."""

    def __init__(self) -> None:
        super().__init__()
        self.on_set: Any = None
        self.on_pop: Any = None

    def __setitem__(self, fd: int, connection: Connection) -> None:
        super().__setitem__(fd, connection)
        if self.on_set is not None:
            self.on_set()

    def pop(self, fd: int, default: Any = None) -> Any:
        if self.on_pop is not None:
            self.on_pop()
        return super().pop(fd, default)


@pytest.mark.parametrize("where", ["before it is parked", "after it was parked"])
def test_an_event_around_parking_is_not_lost(where: str) -> None:
    """The owner parks while another thread notes an event: every order of the four steps ends with a read."""
    gate = Gate()
    parked = GatedParked()

    def handler(message: bytes) -> bytes:
        if message == b"first":
            gate.wait()
        return message

    with bed(handler, run=False) as worker:
        worker.worker.tables.parked = parked
        assert worker.parts.start()
        client, other = worker.connect(), worker.connect()
        client.sendall(b"first")
        gate.wait_entered()
        promote_now(worker)
        owner = next(iter(worker.worker.crew.roles.out)).thread
        stopped, go_on = threading.Event(), threading.Event()

        def stop_the_owner() -> None:
            if threading.current_thread() is owner and not stopped.is_set():
                stopped.set()
                assert go_on.wait(DEADLINE_S)

        if where == "after it was parked":
            parked.on_set = stop_the_owner
            gate.open()
            assert stopped.wait(DEADLINE_S)
            client.sendall(b"second")
        else:
            client.sendall(b"second")
            other.sendall(b"other")
            assert other.recv(100) == b"other"
            gate.open()
        go_on.set()
        assert receive_exactly(client, 11) == b"firstsecond"


def test_a_demoted_poller_passes_its_events_on() -> None:
    """Two poll for a moment; the edge goes to the one that does not lead any more."""
    with bed(echo) as worker:
        client = worker.connect()
        client.sendall(b"x")
        assert client.recv(1) == b"x"
        promote_now(worker)  # the leader polls, or is about to
        for n in range(50):
            client.sendall(b"%02d" % n)
            assert receive_exactly(client, 2) == b"%02d" % n


def test_who_returns_to_a_saturated_worker_leads() -> None:
    gate = Gate()

    def handler(message: bytes) -> bytes:
        if message == b"slow":
            gate.wait()
        return message

    with bed(handler, threads=1) as worker:
        slow, quick = worker.connect(), worker.connect()
        slow.sendall(b"slow")
        gate.wait_entered()
        worker.tick_until_led()
        worker.tick(2)  # for a whole tick
        assert worker.worker.crew.roles.leader is None
        assert worker.cell("saturated") == 1
        assert worker.log.find("saturated")
        quick.sendall(b"quick")
        gate.open()
        assert slow.recv(100) == b"slow"
        assert quick.recv(100) == b"quick"
        worker.tick(1)
        assert worker.cell("saturated") == 0


@pytest.mark.parametrize("threads", [1, 64])
def test_a_thread_exists_only_because_a_handler_blocked(threads: int) -> None:
    with bed(echo, threads=threads) as worker:
        clients = [worker.connect() for _ in range(100)]
        for client in clients:
            client.sendall(b"x")
        for client in clients:
            assert client.recv(1) == b"x"
        assert len(worker.worker.crew.members) == 1


def test_the_handler_may_want_the_connection() -> None:
    def handler(message: bytes, connection: Connection) -> bytes:
        connection.state = (connection.state or 0) + 1
        return b"%d/%d" % (connection.messages, connection.state)

    with bed(handler) as worker:
        client = worker.connect()
        for n in range(1, 4):
            client.sendall(b"x")
            assert client.recv(100) == b"%d/%d" % (n, n)


@pytest.mark.parametrize(
    ("reply", "sent"),
    [
        (None, b""),
        (b"", b"\n"),
        ([b"a", b"b"], b"a\nb\n"),
        (bytearray(b"ab"), b"ab\n"),
        (memoryview(b"ab"), b"ab\n"),
        ((piece for piece in (b"a", b"b")), b"a\nb\n"),
    ],
    ids=["None", "empty", "list", "bytearray", "memoryview", "generator"],
)
def test_replies(reply: object, sent: bytes) -> None:
    def handler(message: bytes) -> object:
        return reply if message == b"?" else message

    with bed(handler, framing="line") as worker:
        client = worker.connect()
        client.sendall(b"?\n.\n")
        assert receive_exactly(client, len(sent) + 2) == sent + b".\n"


@pytest.mark.parametrize("reply", [Close(b"bye"), Close([b"bye"])], ids=["bytes", "pieces"])
def test_close_sends_and_closes(reply: Close) -> None:
    def handler(message: bytes) -> object:
        return reply if message == b"?" else message

    with bed(handler, framing="line") as worker:
        client = worker.connect()
        client.sendall(b".\n?\n.\n")
        assert receive_all(client) == b".\nbye\n"


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(1), KeyboardInterrupt(), GeneratorExit()], ids=repr)
def test_an_exception_costs_its_connection_and_nothing_else(error: BaseException) -> None:
    def handler(message: bytes) -> bytes:
        if message == b"!":
            raise error
        return message

    with bed(handler, framing="fixed:1") as worker:
        client, other = worker.connect(), worker.connect()
        client.sendall(b"ab!c")
        assert receive_all(client) == b"ab"
        other.sendall(b"d")
        assert other.recv(1) == b"d"
        said = worker.log.wait_for("handler-failed")
        assert said["message"] == 3
        assert type(error).__name__ in str(said["error"])
        assert "in handler" in str(said["detail"])


def test_the_calls_of_a_batch_are_announced_once_and_counted_exactly() -> None:
    gate = Gate()

    def handler(message: bytes) -> bytes:
        if message == b"?":
            gate.wait()
        if message == b"!":
            raise ValueError("no")
        return message

    with bed(handler, framing="fixed:1") as worker:
        client = worker.connect()
        client.sendall(b"abcd")
        assert receive_exactly(client, 4) == b"abcd"
        worker.wait_parked()
        assert worker.thread_total("calls") == 4
        client.sendall(b"ef?g")
        gate.wait_entered()
        assert worker.thread_total("calls") == 5  # a batch has begun; which of its calls it is in, is not said
        gate.open()
        assert receive_exactly(client, 4) == b"ef?g"
        worker.wait_parked()
        assert worker.thread_total("calls") == 8
        client.sendall(b"hi!j")
        assert receive_all(client) == b"hi"
        assert worker.thread_total("calls") == 11


@pytest.mark.parametrize("reply", ["text", 7, {"a": 1}, [b"a", "b"], object()], ids=lambda reply: type(reply).__name__)
def test_a_reply_of_the_wrong_type_is_named(reply: object) -> None:
    def handler(message: bytes) -> object:
        return reply if message == b"?" else message

    with bed(handler, framing="fixed:1") as worker:
        client, other = worker.connect(), worker.connect()
        client.sendall(b".?")
        assert receive_all(client).startswith(b".")
        other.sendall(b"d")
        assert other.recv(1) == b"d"
        assert worker.log.wait_for("reply-refused")["message"] == 2
