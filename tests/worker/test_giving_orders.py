"""worker/giving.py: every order in which the steps of a giver, a poller and a peer can fall.

The giver is the real one; beside the tables it is interrupted before it changes the epoll set, sends, and closes.  What
must hold in every order: nobody touches what somebody else owns, each byte that arrives is read once, by us or by the
one who was given the connection, nothing of it is left here when it is gone, and whoever has its number afterwards is
not touched.
"""

from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from interleavings import every_order
from paceline.host.poller import IN
from paceline.worker import giving
from paceline.worker.balance import Sibling, Takers
from paceline.worker.connection import Connection
from paceline.worker.giving import Giving
from paceline.worker.pushing import Pushing
from paceline.worker.relief import Relief
from tableworld import FD, World


class GivingWorld(World):
    """A worker that gives its one connection away; `is_full`: to a sibling who cannot take it."""

    is_full = False
    preemptions = 3

    def __init__(self) -> None:
        super().__init__()
        self.watched: set[int] = {FD}
        self.wakes = 0
        self.sent: list[Connection] = []
        self.read_there = 0
        self.arrived = 0
        self.is_open = True
        """Our descriptor of it."""
        self.unread_fds: set[int] = set()
        self.pushing = Pushing(self.tables, self.wake, 1000)
        worker = SimpleNamespace(
            tables=self.tables,
            pushing=self.pushing,
            poller=self,
            wakeup=SimpleNamespace(wake=self.wake),
            unread=self.unread_fds,
            stays=set(),
            gate=SimpleNamespace(reasons=()),
            count=lambda _cell: None,
            gauge=lambda _cell, _value: None,
            leaving=False,
        )
        self.worker = cast("Any", worker)
        made = Giving.__new__(Giving)
        made.worker = cast("Any", worker)
        made.generation, made.framing = 1, "raw"
        made._send = self.send  # type: ignore[method-assign]
        self.giving = made
        self.connection.polled = True
        self.owned.remove(self.connection)
        self.tables.parked[FD] = self.connection

    # What the giver does to the operating system

    def wake(self) -> None:
        self.wakes += 1

    def remove(self, fd: int) -> None:
        self.step()
        self.watched.discard(fd)

    def add_connection(self, fd: int) -> None:
        """What is there already is reported at once."""
        self.step()
        self.watched.add(fd)
        if self.unread[self.connection]:
            self.tables.ready.append((fd, IN))

    def send(self, seat: int, fd: int, record: bytes, beside: int = -1) -> bool:
        self.step()
        if self.is_full:
            return False
        assert FD not in self.watched, "the epoll set would report it for ever"
        assert self.connection not in self.tables.parked.values(), "it is sent while others can take it"
        self.sent.append(self.connection)
        return True

    def let_go(self, fd: int) -> None:
        self.step()
        assert fd == FD
        assert not self.tables.open, "others would take the next one with this number for it"
        self.is_open = False

    # The actors

    def peer(self) -> None:
        """A byte arrives; it has an edge where somebody watches."""
        self.step()
        self.arrived += 1
        self.unread[self.connection] += 1
        if FD in self.watched:
            self.tables.ready.append((FD, IN))

    def giver(self) -> None:
        c = self.tables.parked.pop(FD, None)
        if c is not None:
            self.take(c)
            self.owned.remove(c)  # from here on it is the giver's: it says itself when it is parked again
            self.giving.try_give(c, Takers([Sibling(1, 0, 10, 1)], lambda _seat: 0), 1)

    def take(self, connection: Connection) -> None:
        assert connection not in self.sent, "it is touched here after it was sent"
        super().take(connection)

    def leader(self) -> None:
        """Whoever leads serves what is ready."""
        self.poller()

    def check(self) -> None:
        while self.tables.ready:
            self.poller()
        assert not self.owned
        if self.sent:
            assert self.sent == [self.connection]
            assert not self.is_open
            assert not self.tables.pending
            for book in (self.tables.open, self.tables.parked, self.tables.timed):
                assert self.connection not in dict(book).values()
            self.read_there = self.unread[self.connection]  # entering its epoll set reports it there
        else:
            assert self.is_open
            assert self.tables.parked == {FD: self.connection}
            assert FD in self.watched
            assert self.unread[self.connection] == 0, "what arrived is not read"
        assert sum(self.reads) + self.read_there == self.arrived


