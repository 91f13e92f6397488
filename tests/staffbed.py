"""Workers who pass connections to each other, come, leave and are held up: for tests that go on for long.

They are whole (workerbed.py) and sit on one board, with real inboxes between them (house.py).  Nobody's watcher does
anything by itself: a test says who gives what, who takes in, and whose watcher ticks, in any order, so that connections
may be on the way for as long as it likes.
"""

import socket
import threading
from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from itertools import count
from typing import Any

from house import house
from paceline import clock
from paceline.host import passing, streams
from paceline.scoreboard.fields import WorkerState
from paceline.worker.connection import Connection, WayIn
from paceline.worker.giving import Reach, reach
from paceline.worker.lifecycle import State
from paceline.worker.record import Record, encode
from workerbed import DEADLINE_S, Bed, bed

SEATS = 3
MOST_THREADS = 2
PLAIN, SECURED = 1, 0
"""The ways in: the second one is secured where there are certificates."""

DRAIN_S = 1000.0
"""So long that nothing is cut."""

AMISS = ("bug", "handler-failed", "hook-failed", "handover-misfit", "peer-slow", "call-stuck")


class Book:
    """What the handlers of all workers have been told of each connection: [(what, the worker's number)], in order."""

    def __init__(self) -> None:
        self.numbers = count()
        self.told: dict[int, list[tuple[str, int]]] = defaultdict(list)

    def arrivals(self, number: int) -> int:
        return sum(what == "arrived" for what, _ in self.told[number])

    def check(self) -> None:
        """At the end, when all of them are closed."""
        for told in self.told.values():
            hooks = [what for what, _ in told if what != "called"]
            assert hooks == ["connected", *["arrived"] * (len(hooks) - 2), "disconnected"], told
            assert told[-1][0] == "disconnected", told

    def check_places(self) -> None:
        """The same where all are told of arrivals: whoever has it is the one who was told last."""
        for told in self.told.values():
            place = -1
            for what, number in told:
                place = number if what in ("connected", "arrived") else place
                assert number == place, told


class Handler:
    """The handler of one worker; its calls wait while `door` is shut.  `answer(line, number)` makes the reply.

    The state of a connection says who it is, and how many of its lines were answered.
    """

    def __init__(self, book: Book, number: int, answer: Callable[[bytes, int], object]) -> None:
        self.book = book
        self.number = number
        self.answer = answer
        self.door = threading.Event()
        self.door.set()

    def note(self, what: str, connection: Connection) -> int:
        number: int = connection.state["number"]
        self.book.told[number].append((what, self.number))
        return number

    def connected(self, connection: Connection) -> bytes:
        connection.state = {"number": next(self.book.numbers), "answered": 0}
        return b"h%d" % self.note("connected", connection)

    def disconnected(self, connection: Connection) -> None:
        self.note("disconnected", connection)

    def __call__(self, line: bytes, connection: Connection) -> object:
        self.note("called", connection)
        assert self.door.wait(DEADLINE_S)
        connection.state["answered"] += 1
        assert connection.state["answered"] == connection.messages
        return self.answer(line, connection.messages)


class Told(Handler):
    """The same, and it is told of connections that arrive."""

    def arrived(self, connection: Connection) -> bytes:
        arrival = self.book.arrivals(connection.state["number"])
        self.note("arrived", connection)
        return b"a%d" % arrival


class Post:
    """One worker among the others."""

    def __init__(self, worker: Bed, handler: Handler) -> None:
        self.bed = worker
        self.handler = handler
        self.watcher = worker.parts.watcher
        self.tables = worker.worker.tables

    @property
    def seat(self) -> int:
        return self.bed.plan.seat

    @property
    def is_leaving(self) -> bool:
        return self.bed.worker.leaving


