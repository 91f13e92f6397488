"""worker/giving.py over real inboxes: who gets a fresh connection, what can move, and that nothing is lost of it."""

import os
import socket
from collections.abc import Iterator

import pytest

from house import GENERATION, House, house
from paceline.errors import PeerError
from paceline.host import memory, passing, streams
from paceline.scoreboard.fields import WorkerState
from paceline.wire import Broken
from paceline.worker.connection import Connection
from paceline.worker.deadlines import Owes, Watch
from paceline.worker.gate import Shut
from paceline.worker.giving import Reach, reach
from paceline.worker.lifecycle import State
from paceline.worker.record import INLINE_BYTES, Kind, Record, decode
from workerbed import Bed, bed

pytestmark = pytest.mark.usefixtures("nothing_left")


def echo(message: bytes) -> bytes:
    return message


@pytest.fixture
def sender() -> Iterator[Bed]:
    with bed(echo, run=False) as worker:
        yield worker


def fill(worker: Bed, count: int) -> None:
    for _ in range(count):
        worker.connect()


# A fresh one, for balance


def test_a_worker_with_clearly_more_passes_it_on(sender: Bed) -> None:
    with house(3) as seats:
        seats.set(1, connections=3)
        fill(sender, 5)
        fd = seats.fresh()
        assert seats.giving(sender.worker).try_pass(fd, 6)
        assert sender.cell("passed") == 1
        arrived = seats.take(2)
        assert arrived is not None
        their_fd, record, _ = arrived
        assert decode(record).listener == 6
        seats.clients[0].sendall(b"hello")
        assert streams.receive(their_fd, 100) == b"hello"
        os.close(their_fd)
        assert seats.clients[0].recv(1) == b""  # nobody else holds a copy


def test_otherwise_it_keeps_it(sender: Bed) -> None:
    with house(2) as seats:
        fill(sender, 3)
        fd = seats.fresh()
        assert not seats.giving(sender.worker).try_pass(fd, 0)
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
        assert not seats.giving(sender.worker).try_pass(fd, 0)
        os.close(fd)


def test_a_worker_never_passes_to_itself(sender: Bed) -> None:
    with house(2) as seats:
        seats.set(1, state=WorkerState.GONE)
        fill(sender, 20)
        fd = seats.fresh()
        assert not seats.giving(sender.worker).try_pass(fd, 0)
        os.close(fd)


def test_what_others_have_passed_counts(sender: Bed) -> None:
    """Their inboxes say it; nobody has to have looked into them."""
    with house(3) as seats, bed(echo, run=False) as other:
        fill(sender, 9)
        fill(other, 9)
        ours, theirs = seats.giving(sender.worker, 0), seats.giving(other.worker, 1)
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
        arrived.close()
        fd = seats.fresh()
        assert ours.try_pass(fd, 0)


def test_what_waits_in_its_own_inbox_is_a_workers_own(sender: Bed) -> None:
    with house(2) as seats, bed(echo, run=False) as other:
        fill(other, 30)
        giver, taker = seats.giving(other.worker, 1), seats.giving(sender.worker, 0)
        seats.set(1, connections=30)
        for _ in range(5):
            assert giver.try_pass(seats.fresh(), 0)
        seats.set(1, connections=0)
        fd = seats.fresh()
        assert taker.try_pass(fd, 0)  # 0 + 5 + 1 against 0


def test_a_full_inbox_means_keep_it(sender: Bed) -> None:
    with house(2) as seats:
        fill(sender, 8)
        give = seats.giving(sender.worker)
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
        give = seats.giving(sender.worker)
        seats.inboxes[1].reader.close()
        fd = seats.fresh()
        assert not give.try_pass(fd, 0)
        os.close(fd)


# What can move


def parked(sender: Bed) -> Connection:
    """A quiet connection, claimed by the test."""
    sender.connect()
    connection = sender.connections()[-1]
    assert sender.worker.tables.parked.pop(connection.fd) is connection
    return connection


@pytest.mark.parametrize("phase", list(State))
def test_only_what_is_open_moves(sender: Bed, phase: State) -> None:
    connection = parked(sender)
    connection.phase = phase
    assert (reach(connection) is Reach.ANYWHERE) is (phase in (State.OPEN, State.FRESH, State.UNNAMED, State.SECURING))


