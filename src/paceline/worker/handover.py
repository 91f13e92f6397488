"""Passing a connection to a sibling, and taking in what siblings pass.

The way is the other's inbox (host/passing.py); beside the descriptor goes a record in JSON, so that a newer or older
Paceline can read it: fields that a reader does not know are ignored.

    listener   index of the listener it came in by
    passes     how often it has been passed

A fresh connection has been accepted and nothing else: nothing was read, no hook was called.  The leader passes it
before it is registered anywhere, for balance; the watcher of a saturated worker, when it has something to say and
nobody can listen.  The watcher of the other worker takes it in.
"""

import json
from collections.abc import Callable, Iterator, Sequence

from paceline import clock
from paceline.host import in_flight, passing, streams
from paceline.host.descriptors import Spare
from paceline.scoreboard.board import Board
from paceline.scoreboard.fields import WORKER, WorkerState
from paceline.worker.balance import Sibling, choose
from paceline.worker.connection import Connection
from paceline.worker.plan import Inbox
from paceline.worker.worker import Worker

MOST_AT_ONCE = 64
"""Connections taken from the inbox before the watcher looks at anything else."""

MOST_PASSES = 3
"""So often a fresh connection is passed at the most."""

SILENT_NS = 2_500_000_000
"""A worker whose watcher has not run for so long (it does once a second) is stopped, or holds its GIL."""

LATER_S = 1.0
"""How long the watcher lets them wait when they could not be taken."""

_READY = int(WorkerState.READY)
_STATE, _GENERATION, _SATURATED = WORKER["state"], WORKER["generation"], WORKER["saturated"]
_CONNECTIONS, _LIMIT, _HEARTBEAT = WORKER["connections"], WORKER["connections_limit"], WORKER["heartbeat_ns"]


class Passing:
    """The giving side: is there a sibling that should have it?  Used by the leader and by the watcher."""

    def __init__(self, worker: Worker, board: Board, inboxes: Sequence[Inbox], seat: int, generation: int) -> None:
        self.worker = worker
        self.words = board.words
        self.seat = seat
        self.generation = generation
        self.rows = [(other, board.layout.worker_index(other)) for other in range(len(inboxes)) if other != seat]
        self.writers = [inbox.writer for inbox in inboxes]
        self.charge = in_flight.charge_of(record_of(0))

    def siblings(self) -> Iterator[Sibling]:
        """Those that can take a connection now."""
        words = self.words
        alive_since = clock.now_ns() - SILENT_NS
        for seat, row in self.rows:
            if (
                words[row + _STATE] == _READY
                and words[row + _GENERATION] == self.generation
                and not words[row + _SATURATED]
                and words[row + _HEARTBEAT] >= alive_since
            ):
                yield Sibling(seat, words[row + _CONNECTIONS], words[row + _LIMIT])

    def waiting(self, seat: int) -> int:
        """How many connections lie in the inbox of a seat, whoever passed them."""
        return in_flight.charged_bytes(self.writers[seat]) // self.charge

    def try_pass(self, fd: int, listener: int) -> bool:
        """Give the fresh connection away if a sibling should have it.  True: it is not ours any more."""
        mine = len(self.worker.tables.open) + self.waiting(self.seat) + 1
        seat = choose(mine, self.siblings(), self.waiting)
        return seat is not None and self._send(seat, fd, record_of(listener))

    def try_relieve(self, c: Connection) -> bool:
        """The watcher's, in a saturated worker: give away a connection that is still fresh, to whoever can serve it.

        The caller owns it, and goes on owning it if the answer is False.  Whoever gets it may be saturated itself by
        then and pass it on again, but not for ever.
        """
        siblings = [sibling for sibling in self.siblings() if sibling.connections < sibling.limit]
        if not siblings or c.passes >= MOST_PASSES:
            return False
        worker = self.worker
        if c.polled:
            worker.poller.remove(c.fd)  # before sending: the old set would report it for ever
            c.polled = False
        least = min(siblings, key=lambda sibling: sibling.connections + self.waiting(sibling.seat))
        fd = c.fd
        worker.tables.forget(fd)  # before it is let go: afterwards the number may be another's
        if self._send(least.seat, fd, record_of(c.way_in.index, c.passes + 1)):
            worker.gauge("connections", len(worker.tables.open))
            return True
        worker.tables.enter(c)
        return False

    def _send(self, seat: int, fd: int, record: bytes) -> bool:
        try:
            if not passing.send_connection(self.writers[seat], fd, record):
                return False
        except OSError:
            return False  # its inbox is gone with the supervisor
        streams.let_go(fd)
        self.worker.count("passed")
        return True


class Receiving:
    """The watcher's side: what siblings have passed.  `admit(fd, listener_index, passes)` takes one in."""

    def __init__(self, worker: Worker, inbox: Inbox, admit: Callable[[int, int, int], None]) -> None:
        self.worker = worker
        self.reader = inbox.reader
        self.admit = admit
        self.spare = Spare()

    def receive(self) -> bool:
        """Take in what has arrived.  False: no descriptors are left, and what is in the inbox stays there for later."""
        for _ in range(MOST_AT_ONCE):
            try:
                arrived = passing.receive_connection(self.reader, self.spare)
                if arrived is None:
                    return True
            except passing.NotAConnection as error:
                self.worker.log.say("bug", where="the inbox", error=str(error))
                continue
            except EOFError:
                return False  # the supervisor and all siblings are gone
            except OSError as error:
                open_now = len(self.worker.tables.open)
                self.worker.log.say("accept-paused", error=error.strerror, seconds=LATER_S, open=open_now)
                return False
            fd, record = arrived
            self.worker.count("received")
            try:
                listener, passes = read_record(record)
            except ValueError as error:
                streams.close(fd)
                self.worker.log.say("bug", where="the inbox", error=str(error))
                continue
            self.admit(fd, listener, passes)
        return True


def record_of(listener: int, passes: int = 1) -> bytes:
    """What travels beside a fresh connection: by which listener it came, and how often it has been passed."""
    return json.dumps({"listener": listener, "passes": passes}).encode()


def read_record(record: bytes) -> tuple[int, int]:
    """(index of the listener, how often it was passed) of a record.  Raises ValueError when it names no listener."""
    try:
        fields = json.loads(record)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"a record cannot be read: {error}") from None
    listener = fields.get("listener") if isinstance(fields, dict) else None
    if type(listener) is not int or listener < 0:
        raise ValueError(f"a record names no listener: {record[:80]!r}")
    passes = fields.get("passes")
    return listener, passes if type(passes) is int and passes > 0 else 1
