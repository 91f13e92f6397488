"""Passing a fresh connection to a sibling, over real inboxes: to a bare reader, and from one worker to another."""

import errno
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from house import GENERATION, House, house
from paceline.host import passing, streams
from paceline.host.descriptors import Spare
from paceline.scoreboard.fields import WorkerState
from paceline.worker.crew import Member
from paceline.worker.gate import Shut
from paceline.worker.handover import LATER_S, MOST_AT_ONCE, Receiving, read_record, record_of
from workerbed import Bed, bed

pytestmark = pytest.mark.usefixtures("nothing_left")

ME = cast("Member", None)


def echo(message: bytes) -> bytes:
    return message


def who(message: bytes) -> bytes:
    return b"the other one"


@pytest.fixture
def sender() -> Iterator[Bed]:
    with bed(echo, run=False) as worker:
        yield worker


def fill(worker: Bed, count: int) -> None:
    for _ in range(count):
        worker.connect()


# The record


@pytest.mark.parametrize("listener", [0, 1, 255, 10**6])
def test_a_record_names_the_listener(listener: int) -> None:
    assert read_record(record_of(listener))[0] == listener


def test_what_a_newer_version_adds_is_ignored() -> None:
    assert read_record(b'{"listener": 2, "protocol": "http", "state": [1, 2]}')[0] == 2


@pytest.mark.parametrize(
    "record",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[]",
        b"7",
        b"null",
        b"{}",
        b'{"listener": null}',
        b'{"listener": "0"}',
        b'{"listener": 1.5}',
        b'{"listener": true}',
        b'{"listener": -1}',
        b'{"listener": Infinity}',
        b'{"listener": [0]}',
        b"[" * 100_000,
    ],
    ids=lambda record: record[:24].decode(errors="replace"),
)
def test_a_record_that_names_none_is_refused(record: bytes) -> None:
    with pytest.raises(ValueError, match="a record"):
        read_record(record)


@given(st.binary(max_size=200))
def test_no_record_does_worse_than_be_refused(record: bytes) -> None:
    try:
        listener, _ = read_record(record)
    except ValueError:
        return
    assert listener >= 0


# Giving


def test_a_worker_with_clearly_more_passes_it_on(sender: Bed) -> None:
    with house(3) as seats:
        seats.set(1, connections=3)
        fill(sender, 5)
        fd = seats.fresh()
        assert seats.passing(sender.worker).try_pass(fd, 6)
        assert sender.cell("passed") == 1
        arrived = seats.take(2)
        assert arrived is not None
        their_fd, record = arrived
        assert read_record(record)[0] == 6
        seats.clients[0].sendall(b"hello")
        assert streams.receive(their_fd, 100) == b"hello"
        os.close(their_fd)
        assert seats.clients[0].recv(1) == b""  # nobody else holds a copy


def test_otherwise_it_keeps_it(sender: Bed) -> None:
    with house(2) as seats:
        fill(sender, 3)
        fd = seats.fresh()
        assert not seats.passing(sender.worker).try_pass(fd, 0)
        assert seats.waiting() == [0, 0]
        os.fstat(fd)  # still ours
        os.close(fd)


@pytest.mark.parametrize(
    "cells",
    [
        *({"state": state} for state in WorkerState if state is not WorkerState.READY),
        {"generation": GENERATION - 1},
        {"generation": GENERATION + 1},
        {"saturated": 1},
        {"heartbeat_ns": 1},
        {"connections": 6},
        {"connections_limit": 0},
    ],
    ids=str,
)
def test_who_cannot_take_it_gets_none(sender: Bed, cells: dict[str, int]) -> None:
    with house(2) as seats:
        seats.set(1, **cells)
        fill(sender, 8)
        fd = seats.fresh()
        assert not seats.passing(sender.worker).try_pass(fd, 0)
        os.close(fd)


def test_a_worker_never_passes_to_itself(sender: Bed) -> None:
    with house(2) as seats:
        seats.set(1, state=WorkerState.GONE)
        fill(sender, 20)
        fd = seats.fresh()
        assert not seats.passing(sender.worker).try_pass(fd, 0)
        os.close(fd)


