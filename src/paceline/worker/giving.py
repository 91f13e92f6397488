"""Giving a connection to a sibling: a fresh one for balance, a parked one because this worker is saturated or leaves.

The way is the other's inbox (host/passing.py); beside the descriptor goes a record (record.py).  The leader passes a
fresh connection before it is registered anywhere.  The watcher gives away parked ones, in this order:

    claim it (`parked.pop`)  →  out of the epoll set  →  send  →  off the books  →  close our descriptor

Out of the epoll set before it is sent, else the set would report it for ever; off the books before the descriptor is
closed, for afterwards the number may be another's.  What comes for it meanwhile is noted in `pending` (tables.py) and
forgotten with it: the other one looks for itself.  When it cannot be sent it is put back as it was; entering the epoll
set again reports what came.

**What can move** is parked, with nothing to send and nothing to answer.  Part of a message may have arrived: its bytes
go along.  They are cut anew by the receiver, except that a receiver with the same framing and generation simply goes on
with them.  A framing of the user's that keeps something else than bytes is understood by the same generation only.
"""

import os
from collections.abc import Iterator, Sequence
from enum import IntEnum

from paceline import clock
from paceline.errors import HostError, UsageError
from paceline.host import in_flight, memory, passing, streams
from paceline.scoreboard.board import Board
from paceline.scoreboard.fields import WORKER, WorkerState
from paceline.wire import Broken, describe
from paceline.worker.balance import Sibling, Takers, choose
from paceline.worker.connection import GONE, Connection, checked_state, is_plain
from paceline.worker.gate import Shut
from paceline.worker.lifecycle import Event, State, after
from paceline.worker.plan import Inbox
from paceline.worker.record import INLINE_BYTES, Kind, Record, dumped, encode
from paceline.worker.worker import Worker

MOST_PASSES = 3
"""So often a connection is passed for relief, at the most, before it is served."""

MOST_VALUES = 10_000
"""The most values in the rest of a framing of the user's that can travel."""

SILENT_NS = 2_500_000_000
"""A worker whose watcher has not run for so long (it does once a second) is stopped, or holds its GIL."""

_READY, _STANDBY = int(WorkerState.READY), int(WorkerState.STANDBY)
_STATE, _GENERATION, _SATURATED = WORKER["state"], WORKER["generation"], WORKER["saturated"]
_CONNECTIONS, _LIMIT, _HEARTBEAT = WORKER["connections"], WORKER["connections_limit"], WORKER["heartbeat_ns"]


_AT_REST = frozenset({State.OPEN, State.FRESH, State.UNNAMED, State.SECURING})


class Reach(IntEnum):
    """How far a connection can travel."""

    NOWHERE = 0
    GENERATION = 1
    """To a worker that runs the same code."""
    ANYWHERE = 2


def reach(c: Connection) -> Reach:
    """How far it can travel, if nobody owns it: its state is looked at when it is sent."""
    if c.phase not in _AT_REST or c.out is not None or c.queue or c.source is not None:
        return Reach.NOWHERE
    if c.pushed is not None or c.secrecy is not None:  # the keys of TLS are OpenSSL's, which does not give them away
        return Reach.NOWHERE
    if c.rest is None or type(c.rest) in (bytes, bytearray):
        return Reach.ANYWHERE
    if type(c.rest) is Broken or c.uncut is not None or not is_plain(c.rest, MOST_VALUES):
        return Reach.NOWHERE
    return Reach.GENERATION