class GivenWhileBytesArrive(GivingWorld):
    """Its event comes between any two steps."""

    def actors(self) -> list[Callable[[], None]]:
        return [self.giver, self.peer_and_leader]

    def peer_and_leader(self) -> None:
        self.peer()
        while self.tables.ready:
            self.leader()


class KeptWhileBytesArrive(GivenWhileBytesArrive):
    is_full = True


class GivenWithAnEventInTheBatch(GivingWorld):
    """The leader has its event in hand already, when it is claimed; and the number is used again at once."""

    def actors(self) -> list[Callable[[], None]]:
        self.peer()
        return [self.giver_and_the_next, self.leader]

    def giver_and_the_next(self) -> None:
        self.giver()
        if self.sent:
            self.newcomer = self.connect()
            self.newcomer.polled = True
            if self.park(self.newcomer):  # an event of the one before: a read that finds nothing
                self.work(self.newcomer)

    def check(self) -> None:
        if not self.sent:
            super().check()
            return
        while self.tables.ready:
            self.poller()
        assert self.tables.parked == {FD: self.newcomer}
        assert not self.owned
        assert sum(self.reads) + self.unread[self.connection] == self.arrived


class GivenWhileItIsSentTo(GivingWorld):
    """Somebody pushes two messages: each is put on the wire here, or refused, and none is left beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.pushed: list[bytes] = []
        self.wired: list[bytes] = []

    def actors(self) -> list[Callable[[], None]]:
        return [self.giver, self.pusher, self.leader]

    def send(self, seat: int, fd: int, record: bytes, beside: int = -1) -> bool:
        """In one step: the lock is held, and no message is laid beside it meanwhile."""
        self.step, step = (lambda: None), self.step  # type: ignore[method-assign]
        try:
            return super().send(seat, fd, record, beside)
        finally:
            self.step = step  # type: ignore[method-assign]

    def pusher(self) -> None:
        for message in (b"one", b"two"):
            self.step()
            try:
                self.pushing.push(self.connection, message)
            except BrokenPipeError:
                assert self.sent
            else:
                self.pushed.append(message)

    def work(self, connection: Connection) -> None:
        while True:
            self.step()
            self.wired += self.pushing.take(connection)
            if not self.park(connection):
                return

    def check(self) -> None:
        super().check()
        assert self.wired == self.pushed
        assert self.connection.pushed is None


class SentToInVain(GivenWhileItIsSentTo):
    is_full = True


class GivenByTwo(GivingWorld):
    """Twice claimed: by whoever relieves, and by whoever leads and finds it ready, twice."""

    preemptions = 2

    def actors(self) -> list[Callable[[], None]]:
        self.peer()
        self.tables.ready.append((FD, IN))
        return [self.giver, self.leader, self.leader]


class KeptByTwo(GivenByTwo):
    is_full = True


class Relieved(GivingWorld):
    """The watcher relieves while a thread comes back, leads, and serves what is in the same batch."""

    def __init__(self) -> None:
        super().__init__()
        self.relief = Relief.__new__(Relief)
        self.relief.worker = self.worker
        self.relief.giving = self.giving
        self.giving.takers = self.takers  # type: ignore[method-assign]

    def takers(self, *, any_generation: bool = False) -> Takers:
        assert not any_generation
        return Takers([Sibling(1, 0, 10, 1)], lambda _seat: 0)

    def wait(self, _timeout: float, _most: int) -> Iterable[tuple[int, int]]:
        """Nothing new is polled."""
        return []

    def actors(self) -> list[Callable[[], None]]:
        self.peer()
        self.tables.ready.append((FD, IN))
        return [self.relief.relieve, self.leader]


class RelievedInVain(Relieved):
    is_full = True


@pytest.mark.parametrize(
    "world",
    [
        GivenWhileBytesArrive,
        KeptWhileBytesArrive,
        GivenWithAnEventInTheBatch,
        GivenWhileItIsSentTo,
        SentToInVain,
        GivenByTwo,
        KeptByTwo,
        Relieved,
        RelievedInVain,
    ],
)
def test_in_every_order(world: type[GivingWorld], monkeypatch: pytest.MonkeyPatch) -> None:
    current: list[GivingWorld] = []

    def make() -> GivingWorld:
        current[:] = [world()]
        return current[0]

    monkeypatch.setattr(giving, "streams", SimpleNamespace(let_go=lambda fd: current[0].let_go(fd)))
    assert every_order(make, preemptions=world.preemptions) > 20
