"""worker/timing.py and serving.py: the limits of time for what a peer owes.  Time passes when the test says so."""

import socket
from collections.abc import Iterator
from typing import Any

import pytest

from leftovers import eventually
from paceline.worker.connection import Connection
from workerbed import Bed, Gate, bed, receive_all, receive_exactly


def echo(message: bytes) -> bytes:
    return message


def say(client: socket.socket, line: bytes = b"ping\n") -> None:
    client.sendall(line)
    assert receive_exactly(client, len(line)) == line


def serve_something(worker: Bed) -> None:
    """What the last look found is served before this."""
    client = worker.connect()
    say(client)
    client.close()


def send_part(worker: Bed, client: socket.socket, part: bytes, kept: int) -> None:
    """Part of a message; so many bytes of it are kept afterwards."""
    client.sendall(part)
    eventually(lambda: any(c.rest is not None and len(c.rest) == kept for c in worker.connections()))
    worker.wait_parked()


def is_open(worker: Bed, client: socket.socket) -> bool:
    """After everything that the last look found was served."""
    serve_something(worker)
    client.setblocking(False)
    try:
        return client.recv(1) != b""
    except BlockingIOError:
        return True
    finally:
        client.settimeout(10)


# The first byte, and silence


def test_a_peer_that_sends_nothing_is_closed_after_the_first_byte_timeout() -> None:
    with bed(echo, framing="line", first_byte_timeout=5.0) as worker:
        silent, talking = worker.connect_tcp(), worker.connect_tcp()
        worker.look()
        say(talking)
        worker.look(4.9)
        assert is_open(worker, silent)
        worker.look(1)
        assert receive_all(silent) == b""
        assert "--first-byte-timeout" in str(worker.log.wait_for("peer-slow")["why"])
        worker.look(100)
        assert is_open(worker, talking), "who has sent something does not owe a first byte"
        silent.close()


def test_a_peer_that_never_sends_is_idle_too() -> None:
    with bed(echo, framing="line", idle_timeout=5.0) as worker:
        silent = worker.connect_tcp()
        worker.look()
        worker.look(6)
        assert receive_all(silent) == b""
        assert "--idle-timeout" in str(worker.log.wait_for("peer-slow")["why"])
        silent.close()


def test_a_quiet_connection_is_closed_after_the_idle_timeout() -> None:
    with bed(echo, framing="line", idle_timeout=5.0) as worker:
        client = worker.connect_tcp()
        say(client)
        worker.look()
        worker.look(4)
        say(client)
        worker.look(4)
        assert is_open(worker, client), "it said something in between"
        worker.look(4)
        worker.look(4)
        assert receive_all(client) == b""
        assert "--idle-timeout" in str(worker.log.wait_for("peer-slow")["why"])
        client.close()
        worker.look()
        worker.look()


def test_no_limit_is_no_limit() -> None:
    with bed(echo, framing="line") as worker:
        silent, quiet = worker.connect_tcp(), worker.connect_tcp()
        say(quiet)
        for _ in range(10):
            worker.look(1_000_000)
        assert is_open(worker, silent)
        assert is_open(worker, quiet)


def test_a_long_call_is_no_silence_of_the_peer() -> None:
    """The idle clock stands while the handler runs, and begins anew after it."""
    gate = Gate()

    def handler(message: bytes) -> bytes:
        gate.wait()
        return message

    with bed(handler, framing="line", idle_timeout=5.0) as worker:
        client = worker.connect_tcp()
        worker.look()
        client.sendall(b"slow\n")
        gate.wait_entered()
        for _ in range(10):
            worker.look(5, in_calls=True)
        gate.open()
        assert receive_exactly(client, 5) == b"slow\n"
        worker.look(4)
        assert is_open(worker, client)


def test_a_long_reply_in_pieces_is_no_silence_of_the_peer() -> None:
    gates = [Gate() for _ in range(20)]

    def handler(message: bytes) -> Iterator[bytes]:
        if message == b"go":
            for number, gate in enumerate(gates):
                gate.wait()
                yield b"%d" % number
        else:
            yield message

    with bed(handler, framing="line", idle_timeout=5.0) as worker:
        client = worker.connect_tcp()
        worker.look()
        client.sendall(b"go\n")
        for number, gate in enumerate(gates):
            gate.wait_entered()
            worker.look(3, in_calls=True)
            gate.open()
            assert receive_exactly(client, len(b"%d\n" % number)) == b"%d\n" % number
        worker.look(3)
        assert is_open(worker, client)


@pytest.mark.parametrize("limit", [{"idle_timeout": 5.0}, {"first_byte_timeout": 5.0}])
def test_input_that_nobody_read_in_time_is_no_silence(limit: dict[str, Any]) -> None:
    """All threads are in calls for longer than the limit; the peer has sent meanwhile."""
    gate = Gate()

    def handler(message: bytes) -> bytes:
        if message == b"slow":
            gate.wait()
        return message

    with bed(handler, framing="line", threads=1, **limit) as worker:
        client, blocker = worker.connect_tcp(), worker.connect_tcp()
        if "idle_timeout" in limit:
            say(client)
        worker.look()
        blocker.sendall(b"slow\n")
        gate.wait_entered()
        client.sendall(b"I am here\n")
        for _ in range(10):
            worker.look(2, in_calls=True)
        assert len(worker.worker.tables.ready) <= 1, "what was found once is not noted again and again"
        gate.open()
        assert receive_exactly(client, 10) == b"I am here\n"
        assert receive_exactly(blocker, 5) == b"slow\n"