@pytest.mark.parametrize(
    ("rest", "far"),
    [
        (None, Reach.ANYWHERE),
        (b"half", Reach.ANYWHERE),
        (bytearray(b"half"), Reach.ANYWHERE),
        ([b"a", 5, bytearray(b"c")], Reach.GENERATION),
        (7, Reach.GENERATION),
        (Broken(PeerError("no")), Reach.NOWHERE),
        ([object()], Reach.NOWHERE),
        ([0] * 20_000, Reach.NOWHERE),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, Reach) else value.name,
)
def test_an_unfinished_message_moves_if_it_is_bytes_or_builtin(sender: Bed, rest: object, far: Reach) -> None:
    connection = parked(sender)
    connection.rest = rest
    assert reach(connection) is far


@pytest.mark.parametrize("what", ["out", "queue", "source"])
def test_what_is_owed_to_the_peer_stays(sender: Bed, what: str) -> None:
    from collections import deque

    connection = parked(sender)
    setattr(connection, what, {"out": b"x", "queue": deque([b"m"]), "source": iter(())}[what])
    assert reach(connection) is Reach.NOWHERE


def test_what_was_sent_beside_replies_stays_and_is_sent(sender: Bed) -> None:
    with house(2) as seats:
        connection = parked(sender)
        connection.send(b"beside")
        assert reach(connection) is Reach.NOWHERE
        assert not give(sender, seats, connection)
        assert connection.polled
        assert not any(seats.waiting())


def test_after_it_has_gone_nothing_is_sent_to_it(sender: Bed) -> None:
    with house(2) as seats:
        connection = parked(sender)
        assert give(sender, seats, connection)
        taken(seats)
        with pytest.raises(BrokenPipeError, match="has moved to another worker"):
            connection.send(b"x")


def test_after_it_has_gone_its_number_is_not_asked_for_it(sender: Bed) -> None:
    """A handler may have kept it; the number may be another connection's by then."""
    with house(2) as seats:
        connection = parked(sender)
        fd = connection.fd
        assert connection.credentials is not None
        assert give(sender, seats, connection)
        taken(seats)
        ours, theirs = socket.socketpair()
        with ours, theirs:
            is_used_again = fd in (ours.fileno(), theirs.fileno())
            if not is_used_again:
                os.dup2(ours.fileno(), fd)
            try:
                assert streams.peer_credentials(fd) is not None
                assert connection.credentials is None
                assert connection.peer == "a peer that is gone"
            finally:
                if not is_used_again:
                    os.close(fd)


@pytest.mark.parametrize("is_proxied", [False, True])
def test_that_it_is_a_proxys_goes_along(sender: Bed, is_proxied: bool) -> None:
    with house(2) as seats:
        connection = parked(sender)
        connection.way_in = connection.way_in.proxied if is_proxied else connection.way_in
        assert give(sender, seats, connection)
        assert taken(seats).is_proxied is is_proxied


def give(sender: Bed, seats: House, connection: Connection, passes: int = 1) -> bool:
    giving = seats.giving(sender.worker)
    return giving.try_give(connection, giving.takers(any_generation=True), passes)


def taken(seats: House, seat: int = 1) -> Record:
    """The record of the next one in an inbox; the connection is closed."""
    arrived = seats.take(seat)
    assert arrived is not None
    beside = None
    if arrived.memory >= 0:
        beside = memory.read(arrived.memory, 0, memory.size_of(arrived.memory))
    arrived.close()
    return decode(arrived.record, beside)


def test_all_that_is_known_of_it_goes_along(sender: Bed) -> None:
    with house(2) as seats:
        connection = parked(sender)
        connection.messages, connection.greeted, connection.state = 5, True, {"name": "ada"}
        connection.rest, connection.received = bytearray(b"half"), 30
        connection.watch = Watch(Owes.REST_OF_MESSAGE, 5, 12.5, 10)
        connection.remember_peer("192.0.2.7:99")
        assert give(sender, seats, connection, 2)
        assert taken(seats) == Record(
            listener=0,
            passes=2,
            greeted=True,
            messages=5,
            peer="192.0.2.7:99",
            generation=GENERATION,
            framing="raw",
            state={"name": "ada"},
            rest=b"half",
            kind=Kind.BYTEARRAY,
            owes=Owes.REST_OF_MESSAGE,
            since=12.5,
            credit=20,
        )