def test_what_others_have_passed_counts(sender: Bed) -> None:
    """Their inboxes say it; nobody has to have looked into them."""
    with house(3) as seats, bed(echo, run=False) as other:
        fill(sender, 9)
        fill(other, 9)
        ours, theirs = seats.passing(sender.worker, 0), seats.passing(other.worker, 1)
        seats.set(0, connections=9)
        seats.set(1, connections=9)
        for give in (ours, theirs, ours, theirs, ours, theirs):
            fd = seats.fresh()
            if not give.try_pass(fd, 0):
                os.close(fd)
        # The seventh and eighth would have been kept by each of them alone.
        assert seats.waiting() == [0, 0, 6]
        fd = seats.fresh()
        assert not ours.try_pass(fd, 0)
        os.close(fd)
        arrived = seats.take(2)  # read, and not yet counted among its connections
        assert arrived is not None
        os.close(arrived[0])
        fd = seats.fresh()
        assert ours.try_pass(fd, 0)


def test_what_waits_in_its_own_inbox_is_a_workers_own(sender: Bed) -> None:
    with house(2) as seats, bed(echo, run=False) as other:
        fill(other, 30)
        giver, taker = seats.passing(other.worker, 1), seats.passing(sender.worker, 0)
        seats.set(1, connections=30)
        for _ in range(5):
            assert giver.try_pass(seats.fresh(), 0)
        seats.set(1, connections=0)
        fd = seats.fresh()
        assert taker.try_pass(fd, 0)  # 0 + 5 + 1 against 0


def test_a_full_inbox_means_keep_it(sender: Bed) -> None:
    with house(2) as seats:
        fill(sender, 8)
        give = seats.passing(sender.worker)
        give.waiting = lambda seat: 0  # type: ignore[method-assign]  # as if it were quick
        passed = 0
        while give.try_pass(fd := seats.fresh(), 0):
            passed += 1
            assert passed < 5000
        os.fstat(fd)
        os.close(fd)
        assert passed > 100
        assert sender.cell("passed") == passed == seats.waiting()[1]


def test_an_inbox_that_is_gone_means_keep_it(sender: Bed) -> None:
    with house(2) as seats:
        fill(sender, 8)
        give = seats.passing(sender.worker)
        seats.inboxes[1].reader.close()
        fd = seats.fresh()
        assert not give.try_pass(fd, 0)
        os.close(fd)


# Taking


class Taker:
    """A worker with an inbox."""

    def __init__(self, worker: Bed, seats: House, seat: int = 1) -> None:
        self.bed = worker
        self.seats = seats
        self.seat = seat

        def admit(fd: int, listener: int, passes: int) -> None:
            if worker.parts.accepting.admit(fd, listener, passes):
                worker.worker.wakeup.wake()

        self.receiving = Receiving(worker.worker, seats.inboxes[seat], admit)

    def post(self, record: bytes, fds: Sequence[int] | None = None) -> None:
        """Into its inbox, whatever it is."""
        sent = [self.seats.fresh()] if fds is None else list(fds)
        socket.send_fds(self.seats.inboxes[self.seat].writer, [record], sent)
        for fd in sent:
            os.close(fd)


@contextmanager
def taker(*, run: bool = True) -> Iterator[Taker]:
    with house(2) as seats, bed(who, run=run) as worker:
        made = Taker(worker, seats)
        yield made
        made.receiving.spare.close()


def test_what_has_arrived_is_taken_in_and_served() -> None:
    with taker() as there:
        assert there.receiving.receive()  # nothing yet
        there.post(record_of(0))
        there.post(record_of(0))
        assert there.receiving.receive()
        assert there.bed.cell("received") == there.bed.cell("connections") == 2
        assert there.bed.cell("accepted") == 0
        for client in there.seats.clients:
            client.sendall(b"who is there?")
            assert client.recv(100) == b"the other one"


