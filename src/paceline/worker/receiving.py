"""Taking in what siblings have given.  The watcher's; giving.py is the other side, record.py what is said in between.

Nothing of the user's runs here: a connection is put where it belongs, and whoever leads serves it.  A record that makes
no sense costs that connection, and is logged: it is a bug of ours.
"""

from collections.abc import Callable
from typing import Any

from paceline import clock
from paceline.errors import UsageError
from paceline.host import memory, passing, streams
from paceline.host.descriptors import Spare
from paceline.wire import describe
from paceline.worker.connection import Connection, WayIn
from paceline.worker.deadlines import Owes, Watch
from paceline.worker.lifecycle import State
from paceline.worker.plan import Inbox
from paceline.worker.record import Kind, MalformedRecord, Record, decode, loaded
from paceline.worker.worker import Worker

MOST_AT_ONCE = 64
"""Connections taken from the inbox before the watcher looks at anything else."""

LATER_S = 0.1
"""How long the watcher lets them wait when they could not be taken."""


class Receiving:
    """The inbox of one worker.  `enter(connection)` makes one ours, `way_in(index)` is its listener's."""

    def __init__(
        self,
        worker: Worker,
        inbox: Inbox,
        generation: int,
        enter: Callable[[Connection], None],
        way_in: Callable[[int], WayIn],
    ) -> None:
        self.worker = worker
        self.reader = inbox.reader
        self.generation = generation
        self.framing = describe(worker.framing)
        self.enter = enter
        self.way_in = way_in
        self.spare = Spare(passing.MOST_DESCRIPTORS)

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
            self.worker.count("received")
            self._take_in(arrived)
        return True

    def _take_in(self, arrived: passing.Arrived) -> None:
        fd = arrived.fd
        try:
            record = self._read(arrived)
            if misfit := self._misfit(record):
                peer = record.peer or streams.peer_text(fd)
                self.worker.log.say("handover-misfit", peer=peer, bytes=f"{len(record.rest):,}", why=misfit)
                self._turn_away(fd)
                return
            connection = self._restored(fd, record)
        except (MalformedRecord, UsageError, OSError) as error:
            self._turn_away(fd)
            self.worker.log.say("bug", where="the inbox", error=str(error))
            return
        if self._is_let_in(fd, record):
            self.enter(connection)

    def _is_let_in(self, fd: int, record: Record) -> bool:
        """Count it where it is now.  False: it was new, and there are too many from its address; it is gone."""
        keeper = self.worker.doorkeeper
        if keeper is None or not keeper.counts_places:
            return True
        if record.is_new:
            return record.is_unnamed or keeper.takes(fd, streams.peer_address(fd))
        keeper.counts(fd, record.peer)
        return True

    def _read(self, arrived: passing.Arrived) -> Record:
        """Raises MalformedRecord, OSError; the memory beside it is closed in any case."""
        beside = None
        if arrived.memory >= 0:
            try:
                beside = memory.read(arrived.memory, 0, memory.size_of(arrived.memory))
            finally:
                memory.close(arrived.memory)
        return decode(arrived.record, beside)

    def _is_of_ours(self, record: Record) -> bool:
        """Its rest was kept by the same framing of the same code."""
        return record.generation == self.generation and record.framing == self.framing

    def _misfit(self, record: Record) -> str:
        """Why the unfinished message that came with it cannot be gone on with; empty: it can."""
        if record.rest and self.worker.holds:
            return "the handler takes whole connections now"
        if record.kind is Kind.VALUE and not self._is_of_ours(record):
            return "its framing kept it in a form that only the code of then understands"
        return ""

    def _restored(self, fd: int, record: Record) -> Connection:
        """The connection as the other one had it.  Raises MalformedRecord, and UsageError for what is no state."""
        way_in = self.way_in(record.listener)
        if record.is_unnamed:
            phase = State.UNNAMED
        elif record.is_unsecured and way_in.secures:
            phase = State.SECURING
        elif record.greeted and self.worker.hook("arrived") is not None:
            phase = State.FRESH
        else:
            phase = self.worker.first_state if record.is_fresh else State.OPEN
        c = Connection(fd, way_in.proxied if record.is_unnamed or record.is_proxied else way_in, phase)
        c.passes, c.passed_at = record.passes, record.messages
        c.messages, c.greeted = record.messages, record.greeted
        if record.state is not None:
            c.state = record.state
        if record.peer:
            c.remember_peer(record.peer)
        if record.rest:
            if self._is_of_ours(record):
                c.rest = _rest_of(record)
            else:
                c.uncut = memoryview(record.rest)  # cut by the framing that there is now
                c.busy = True
        if record.since and record.owes in tuple(Owes):
            # What it owes goes on to be owed: being passed on is no way to have more time.
            c.watch = Watch(Owes(record.owes), c.progress, min(record.since, clock.now()), -record.credit)
        return c

    def _turn_away(self, fd: int) -> None:
        streams.close(fd)
        self.worker.count("closed")
        self.worker.count("closed_error")


def _rest_of(record: Record) -> Any:
    """What the framing kept."""
    match record.kind:
        case Kind.VALUE:
            return loaded(record.rest)
        case Kind.BYTEARRAY:
            return bytearray(record.rest)
    return record.rest
