"""All that can happen to a connection besides the fast path: `work` goes on with it until nothing is left to do now.

Called by the thread that owns the connection (worker/tables.py); when `work` returns, the thread owns it no longer: it
is parked, or at the tail of `ready`, or closed.  What a connection holds is worked off in a fixed order:

    unsent bytes  →  a reply in pieces  →  the greeting, and what is sent beside replies (worker/pushing.py)
                  →  messages that wait  →  what its state says (worker/lifecycle.py)

so that replies stay in order, a slow reader stops its own calls, and nothing is read while something is in hand.  One
turn is bounded by the calls of one batch, and by what is received and sent in it; the rest waits behind the other
connections.

**Flags are hints that only ever cause more reading.**  A connection is never closed because of a flag, which may be
stale, but because a receive said so.  `Reading.DRY` asks for reading until there is nothing more: after an event that
is more than plain input, after a turn that was cut short, when an event came while the connection was owned, and when
its unsent bytes are gone: data and end-of-file may have arrived as one edge.

**A deadline is judged last**, after a look at what has arrived and at the room there is: while all threads were in
calls nobody looked, and that is not the peer's fault.

**In a drain** each connection is read as far as it had sent when it was looked at first, and is closed when that is
answered.  No further: a peer that never stops sending must not hold the drain up.  Where connections are handed over
instead, one with nothing in hand is left alone for the watcher (draining.py).

How replies go onto the wire is in writing.py, how a connection ends in ending.py.  Whatever raises in here is a bug of
ours: it is logged and costs this one connection, not the thread.
"""

from collections import deque
from collections.abc import Sequence
from enum import IntEnum
from typing import TYPE_CHECKING, Any

from paceline.host import streams
from paceline.host.poller import IN, Waiter
from paceline.host.streams import RECEIVE_BYTES
from paceline.wire import Broken, Raw
from paceline.wire.hello import BEGINS as TLS_BEGINS
from paceline.worker.calls import Calls
from paceline.worker.connection import Connection
from paceline.worker.crew import Member
from paceline.worker.ending import Ending
from paceline.worker.files import Sending
from paceline.worker.lifecycle import Event, State, after
from paceline.worker.naming import Naming
from paceline.worker.tables import EXPIRED
from paceline.worker.timing import has_work
from paceline.worker.worker import Worker
from paceline.worker.writing import TURN_BYTES, Writing

if TYPE_CHECKING:
    from paceline.worker.securing import Securing

_MOVABLE_RESTS = (type(None), bytes, bytearray)

CUT_BYTES = 3 * 1024
"""How much is cut into messages at once; the rest waits as bytes until those are answered.  Of two-byte messages each
takes 56 bytes, so what waits behind a call is bounded by 8 × what has come, and 64 KiB."""

FAST_BYTES = 8 * 1024
"""The same on the fast path, while the handler does not count as blocking."""


class Reading(IntEnum):
    """How far to read."""

    NOT = 0
    ONCE = 1
    DRY = 2
    """Until there is nothing more, or end-of-file."""


