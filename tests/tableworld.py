"""The tables of one worker in a world without sockets, for tests of who owns what: see interleavings.py.

The poller's side is the real one (`Loop._serve_next`, `Serving.on_pending`); what the others do to the tables is
interrupted before each operation.  A connection has bytes that arrived and were not read yet; a read takes them all.
"""

from typing import Any, cast

from interleavings import Stage
from paceline.host.poller import IN
from paceline.worker.connection import Connection, WayIn
from paceline.worker.crew import Member
from paceline.worker.ending import Ending
from paceline.worker.loop import Loop
from paceline.worker.serving import Reading, Serving
from paceline.worker.tables import Tables

FD = 7
ME = cast("Member", None)
"""Nothing here asks who it is."""


class World(Stage):
    """One worker's tables, and connections without sockets."""

    def __init__(self) -> None:
        super().__init__()
        self.tables = Tables()
        self.tables.open = self.dict()
        self.tables.parked = self.dict()
        self.tables.pending = self.set()
        self.tables.ready = self.deque()
        self.owned: list[Connection] = []
        self.unread: dict[Connection, int] = {}
        self.reads: list[int] = []
        self.loop = Loop.__new__(Loop)
        self.loop.worker = cast("Any", self)  # all that `_serve_next` asks of it is `tables`
        self.loop.serving = WorldServing(self)
        self.connection = self.connect()

    def connect(self) -> Connection:
        """A new connection with the number FD, owned by whoever calls this."""
        connection = Connection(FD, WayIn(0, "nowhere"))
        self.unread[connection] = 0
        self.tables.enter(connection)
        self.owned.append(connection)
        return connection

    def arrive(self) -> None:
        """A byte and its edge, which goes to whoever polls."""
        current = self.tables.open.get(FD)
        assert current is not None
        self.unread[current] += 1
        self.tables.ready.append((FD, IN))

    def poller(self) -> None:
        """The leader, with one event in its batch."""
        self.loop._serve_next(ME)

    def take(self, connection: Connection) -> None:
        assert connection not in self.owned, "two own it"
        self.owned.append(connection)

    def work(self, connection: Connection) -> None:
        """Owned: read what there is, and park; again, as long as something came meanwhile."""
        assert connection in self.owned
        while True:
            self.step()
            if self.unread[connection]:
                self.reads.append(self.unread[connection])
                self.unread[connection] = 0
            if not self.park(connection):
                return

    def park(self, connection: Connection) -> bool:
        self.owned.remove(connection)
        again = self.tables.park(connection)
        if again is None:
            return False
        assert again is connection
        self.take(connection)
        return True

    def check(self) -> None:
        while self.tables.ready:
            self.poller()
        assert not self.owned
        current = self.tables.open.get(FD)
        if current is not None:
            assert self.tables.parked == {FD: current}
            assert self.unread[current] == 0, "what arrived is not read"
        else:
            assert not self.tables.parked


class Patient:
    """Stands where an Ending stands: nobody has waited for too long."""

    def is_stale(self, _c: Connection) -> bool:
        return False


class WorldServing(Serving):
    """The real `on_pending`; what reads and parks is the world's."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.tables = world.tables
        self.ending = cast("Ending", Patient())

    def on_event(self, c: Connection, flags: int, me: Member) -> None:
        self.work(c, Reading.ONCE, me)

    def work(self, c: Connection, *_how: Any, **_further: Any) -> None:
        self.world.take(c)
        self.world.work(c)
