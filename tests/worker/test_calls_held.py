"""worker/calls.py and serving.py: whole-connection calls in a worker, from accept to the end."""

import importlib.util
import os
import socket
import socketserver
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from leftovers import eventually
from paceline.scoreboard.fields import THREAD, ThreadState
from paceline.worker.held import HeldSocket
from workerbed import Bed, Gate, bed, receive_all, receive_exactly, reset

EXAMPLES = Path(__file__).parents[2] / "examples"


def echo(conn: socket.socket) -> None:
    while data := conn.recv(1024):
        conn.sendall(data)


def say(client: socket.socket, line: bytes = b"ping") -> None:
    client.sendall(line)
    assert receive_exactly(client, len(line)) == line


def states(worker: Bed) -> list[int]:
    layout = worker.plan.board.layout
    rows = [layout.thread_index(0, index) for index in range(layout.threads)]
    return [int(worker.worker.words[row + THREAD["state"]]) for row in rows]


def load_workon() -> Callable[[socket.socket], None]:
    spec = importlib.util.spec_from_file_location("workon_example", EXAMPLES / "workon.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    workon: Callable[[socket.socket], None] = module.workon
    return workon


def test_the_classroom_function_works_unchanged() -> None:
    with bed(load_workon(), as_="connection") as worker:
        clients = [worker.connect_tcp() for _ in range(5)]
        for _ in range(3):
            for number, client in enumerate(clients):
                say(client, b"%d" % number * 100)
        for client in clients:
            client.shutdown(socket.SHUT_WR)
            assert receive_all(client) == b""
        worker.wait_closed(5)
        assert not worker.log.said


def test_a_request_handler_of_the_standard_library_works_on_it() -> None:
    class Upper(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            for line in self.rfile:
                self.wfile.write(line.upper())

    def handler(conn: HeldSocket) -> None:
        Upper(conn, conn.getpeername(), None)  # type: ignore[arg-type]

    with bed(handler, as_="connection") as worker:
        client = worker.connect_tcp()
        client.sendall(b"one\ntwo\n")
        client.shutdown(socket.SHUT_WR)
        assert receive_all(client) == b"ONE\nTWO\n"
        worker.wait_closed(1)


def test_each_connection_has_a_thread_as_long_as_its_call_runs() -> None:
    with bed(echo, as_="connection") as worker:
        clients = [worker.connect() for _ in range(4)]
        for client in clients:
            say(client)
        eventually(lambda: states(worker).count(ThreadState.PEER) == 4)
        assert worker.thread_total("calls") == 4
        assert len(worker.worker.held) == 4
        for client in clients:
            client.close()
        worker.wait_closed(4)
        assert len(worker.worker.held) == 0
        assert len(worker.worker.crew.members) == 5, "one more, which leads"


def test_more_connections_than_threads_wait_their_turn() -> None:
    with bed(echo, as_="connection", threads=2) as worker:
        clients = [worker.connect() for _ in range(6)]
        for client in clients:
            client.sendall(b"ping")
        for client in clients:
            assert receive_exactly(client, 4) == b"ping"
            client.close()
        worker.wait_closed(6)
        assert worker.cell("threads_limit") == 2


def test_a_connection_that_sends_nothing_has_a_thread_at_once() -> None:
    """--start accept, the default: a handler may want to speak first."""

    def greeter(conn: socket.socket) -> None:
        conn.sendall(b"hello")
        echo(conn)

    with bed(greeter, as_="connection") as worker:
        client = worker.connect()
        assert receive_exactly(client, 5) == b"hello"
        say(client)


# --start data


def test_a_connection_that_sends_nothing_has_no_thread_with_start_data() -> None:
    with bed(echo, as_="connection", start="data") as worker:
        quiet = [worker.connect() for _ in range(20)]
        talking = worker.connect()
        say(talking)
        assert worker.thread_total("calls") == 1
        assert len(worker.worker.crew.members) <= 2
        for client in quiet:
            say(client)
            client.close()
        worker.wait_closed(20)
        say(talking)


def test_what_made_the_call_is_there_for_it() -> None:
    with bed(echo, as_="connection", start="data", run=False) as worker:
        client = worker.connect_tcp()
        client.sendall(b"early")
        client.shutdown(socket.SHUT_WR)
        assert worker.parts.start()
        assert receive_all(client) == b"early"


def test_a_stale_event_starts_no_call() -> None:
    """Something asks for a look, and nothing has arrived."""
    with bed(echo, as_="connection", start="data") as worker:
        client, other = worker.connect(), worker.connect()
        worker.wait_parked()
        (connection, _) = worker.connections()
        worker.worker.tables.ready.append((connection.fd, 1 << 30))
        worker.worker.wakeup.wake()
        say(other)
        assert worker.thread_total("calls") == 1
        say(client)


@pytest.mark.parametrize("limit", ["first_byte_timeout", "idle_timeout"])
def test_a_connection_that_never_sends_is_closed_in_time(limit: str) -> None:
    limits: dict[str, Any] = {limit: 5.0}
    with bed(echo, as_="connection", start="data", **limits) as worker:
        client = worker.connect_tcp()
        worker.look()
        worker.look(6)
        assert receive_all(client) == b""
        assert worker.thread_total("calls") == 0
        assert f"--{limit.replace('_', '-')}" in str(worker.log.wait_for("peer-slow")["why"])


def test_a_connection_that_waits_for_a_thread_is_not_timed() -> None:
    """It was accepted, and nobody could look at what it sends."""
    with bed(echo, as_="connection", threads=1, first_byte_timeout=5.0) as worker:
        first = worker.connect()
        say(first)
        second = worker.connect()
        second.sendall(b"ping")
        for _ in range(10):
            worker.look(2, in_calls=True)
        first.close()
        assert receive_exactly(second, 4) == b"ping"


# How a call ends


def test_the_last_bytes_arrive_though_input_is_left() -> None:
    def handler(conn: socket.socket) -> None:
        conn.recv(1)
        conn.sendall(b"l" * 300_000)

    with bed(handler, as_="connection") as worker:
        client = worker.connect_tcp()
        client.sendall(b"x" * 10_000)
        assert receive_all(client) == b"l" * 300_000
        client.close()
        worker.wait_closed(1)
        assert worker.cell("closed_handler") == 1


@pytest.mark.parametrize("close", ["close", "shutdown", "with", "return"])
def test_the_peer_sees_the_end_when_the_handler_ends_it(close: str) -> None:
    gate = Gate()

    def handler(conn: socket.socket) -> None:
        conn.sendall(b"bye")
        match close:
            case "close":
                conn.close()
            case "shutdown":
                conn.shutdown(socket.SHUT_RDWR)
            case "with":
                with conn:
                    pass
        if close != "return":
            gate.wait()  # the call goes on; the connection does not

    with bed(handler, as_="connection") as worker:
        client = worker.connect_tcp()
        assert receive_all(client) == b"bye"
        gate.open()
        client.close()
        worker.wait_closed(1)


def test_a_handler_may_keep_the_connection_for_itself() -> None:
    kept: list[socket.socket] = []

    def handler(conn: socket.socket) -> None:
        kept.append(socket.socket(fileno=conn.detach()))

    with bed(handler, as_="connection") as worker:
        client = worker.connect_tcp()
        worker.wait_closed(1)
        with kept[0] as own:
            own.sendall(b"mine")
            assert receive_exactly(client, 4) == b"mine"
        other = worker.connect()
        worker.wait_closed(2)
        kept[1].close()
        other.close()


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(1), KeyboardInterrupt(), TimeoutError("own")], ids=repr)
def test_an_exception_is_logged_and_costs_its_connection(error: BaseException) -> None:
    def handler(conn: socket.socket) -> None:
        if conn.recv(100) == b"raise":
            raise error
        echo(conn)

    with bed(handler, as_="connection") as worker:
        client = worker.connect_tcp()
        client.sendall(b"raise")
        assert receive_all(client) == b""
        said = worker.log.wait_for("connection-failed")
        assert type(error).__name__ in str(said["error"])
        assert "in handler" in str(said["detail"])
        assert "calls.py" not in str(said["detail"])
        client.close()
        worker.wait_closed(1)
        assert worker.cell("closed_error") == 1
        assert worker.thread_total("errors") == 1