class Giving:
    """The giving side of one worker.  Used by the leader (`try_pass`) and by the watcher."""

    def __init__(self, worker: Worker, board: Board, inboxes: Sequence[Inbox], seat: int, generation: int) -> None:
        self.worker = worker
        self.words = board.words
        self.seat = seat
        self.generation = generation
        self.framing = describe(worker.framing)
        self.rows = [(other, board.layout.worker_index(other)) for other in range(len(inboxes)) if other != seat]
        self.writers = [inbox.writer for inbox in inboxes]
        self.asks_taker = worker.doorkeeper is not None and worker.doorkeeper.counts_places
        """Who takes a fresh connection may refuse it: it counts where it is."""
        phase = State.UNNAMED if worker.proxies else worker.first_state
        self.charge = in_flight.charge_of(encode(self._fresh(0, phase)))

    def siblings(self, *, any_generation: bool = False) -> Iterator[Sibling]:
        """Those that can take a connection now."""
        words = self.words
        alive_since = clock.now_ns() - SILENT_NS
        for seat, row in self.rows:
            if (
                words[row + _STATE] == _READY
                and (any_generation or words[row + _GENERATION] == self.generation)
                and not words[row + _SATURATED]
                and words[row + _HEARTBEAT] >= alive_since
            ):
                yield Sibling(seat, words[row + _CONNECTIONS], words[row + _LIMIT], words[row + _GENERATION])

    def takers(self, *, any_generation: bool = False) -> Takers:
        """The same, for several connections that must go."""
        return Takers(self.siblings(any_generation=any_generation), self.waiting)

    def successors(self) -> tuple[int, int]:
        """Of newer generations: (how many are ready, how many are in standby)."""
        words = self.words
        states = [words[row + _STATE] for _seat, row in self.rows if words[row + _GENERATION] > self.generation]
        return states.count(_READY), states.count(_STANDBY)

    def waiting(self, seat: int) -> int:
        """How many connections lie in the inbox of a seat, whoever passed them."""
        return in_flight.charged_bytes(self.writers[seat]) // self.charge

    def _fresh(self, listener: int, phase: State) -> Record:
        return Record(
            listener=listener,
            is_new=self.asks_taker,
            is_unnamed=phase is State.UNNAMED,
            is_unsecured=phase is State.SECURING,
        )

    def try_pass(self, fd: int, listener: int, phase: State = State.OPEN) -> bool:
        """Give the fresh connection away if a sibling should have it.  True: it is not ours any more."""
        mine = len(self.worker.tables.open) + self.waiting(self.seat) + 1
        seat = choose(mine, self.siblings(), self.waiting)
        if seat is None or not self._send(seat, fd, encode(self._fresh(listener, phase))):
            return False
        streams.let_go(fd)
        self.worker.count("passed")
        return True

    def passes_of(self, c: Connection) -> int:
        """How often it was passed since it was last served."""
        return c.passes if c.passed_at == c.messages else 0

    def try_give(self, c: Connection, takers: Takers, passes: int) -> bool:
        """The watcher's: give away a connection that it owns, and that can travel.

        True: it is not ours any more.  False: it is parked again, as it was; nobody takes it, or it cannot be written
        down.  What is on the way says that it was passed so often.
        """
        far = reach(c) is Reach.ANYWHERE
        while (taker := takers.best(None if far else self.generation)) is not None:
            try:
                record, beside = self._written(c, passes)
            except (UsageError, HostError, OSError, RuntimeError):
                break
            try:
                was_polled, c.polled = c.polled, False
                if was_polled:
                    self.worker.poller.remove(c.fd)
                is_given = False
                with self.worker.pushing.lock:
                    if c.pushed is None:
                        c.pushed_bytes = GONE
                        is_given = self._send(taker.seat, c.fd, record, beside)
                        if not is_given:
                            c.pushed_bytes = 0
                if is_given:
                    takers.on_given(taker)
                    self._let_go(c)
                    return True
                c.polled = was_polled and self._watch_again(c)
                if c.pushed is not None:  # it is sent first
                    break
                takers.on_full(taker)
            finally:
                if beside >= 0:
                    memory.close(beside)
        self._put_back(c)
        return False

    def can_be_written(self, c: Connection) -> bool:
        """Its state can travel.  It was looked at when it was assigned; what is in it may have changed since."""
        try:
            self._state_of(c)
        except (UsageError, RuntimeError):
            return False
        return True

    def _written(self, c: Connection, passes: int) -> tuple[bytes, int]:
        """(the record, the descriptor of the memory beside it or NO_MEMORY).

        Raises UsageError and RuntimeError for a state that cannot travel, HostError and OSError without memory.
        """
        record = self._record_of(c, passes)
        is_long = len(record.rest) > INLINE_BYTES
        encoded = encode(record, in_memory=is_long)
        if len(encoded) > passing.RECORD_BYTES:
            if is_long or not record.rest:
                raise UsageError(f"a record of {len(encoded):,} bytes cannot travel")
            is_long, encoded = True, encode(record, in_memory=True)
        return encoded, _in_memory(record.rest) if is_long else passing.NO_MEMORY

    def _record_of(self, c: Connection, passes: int) -> Record:
        kind, rest = Kind.BYTES, b""
        if type(c.rest) in (bytes, bytearray):
            kind, rest = Kind(type(c.rest).__name__), bytes(c.rest)
        elif c.rest is not None:
            kind, rest = Kind.VALUE, dumped(c.rest)
        is_cut = c.uncut is None
        if c.uncut is not None:
            kind, rest = Kind.BYTES, rest + bytes(c.uncut)
        watch = c.watch
        if watch is not None and (watch.owes != c.owes or watch.progress != c.progress):
            watch = None  # it is of another time
        return Record(
            listener=c.way_in.index,
            passes=passes,
            greeted=c.greeted,
            is_unnamed=c.phase is State.UNNAMED,
            is_unsecured=c.phase is State.SECURING,
            is_proxied=c.way_in.is_proxied,
            messages=c.messages,
            peer=c.known_peer,
            generation=self.generation if rest and is_cut else 0,
            framing=self.framing if rest and is_cut else "",
            state=self._state_of(c),
            rest=rest,
            kind=kind,
            owes=0 if watch is None else watch.owes,
            since=0.0 if watch is None else watch.since,
            credit=0 if watch is None else max(0, c.received - watch.received),
        )

    def _state_of(self, c: Connection) -> object:
        return None if c.state is None else checked_state(c.state)

    def _send(self, seat: int, fd: int, record: bytes, beside: int = passing.NO_MEMORY) -> bool:
        try:
            return passing.send_connection(self.writers[seat], fd, record, beside)
        except OSError:
            return False  # its inbox is gone with the supervisor

    def _let_go(self, c: Connection) -> None:
        worker = self.worker
        fd = c.fd
        c.phase = after(c.phase, Event.LOST)  # here: a handler may have kept it, and its number may be another's soon
        worker.tables.forget(fd)
        worker.unread.discard(fd)
        worker.stays.discard(fd)
        streams.let_go(fd)
        worker.count("passed")
        left = len(worker.tables.open)
        worker.gauge("connections", left)
        if Shut.FULL in worker.gate.reasons and left < worker.most_connections:
            worker.gate.open(Shut.FULL)

    def _watch_again(self, c: Connection) -> bool:
        """Into the epoll set once more, which reports what is there.  False: the machine has no room for it."""
        try:
            self.worker.poller.add_connection(c.fd)
        except OSError:
            return False
        return True

    def _put_back(self, c: Connection) -> None:
        """Nobody has it: give it up again.  What is not watched, or had an event meanwhile, is looked at by us."""
        tables = self.worker.tables
        if c.polled and c.uncut is None:
            again = tables.park(c)
            if again is None:
                return
        tables.requeue(c)
        self.worker.wakeup.wake()


def _in_memory(content: bytes) -> int:
    """Memory that holds this.  Raises HostError, OSError."""
    fd = memory.create_growing("paceline-rest")
    try:
        view = memoryview(content)
        while view:
            view = view[os.write(fd, view) :]
    except BaseException:
        memory.close(fd)
        raise
    return fd
