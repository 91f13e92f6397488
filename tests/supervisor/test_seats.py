"""Seats: their channel, which never blocks, and their inbox, from which nothing is lost."""

import os
import resource
import socket
from collections.abc import Iterator

import pytest

from paceline.host import memory, passing
from paceline.host.descriptors import Spare, open_count
from paceline.supervisor.seats import Seat, close_seats, open_seats
from paceline.worker.messages import MOST_BYTES, Drain, Leaving, Message, Nudge, Ready, decode, encode


@pytest.fixture
def seats() -> Iterator[list[Seat]]:
    before = open_count()
    seats = open_seats(3)
    yield seats
    close_seats(seats)
    assert open_count() == before


@pytest.fixture
def worker(seats: list[Seat]) -> Iterator[socket.socket]:
    """The worker's end of the channel of seat 0."""
    with seats[0].open_control() as theirs:
        yield theirs


def heard(worker: socket.socket) -> list[Message | None]:
    worker.setblocking(False)
    messages = []
    while True:
        try:
            messages.append(decode(worker.recv(MOST_BYTES)))
        except BlockingIOError:
            return messages


# The channel


def test_what_is_told_arrives(seats: list[Seat], worker: socket.socket) -> None:
    assert seats[0].tell(Drain(5.0))
    assert heard(worker) == [Drain(5.0)]
    assert not seats[0].outbox


def test_a_full_channel_never_blocks_and_nothing_is_lost(seats: list[Seat], worker: socket.socket) -> None:
    seat = seats[0]
    for n in range(2000):
        assert seat.tell(Drain(float(n)))
    assert 0 < len(seat.outbox) < 2000
    arrived: list[Message | None] = []
    while len(arrived) < 2000:
        arrived += heard(worker)
        assert seat.flush()
    assert arrived == [Drain(float(n)) for n in range(2000)]


def test_nudges_do_not_pile_up(seats: list[Seat], worker: socket.socket) -> None:
    seat = seats[0]
    while not seat.outbox:
        seat.tell(Nudge())
    for _ in range(100):
        seat.tell(Nudge())
    assert list(seat.outbox) == [Nudge()]


def test_a_worker_that_is_gone_is_told_nothing(seats: list[Seat], worker: socket.socket) -> None:
    worker.close()
    assert not seats[0].tell(Drain(1.0))
    assert not seats[0].outbox


def test_nobody_sits_there(seats: list[Seat]) -> None:
    assert not seats[1].tell(Nudge())
    assert seats[1].hear() == []


def test_what_was_said_before_the_end_is_heard(seats: list[Seat], worker: socket.socket) -> None:
    worker.send(encode(Ready("message", "raw")))
    worker.send(b"nonsense")
    worker.send(encode(Leaving(2)))
    worker.close()
    assert seats[0].hear() == [Ready("message", "raw"), Leaving(2)]
    assert seats[0].is_deaf
    assert seats[0].hear() == []


def test_the_last_word_of_one_who_did_not_listen_is_heard(seats: list[Seat], worker: socket.socket) -> None:
    """It was told something, did not read it, and ended: the kernel reports a reset before its last word."""
    assert seats[0].tell(Drain(5.0))
    worker.send(encode(Leaving(0)))
    worker.close()
    assert seats[0].hear() == [Leaving(0)]
    assert seats[0].is_deaf


def test_one_who_talks_all_the_time_does_not_keep_the_others_from_being_heard(
    seats: list[Seat], worker: socket.socket
) -> None:
    for n in range(40):
        worker.send(encode(Leaving(n)))
    assert len(seats[0].hear()) == 16
    assert len(seats[0].hear()) == 16
    assert seats[0].hear()[-1] == Leaving(39)


def test_the_next_worker_has_a_channel_and_a_page_of_its_own(seats: list[Seat], worker: socket.socket) -> None:
    seat = seats[0]
    worker.send(encode(Leaving(1)))
    os.write(seat.fault_fd, b"Fatal Python error")
    seat.leave()
    with seat.open_control() as theirs:
        assert seat.hear() == [], "not what its predecessor said"
        assert memory.size_of(seat.fault_fd) == 0
        assert seat.tell(Nudge())
        assert heard(theirs) == [Nudge()]


def test_everything_is_closed_by_exec(seats: list[Seat], worker: socket.socket) -> None:
    inbox = seats[0].inbox
    fds = [*seats[0].private_fds(), inbox.reader.fileno(), inbox.writer.fileno(), worker.fileno()]
    assert len(fds) == 5
    assert not any(os.get_inheritable(fd) for fd in fds)


# The inbox


def pass_to(seat: Seat, count: int = 1) -> list[socket.socket]:
    """So many connections wait in the inbox; returns the clients' ends."""
    clients = []
    for n in range(count):
        client, connection = socket.socketpair()
        assert passing.send_connection(seat.inbox.writer, connection.fileno(), b"record %d" % n)
        connection.close()
        clients.append(client)
    return clients