READS: dict[str, Callable[[Any], object]] = {
    "recv": lambda conn: conn.recv(100),
    "makefile": lambda conn: conn.makefile("rb").readline(),
    "send": lambda conn: [conn.sendall(b"x" * 10_000) for _ in range(1000)],
}


@pytest.mark.parametrize("way", READS)
def test_a_reset_is_one_quiet_line(way: str) -> None:
    with bed(lambda conn: READS[way](conn), as_="connection") as worker:
        client = worker.connect_tcp(send_buffer=4096, receive_buffer=4096)
        eventually(lambda: ThreadState.PEER in states(worker))
        reset(client)
        worker.wait_closed(1)
        assert [event for event, _ in worker.log.said] == ["peer-reset"]
        assert worker.cell("closed_peer") == 1


def test_a_reset_that_the_handler_does_not_notice() -> None:
    gate = Gate()

    def handler(_conn: socket.socket) -> None:
        gate.wait()

    with bed(handler, as_="connection") as worker:
        client = worker.connect_tcp()
        gate.wait_entered()
        reset(client)
        gate.open()
        worker.wait_closed(1)
        assert not worker.log.find("connection-failed")


def test_a_peer_that_takes_nothing_costs_a_thread_for_the_write_timeout_only() -> None:
    def handler(conn: socket.socket) -> None:
        conn.sendall(b"x" * 5_000_000)

    with bed(handler, as_="connection", write_timeout=0.05) as worker:
        client = worker.connect_tcp(send_buffer=4096, receive_buffer=4096)
        assert "--write-timeout" in str(worker.log.wait_for("peer-slow")["why"])
        client.close()
        worker.wait_closed(1)
        assert worker.cell("closed_timeout") == 1


