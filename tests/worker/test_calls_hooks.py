"""worker/calls.py: the hooks of a connection and of a thread."""

import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from leftovers import eventually
from paceline.handlers import Close
from paceline.worker.connection import Connection
from workerbed import Bed, Gate, bed, receive_all, receive_exactly, reset


class Handler:
    """Echoes lines; `greeting` makes what `connected` returns.  It notes who came and who went."""

    def __init__(self, greeting: Callable[[Connection], object] = lambda _connection: None) -> None:
        self.greeting = greeting
        self.came: list[Connection] = []
        self.went: list[Connection] = []

    def connected(self, connection: Connection) -> object:
        self.came.append(connection)
        return self.greeting(connection)

    def disconnected(self, connection: Connection) -> None:
        self.went.append(connection)

    def __call__(self, message: bytes, connection: Connection) -> object:
        match message:
            case b"close":
                return Close(b"bye")
            case b"raise":
                raise ValueError("no")
            case b"wrong":
                return 5
            case b"state":
                return str(connection.state).encode()
            case b"large":
                return b"l" * 500_000
        return message


def say(client: socket.socket, line: bytes = b"ping\n") -> None:
    client.sendall(line)
    assert receive_exactly(client, len(line)) == line


# Greetings


@pytest.mark.parametrize(
    ("greeting", "sent"),
    [
        (None, b""),
        (b"hello", b"hello\n"),
        (bytearray(b"hello"), b"hello\n"),
        ([b"one", b"two"], b"one\ntwo\n"),
        (b"g" * 300_000, b"g" * 300_000 + b"\n"),
    ],
    ids=["None", "bytes", "bytearray", "pieces", "large"],
)
@pytest.mark.parametrize("speaks", ["after it", "at once"])
def test_a_greeting_comes_before_everything(greeting: object, sent: bytes, speaks: str) -> None:
    with bed(Handler(lambda _connection: greeting), framing="line", run=speaks == "after it") as worker:
        client = worker.connect_tcp()
        if speaks == "at once":
            client.sendall(b"ping\n")
            assert worker.parts.start()
        else:
            assert receive_exactly(client, len(sent)) == sent
            sent = b""
            client.sendall(b"ping\n")
        assert receive_exactly(client, len(sent) + 5) == sent + b"ping\n"


def test_a_greeting_may_be_made_piece_by_piece() -> None:
    gate = Gate()

    def greeting(_connection: Connection) -> Iterator[bytes]:
        yield b"one"
        gate.wait()
        yield b"two"

    with bed(Handler(greeting), framing="line") as worker:
        client = worker.connect()
        assert receive_exactly(client, 4) == b"one\n"
        gate.wait_entered()
        client.sendall(b"ping\n")
        gate.open()
        assert receive_exactly(client, 9) == b"two\nping\n"


@pytest.mark.parametrize("greeting", [Close(b"go away"), Close([b"go", b"away"])], ids=["bytes", "pieces"])
def test_a_greeting_may_turn_the_peer_away(greeting: Close) -> None:
    handler = Handler(lambda _connection: greeting)
    with bed(handler, framing="line") as worker:
        client = worker.connect_tcp()
        assert receive_all(client).replace(b"\n", b" ").split() == [b"go", b"away"]
        client.close()
        worker.wait_closed(1)
        assert len(handler.went) == 1
        assert worker.cell("closed_handler") == 1


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(1), KeyboardInterrupt()], ids=repr)
def test_a_greeting_that_raises_costs_its_connection(error: BaseException) -> None:
    def greeting(connection: Connection) -> bytes:
        if len(handler.came) == 1:
            raise error
        return b"hello"

    handler = Handler(greeting)
    with bed(handler, framing="line") as worker:
        client = worker.connect_tcp()
        assert receive_all(client) == b""
        said = worker.log.wait_for("hook-failed")
        assert said["hook"] == "connected"
        assert "in greeting" in str(said["detail"])
        client.close()
        worker.wait_closed(1)
        assert len(handler.went) == 1, "it was greeted, if not well"
        other = worker.connect()
        assert receive_exactly(other, 6) == b"hello\n"


