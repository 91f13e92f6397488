"""worker/timing.py: what a worker keeps for all its peers is bounded, and those go for whom the most is kept."""

import socket
from typing import Any

import pytest

from leftovers import eventually
from paceline.worker.connection import Connection, WayIn
from workerbed import Bed, bed, receive_exactly

MIB = 1 << 20


def sized(message: bytes) -> bytes:
    return bytes(int(message))


def unread(worker: Bed, size: int) -> socket.socket:
    """A client that does not read a reply of this size."""
    client = worker.connect(send_buffer=4096)
    before = len(waiting(worker))
    client.sendall(b"%d" % size)
    eventually(lambda: len(waiting(worker)) == before + 1)
    return client


def waiting(worker: Bed) -> list[Connection]:
    return [c for c in worker.connections() if c.kept_bytes]


def is_cut_off(client: socket.socket) -> bool:
    client.settimeout(10)
    try:
        while client.recv(65536):
            pass
    except ConnectionResetError:
        pass
    return True


def test_what_one_may_have_all_may_not() -> None:
    with bed(sized, max_buffered=MIB) as worker:
        small, large, larger = unread(worker, 200_000), unread(worker, 500_000), unread(worker, 700_000)
        worker.look(1)
        assert is_cut_off(larger)
        worker.wait_closed(1)
        assert worker.cell("closed_buffered") == 1
        (said,) = worker.log.find("peer-slow")
        assert "more than 1,048,576 bytes are kept for all peers of this worker together (--max-buffered)" in str(said)
        worker.look(1)
        for client, size in ((small, 200_000), (large, 500_000)):
            assert receive_exactly(client, size) == bytes(size), "who is left is served"
            client.sendall(b"5")
            assert receive_exactly(client, 5) == bytes(5)
        assert worker.cell("closed") == 1


def test_as_many_go_as_must() -> None:
    with bed(sized, max_buffered=MIB) as worker:
        clients = [unread(worker, 400_000 + number) for number in range(6)]
        worker.look(1)
        worker.wait_closed(4)
        assert [is_cut_off(client) for client in clients[2:]] == [True] * 4
        assert sum(c.kept_bytes for c in worker.connections()) <= MIB


def test_who_reads_in_the_last_moment_stays() -> None:
    """The watcher has named it; the thread that is to end it finds that nothing is kept any more."""
    with bed(sized, run=False, max_buffered=MIB) as worker:
        worker.connect()
        (c,) = worker.connections()
        timing = worker.parts.serving.ending.timing
        c.out = bytes(2 * MIB)
        worker.worker.tables.timed[c.fd] = c
        timing.look(worker.now)  # not the whole tick, which may start a thread that serves it
        assert timing.expired(c) is not None
        c.out = None
        assert timing.expired(c) is None


def test_messages_behind_a_reply_that_is_not_read_count_as_well() -> None:
    """Some are cut, and packed, the others wait as they came."""
    with bed(sized, framing="line", max_buffered=MIB) as worker:
        clients = [worker.connect(send_buffer=4096) for _ in range(20)]
        for number, client in enumerate(clients):
            client.sendall(b"10000\n" + b"10\n" * 20_000)
            eventually(lambda number=number: len(waiting(worker)) == number + 1)  # type: ignore[misc]
        kept = [c.kept_bytes for c in worker.connections()]
        assert 60_000 < min(kept) < max(kept) + 1 < 120_000
        worker.look(1)
        too_many = next(count for count in range(20) if sum(sorted(kept)[: 20 - count]) <= MIB)
        worker.wait_closed(too_many)


def test_messages_that_are_not_finished_count_as_well() -> None:
    with bed(sized, framing="line", max_buffered=MIB, max_message=MIB) as worker:
        clients = [worker.connect() for _ in range(3)]
        for client, size in zip(clients, (300_000, 400_000, 500_000), strict=True):
            client.sendall(b"1" * size)
        eventually(lambda: sum(c.kept_bytes for c in worker.connections()) == 1_200_000)
        worker.look(1)
        worker.wait_closed(1)
        assert is_cut_off(clients[2])
        for client in clients[:2]:
            client.close()
        worker.wait_closed(3)


@pytest.mark.parametrize("limit", [None, 128 * MIB])
def test_within_the_limit_nobody_goes(limit: int | None) -> None:
    with bed(sized, max_buffered=limit) as worker:
        clients = [unread(worker, 900_000) for _ in range(3)]
        worker.look(1)
        assert all(len(receive_exactly(client, 900_000)) == 900_000 for client in clients)
        assert worker.cell("closed") == 0


def test_what_is_kept() -> None:
    c = Connection(0, WayIn(0, "here"))
    kept: list[tuple[dict[str, Any], int]] = [
        ({}, 0),
        ({"out": b"abc"}, 3),
        ({"rest": bytearray(b"ab")}, 5),
        ({"pushed_bytes": 10}, 15),
        ({"waiting_bytes": 4}, 19),
        ({"waiting_bytes": 0}, 15),
        ({"rest": [b"a framing of the user's"]}, 13),
        ({"out": None, "pushed_bytes": -1}, 0),
    ]
    for changes, expected in kept:
        for name, value in changes.items():
            setattr(c, name, value)
        assert c.kept_bytes == expected
