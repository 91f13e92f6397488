"""worker/receiving.py over a real inbox: what is taken in, how it goes on there, and what is turned away."""

import errno
import os
import socket
from typing import Any, cast

import pytest

from house import GENERATION, house
from leftovers import eventually
from paceline import clock
from paceline.handlers import examine
from paceline.host import memory, passing
from paceline.host.descriptors import Spare
from paceline.worker.connection import Connection
from paceline.worker.crew import Member
from paceline.worker.deadlines import Owes, due_at
from paceline.worker.gate import Shut
from paceline.worker.lifecycle import State
from paceline.worker.receiving import LATER_S, MOST_AT_ONCE
from paceline.worker.record import Kind, Record, dumped, encode
from takerbed import FRESH, Taker, taker, who
from workerbed import Pairs, bed, receive_exactly, reset

pytestmark = pytest.mark.usefixtures("nothing_left")

ME = cast("Member", None)


def echo(message: bytes) -> bytes:
    return message


def test_what_has_arrived_is_taken_in_and_served() -> None:
    with taker() as there:
        assert there.receiving.receive()  # nothing yet
        there.post(FRESH)
        there.post(FRESH)
        assert there.receiving.receive()
        assert there.bed.cell("received") == there.bed.cell("connections") == 2
        assert there.bed.cell("accepted") == 0
        for client in there.seats.clients:
            client.sendall(b"who is there?")
            assert client.recv(100) == b"the other one"


def test_what_the_client_has_sent_meanwhile_is_not_lost() -> None:
    with taker() as there:
        there.post(FRESH)
        there.seats.clients[0].sendall(b"who is there?")
        there.seats.clients[0].shutdown(socket.SHUT_WR)
        assert there.receiving.receive()
        assert there.seats.clients[0].recv(100) == b"the other one"
        assert there.seats.clients[0].recv(100) == b""


def test_64_at_a_time() -> None:
    with taker(run=False) as there:
        for _ in range(MOST_AT_ONCE + 6):
            there.post(FRESH)
        assert there.receiving.receive()
        assert there.bed.cell("received") == MOST_AT_ONCE
        assert there.seats.waiting() == [0, 6]
        assert there.receiving.receive()
        assert there.bed.cell("received") == MOST_AT_ONCE + 6


@pytest.mark.parametrize("record", [b"{}", b"\xff", b'{"listener": "x"}'])
def test_a_record_that_cannot_be_read_costs_that_connection(record: bytes) -> None:
    with taker(run=False) as there:
        there.post(record)
        there.post(FRESH)
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
        there.post(FRESH, [read_end])
        there.post(FRESH, [])
        there.post(FRESH)
        assert there.receiving.receive()
        assert there.bed.cell("received") == there.bed.cell("connections") == 1
        assert len(there.bed.log.find("bug")) == 2
        there.bed.log.said.clear()


def test_without_descriptors_it_stays_in_the_inbox(monkeypatch: pytest.MonkeyPatch) -> None:
    receive = passing.receive_connection
    is_full = True

    def receive_if_there_is_room(reader: socket.socket, spare: Spare) -> passing.Arrived | None:
        if is_full:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return receive(reader, spare)

    monkeypatch.setattr(passing, "receive_connection", receive_if_there_is_room)
    with taker(run=False) as there:
        there.post(FRESH)
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


# As the other one had it


def post(there: Taker, **record: Any) -> Connection:
    there.post(encode(Record(listener=0, **record)))
    (connection,) = there.take_in()
    return connection


def test_it_goes_on_from_where_it_was() -> None:
    with taker(run=False) as there:
        c = post(there, messages=7, greeted=True, state=["here"], peer="192.0.2.9:1", passes=2)
        assert (c.messages, c.greeted, c.state, c.peer, c.passes, c.passed_at) == (
            7, True, ["here"], "192.0.2.9:1", 2, 7,
        )  # fmt: skip
        assert c.phase is State.OPEN
        assert c.polled
        assert not c.busy
        assert there.bed.worker.tables.parked == {c.fd: c}
        assert not there.bed.worker.tables.timed


def count(message: bytes, connection: Connection) -> bytes:
    connection.state = (connection.state or 0) + len(message)
    return b"%d %d %s" % (connection.messages, connection.state, connection.peer.encode())


def test_state_and_number_of_messages_go_on() -> None:
    with taker(count, framing="line") as there:
        post(there, messages=3, state=100, peer="192.0.2.9:1")
        there.seats.clients[0].sendall(b"12345\n")
        assert there.seats.clients[0].recv(100) == b"4 105 192.0.2.9:1\n"