def test_nothing_of_it_stays_behind(sender: Bed) -> None:
    with house(2) as seats:
        connection = parked(sender)
        tables, fd = sender.worker.tables, connection.fd
        tables.timed[fd] = connection
        tables.pending.add(fd)
        sender.worker.unread.add(fd)
        assert give(sender, seats, connection)
        for book in (tables.open, tables.parked, tables.timed, tables.pending, sender.worker.unread):
            assert fd not in book
        assert sender.cell("passed") == 1
        assert sender.cell("connections") == 0
        taken(seats)
        assert sender.worker.poller.wait(0, 10) == []


def test_who_was_full_has_room_again() -> None:
    with house(2) as seats, bed(echo, run=False, max_connections=1) as sender:
        connection = parked(sender)
        assert Shut.FULL in sender.worker.gate.reasons
        assert give(sender, seats, connection)
        assert Shut.FULL not in sender.worker.gate.reasons
        taken(seats)


def test_a_watch_of_another_time_does_not_go_along(sender: Bed) -> None:
    with house(2) as seats:
        connection = parked(sender)
        connection.messages = 6
        connection.watch = Watch(Owes.NOTHING, 5, 12.5, 0)
        assert give(sender, seats, connection)
        assert taken(seats).since == 0.0


@pytest.mark.parametrize("size", [INLINE_BYTES, INLINE_BYTES + 1, 1 << 20])
def test_a_long_message_half_arrived_goes_along(sender: Bed, size: int) -> None:
    with house(2) as seats:
        connection = parked(sender)
        connection.rest = os.urandom(size)
        connection.state = b"s" * 16_000
        assert give(sender, seats, connection)
        record = taken(seats)
        assert record.rest == connection.rest
        assert record.state == connection.state
        assert record.is_in_memory is (size > INLINE_BYTES)


def test_what_was_received_and_not_cut_goes_along_to_be_cut_anew(sender: Bed) -> None:
    with house(2) as seats:
        connection = parked(sender)
        connection.rest, connection.uncut = bytearray(b"be"), memoryview(b"hind")
        assert give(sender, seats, connection)
        record = taken(seats)
        assert (record.rest, record.kind, record.generation) == (b"behind", Kind.BYTES, 0)


def test_a_rest_of_the_users_own_kind_goes_to_its_own_generation(sender: Bed) -> None:
    with house(3) as seats:
        seats.set(1, generation=GENERATION + 1)
        connection = parked(sender)
        connection.rest = [b"a", 5]
        assert give(sender, seats, connection)
        record = taken(seats, 2)
        assert (record.kind, record.generation) == (Kind.VALUE, GENERATION)


def is_back(sender: Bed, connection: Connection) -> bool:
    """It is parked, and an event of it is reported and served as ever."""
    return sender.worker.tables.parked.get(connection.fd) is connection


def test_a_rest_that_nobody_understands_stays(sender: Bed) -> None:
    with house(2) as seats:
        seats.set(1, generation=GENERATION + 1)
        connection = parked(sender)
        connection.rest = [b"a", 5]
        assert not give(sender, seats, connection)
        assert is_back(sender, connection)
        assert connection.rest == [b"a", 5]


def test_a_state_that_has_become_something_else_stays(sender: Bed) -> None:
    with house(2) as seats:
        connection = parked(sender)
        kept: dict[str, object] = {}
        connection.state = kept
        kept["file"] = object()
        assert not give(sender, seats, connection)
        assert is_back(sender, connection)
        assert not seats.giving(sender.worker).can_be_written(connection)
        kept["file"] = 5
        assert seats.giving(sender.worker).can_be_written(connection)


# Who gets it


def test_the_least_loaded_has_it_and_the_next_goes_to_the_other(sender: Bed) -> None:
    with house(3) as seats:
        seats.set(1, connections=2)
        seats.set(2, connections=1)
        giving = seats.giving(sender.worker)
        takers = giving.takers()
        for _ in range(5):
            assert giving.try_give(parked(sender), takers, 1)
        assert [len([1 for _ in range(n)]) for n in (2, 3)] == [2, 3]
        for seat, count in ((1, 2), (2, 3)):
            for _ in range(count):
                taken(seats, seat)
            assert seats.take(seat) is None


def test_the_newest_generation_comes_first_and_the_others_when_it_is_full(sender: Bed) -> None:
    with house(3) as seats:
        seats.set(1, generation=GENERATION + 1, connections=50, connections_limit=51)
        giving = seats.giving(sender.worker)
        takers = giving.takers(any_generation=True)
        for _ in range(2):
            assert giving.try_give(parked(sender), takers, 1)
        taken(seats, 1)
        taken(seats, 2)