def take_from(seat: Seat) -> list[bytes]:
    """What whoever sits there finds; each connection is told its record."""
    spare = Spare()
    records = []
    while (arrived := passing.receive_connection(seat.inbox.reader, spare)) is not None:
        fd, record, _ = arrived
        os.write(fd, record)
        os.close(fd)
        records.append(record)
    spare.close()
    return records


def close_all(clients: list[socket.socket]) -> list[bytes]:
    """What each was told."""
    told = [client.recv(100) for client in clients]
    for client in clients:
        client.close()
    return told


def test_an_empty_inbox_is_empty(seats: list[Seat]) -> None:
    assert not seats[0].has_waiting()
    assert seats[0].move_inbox([])
    assert seats[0].move_inbox(seats[1:])


def test_connections_are_moved_unread_and_in_turn(seats: list[Seat]) -> None:
    clients = pass_to(seats[0], 5)
    assert seats[0].move_inbox(seats[1:])
    assert not seats[0].has_waiting()
    assert take_from(seats[1]) == [b"record 0", b"record 2", b"record 4"]
    assert take_from(seats[2]) == [b"record 1", b"record 3"]
    assert close_all(clients) == [b"record %d" % n for n in range(5)]


def test_what_travels_beside_a_connection_is_moved_with_it(seats: list[Seat]) -> None:
    client, connection = socket.socketpair()
    fd = memory.create_growing("beside")
    os.write(fd, b"half a message")
    assert passing.send_connection(seats[0].inbox.writer, connection.fileno(), b"record", fd)
    connection.close()
    memory.close(fd)
    assert seats[0].move_inbox([seats[1]])
    spare = Spare(passing.MOST_DESCRIPTORS)
    arrived = passing.receive_connection(seats[1].inbox.reader, spare)
    spare.close()
    assert arrived is not None
    assert arrived.record == b"record"
    assert memory.read(arrived.memory, 0, 100) == b"half a message"
    os.write(arrived.fd, b"here")
    assert client.recv(10) == b"here"
    arrived.close()
    client.close()


def test_without_anybody_to_take_them_they_stay(seats: list[Seat]) -> None:
    clients = pass_to(seats[0], 2)
    assert not seats[0].move_inbox([])
    assert seats[0].has_waiting()
    assert take_from(seats[0]) == [b"record 0", b"record 1"]
    assert close_all(clients) == [b"record 0", b"record 1"]


def fill(seat: Seat) -> list[socket.socket]:
    """Connections until the inbox takes no more; returns the clients' ends."""
    clients: list[socket.socket] = []
    while True:
        client, connection = socket.socketpair()
        with connection:
            if not passing.send_connection(seat.inbox.writer, connection.fileno(), bytes(60_000)):
                client.close()
                return clients
        clients.append(client)


def test_when_all_are_full_nothing_is_lost(seats: list[Seat]) -> None:
    dead, first, second = seats
    fillers = [*fill(first), *fill(second)]
    clients = pass_to(dead, 3)
    assert not dead.move_inbox([first, second])
    assert not dead.move_inbox([first, second]), "and again"
    assert dead.has_waiting()
    take_from(second)
    assert dead.move_inbox([first, second])
    assert take_from(second) == [b"record 0", b"record 1", b"record 2"]
    assert close_all(clients) == [b"record 0", b"record 1", b"record 2"]
    take_from(first)
    close_all(fillers)


def test_one_in_our_hands_is_not_lost_at_the_end(seats: list[Seat]) -> None:
    fillers = fill(seats[1])
    clients = pass_to(seats[0])
    assert not seats[0].move_inbox([seats[1]])
    seats[0].close()
    assert clients[0].recv(1) == b"", "it is closed, not leaked"
    clients[0].close()
    take_from(seats[1])
    close_all(fillers)


def test_without_a_descriptor_they_stay(seats: list[Seat]) -> None:
    clients = pass_to(seats[0], 2)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    probe = os.dup(0)
    os.close(probe)
    resource.setrlimit(resource.RLIMIT_NOFILE, (probe, hard))  # probe was the lowest free number
    try:
        assert not seats[0].move_inbox(seats[1:])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert seats[0].move_inbox([seats[1]])
    assert take_from(seats[1]) == [b"record 0", b"record 1"]
    close_all(clients)


def test_what_is_no_connection_is_dropped_and_the_rest_goes_on(seats: list[Seat]) -> None:
    seats[0].inbox.writer.send(b"no descriptor")
    clients = pass_to(seats[0])
    with pytest.raises(passing.NotAConnection):
        seats[0].move_inbox([seats[1]])
    assert seats[0].move_inbox([seats[1]])
    assert take_from(seats[1]) == [b"record 0"]
    close_all(clients)


def test_seats_for_many_workers_are_there_although_the_limit_is_the_usual_one() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    few = open_count() + 100
    resource.setrlimit(resource.RLIMIT_NOFILE, (few, hard))
    try:
        seats = open_seats(130)
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (few + 390, hard), "what we need ourselves, on top"
        close_seats(seats)
        seats = open_seats(3)
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (few + 390, hard)
        close_seats(seats)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
