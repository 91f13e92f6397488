"""worker/relief.py: a worker all of whose threads are in calls gives what is ready to a sibling that can serve it."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from house import House, house
from leftovers import eventually
from paceline.host import memory
from paceline.host.poller import IN
from paceline.worker.giving import MOST_PASSES
from paceline.worker.record import Record, decode
from paceline.worker.relief import MOST_GIVEN, Relief
from paceline.worker.tables import EXPIRED, MORE
from takerbed import Taker
from workerbed import Bed, Gate, bed, receive_exactly

pytestmark = pytest.mark.usefixtures("nothing_left")


class Handler:
    """Echoes; waits at a gate for what begins with `slow`."""

    def __init__(self) -> None:
        self.gate = Gate()

    def __call__(self, message: bytes) -> bytes:
        if message.startswith(b"slow"):
            self.gate.wait()
        return message


class Busy:
    """A worker that gives to a bare seat, with one thread, which is in a call."""

    def __init__(self, worker: Bed, handler: Handler, seats: House) -> None:
        self.bed = worker
        self.handler = handler
        self.seats = seats
        self.relief = Relief(worker.worker, worker.plan, seats.giving(worker.worker))
        worker.parts.watcher.relief = self.relief
        self.held = worker.connect()
        self.quick = [worker.connect() for _ in range(3)]
        for client in self.quick:
            self.ask(client)

    def ask(self, client: socket.socket, message: bytes = b"quick") -> None:
        client.sendall(message + b"\n")
        assert receive_exactly(client, len(message) + 1) == message + b"\n"

    def saturate(self) -> None:
        self.held.sendall(b"slow\n")
        self.handler.gate.wait_entered()
        self.bed.tick_until_led()
        assert self.bed.worker.crew.roles.is_saturated

    def assert_it_waits_here(self) -> None:
        """What arrives while nobody is free is given to no sibling; whoever comes back answers it."""
        self.saturate()
        self.quick[0].sendall(b"ping\n")
        self.bed.tick(5)
        assert self.taken() == []
        self.handler.gate.open()
        assert receive_exactly(self.quick[0], 5) == b"ping\n"

    def taken(self, seat: int = 1) -> list[Record]:
        """The records in the inbox, and their connections are closed."""
        records = []
        while (arrived := self.seats.take(seat)) is not None:
            beside = memory.read(arrived.memory, 0, memory.size_of(arrived.memory)) if arrived.memory >= 0 else None
            records.append(decode(arrived.record, beside))
            arrived.close()
        return records


@contextmanager
def busy(*, seats: int = 2) -> Iterator[Busy]:
    handler = Handler()
    with house(seats) as home, bed(handler, framing="line", threads=1) as worker:
        try:
            yield Busy(worker, handler, home)
        finally:
            handler.gate.open()


def test_what_is_ready_is_given_away_new_or_kept() -> None:
    with busy() as here:
        here.saturate()
        fresh = here.bed.connect()
        for client in (here.quick[0], fresh):
            client.sendall(b"ping\n")
        here.bed.tick(3)
        assert sorted((record.messages, record.passes) for record in here.taken()) == [(0, 1), (1, 1)]
        assert here.bed.cell("passed") == 2
        assert len(here.bed.connections()) == 3


def test_what_is_quiet_stays() -> None:
    with busy() as here:
        here.saturate()
        here.bed.tick(5)
        assert here.taken() == []


def test_half_a_message_goes_along() -> None:
    with busy() as here:
        here.quick[0].sendall(b"half")
        eventually(lambda: any(c.rest for c in here.bed.connections()))
        here.bed.wait_parked()
        here.saturate()
        here.quick[0].sendall(b" of it\n")
        here.bed.tick(3)
        (record,) = here.taken()
        assert (record.rest, record.messages) == (b"half", 1)


def test_messages_that_were_cut_and_wait_stay_and_are_answered_in_order() -> None:
    with busy() as here:
        here.held.sendall(b"slow\nsecond\nthird\n")
        here.handler.gate.wait_entered()
        here.bed.tick_until_led()
        here.bed.tick(3)
        assert here.taken() == []
        here.handler.gate.open()
        assert receive_exactly(here.held, 18) == b"slow\nsecond\nthird\n"


def test_it_begins_when_it_was_so_for_a_tick() -> None:
    with busy() as here:
        here.relief.was_saturated = False
        here.saturate()
        here.relief.was_saturated = False
        here.quick[0].sendall(b"ping\n")
        here.bed.tick()
        assert here.taken() == []
        here.bed.tick()
        assert len(here.taken()) == 1


def test_also_when_somebody_came_back_for_a_moment_in_between() -> None:
    """Threads come and go all the time, and none is free at any look: what is ready would wait its turn."""
    with busy() as here:
        here.saturate()
        here.quick[0].sendall(b"ping\n")
        here.bed.worker.crew.roles.leads += 1
        here.bed.tick()
        here.bed.worker.crew.roles.leads += 1
        here.bed.tick()
        assert len(here.taken()) == 1


def test_when_nobody_can_take_it_it_waits_here() -> None:
    with busy() as here:
        here.seats.set(1, saturated=1)
        here.assert_it_waits_here()


def test_who_passed_often_enough_stays_until_it_is_served() -> None:
    with busy() as here:
        connection = here.bed.connections()[1]
        connection.passes, connection.passed_at = MOST_PASSES, connection.messages
        here.assert_it_waits_here()


def test_each_pass_is_counted() -> None:
    with busy() as here:
        connection = here.bed.connections()[1]
        connection.passes, connection.passed_at = 1, connection.messages
        here.saturate()
        here.quick[0].sendall(b"ping\n")
        here.bed.tick(3)
        (record,) = here.taken()
        assert record.passes == 2


def test_one_that_is_ready_twice_is_given_once() -> None:
    """Beside its event there is an older entry, of a turn that was over."""
    with busy() as here:
        here.saturate()
        connection = here.bed.connections()[1]
        here.quick[0].sendall(b"ping\n")
        here.bed.worker.tables.ready.extend([(connection.fd, IN), (connection.fd, MORE), (connection.fd, EXPIRED)])
        here.bed.tick(3)
        assert len(here.taken()) == 1
        assert not [fd for fd, _ in here.bed.worker.tables.ready if fd in here.bed.worker.tables.open]


def test_an_event_of_one_that_is_in_a_call_is_not_forgotten() -> None:
    with busy() as here:
        here.saturate()
        here.held.sendall(b"more\n")
        here.bed.tick(4)
        here.handler.gate.open()
        assert receive_exactly(here.held, 10) == b"slow\nmore\n"


def test_what_an_expired_deadline_said_is_not_forgotten() -> None:
    """It cannot move (messages wait), and stays in `ready` with all its flags."""
    with busy() as here:
        connection = here.bed.connections()[1]
        here.saturate()
        connection.passes, connection.passed_at = MOST_PASSES, connection.messages
        here.bed.worker.tables.ready.append((connection.fd, EXPIRED))
        here.bed.tick(2)
        assert list(here.bed.worker.tables.ready) == [(connection.fd, EXPIRED | MORE)]
        here.bed.worker.tables.ready.clear()


def test_so_many_in_one_tick() -> None:
    with busy() as here:
        clients = [here.bed.connect() for _ in range(MOST_GIVEN + 20)]
        here.saturate()
        for client in clients:
            client.sendall(b"ping\n")
        while here.bed.cell("passed") == 0:
            here.bed.tick()
        assert here.bed.cell("passed") <= MOST_GIVEN
        given = len(here.taken())
        while given < len(clients):
            here.bed.tick()
            given += len(here.taken())
        assert given == len(clients)


def test_two_saturated_workers_do_not_pass_to_each_other_for_ever() -> None:
    """Each believes that the other has threads: the connection comes to rest after so many passes."""
    handlers = Handler(), Handler()
    with (
        house(2) as seats,
        bed(handlers[0], framing="line", threads=1) as one,
        bed(handlers[1], framing="line", threads=1) as other,
    ):
        takers = Taker(one, seats, 0), Taker(other, seats, 1)
        held = []
        for seat, worker in enumerate((one, other)):
            worker.parts.watcher.relief = Relief(worker.worker, worker.plan, seats.giving(worker.worker, seat))
            held.append(worker.connect())
            held[-1].sendall(b"slow\n")
            handlers[seat].gate.wait_entered()
            worker.tick_until_led()
        client = one.connect()
        client.sendall(b"ping\n")
        for _ in range(20):
            for worker, taker in zip((one, other), takers, strict=True):
                worker.tick(2)
                assert taker.receiving.receive()
        assert one.cell("passed") + other.cell("passed") == MOST_PASSES
        assert one.cell("received") + other.cell("received") == MOST_PASSES
        for handler in handlers:
            handler.gate.open()
        assert receive_exactly(client, 5) == b"ping\n"
        assert receive_exactly(held[0], 5) == b"slow\n"
        for taker in takers:
            taker.receiving.spare.close()