def test_for_relief_only_the_own_generation_counts(sender: Bed) -> None:
    with house(2) as seats:
        seats.set(1, generation=GENERATION + 1)
        assert not seats.giving(sender.worker).takers()


@pytest.mark.parametrize(
    "cells",
    [
        *({"state": state} for state in WorkerState if state is not WorkerState.READY),
        {"saturated": 1},
        {"heartbeat_ns": 1},
        {"connections": 1000},
    ],
    ids=str,
)
def test_who_cannot_take_it_is_no_taker(sender: Bed, cells: dict[str, int]) -> None:
    with house(2) as seats:
        seats.set(1, **cells)
        assert not seats.giving(sender.worker).takers(any_generation=True)
        connection = parked(sender)
        assert not give(sender, seats, connection)
        assert is_back(sender, connection)


# When it cannot be sent


def fill_inbox(seats: House, seat: int) -> None:
    ours, theirs = socket.socketpair()
    while passing.send_connection(seats.inboxes[seat].writer, ours.fileno(), b"x" * 60_000):
        pass
    while passing.send_connection(seats.inboxes[seat].writer, ours.fileno(), b"x"):
        pass
    ours.close()
    theirs.close()


def test_a_full_inbox_means_the_next_one(sender: Bed) -> None:
    with house(3) as seats:
        fill_inbox(seats, 1)
        seats.set(2, connections=900)
        giving = seats.giving(sender.worker)
        giving.waiting = lambda seat: 0  # type: ignore[method-assign]  # as if it were quick
        assert giving.try_give(parked(sender), giving.takers(), 1)
        taken(seats, 2)


@pytest.mark.parametrize("how", ["full", "gone"])
def test_put_back_it_is_served_as_ever(how: str) -> None:
    """Also what came while it was out of the epoll set."""
    with house(2) as seats, bed(echo) as sender:
        giving = seats.giving(sender.worker)
        if how == "full":
            fill_inbox(seats, 1)
            giving.waiting = lambda seat: 0  # type: ignore[method-assign]
        else:
            seats.inboxes[1].reader.close()
        client = sender.connect()
        connection = sender.connections()[0]
        tables = sender.worker.tables
        assert tables.parked.pop(connection.fd) is connection
        tables.timed[connection.fd] = connection
        send = giving._send

        def send_late(seat: int, fd: int, record: bytes, beside: int = -1) -> bool:
            client.sendall(b"in between")
            return send(seat, fd, record, beside)

        giving._send = send_late  # type: ignore[method-assign]
        assert not giving.try_give(connection, giving.takers(), 1)
        assert client.recv(100) == b"in between"
        client.sendall(b"and later")
        assert client.recv(100) == b"and later"
        assert tables.timed == {connection.fd: connection}
        sender.wait_parked()
        assert connection.polled


def test_put_back_although_the_machine_cannot_watch_it_now(monkeypatch: pytest.MonkeyPatch) -> None:
    """epoll_ctl(2): ENOMEM.  It waits in `ready`, and is watched when it was served."""
    with house(2) as seats, bed(echo) as sender:
        seats.inboxes[1].reader.close()
        client = sender.connect()
        connection = sender.connections()[0]
        assert sender.worker.tables.parked.pop(connection.fd) is connection
        poller = sender.worker.poller
        giving = seats.giving(sender.worker)
        with monkeypatch.context() as patched:
            patched.setattr(giving, "_watch_again", lambda _c: False)
            assert not giving.try_give(connection, giving.takers(), 1)
        client.sendall(b"here")
        assert client.recv(100) == b"here"
        assert poller is sender.worker.poller


def test_without_memory_for_a_long_message_it_stays(sender: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_name: str) -> int:
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(memory, "create_growing", refuse)
    with house(2) as seats:
        connection = parked(sender)
        connection.rest = bytes(INLINE_BYTES + 1)
        assert not give(sender, seats, connection)
        assert is_back(sender, connection)


def test_passes_count_until_it_is_served(sender: Bed) -> None:
    with house(2) as seats:
        giving = seats.giving(sender.worker)
        connection = parked(sender)
        connection.passes, connection.passed_at, connection.messages = 2, 7, 7
        assert giving.passes_of(connection) == 2
        connection.messages = 8
        assert giving.passes_of(connection) == 0