@pytest.mark.parametrize("generation", [GENERATION, GENERATION + 1], ids=["same code", "newer code"])
@pytest.mark.parametrize("kind", [Kind.BYTES, Kind.BYTEARRAY])
def test_a_message_begun_there_is_finished_here(generation: int, kind: Kind) -> None:
    with taker(lambda line: line, generation=generation, framing="line") as there:
        client_at = len(there.seats.clients)
        c = post(there, rest=b"half a ", kind=kind, generation=GENERATION, framing="line")
        eventually(lambda: c.rest is not None)
        there.bed.wait_parked()
        assert c.rest == b"half a "
        if generation == GENERATION:
            assert type(c.rest).__name__ == kind.value
        assert there.bed.worker.tables.timed == {c.fd: c}
        client = there.seats.clients[client_at]
        client.sendall(b"line\nand one more\n")
        assert client.recv(100) == b"half a line\nand one more\n"


def test_a_framing_that_has_changed_simply_sees_the_bytes() -> None:
    with taker(lambda line: line, framing="line", generation=GENERATION + 1) as there:
        there.post(encode(Record(listener=0, rest=b"one\ntwo\nth", generation=GENERATION, framing="length:4")))
        assert there.receiving.receive()
        there.seats.clients[0].sendall(b"ree\n")
        received = b""
        while received.count(b"\n") < 3:
            received += there.seats.clients[0].recv(100)
        assert received == b"one\ntwo\nthree\n"


def test_a_long_message_begun_there_is_finished_here() -> None:
    half = os.urandom(1 << 20).replace(b"\n", b"x")[:600_000]
    with taker(lambda line: b"%d" % len(line), framing="line") as there:
        fd = memory.create_growing("rest")
        os.write(fd, half)
        record = Record(listener=0, rest=half, generation=GENERATION, framing="line")
        there.post(encode(record, in_memory=True), [there.seats.fresh(), fd])
        assert there.receiving.receive()
        there.seats.clients[0].sendall(b"!\n")
        assert there.seats.clients[0].recv(100) == b"600001\n"


def test_a_rest_of_the_users_own_kind_goes_on_in_the_same_code() -> None:
    with taker(lambda pair: pair, framing=Pairs()) as there:
        post(there, rest=dumped([97]), kind=Kind.VALUE, generation=GENERATION, framing=there.receiving.framing)
        there.seats.clients[0].sendall(b"bcd")
        assert there.seats.clients[0].recv(100) == b"abcd"


@pytest.mark.parametrize(
    ("record", "settings"),
    [
        ({"rest": dumped([97]), "kind": Kind.VALUE, "generation": GENERATION - 1, "framing": "Pairs"}, {}),
        ({"rest": b"half", "generation": GENERATION, "framing": "line"}, {"as_": "connection"}),
    ],
    ids=["a rest that only older code understands", "a message for a handler of whole connections"],
)
def test_what_cannot_be_gone_on_with_is_ended_and_said(record: dict[str, Any], settings: dict[str, Any]) -> None:
    with taker(run=False, **settings) as there:
        there.post(encode(Record(listener=0, peer="192.0.2.9:1", **record)))
        assert there.take_in() == []
        assert there.seats.clients[0].recv(1) == b""
        (said,) = there.bed.log.find("handover-misfit")
        assert said["peer"] == "192.0.2.9:1"
        assert there.bed.cell("closed_error") == there.bed.cell("closed") == 1


@pytest.mark.parametrize(
    "record",
    [
        {"rest": b"no pickle", "kind": Kind.VALUE, "generation": GENERATION, "framing": "raw"},
        {"state": b"x" * 40_000},
    ],
    ids=["a rest that is no value", "a state that is too large"],
)
def test_what_makes_no_sense_costs_that_connection(record: dict[str, Any]) -> None:
    with taker(run=False) as there:
        there.post(encode(Record(listener=0, **record)))
        there.post(FRESH)
        assert len(there.take_in()) == 1
        assert there.seats.clients[0].recv(1) == b""
        assert len(there.bed.log.find("bug")) == 1
        there.bed.log.said.clear()


# Hooks


class Hooks:
    def __init__(self) -> None:
        self.seen: list[str] = []

    def connected(self, _connection: Connection) -> bytes:
        self.seen.append("connected")
        return b"hello "

    def disconnected(self, _connection: Connection) -> None:
        self.seen.append("disconnected")

    def __call__(self, message: bytes) -> bytes:
        return message