def test_a_wrong_greeting_costs_its_connection() -> None:
    with bed(Handler(lambda _connection: "text"), framing="line") as worker:
        client = worker.connect_tcp()
        assert receive_all(client) == b""
        assert "text" in str(worker.log.wait_for("reply-refused")["got"])


def test_a_slow_greeting_does_not_stop_the_others() -> None:
    gate = Gate()

    def greeting(_connection: Connection) -> bytes:
        if len(handler.came) == 1:
            gate.wait()
        return b"hello"

    handler = Handler(greeting)
    with bed(handler, framing="line") as worker:
        slow = worker.connect()
        gate.wait_entered()
        other = worker.connect()
        worker.tick_until_led()
        assert receive_exactly(other, 6) == b"hello\n"
        say(other)
        gate.open()
        assert receive_exactly(slow, 6) == b"hello\n"


def test_what_a_greeting_notes_is_there_for_the_messages() -> None:
    def greeting(connection: Connection) -> None:
        connection.state = {"came": len(handler.came)}

    handler = Handler(greeting)
    with bed(handler, framing="line") as worker:
        for number in (1, 2):
            client = worker.connect()
            client.sendall(b"state\n")
            assert receive_exactly(client, 12) == b"{'came': %d}\n" % number


def test_a_handler_may_have_only_one_of_the_two() -> None:
    left: list[Connection] = []

    class OnlyFarewell:
        def __call__(self, message: bytes) -> bytes:
            return message

        def disconnected(self, connection: Connection) -> None:
            left.append(connection)

    with bed(OnlyFarewell(), framing="line") as worker:
        client = worker.connect()
        say(client)
        client.close()
        worker.wait_closed(1)
        assert len(left) == 1


# Farewells


def end_by_the_peer(_worker: Bed, client: socket.socket) -> None:
    client.close()


def end_by_a_reset(_worker: Bed, client: socket.socket) -> None:
    reset(client)


def end_by_half_closing(_worker: Bed, client: socket.socket) -> None:
    client.shutdown(socket.SHUT_WR)
    receive_all(client)


def end_by_truncation(_worker: Bed, client: socket.socket) -> None:
    client.sendall(b"half a line")
    client.shutdown(socket.SHUT_WR)
    receive_all(client)


def end_by_the_handler(_worker: Bed, client: socket.socket) -> None:
    client.sendall(b"close\n")
    assert receive_all(client) == b"bye\n"
    client.close()


def end_by_an_exception(_worker: Bed, client: socket.socket) -> None:
    client.sendall(b"raise\n")
    receive_all(client)
    client.close()


def end_by_a_wrong_reply(_worker: Bed, client: socket.socket) -> None:
    client.sendall(b"wrong\n")
    receive_all(client)
    client.close()


def end_by_a_broken_message(_worker: Bed, client: socket.socket) -> None:
    client.sendall(b"x" * 2000 + b"\n")
    receive_all(client)
    client.close()


def end_by_a_time_limit(worker: Bed, client: socket.socket) -> None:
    client.sendall(b"begun")
    eventually(lambda: worker.connections()[0].rest is not None)
    worker.look()
    worker.look(100)


def end_by_not_reading(worker: Bed, client: socket.socket) -> None:
    client.sendall(b"large\n")
    worker.wait_stuck()
    worker.look()
    worker.look(100)


def end_by_lingering_for_too_long(worker: Bed, client: socket.socket) -> None:
    client.sendall(b"close\n")
    receive_all(client)
    worker.look()
    worker.look(100)


def end_by_a_drain(worker: Bed, client: socket.socket) -> None:
    drained = worker.drain()
    assert receive_all(client) == b""
    client.close()
    assert drained.wait() == 0


ENDS = [end for name, end in list(globals().items()) if name.startswith("end_by_")]


