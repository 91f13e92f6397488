"""worker/doorkeeper.py: in whatever way a connection ends, it is counted down."""

import contextlib
import errno
import os
import socket
from collections.abc import Callable
from typing import Any, cast

import pytest

from doorbed import accept_all, cells, counted, is_served, may
from leftovers import eventually
from paceline.worker.gate import Shut
from workerbed import DEADLINE_S, Bed, bed, reset

pytestmark = pytest.mark.usefixtures("nothing_left")


def echo(message: bytes) -> bytes:
    return message


def by_the_peer(worker: Bed, client: socket.socket) -> None:
    client.close()


def by_a_reset(worker: Bed, client: socket.socket) -> None:
    reset(client)


def by_the_handler(worker: Bed, client: socket.socket) -> None:
    client.sendall(b"close")
    assert client.recv(10) == b"bye"
    client.close()


def by_an_exception(worker: Bed, client: socket.socket) -> None:
    client.sendall(b"raise")
    assert client.recv(10) == b""
    client.close()


def by_the_framing(worker: Bed, client: socket.socket) -> None:
    client.sendall(b"x" * 5000)
    with contextlib.suppress(ConnectionResetError):
        assert client.recv(10) == b""
    client.close()


def by_half_a_message(worker: Bed, client: socket.socket) -> None:
    client.sendall(b"half")
    client.close()


def by_an_answer_that_nobody_reads(worker: Bed, client: socket.socket) -> None:
    client.sendall(b"much")
    worker.wait_stuck()
    worker.look()  # sees what it has not read
    worker.look(11.0)
    client.close()


def by_a_deadline(worker: Bed, client: socket.socket) -> None:
    worker.wait_parked()
    worker.look()  # sees that it is quiet
    worker.look(61.0)
    client.close()


def endings(message: bytes) -> bytes:
    if message == b"much":
        return bytes(16 * 1024 * 1024)
    if message == b"raise":
        raise ValueError("no")
    if message == b"close":
        from paceline.handlers import Close

        return cast("bytes", Close(b"bye"))
    return message


@pytest.mark.parametrize(
    ("end", "framing"),
    [
        (by_the_peer, "raw"),
        (by_a_reset, "raw"),
        (by_the_handler, "raw"),
        (by_an_exception, "raw"),
        (by_the_framing, "line"),
        (by_half_a_message, "line"),
        (by_a_deadline, "raw"),
        (by_an_answer_that_nobody_reads, "raw"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_however_a_connection_ends_it_is_counted_down(end: Callable[[Bed, socket.socket], None], framing: str) -> None:
    with bed(
        endings,
        listen=True,
        framing=framing,
        max_connections_per_address=1,
        max_message=4096,
        max_buffer=2**24,
        idle_timeout=60.0,
    ) as worker:
        for times in range(1, 4):
            client = worker.call_in("127.0.0.2")

            def is_there() -> bool:
                return counted(worker) == 1

            eventually(is_there, DEADLINE_S)
            end(worker, client)
            worker.wait_closed(times)
            assert counted(worker) == 0
        assert worker.cell("refused") == 0


def test_those_that_a_drain_closes_are_counted_down() -> None:
    with bed(echo, listen=True, max_connections_per_address=2) as worker:
        clients = [worker.call_in(), worker.call_in("127.0.0.2")]
        assert all(map(is_served, clients))
        assert counted(worker) == 2
        drained = worker.drain()
        for client in clients:
            assert client.recv(1) == b""
            client.close()
        assert drained.wait() == 0
        assert counted(worker) == 0


def test_a_whole_connection_call_counts_until_it_returns() -> None:
    def handler(conn: socket.socket) -> None:
        conn.sendall(conn.recv(10))

    with bed(handler, as_="connection", listen=True, max_connections_per_address=1) as worker:
        client = worker.call_in("127.0.0.2")
        eventually(lambda: counted(worker) == 1, DEADLINE_S)
        assert not may(worker, "127.0.0.2")
        assert is_served(client)
        client.close()
        worker.wait_closed(1)
        assert counted(worker) == 0
        assert may(worker, "127.0.0.2")


def test_one_that_the_handler_took_away_is_its_own() -> None:
    taken: list[int] = []

    def handler(conn: socket.socket) -> None:
        taken.append(conn.detach())

    with bed(handler, as_="connection", listen=True, max_connections_per_address=1) as worker:
        worker.call_in("127.0.0.2")
        worker.wait_closed(1)
        assert counted(worker) == 0
        for fd in taken:
            os.close(fd)


def test_one_that_cannot_be_watched_is_counted_down() -> None:
    with bed(echo, listen=True, run=False, max_connections_per_address=1) as worker:
        worker.worker.gate.open(Shut.STARTING)

        class Poller:
            def add_connection(self, fd: int) -> None:
                raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

        client = worker.call_in()
        poller, worker.worker.poller = worker.worker.poller, cast("Any", Poller())
        accept_all(worker)
        worker.worker.poller = poller
        assert client.recv(1) == b""
        assert cells(worker) == {"accepted": 1, "closed": 1}
        assert counted(worker) == 0


def test_the_books_hold_those_who_are_here_and_nothing_of_who_was() -> None:
    with bed(echo, listen=True, max_connections_per_address=3) as worker:
        keeper = worker.worker.doorkeeper
        assert keeper is not None
        assert keeper.census is not None
        for times in range(1, 6):
            clients = [worker.call_in(f"127.0.0.{last}") for last in range(2, 12)]
            for client in clients:
                assert is_served(client)
            assert counted(worker) == 10
            for client in clients:
                client.close()
            worker.wait_closed(10 * times)
        assert counted(worker) == 0
        assert not keeper.census._places