class Staff:
    """All of them; nobody is there yet."""

    def __init__(self, kind: type[Handler], answer: Callable[[bytes, int], object], **settings: Any) -> None:
        self.stack = ExitStack()
        self.kind = kind
        self.answer = answer
        self.settings = settings
        self.book = Book()
        self.numbers = count()
        self.house = self.stack.enter_context(house(SEATS, MOST_THREADS))
        self.posts: list[Post] = []
        """Of those who are there, oldest first."""
        self._beds: dict[Post, ExitStack] = {}
        for seat in range(SEATS):
            self.house.board.leave(seat)

    def __getitem__(self, which: int) -> Post:
        """Any number means somebody."""
        return self.posts[which % len(self.posts)]

    def hire(self, generation: int) -> None:
        """Somebody new, at a free seat."""
        seat = min(set(range(SEATS)) - {post.seat for post in self.posts})
        handler = self.kind(self.book, next(self.numbers), self.answer)
        beds = self.stack.enter_context(ExitStack())
        place = self.house.place(seat, generation)
        made = bed(handler, framing="line", place=place, **self.settings)
        worker = beds.enter_context(made)
        worker.parts.accepting.ways_in[PLAIN] = WayIn(PLAIN, "a plain one", worker.worker.pushing.push)
        self.house.set(seat, state=WorkerState.READY)
        post = Post(worker, handler)
        self._beds[post] = beds
        self.posts.append(post)
        self._beat()

    def _beat(self) -> None:
        """All are alive, as far as others can see."""
        alive = clock.now_ns() + 3600 * 10**9
        for post in self.posts:
            self.house.set(post.seat, heartbeat_ns=alive)

    def admit(self, post: Post, theirs: socket.socket, way: int, *, passed: bool) -> None:
        """A new connection is this worker's; or on its way there, because a sibling has accepted and passed it."""
        theirs.setblocking(False)
        accepting = post.bed.parts.accepting
        way_in = accepting.way_in(way)
        phase = accepting.first_phase(way_in, streams.peer_address(theirs.fileno()))
        if passed:
            record = encode(Record(listener=way, is_unsecured=phase is State.SECURING))
            assert passing.send_connection(self.house.inboxes[post.seat].writer, theirs.fileno(), record)
            theirs.close()
        elif accepting.enter(Connection(theirs.detach(), way_in, phase)):
            post.bed.worker.wakeup.wake()

    def find(self, peer: str) -> tuple[Post, Connection] | None:
        """Who has the connection of this peer.  None: it is on the way, or gone."""
        for post in self.posts:
            for c in post.bed.connections():
                if c.peer == peer:
                    return post, c
        return None

    def give(self, post: Post, c: Connection) -> bool | None:
        """To somebody else, as the watcher of a worker that leaves does.

        False: it cannot move; None: somebody has it in hand, or nobody can take it.
        """
        self._beat()
        giving = post.watcher.giving
        assert giving is not None
        takers = giving.takers(any_generation=True)
        if not takers or post.tables.parked.pop(c.fd, None) is None:
            return None
        if reach(c) is Reach.NOWHERE:
            if post.tables.park(c) is not None:
                post.tables.requeue(c)
                post.bed.worker.wakeup.wake()
            return False
        assert giving.try_give(c, takers, giving.passes_of(c)), "it could move, and did not"
        return True

    def take_in(self) -> None:
        """Nothing is on the way any more."""
        for post in self.posts:
            post.watcher.take_in()

    def tick(self, post: Post, times: int = 1) -> None:
        """Its watcher ticks; whoever is done with leaving has gone after that."""
        for _ in range(times):
            self._beat()
            post.bed.tick()
            if post.is_leaving and post.watcher.draining.is_over():
                post.watcher.take_in()  # what was given before the others saw that it leaves
                if post.watcher.draining.is_over():
                    self._dismiss(post)
                    return

    def leave(self, post: Post, successor: int) -> None:
        """It hands everything over and goes; a new one of this generation is there already."""
        self.hire(successor)
        post.bed.now = clock.now()
        post.watcher.drain(DRAIN_S, hand_over=True)

    def _dismiss(self, post: Post) -> None:
        self.check(post)
        assert post.watcher.end() == 0
        self.posts.remove(post)
        self._beds.pop(post).close()
        self.house.board.leave(post.seat)

    def check(self, post: Post) -> None:
        amiss = [said for said in post.bed.log.said if said[0] in AMISS]
        assert not amiss, amiss

    def go_on(self) -> None:
        """Nothing holds anybody up, and everybody does what there is to do now."""
        for post in list(self.posts):
            post.handler.door.set()
            post.watcher.take_in()
            self.tick(post)

    def close(self) -> None:
        for post in self.posts:
            post.handler.door.set()
        self.stack.close()