@pytest.mark.parametrize("end", ENDS, ids=lambda end: end.__name__.removeprefix("end_by_"))
def test_each_connection_is_said_good_bye_to_once(end: Callable[[Bed, socket.socket], None]) -> None:
    handler = Handler()
    with bed(handler, framing="line", max_message=1000) as worker:
        client = worker.connect_tcp(send_buffer=4096, receive_buffer=4096)
        say(client)
        end(worker, client)
        worker.wait_closed(1)
        assert handler.went == handler.came
        assert len(handler.went) == 1
        reasons = ("peer", "handler", "error", "timeout", "broken", "drain")
        assert sum(worker.cell(f"closed_{reason}") for reason in reasons) == 1


def test_a_farewell_that_raises_is_logged_and_the_connection_is_closed() -> None:
    class Rude(Handler):
        def disconnected(self, connection: Connection) -> None:
            super().disconnected(connection)
            raise ValueError("no")

    handler = Rude()
    with bed(handler, framing="line") as worker:
        client, other = worker.connect_tcp(), worker.connect_tcp()
        client.close()
        worker.wait_closed(1)
        assert worker.log.wait_for("hook-failed")["hook"] == "disconnected"
        say(other)


def test_a_slow_farewell_does_not_stop_the_others() -> None:
    gate = Gate()

    class Slow(Handler):
        def disconnected(self, connection: Connection) -> None:
            gate.wait()

    with bed(Slow(), framing="line") as worker:
        client, other = worker.connect_tcp(), worker.connect_tcp()
        client.close()
        gate.wait_entered()
        worker.tick_until_led()
        say(other)
        gate.open()
        worker.wait_closed(1)


# Threads


class Threads:
    """Which threads were prepared, and which were dismissed; a call at the gate keeps its thread."""

    def __init__(self, fail_after: int | None = None) -> None:
        self.gate = Gate()
        self.started: list[int] = []
        self.stopped: list[int] = []
        self.called: list[int] = []
        self.fail_after = fail_after

    def thread_start(self) -> None:
        if self.fail_after is not None and len(self.started) >= self.fail_after:
            raise ValueError("no handle left")
        self.started.append(threading.get_ident())

    def thread_stop(self) -> None:
        self.stopped.append(threading.get_ident())

    def __call__(self, message: bytes) -> bytes:
        self.called.append(threading.get_ident())
        if message == b"slow":
            self.gate.wait()
        return message


def test_each_thread_is_started_and_stopped_once_by_itself() -> None:
    handler = Threads()
    with bed(handler, framing="line") as worker:
        clients = [worker.connect() for _ in range(5)]
        for client in clients:
            client.sendall(b"slow\n")
            handler.gate.wait_entered()
            worker.tick_until_led()
        handler.gate.open()
        for client in clients:
            receive_exactly(client, 5)
        assert set(handler.called) <= set(handler.started)
        assert len(handler.started) >= 5
        assert not handler.stopped
    assert sorted(handler.started) == sorted(handler.stopped)


def test_a_thread_whose_start_fails_serves_nobody() -> None:
    """The first one serves on; the others are missed only while it blocks."""
    handler = Threads(fail_after=1)
    with bed(handler, framing="line") as worker:
        slow, other = worker.connect(), worker.connect()
        slow.sendall(b"slow\n")
        handler.gate.wait_entered()
        worker.tick_until_led()
        assert worker.log.wait_for("hook-failed")["hook"] == "thread_start"
        other.sendall(b"other\n")
        handler.gate.open()
        assert receive_exactly(slow, 5) == b"slow\n"
        assert receive_exactly(other, 6) == b"other\n"
        assert set(handler.called) == set(handler.started)
        assert worker.cell("thread_failures") >= 1
    assert handler.stopped == handler.started, "what did not start is not stopped"


def test_a_first_thread_whose_start_fails_is_told() -> None:
    with bed(Threads(fail_after=0), framing="line", run=False) as worker:
        assert not worker.parts.start()
        assert worker.log.wait_for("hook-failed")["hook"] == "thread_start"


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(1)], ids=repr)
def test_a_thread_stop_that_raises_is_logged(error: BaseException) -> None:
    class Rude(Threads):
        def thread_stop(self) -> None:
            raise error

    with bed(Rude(), framing="line") as worker:
        client = worker.connect()
        say(client)
        log: Any = worker.log
    assert log.wait_for("hook-failed")["hook"] == "thread_stop"