def test_what_the_client_has_sent_meanwhile_is_not_lost() -> None:
    with taker() as there:
        there.post(record_of(0))
        there.seats.clients[0].sendall(b"who is there?")
        there.seats.clients[0].shutdown(socket.SHUT_WR)
        assert there.receiving.receive()
        assert there.seats.clients[0].recv(100) == b"the other one"
        assert there.seats.clients[0].recv(100) == b""


def test_64_at_a_time() -> None:
    with taker(run=False) as there:
        for _ in range(MOST_AT_ONCE + 6):
            there.post(record_of(0))
        assert there.receiving.receive()
        assert there.bed.cell("received") == MOST_AT_ONCE
        assert there.seats.waiting() == [0, 6]
        assert there.receiving.receive()
        assert there.bed.cell("received") == MOST_AT_ONCE + 6


@pytest.mark.parametrize("record", [b"{}", b"\xff", b'{"listener": "x"}'])
def test_a_record_that_cannot_be_read_costs_that_connection(record: bytes) -> None:
    with taker(run=False) as there:
        there.post(record)
        there.post(record_of(0))
        assert there.receiving.receive()
        assert there.seats.clients[0].recv(1) == b""
        assert there.bed.cell("connections") == 1
        (said,) = there.bed.log.find("bug")
        there.bed.log.said.clear()
        assert said["where"] == "the inbox"


def test_what_is_no_connection_is_dropped() -> None:
    with taker(run=False) as there:
        read_end, write_end = os.pipe()
        os.close(write_end)
        there.post(record_of(0), [read_end])
        there.post(record_of(0), [])
        there.post(record_of(0))
        assert there.receiving.receive()
        assert there.bed.cell("received") == there.bed.cell("connections") == 1
        assert len(there.bed.log.find("bug")) == 2
        there.bed.log.said.clear()


def test_without_descriptors_it_stays_in_the_inbox(monkeypatch: pytest.MonkeyPatch) -> None:
    receive = passing.receive_connection
    is_full = True

    def receive_if_there_is_room(reader: socket.socket, spare: Spare) -> tuple[int, bytes] | None:
        if is_full:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return receive(reader, spare)

    monkeypatch.setattr(passing, "receive_connection", receive_if_there_is_room)
    with taker(run=False) as there:
        there.post(record_of(0))
        assert not there.receiving.receive()  # the watcher does not listen there for a while
        assert there.bed.log.find("accept-paused") == [
            {"error": os.strerror(errno.EMFILE), "seconds": LATER_S, "open": 0}
        ]
        assert there.seats.waiting() == [0, 1]
        is_full = False
        assert there.receiving.receive()
        assert there.bed.cell("connections") == 1


def test_when_all_writing_ends_are_gone_it_listens_no_more() -> None:
    with taker(run=False) as there:
        there.seats.inboxes[1].writer.close()
        assert not there.receiving.receive()
        assert not there.bed.log.said


# From one worker to another


def test_from_one_worker_to_another() -> None:
    """One accepts all, and the clients of both are answered."""
    with house(2) as seats, bed(echo, listen=True, run=False) as one, bed(who) as other:
        there = Taker(other, seats)
        accepting = one.parts.accepting
        accepting.passing = seats.passing(one.worker)
        one.worker.gate.open(Shut.STARTING)
        (listener,) = one.plan.listeners
        clients = [one.call_in() for _ in range(20)]
        while one.cell("accepted") < 20:
            accepting.accept(listener.fileno(), ME)
            assert there.receiving.receive()
            seats.set(1, connections=other.cell("connections"))
        assert one.parts.start()
        answers = []
        for client in clients:
            client.sendall(b"echo")
            answers.append(client.recv(100))
        assert answers.count(b"echo") == one.cell("connections") == 12
        assert answers.count(b"the other one") == other.cell("connections") == 8
        assert one.cell("passed") == other.cell("received") == 8
        assert one.cell("closed") == other.cell("closed") == 0
        there.receiving.spare.close()