class Serving:
    """The slow path of one worker."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.calls = Calls(worker)
        self.cut = worker.framing.cut
        # Cutting is what multiplies memory: 64 KiB of two-byte lines are a megabyte of messages.  Raw does not, and for
        # it alone the place of the cut matters.
        is_raw = isinstance(worker.framing, Raw)
        self.cut_bytes = RECEIVE_BYTES if is_raw else CUT_BYTES
        self.fast_bytes = RECEIVE_BYTES if is_raw else FAST_BYTES
        self.tables = worker.tables
        self.ending = Ending(worker, self.calls)
        self.naming = Naming(worker, self.ending)
        self.securing = _securing(worker, self.ending)
        self.writing = Writing(worker, self.calls, self.ending)
        self.calls.on_taken = self.ending.forget

    def on_event(self, c: Connection, flags: int, me: Member) -> None:
        """A polled event, or an entry of `ready`, of a connection that is owned now."""
        self.work(c, Reading.ONCE if flags == IN else Reading.DRY, me, is_due=flags & EXPIRED != 0)

    def on_pending(self, fd: int, me: Member) -> None:
        """An event for it was noted, and now it may be parked again: whoever gets hold of it reads."""
        tables = self.tables
        c = tables.parked.pop(fd, None)
        if c is not None:
            tables.pending.discard(fd)
            self.work(c, Reading.DRY, me)
        elif fd not in tables.open:
            tables.pending.discard(fd)

    def on_receive_error(self, c: Connection, error: OSError, me: Member) -> None:
        """The event was stale, or the connection was reset."""
        if isinstance(error, BlockingIOError):
            self.work(c, Reading.NOT, me)
        else:
            self.ending.lose(c, me)

    def on_opened(self, c: Connection, plain: bytes, me: Member) -> None:
        """The fast path has decrypted what came, and this is all of it; there may be more, or more to it."""
        self.take_plain(c, plain)
        self.work(c, Reading.DRY, me)

    def on_tls(self, c: Connection) -> None:
        """It begins as TLS does, where plain text is spoken: that is said, for nobody else will understand it."""
        if c.secrecy is None and c.rest is None:
            self.worker.log.say("peer-tls", peer=c.peer, listener=c.listener)

    def on_end_of_file(self, c: Connection, me: Member) -> None:
        c.phase = after(c.phase, Event.END_OF_FILE)
        self.work(c, Reading.NOT, me)

    def on_cut_error(self, c: Connection, error: BaseException, me: Member) -> None:
        """A framing of the user's raised."""
        self.calls.fail_in("the framing's cut", c, error, me)
        self.work(c, Reading.NOT, me)

    def keep(self, c: Connection, rest: Any, further: int) -> None:
        """What the framing keeps now, and how many bytes of the same unfinished message came with it (0: a new one)."""
        c.rest = rest
        c.received = c.received + further if further else 0

    def take_in(self, c: Connection, received: bytes, reading: Reading, me: Member) -> None:
        """The fast path received more than is cut at once."""
        c.uncut = memoryview(received)
        self.work(c, reading, me)

    def on_reply(
        self, c: Connection, reply: Any, failure: BaseException | None, replies: list[bytes], me: Member
    ) -> None:
        """What a handler gave the fast path that is not plain, or came when the lead was lost: it goes to `replies`."""
        if failure is None:
            try:
                self.calls.take(c, reply, replies, me)
            except BaseException as error:  # noqa: BLE001 - `iter` of an object of the user's
                failure = error
        if failure is not None:
            self.calls.fail(c, failure, me)

    def finish(
        self, c: Connection, replies: list[bytes], waiting: Sequence[bytes], reading: Reading, me: Member
    ) -> None:
        """The fast path stopped: these are the replies so far, and the messages that were not answered yet."""
        self.calls.end_if_forked()
        if waiting and c.phase is State.OPEN:
            c.queue = deque(waiting)
        self.work(c, reading, me, replies)

    def work(
        self, c: Connection, reading: Reading, me: Member, replies: list[bytes] | None = None, *, is_due: bool = False
    ) -> None:
        """Put `replies` on the wire, then go on until nothing is left to do now, or the turn is over.

        `is_due`: the watcher saw a deadline passing; if it still has then, the peer is cut off.
        """
        try:
            self._work(c, reading, me, 0 if replies is None else self.writing.put(c, replies, me), is_due)
        except BaseException as error:  # noqa: BLE001 - a bug of ours
            self.ending.on_bug(c, error, me)

    def _work(self, c: Connection, reading: Reading, me: Member, moved: int, is_due: bool) -> None:
        """`moved`: how many bytes were received or sent so far in this turn."""
        worker = self.worker
        calls = self.calls
        budget = worker.estimate.most_calls
        is_draining = worker.draining  # who finds it so only later, in the middle of this, is looked at again soon
        if is_draining:
            reading = self.further(c)
        while not c.is_closed:  # its descriptor may be another connection's by now: nothing of it is put back
            if c.out is not None:
                if not self.writing.flush(c, me):
                    if is_due and (watch := self.ending.timing.expired(c)):
                        return self.ending.expire(c, watch, me)
                    if not self.park(c):
                        return None
                reading = self.further(c)
            elif (budget <= 0 or moved >= TURN_BYTES) and (reading or has_work(c)):
                return self.requeue(c, me)
            elif type(c.source) is Sending:
                budget -= 1
                sent = self.writing.send_of_file(c, me)
                moved += sent or 0
                if sent is None and not c.is_closed:
                    if is_due and (watch := self.ending.timing.expired(c)):
                        return self.ending.expire(c, watch, me)
                    if not self.park(c):
                        return None
                    reading = self.further(c)
            elif c.source is not None:
                replies, made = calls.next_pieces(c, budget, me)
                budget -= made
                moved += self.writing.put(c, replies, me)
            elif c.phase is State.FRESH:
                self.writing.put(c, calls.greet(c, me), me)
            elif c.pushed is not None and c.phase is not State.SECURING:  # nothing goes out before it is encrypted
                pushed = worker.pushing.take(c)
                budget -= len(pushed)
                moved += self.writing.put(c, pushed, me)
            elif c.queue:
                replies, made = calls.run(c, budget, me)
                budget -= made
                moved += self.writing.put(c, replies, me)
            elif c.uncut is not None and not worker.holds:
                self.cut_next(c, me)
            elif c.phase is State.OPEN:
                if type(c.rest) is Broken:
                    self.ending.break_off(c, c.rest.error, me)
                elif worker.hands_over and self.leave_unread(c, me):
                    return None
                elif worker.holds and (worker.holds_at_once or _has_come(c) or (reading and _is_readable(c.fd))):
                    self.hold(c, me)
                elif reading and not worker.holds:
                    moved -= me.words[me.bytes_in]
                    reading = self.read(c, reading, me)
                    moved += me.words[me.bytes_in]  # also what was no message: records of TLS itself
                elif is_draining:
                    calls.end(c, "drain")
                elif is_due and (watch := self.ending.timing.expired(c)):
                    self.ending.expire(c, watch, me)
                elif self.park(c):
                    reading = self.further(c)
                else:
                    return None
            elif c.phase is State.UNNAMED or c.phase is State.SECURING:
                moved -= me.words[me.bytes_in]
                has_come = self.introduce(c, me)
                moved += me.words[me.bytes_in]
                if has_come:
                    reading = Reading.NOT if c.is_closed else self.further(c)
                elif is_draining:
                    calls.end(c, "drain")
                elif is_due and (watch := self.ending.timing.expired(c)):
                    self.ending.expire(c, watch, me)
                elif not self.park(c):
                    return None
            elif not self.ending.go_on(c, me, is_due) and not self.park(c):
                return None
        return None

    def introduce(self, c: Connection, me: Member) -> bool:
        """Go on with what comes before the first message: a proxy's header, a handshake.  False: more is to come."""
        if c.phase is State.UNNAMED:
            return self.naming.go_on(c, me)
        assert self.securing is not None
        return self.securing.go_on(c, me)

    def further(self, c: Connection) -> Reading:
        """How far to read when something may have come that makes no event of its own."""
        if not self.worker.draining:
            return Reading.DRY
        if c.owed is None:
            c.owed = streams.unread_bytes(c.fd)
            return Reading.ONCE
        return Reading.ONCE if c.owed > 0 else Reading.NOT

    def leave_unread(self, c: Connection, me: Member) -> bool:
        """In a handover, with nothing in hand: park it, and the watcher gives it away or has it read on.

        False: it is still owned, because it cannot be given away as it is.
        """
        if type(c.rest) not in _MOVABLE_RESTS or c.secrecy is not None or c.fd in self.worker.stays:
            return False
        if self.park(c):
            self.requeue(c, me)  # something has come, which may be ours to say
        else:
            self.worker.unread.add(c.fd)
        return True

    def read(self, c: Connection, reading: Reading, me: Member) -> Reading:
        """Receive once, into `c.uncut`.  How far to go on reading."""
        secrecy = c.secrecy
        if secrecy is not None and secrecy.error is not None:
            self.ending.break_off(c, secrecy.error, me)
            return Reading.NOT
        if secrecy is not None and secrecy.is_over:
            c.phase = after(c.phase, Event.END_OF_FILE)
            return Reading.NOT
        try:
            received = streams.receive(c.fd, RECEIVE_BYTES)
        except BlockingIOError:
            return Reading.NOT
        except OSError:
            self.ending.lose(c, me)
            return Reading.NOT
        if not received:
            c.phase = after(c.phase, Event.END_OF_FILE)
            return Reading.NOT
        words = me.words
        words[me.bytes_in] += len(received)
        if c.owed is not None:
            c.owed -= len(received)
        if c.secrecy is None:
            c.uncut = memoryview(received)
            if not c.messages and received.startswith(TLS_BEGINS):
                self.on_tls(c)
        else:
            self.take_plain(c, c.secrecy.open(received))
            if c.secrecy.has_ended:
                return Reading.DRY
        if c.owed is not None:
            return Reading.ONCE if c.owed > 0 else Reading.NOT
        return Reading.DRY if reading is Reading.DRY or len(received) == RECEIVE_BYTES else Reading.NOT

    def take_plain(self, c: Connection, plain: bytes) -> None:
        """What was decrypted goes on its way, and what TLS itself answers to it.  The rest of it is seen by `read`."""
        c.uncut = memoryview(plain) if plain else None
        if c.secrecy is not None and c.secrecy.is_odd:
            c.out = c.secrecy.take_out() or None

    def cut_next(self, c: Connection, me: Member) -> None:
        """Cut a part of what was received into messages, and put them into `c.queue`."""
        uncut, kept = c.uncut, c.rest
        assert uncut is not None
        part = bytes(uncut[: self.cut_bytes])
        c.uncut = uncut[self.cut_bytes :] if len(uncut) > self.cut_bytes else None
        try:
            messages, rest = self.cut(kept, part)
            queue = deque(messages)
        except BaseException as error:  # noqa: BLE001 - a framing of the user's
            self.calls.fail_in("the framing's cut", c, error, me)
            return
        self.keep(c, rest, 0 if queue or kept is None else len(part))
        c.queue = queue or None
        if type(rest) is Broken:
            c.uncut = None

    def hold(self, c: Connection, me: Member) -> None:
        """A whole-connection call, from beginning to end."""
        worker = self.worker
        c.phase = after(c.phase, Event.HOLD)
        if c.polled:
            worker.poller.remove(c.fd)
            c.polled = False
        self.calls.hold(c, me)

    def park(self, c: Connection) -> bool:
        """Give it up until something happens.  True: something has, and it is owned again."""
        worker = self.worker
        fd = c.fd
        if c.is_closed:
            return False
        c.queue = c.queue or None
        c.busy = c.phase is not State.OPEN or c.out is not None or has_work(c)
        if not c.polled:
            # Registered while it is still owned: afterwards its descriptor might be another's.
            c.polled = True
            worker.poller.add_connection(fd)
        if c.out is not None:
            c.note_waiting()
            if not c.armed:
                c.armed = True
                worker.poller.want_output(fd, True)
        if c.busy or c.rest is not None or self.worker.times_all:
            self.tables.timed[fd] = c
        return self.tables.park(c) is not None

    def requeue(self, c: Connection, me: Member) -> None:
        """Its turn is over: the others come first."""
        c.busy = True
        self.tables.requeue(c)
        if self.worker.crew.roles.leader is not me:
            self.worker.wakeup.wake()


def _securing(worker: Worker, ending: Ending) -> "Securing | None":
    """Whoever does the handshakes; OpenSSL is loaded only where there are any."""
    if worker.certificates is None:
        return None
    from paceline.worker.securing import Securing

    return Securing(worker, worker.certificates, ending)


def _has_come(c: Connection) -> bool:
    """Something for the handler was decrypted with the handshake, or the end."""
    return c.uncut is not None or (c.secrecy is not None and c.secrecy.has_ended)


def _is_readable(fd: int) -> bool:
    """Data has arrived, or the end."""
    return bool(Waiter(fd).wait(0))
