"""Who owns which connection: every order in which the steps of a poller and of an owner can fall.

The poller's side is the real one (`Loop._serve_next`, `Serving.on_pending`), the owner's is `Tables.park` and
`Tables.requeue`; what they do to the tables is interrupted before each operation (tableworld.py).  What must hold in
every order: nobody touches what somebody else owns, nothing that arrived stays unread, and each byte is read once.
"""

from collections.abc import Callable

import pytest

from interleavings import every_order
from paceline.host.poller import IN
from paceline.worker.connection import Connection, WayIn
from paceline.worker.tables import MORE, Tables
from tableworld import FD, ME, World


class ParkedByOwner(World):
    """The connection is in a call while a byte arrives; its owner has read already, and parks."""

    def actors(self) -> list[Callable[[], None]]:
        self.arrive()
        return [self.poller, self.owner]

    def owner(self) -> None:
        if self.park(self.connection):
            self.work(self.connection)

    def check(self) -> None:
        super().check()
        assert self.reads == [1]


class ParkedByTheFastPath(ParkedByOwner):
    """The same with what the fast path does instead of `park`."""

    def owner(self) -> None:
        tables = self.tables
        self.owned.remove(self.connection)
        tables.parked[FD] = self.connection
        if tables.pending and FD in tables.pending:
            self.loop.serving.on_pending(FD, ME)


class Requeued(ParkedByOwner):
    """The owner's turn is over: it puts the connection behind the others."""

    def owner(self) -> None:
        self.owned.remove(self.connection)
        self.tables.requeue(self.connection)


class TwoEvents(ParkedByOwner):
    """Two poll for a moment, and each has an edge of the connection."""

    def actors(self) -> list[Callable[[], None]]:
        self.arrive()
        self.arrive()
        return [self.poller, self.poller, self.owner]

    def check(self) -> None:
        World.check(self)
        assert sum(self.reads) == 2


class OneMoreWhileItIsRead(ParkedByOwner):
    """A second byte arrives at any moment, and its edge goes to a second poller."""

    def actors(self) -> list[Callable[[], None]]:
        self.arrive()
        return [self.poller, self.arrive_and_poll, self.owner]

    def arrive_and_poll(self) -> None:
        self.arrive()
        self.poller()

    def check(self) -> None:
        World.check(self)
        assert sum(self.reads) == 2


class ReusedNumber(World):
    """The connection is closed, its number is another's at once, and an old event for it is still in the batch."""

    def actors(self) -> list[Callable[[], None]]:
        self.tables.ready.append((FD, IN))
        return [self.poller, self.closer]

    def closer(self) -> None:
        self.owned.remove(self.connection)
        self.tables.forget(FD)
        fresh = self.connect()
        self.unread[fresh] += 1
        self.tables.ready.append((FD, IN))  # its own edge comes later, or sooner
        if self.park(fresh):
            self.work(fresh)

    def check(self) -> None:
        super().check()
        assert self.reads == [1]
        assert self.tables.open[FD] is not self.connection


class Closed(World):
    """The connection is closed while an event for it is being noted: the note does not stay for ever."""

    def actors(self) -> list[Callable[[], None]]:
        self.tables.ready.append((FD, IN))
        return [self.poller, self.closer]

    def closer(self) -> None:
        self.owned.remove(self.connection)
        self.tables.forget(FD)

    def check(self) -> None:
        super().check()
        assert not self.tables.pending
        assert not self.tables.open


@pytest.mark.parametrize(
    ("world", "preemptions"),
    [
        (ParkedByOwner, None),
        (ParkedByTheFastPath, None),
        (Requeued, None),
        (Closed, None),
        (ReusedNumber, 4),
        (TwoEvents, 2),
        (OneMoreWhileItIsRead, 2),
    ],
    ids=lambda value: getattr(value, "__name__", "all" if value is None else f"up to {value} interruptions"),
)
def test_in_every_order_one_owns_it_and_all_is_read(world: type[World], preemptions: int | None) -> None:
    assert every_order(world, preemptions) > 10


# That the orders in which a naive loop loses something are among them


class ForgetfulOwner(ParkedByOwner):
    """Puts it back without a look at what was noted meanwhile."""

    def owner(self) -> None:
        self.owned.remove(self.connection)
        self.tables.parked[FD] = self.connection


class ForgetfulPoller(ParkedByOwner):
    """Notes the event and does not look again."""

    def poller(self) -> None:
        tables = self.tables
        fd, flags = tables.ready.popleft()
        connection = tables.parked.pop(fd, None)
        if connection is None:
            tables.pending.add(fd)
        else:
            self.loop.serving.on_event(connection, flags, ME)


class HastyOwner(ParkedByOwner):
    """Looks before it puts the connection back, not after."""

    def owner(self) -> None:
        if FD in self.tables.pending:
            self.tables.pending.discard(FD)
            self.work(self.connection)
        else:
            self.owned.remove(self.connection)
            self.tables.parked[FD] = self.connection


@pytest.mark.parametrize("naive", [ForgetfulOwner, ForgetfulPoller, HastyOwner], ids=lambda world: world.__name__)
def test_each_naive_loop_loses_an_event_in_some_order(naive: type[World]) -> None:
    with pytest.raises(AssertionError, match="what arrived is not read"):
        every_order(naive)


# One by one


@pytest.fixture
def tables() -> Tables:
    return Tables()


@pytest.fixture
def connection(tables: Tables) -> Connection:
    made = Connection(FD, WayIn(0, "nowhere"))
    tables.enter(made)
    return made


def test_parked_it_is_nobodys(tables: Tables, connection: Connection) -> None:
    assert tables.park(connection) is None
    assert tables.parked == tables.open == {FD: connection}


def test_what_came_meanwhile_makes_it_owned_again(tables: Tables, connection: Connection) -> None:
    tables.pending.add(FD)
    assert tables.park(connection) is connection
    assert tables.parked == {}
    assert not tables.pending


def test_an_event_of_another_does_not(tables: Tables, connection: Connection) -> None:
    tables.pending.add(FD + 1)
    assert tables.park(connection) is None
    assert tables.pending == {FD + 1}


def test_requeued_it_is_read_dry_behind_the_others(tables: Tables, connection: Connection) -> None:
    tables.pending.add(FD)
    tables.ready.append((FD + 1, IN))
    tables.requeue(connection)
    assert list(tables.ready) == [(FD + 1, IN), (FD, MORE)]
    assert tables.parked == {FD: connection}
    assert not tables.pending  # what came meanwhile is read then


def test_a_note_for_a_former_owner_of_the_number_is_erased(tables: Tables) -> None:
    tables.pending.add(FD)
    tables.enter(Connection(FD, WayIn(0, "nowhere")))
    assert not tables.pending


def test_forgotten_nothing_of_it_is_left(tables: Tables, connection: Connection) -> None:
    tables.timed[FD] = connection
    tables.pending.add(FD)
    tables.forget(FD)
    tables.forget(FD)
    assert [*tables.open, *tables.timed, *tables.pending, *tables.parked] == []


# Those who are told


def test_whoever_is_taken_off_the_books_is_told_of_before_the_number_is_anybody_elses() -> None:
    left: list[tuple[int, bool]] = []

    def on_left(fd: int) -> None:
        left.append((fd, fd in told.open))

    told = Tables(on_left)
    told.enter(Connection(FD, WayIn(0, "here")))
    assert not left
    told.forget(FD)
    told.forget(FD)  # once more: whoever listens has to bear it
    assert left == [(FD, False), (FD, False)]