def test_a_silent_peer_costs_a_thread_for_the_idle_timeout_only() -> None:
    with bed(echo, as_="connection", idle_timeout=0.05) as worker:
        client = worker.connect_tcp()
        assert receive_all(client) == b""
        assert "--idle-timeout" in str(worker.log.wait_for("peer-slow")["why"])
        client.close()
        worker.wait_closed(1)
        assert worker.cell("closed_timeout") == 1
        assert not worker.log.find("connection-failed")


def test_a_time_out_that_the_handler_catches_is_its_own_affair() -> None:
    def handler(conn: socket.socket) -> None:
        try:
            conn.recv(100)
        except TimeoutError:
            conn.sendall(b"still there?")
            conn.settimeout(None)
            conn.sendall(conn.makefile("rb").readline())

    with bed(handler, as_="connection", idle_timeout=0.5) as worker:
        client = worker.connect_tcp()
        assert receive_exactly(client, 12) == b"still there?"
        client.sendall(b"yes\n")
        assert receive_all(client) == b"yes\n"
        client.close()
        worker.wait_closed(1)
        assert not worker.log.said


def test_the_idle_limit_of_the_worker_leaves_calls_alone() -> None:
    """The kernel limits each wait; how long a call lasts is the handler's affair."""
    gate = Gate()

    def handler(conn: socket.socket) -> None:
        gate.wait()
        conn.sendall(b"done")

    with bed(handler, as_="connection", idle_timeout=5.0) as worker:
        client = worker.connect_tcp()
        gate.wait_entered()
        for _ in range(5):
            worker.look(10, in_calls=True)
        gate.open()
        assert receive_all(client) == b"done"


def test_the_descriptor_is_shown_while_the_call_runs() -> None:
    with bed(echo, as_="connection") as worker:
        client = worker.connect()
        say(client)
        (connection,) = worker.connections()
        assert worker.thread_total("fd") == connection.fd
        client.close()
        worker.wait_closed(1)
        assert worker.thread_total("fd") == 0


def test_the_worker_closes_what_the_handler_forgot() -> None:
    """A copy that a forked child, or anybody, still holds does not keep the peer waiting."""
    copies: list[int] = []

    def handler(conn: socket.socket) -> None:
        copies.append(os.dup(conn.fileno()))

    with bed(handler, as_="connection") as worker:
        client = worker.connect_tcp()
        assert receive_all(client) == b""
        client.close()
        worker.wait_closed(1)
    for copy in copies:
        os.close(copy)


def test_bytes_and_messages_are_counted_while_the_call_runs() -> None:
    with bed(echo, as_="connection") as worker:
        client = worker.connect()
        say(client)
        say(client)
        assert (worker.thread_total("bytes_in"), worker.thread_total("messages")) == (8, 2)
        eventually(lambda: worker.thread_total("bytes_out") == 8)


def test_calls_run_beside_each_other() -> None:
    both = threading.Barrier(2, timeout=10)

    def handler(conn: socket.socket) -> None:
        both.wait()
        conn.sendall(b"met")

    with bed(handler, as_="connection") as worker:
        for client in [worker.connect(), worker.connect()]:
            assert receive_all(client) == b"met"