@pytest.mark.parametrize(
    ("record", "greeting", "seen"),
    [
        ({}, b"hello ", ["connected", "disconnected"]),
        ({"greeted": True}, b"", ["disconnected"]),
        ({"messages": 2}, b"", []),  # served by code that had no hooks: a greeting now would be a reply too many
    ],
    ids=["fresh", "greeted", "served before there were hooks"],
)
def test_the_hooks_are_called_once_wherever_it_goes(record: dict[str, Any], greeting: bytes, seen: list[str]) -> None:
    handler = Hooks()
    with taker(handler) as there:
        there.post(encode(Record(listener=0, **record)))
        there.take_in()
        client = there.seats.clients[0]
        client.sendall(b"ping")
        expected = greeting + b"ping"
        received = b""
        while len(received) < len(expected):
            received += client.recv(100)
        assert received == expected
        client.close()
        there.bed.wait_closed(1)
        assert handler.seen == seen
    assert examine(handler, "handler", None).hooks


class Arriving(Hooks):
    def arrived(self, connection: Connection) -> bytes:
        self.seen.append("arrived")
        connection.send(b" beside")
        return b"again "


@pytest.mark.parametrize(
    ("record", "greeting", "seen"),
    [
        ({}, b"hello ", ["connected", "disconnected"]),
        ({"greeted": True, "messages": 2}, b"again  beside", ["arrived", "disconnected"]),
        ({"messages": 2}, b"", []),
    ],
    ids=["fresh", "greeted", "served before there were hooks"],
)
def test_who_comes_from_another_worker_is_announced(record: dict[str, Any], greeting: bytes, seen: list[str]) -> None:
    handler = Arriving()
    with taker(handler) as there:
        there.post(encode(Record(listener=0, **record)))
        there.take_in()
        client = there.seats.clients[0]
        if greeting:  # nobody has said a word
            assert receive_exactly(client, len(greeting)) == greeting
        client.sendall(b"ping")
        assert receive_exactly(client, 4) == b"ping"
        client.close()
        there.bed.wait_closed(1)
        assert handler.seen == seen


# Its deadlines


def test_being_passed_on_gives_no_more_time() -> None:
    """It has sent 100 bytes of its message since the clock began to count, and is to be finished by 20.2 s after."""
    with taker(run=False, message_timeout=20.0, min_rate=500, framing="line") as there:
        since = clock.now() - 15
        owed: dict[str, Any] = {"owes": Owes.REST_OF_MESSAGE, "since": since, "credit": 100}
        c = post(there, rest=b"half", generation=GENERATION, framing="line", **owed)
        there.bed.look()
        limits = there.bed.parts.serving.ending.timing.limits
        assert c.watch is not None
        assert due_at(c.watch, c.received, limits) == pytest.approx(since + 20.2)
        c.received += 500
        assert due_at(c.watch, c.received, limits) == pytest.approx(since + 21.2)


def test_the_idle_time_goes_on() -> None:
    with taker(idle_timeout=60.0) as there:
        since = clock.now() - 100
        c = post(there, messages=4, owes=Owes.NOTHING, since=since)
        assert there.bed.worker.tables.timed == {c.fd: c}
        there.bed.look()
        assert there.seats.clients[0].recv(1) == b"", "60 s after its last message, not 60 s after it came here"
        there.bed.log.wait_for("peer-slow")


def test_a_clock_that_is_ahead_does_not_help() -> None:
    with taker(run=False) as there:
        c = post(there, messages=4, since=clock.now() + 1000)
        assert c.watch is not None
        assert c.watch.since <= clock.now()


# From one worker to another


def test_from_one_worker_to_another() -> None:
    """One accepts all, and the clients of both are answered."""
    with house(2) as seats, bed(echo, listen=True, run=False) as one, bed(who) as other:
        there = Taker(other, seats)
        accepting = one.parts.accepting
        accepting.giving = seats.giving(one.worker)
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


# What happens to it on the way


def test_a_peer_that_resets_meanwhile_costs_nobody_else() -> None:
    with taker(run=True) as there, bed(echo, run=False) as sender:
        client, other = sender.connect_tcp(), sender.connect_tcp()
        giving = there.seats.giving(sender.worker)
        for c in sender.connections():
            assert sender.worker.tables.parked.pop(c.fd) is c
            assert giving.try_give(c, giving.takers(), 1)
        reset(client)
        assert there.receiving.receive()
        there.bed.wait_closed(1)
        assert there.bed.cell("closed_peer") == 1
        other.sendall(b"who")
        assert other.recv(100) == b"the other one"


def test_an_end_that_comes_meanwhile_is_seen_behind_the_last_message() -> None:
    with taker(lambda line: line, framing="line") as there:
        there.post(encode(Record(listener=0, rest=b"la", generation=GENERATION, framing="line")))
        client = there.seats.clients[0]
        client.sendall(b"st\n")
        client.shutdown(socket.SHUT_WR)
        assert there.receiving.receive()
        assert client.recv(100) == b"last\n"
        assert client.recv(100) == b""
        there.bed.wait_closed(1)
