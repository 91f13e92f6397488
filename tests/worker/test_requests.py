"""worker/requests.py: handlers of socketserver get what the standard library gives them."""

import http.server
import socket
import socketserver
import threading
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pytest

from leftovers import eventually
from paceline.scoreboard.fields import THREAD, ThreadState
from paceline.worker.requests import RequestCall, Server
from workerbed import bed, receive_all, receive_exactly


class Seen(socketserver.BaseRequestHandler):
    """Notes what it was given."""

    seen: ClassVar[list[tuple[Any, ...]]] = []

    def setup(self) -> None:
        self.steps = ["setup"]

    def handle(self) -> None:
        self.steps.append("handle")
        self.request.sendall(self.request.recv(100).upper())

    def finish(self) -> None:
        self.seen.append((self.client_address, self.server, type(self.request).__name__, [*self.steps, "finish"]))


@pytest.fixture(autouse=True)
def _nothing_seen() -> None:
    Seen.seen.clear()


def test_an_instance_for_each_connection_is_set_up_handles_and_finishes() -> None:
    with bed(Seen, listen=True) as worker:
        for _ in range(2):
            client = worker.connect_tcp()
            client.sendall(b"hello")
            assert receive_all(client) == b"HELLO"
            client.close()
        worker.wait_closed(2)
        (address, server, kind, steps), (_, same, _, _) = Seen.seen
        assert address[0] == "127.0.0.1"
        assert isinstance(address[1], int)
        assert kind == "HeldSocket"
        assert steps == ["setup", "handle", "finish"]
        assert server is same
        assert not worker.log.said


def test_who_says_nothing_holds_no_thread() -> None:
    with bed(Seen, listen=True) as worker:
        quiet = [worker.connect_tcp() for _ in range(10)]
        speaking = worker.connect_tcp()
        speaking.sendall(b"hello")
        assert receive_all(speaking) == b"HELLO"
        assert len(Seen.seen) == 1
        for client in (speaking, *quiet):
            client.close()
        worker.wait_closed(11)


def test_with_start_accept_it_may_speak_first() -> None:
    class Greeter(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.wfile.write(b"hello\n")

    with bed(Greeter, listen=True, start="accept") as worker:
        assert receive_all(worker.connect_tcp()) == b"hello\n"


def test_its_own_time_out_is_that_of_the_socket() -> None:
    class Impatient(socketserver.StreamRequestHandler):
        timeout = 0.05
        rbufsize = 0
        wbufsize = -1
        disable_nagle_algorithm = True

        def handle(self) -> None:
            assert self.connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            self.wfile.write(self.rfile.read(1))
            try:
                self.rfile.read(1)
            except TimeoutError:
                self.wfile.write(b"too late")

    with bed(Impatient, listen=True) as worker:
        client = worker.connect_tcp()
        client.sendall(b"x")
        assert receive_all(client) == b"xtoo late"


def test_an_error_costs_this_one_connection_and_finish_is_called() -> None:
    finished = threading.Event()

    class Broken(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            raise ZeroDivisionError("mine")

        def finish(self) -> None:
            super().finish()
            finished.set()

    with bed(Broken, listen=True) as worker:
        client = worker.connect_tcp()
        client.sendall(b"x")
        assert receive_all(client) == b""
        assert finished.wait(10)
        client.close()
        worker.wait_closed(1)
        assert [line for line in worker.log.said if "ZeroDivisionError: mine" in str(line)]


def test_a_peer_that_is_gone_before_its_turn_is_no_error() -> None:
    with bed(Seen, listen=True, threads=1) as worker:
        client = worker.connect_tcp()
        client.sendall(b"x")
        client.close()
        worker.wait_closed(1)
        assert not [line for line in worker.log.said if "Error" in str(line)]


def test_each_has_a_thread_while_it_runs() -> None:
    class Echo(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            while data := self.request.recv(100):
                self.request.sendall(data)

    with bed(Echo, listen=True) as worker:
        clients = [worker.connect_tcp() for _ in range(3)]
        for client in clients:
            client.sendall(b"ping")
            assert receive_exactly(client, 4) == b"ping"
        layout = worker.plan.board.layout
        rows = [layout.thread_index(0, index) + THREAD["state"] for index in range(layout.threads)]
        eventually(lambda: [worker.worker.words[row] for row in rows].count(ThreadState.PEER) == 3)
        for client in clients:
            client.close()
        worker.wait_closed(3)


# What a handler finds as its server


@pytest.fixture
def listener() -> Any:
    with socket.create_server(("127.0.0.1", 0)) as found:
        yield found


def test_a_server_at_a_path_has_no_port(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as at_path:
        at_path.bind(str(tmp_path / "s"))
        server = RequestCall(socketserver.BaseRequestHandler, at_path).server
        assert server.server_name == ""
        assert not hasattr(server, "server_port")


def test_a_server_has_what_handlers_ask_for(listener: socket.socket) -> None:
    server = RequestCall(partial(http.server.SimpleHTTPRequestHandler, directory="/"), listener).server
    assert server.server_address == listener.getsockname()
    assert server.server_port == listener.getsockname()[1]
    assert server.server_name == socket.getfqdn("127.0.0.1")
    assert server.RequestHandlerClass is http.server.SimpleHTTPRequestHandler
    assert (server.address_family, server.socket_type) == (socket.AF_INET, socket.SOCK_STREAM)
    assert server.timeout is None


def test_what_it_keeps_is_shared_by_all_connections_of_the_worker(listener: socket.socket) -> None:
    server: Any = Server(Seen, listener)
    server.counter = 1
    server.counter += 1
    assert server.counter == 2


def test_what_else_is_asked_for_the_handler_class_may_bring_along(listener: socket.socket) -> None:
    class Bringer(socketserver.BaseRequestHandler):
        server = type("Dispatcher", (), {"logname": "mine", "answer": lambda self: 42})()

        def handle(self) -> None: ...

    server = Server(Bringer, listener)
    assert (server.logname, server.answer()) == ("mine", 42)
    with pytest.raises(
        AttributeError,
        match=r"asks its server for 'missing', which Paceline's does not have; give Bringer a class attribute `server`",
    ):
        _ = server.missing
    with pytest.raises(AttributeError, match="give Seen a class attribute"):
        _ = Server(Seen, listener).logname


def test_a_handler_does_not_end_the_server(listener: socket.socket) -> None:
    with pytest.raises(RuntimeError, match=r"cannot end the server that runs it; `paceline ctl stop` does"):
        Server(Seen, listener).shutdown()


def test_a_request_that_it_shuts_down_is_at_its_end(listener: socket.socket) -> None:
    server = Server(Seen, listener)
    ours, theirs = socket.socketpair()
    with ours:
        server.shutdown_request(theirs)
        assert ours.recv(1) == b""
        assert theirs.fileno() == -1
    server.shutdown_request(theirs)
