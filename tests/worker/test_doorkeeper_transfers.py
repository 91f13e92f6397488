"""worker/doorkeeper.py: connections that move between workers are counted where they are."""

import os
import socket
from collections.abc import Callable, Iterator

import pytest

from doorbed import cells, counted, is_served, place
from house import house
from paceline.worker.record import Record, encode
from takerbed import FRESH, taker
from workerbed import DEADLINE_S, bed, reset

pytestmark = pytest.mark.usefixtures("nothing_left")


def echo(message: bytes) -> bytes:
    return message


# What moves between workers


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        ours = socket.create_connection(server.getsockname(), DEADLINE_S, ("127.0.0.2", 0))
        theirs, _ = server.accept()
    theirs.setblocking(False)
    return ours, theirs


@pytest.fixture
def arrivals() -> Iterator[Callable[[], tuple[socket.socket, int]]]:
    """(client, descriptor of the other end) of connections from 127.0.0.2."""
    clients: list[socket.socket] = []

    def arrive() -> tuple[socket.socket, int]:
        ours, theirs = tcp_pair()
        clients.append(ours)
        return ours, theirs.detach()

    yield arrive
    for client in clients:
        client.close()


NEW = encode(Record(listener=0, is_new=True))


def test_one_that_is_handed_over_counts_where_it_is_and_is_never_refused(
    arrivals: Callable[[], tuple[socket.socket, int]],
) -> None:
    with taker(echo, max_connections_per_address=1) as there:
        clients = []
        for _ in range(3):
            client, fd = arrivals()
            clients.append(client)
            there.post(FRESH, [fd])
        assert len(there.take_in()) == 3
        assert all(map(is_served, clients))
        keeper = there.bed.worker.doorkeeper
        assert keeper is not None
        assert keeper.census is not None
        assert keeper.census.count(place("127.0.0.2")) == 3
        client, fd = arrivals()
        there.post(NEW, [fd])
        assert there.take_in() == []
        assert not is_served(client)
        for client in clients:
            client.close()
        there.bed.wait_closed(3)
        assert counted(there.bed) == 0


def test_one_that_a_sibling_has_just_accepted_may_be_refused_where_it_would_be(
    arrivals: Callable[[], tuple[socket.socket, int]],
) -> None:
    with taker(echo, max_connections_per_address=1) as there:
        (kept, first), (refused, second) = arrivals(), arrivals()
        there.post(NEW, [first])
        there.post(NEW, [second])
        assert len(there.take_in()) == 1
        assert is_served(kept)
        assert not is_served(refused)
        assert cells(there.bed) == {"refused": 1, "refused_crowd": 1}
        assert there.bed.log.find("peer-refused")


def test_one_whose_peer_has_gone_meanwhile_is_not_counted(arrivals: Callable[[], tuple[socket.socket, int]]) -> None:
    with taker(echo, max_connections_per_address=1) as there:
        client, fd = arrivals()
        reset(client)
        there.post(NEW, [fd])
        assert there.receiving.receive()
        there.bed.wait_closed(1)
        assert counted(there.bed) == 0


def test_one_that_is_given_away_is_counted_down() -> None:
    with house(2) as seats, bed(echo, listen=True, max_connections_per_address=1) as worker:
        client = worker.call_in("127.0.0.2")
        assert is_served(client)
        worker.wait_parked()
        giving = seats.giving(worker.worker)
        (connection,) = worker.connections()
        assert worker.worker.tables.parked.pop(connection.fd) is connection
        assert giving.try_give(connection, giving.takers(), 1)
        assert counted(worker) == 0
        arrived = seats.take(1)
        assert arrived is not None
        assert b'"new"' not in arrived[1]
        os.close(arrived[0])


def test_a_fresh_one_that_is_passed_on_says_that_it_is_new() -> None:
    with house(2) as seats, bed(echo, run=False, max_connections_per_address=1) as worker:
        for _ in range(6):
            worker.connect()
        assert seats.giving(worker.worker).try_pass(seats.fresh(), 0)
        arrived = seats.take(1)
        assert arrived is not None
        assert arrived[1] == NEW
        os.close(arrived[0])


def test_without_the_limit_nobody_asks_and_nothing_more_travels() -> None:
    with house(2) as seats, bed(echo, run=False, deny=("10.0.0.0/8",)) as worker:
        for _ in range(6):
            worker.connect()
        assert seats.giving(worker.worker).try_pass(seats.fresh(), 0)
        arrived = seats.take(1)
        assert arrived is not None
        assert arrived[1] == FRESH
        os.close(arrived[0])