def test_who_is_not_greeted_yet_owes_nothing() -> None:
    gate = Gate()

    class Handler:
        def connected(self, _connection: Connection) -> bytes:
            gate.wait()
            return b"hello"

        def __call__(self, message: bytes) -> bytes:
            return message

    with bed(Handler(), framing="line", threads=1, first_byte_timeout=5.0) as worker:
        first = worker.connect_tcp()
        gate.wait_entered()
        second = worker.connect_tcp()
        for _ in range(10):
            worker.look(2, in_calls=True)
        gate.open()
        for client in (first, second):
            assert receive_exactly(client, 6) == b"hello\n"
            say(client)


# The rest of a message


def test_a_message_that_is_begun_must_be_finished() -> None:
    with bed(echo, framing="line", message_timeout=20.0) as worker:
        client, quiet = worker.connect_tcp(), worker.connect_tcp()
        say(client)
        send_part(worker, client, b"begun", 5)
        worker.look()
        worker.look(19)
        assert is_open(worker, client)
        worker.look(2)
        with pytest.raises(ConnectionResetError):
            receive_all(client)
        assert "--message-timeout" in str(worker.log.wait_for("peer-slow")["why"])
        assert worker.cell("closed_timeout") == 1
        assert is_open(worker, quiet)


def test_a_slow_but_steady_sender_gets_more_time() -> None:
    """20 s, and one more for every 500 bytes."""
    with bed(echo, framing="line", message_timeout=20.0, min_rate=500) as worker:
        client = worker.connect_tcp()
        send_part(worker, client, b"x", 1)
        worker.look()
        for number in range(1, 11):
            send_part(worker, client, b"x" * 5000, 5000 * number + 1)
            worker.look(9)
            assert is_open(worker, client)
        worker.look(31)
        serve_something(worker)
        with pytest.raises(ConnectionResetError):
            receive_all(client)


@pytest.mark.parametrize("rate", [500, 0])
def test_one_byte_now_and_then_does_not_buy_time(rate: int) -> None:
    with bed(echo, framing="line", message_timeout=20.0, min_rate=rate) as worker:
        client = worker.connect_tcp()
        for number in range(1, 21):
            send_part(worker, client, b"x", number)
            worker.look(1)
        worker.look(2)
        with pytest.raises(ConnectionResetError):
            receive_all(client)


def test_a_byte_that_is_being_read_when_the_watcher_looks_does_not_buy_time() -> None:
    """Of thousands that drip there is always one just then."""
    with bed(echo, framing="line", message_timeout=20.0) as worker:
        client = worker.connect_tcp()
        send_part(worker, client, b"begun", 5)
        (c,) = worker.connections()
        timing, parked = worker.parts.serving.ending.timing, worker.worker.tables.parked
        timing.look(worker.now)
        assert parked.pop(c.fd) is c
        timing.look(worker.now + 10)
        parked[c.fd] = c
        worker.look(19)
        assert is_open(worker, client)
        worker.look(2)
        with pytest.raises(ConnectionResetError):
            receive_all(client)


def test_the_clock_begins_anew_with_each_message() -> None:
    with bed(echo, framing="line", message_timeout=20.0) as worker:
        client = worker.connect_tcp()
        for _ in range(10):
            send_part(worker, client, b"a", 1)
            worker.look(15)
            client.sendall(b"a\n")
            assert receive_exactly(client, 3) == b"aa\n"
        assert is_open(worker, client)


def test_the_rest_that_nobody_read_in_time_is_read_before_the_judgement() -> None:
    gate = Gate()

    def handler(message: bytes) -> bytes:
        if message == b"slow":
            gate.wait()
        return message

    with bed(handler, framing="line", threads=1, message_timeout=20.0) as worker:
        client, blocker = worker.connect_tcp(), worker.connect_tcp()
        send_part(worker, client, b"be", 2)
        worker.look()
        blocker.sendall(b"slow\n")
        gate.wait_entered()
        client.sendall(b"gun\n")
        worker.look(21, in_calls=True)
        gate.open()
        assert receive_exactly(client, 6) == b"begun\n"


def test_what_owes_nothing_any_more_is_not_timed() -> None:
    with bed(echo, framing="line") as worker:
        clients = [worker.connect() for _ in range(10)]
        for client in clients:
            client.sendall(b"be")
        eventually(lambda: len(worker.worker.tables.timed) == 10)
        worker.look()
        assert len(worker.worker.tables.timed) == 10
        for client in clients:
            client.sendall(b"gun\n")
            receive_exactly(client, 6)
        worker.look()
        assert not worker.worker.tables.timed


# A deadline that the watcher takes back


class Dropping(dict[int, Connection]):
    """`timed`, in which something happens just after the watcher took an entry out."""

    def __init__(self) -> None:
        super().__init__()
        self.on_pop: Any = None

    def pop(self, fd: int, default: Any = None) -> Any:
        found = super().pop(fd, default)
        if found is not None and self.on_pop is not None:
            on_pop, self.on_pop = self.on_pop, None
            on_pop()
        return found


@pytest.mark.parametrize("order", ["rest, then taken out", "taken out, then timed"])
def test_a_message_begun_while_the_watcher_forgets_the_connection_is_timed(order: str) -> None:
    """The watcher sees that nothing is owed and takes it out; its owner begins a message in the same moment."""
    timed = Dropping()
    with bed(echo, framing="line", run=False) as worker:
        worker.worker.tables.timed = timed
        assert worker.parts.start()
        client = worker.connect()
        send_part(worker, client, b"be", 2)
        (connection,) = worker.connections()
        client.sendall(b"gun\n")
        receive_exactly(client, 6)

        def begin() -> None:
            if order == "rest, then taken out":
                connection.rest = b"be"  # its owner's next step is to time it, which it found itself to be
            else:
                send_part(worker, client, b"be", 2)

        timed.on_pop = begin
        worker.look()
        assert connection.fd in timed
