"""All that can happen to a connection besides the fast path: `work` goes on with it until nothing is left to do now.

Called by the thread that owns the connection (worker/tables.py); when `work` returns, the thread owns it no longer: it
is parked, or at the tail of `ready`, or closed.  What a connection holds is worked off in a fixed order:

    unsent bytes  →  a reply in pieces  →  messages that wait  →  what its state says (worker/lifecycle.py)

so that replies stay in order, a slow reader stops its own calls, and nothing is read while something is in hand.  One
turn is bounded by the calls of one batch, and by what is received and sent in it; the rest waits behind the other
connections.

**Flags are hints that only ever cause more reading.**  A connection is never closed because of a flag, which may be
stale, but because a receive said so.  `Reading.DRY` asks for reading until there is nothing more: after an event that
is more than plain input, after a turn that was cut short, when an event came while the connection was owned, and when
its unsent bytes are gone: data and end-of-file may have arrived as one edge.

**A deadline is judged last**, after a look at what has arrived and at the room there is: while all threads were in
calls nobody looked, and that is not the peer's fault.

Whatever else raises in here is a bug of ours: it is logged and costs this one connection, not the thread.
"""

import contextlib
import traceback
from collections import deque
from collections.abc import Sequence
from enum import IntEnum
from typing import Any

from paceline.errors import PeerError
from paceline.host import streams
from paceline.host.poller import IN, Waiter
from paceline.host.streams import RECEIVE_BYTES
from paceline.scoreboard.fields import WORKER
from paceline.wire import BadReply, Broken, Raw, truncated
from paceline.worker import deadlines
from paceline.worker.calls import Calls
from paceline.worker.connection import Connection
from paceline.worker.crew import Member
from paceline.worker.estimate import BATCH_BYTES
from paceline.worker.gate import Shut
from paceline.worker.lifecycle import Event, State, after
from paceline.worker.tables import EXPIRED
from paceline.worker.worker import Worker

LINGER_BYTES = 64 * 1024
"""How much a peer may still send after our end-of-file until we hang up on it."""

TURN_BYTES = BATCH_BYTES
"""After so many bytes received and sent, a turn is over."""

CUT_BYTES = 8 * 1024
"""How much is cut into messages at once; the rest waits as bytes until those are answered."""


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
        self.join = worker.framing.join
        # Cutting is what multiplies memory: 64 KiB of two-byte lines are a megabyte of messages.  Raw does not, and for
        # it alone the place of the cut matters.
        self.cut_bytes = RECEIVE_BYTES if isinstance(worker.framing, Raw) else CUT_BYTES
        self.tables = worker.tables
        settings = worker.settings
        self.limits = deadlines.Limits(
            first_byte_s=settings.first_byte_timeout,
            message_s=settings.message_timeout,
            min_rate=settings.min_rate,
            write_s=settings.write_timeout,
            idle_s=settings.idle_timeout,
        )
        self.looked_at = 0.0
        """When the watcher last looked at the deadlines; written by the watcher."""

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
            self.lose(c, me)

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
            self._work(c, reading, me, 0 if replies is None else self.put(c, replies, me), is_due)
        except BaseException as error:  # noqa: BLE001 - a bug of ours
            self.on_bug(c, error, me)

    def _work(self, c: Connection, reading: Reading, me: Member, moved: int, is_due: bool) -> None:
        """`moved`: how many bytes were received or sent so far in this turn."""
        worker = self.worker
        calls = self.calls
        budget = worker.estimate.most_calls
        while True:
            if c.out is not None:
                if not self.flush(c, me):
                    if is_due and self.is_expired(c):
                        return self.expire(c, me)
                    if not self.park(c):
                        return None
                reading = Reading.DRY
            elif (budget <= 0 or moved >= TURN_BYTES) and (reading or has_work(c)):
                return self.requeue(c, me)
            elif c.source is not None:
                replies, made = calls.next_pieces(c, budget, me)
                budget -= made
                moved += self.put(c, replies, me)
            elif c.queue:
                replies, made = calls.run(c, budget, me)
                budget -= made
                moved += self.put(c, replies, me)
            elif c.uncut is not None:
                self.cut_next(c, me)
            elif c.phase is State.OPEN:
                if type(c.rest) is Broken:
                    self.break_off(c, c.rest.error)
                elif worker.holds and (worker.holds_at_once or (reading and _is_readable(c.fd))):
                    self.hold(c, me)
                elif reading and not worker.holds:
                    reading = self.read(c, reading, me)
                    moved += 0 if c.uncut is None else len(c.uncut)
                elif worker.draining:
                    calls.end(c, "drain")
                elif is_due and self.is_expired(c):
                    self.expire(c, me)
                elif self.park(c):
                    reading = Reading.DRY
                else:
                    return None
            elif c.phase is State.LINGERING:
                if not self.drop_input(c) or (is_due and self.is_expired(c)):
                    return self.close(c, me)
                if not self.park(c):
                    return None
            elif c.phase is State.CLOSING:
                self.end_output(c)
            elif c.phase is State.FRESH:
                self.put(c, calls.greet(c, me), me)
            elif c.phase is State.ENDING:
                if c.rest is not None:
                    self.log_truncated(c)
                return self.close(c, me)
            else:
                return None

    def put(self, c: Connection, replies: list[bytes], me: Member) -> int:
        """Put replies on the wire, as far as they go now; the rest waits in `c.out`.  How many bytes they are."""
        if not replies or c.is_closed:
            return 0
        try:
            joined = self.join(replies)
            if type(joined) is not bytes:
                joined = bytes(memoryview(joined))  # of a framing of the user's, which may use its buffer again
        except BadReply as error:
            # One of the user's may count wrongly.
            good = replies[: error.index] if isinstance(error.index, int) else []
            moved = self.put(c, good, me) if len(good) < len(replies) else 0
            if not c.is_closed:
                self.calls.refuse(c, f"what the framing cannot send ({error})", me)
            return moved
        except BaseException as error:  # noqa: BLE001 - a framing of the user's
            self.calls.fail_in("the framing's join", c, error, me)
            return 0
        if joined:
            c.out = joined if c.out is None else bytes(c.out) + joined
            self.flush(c, me)
        return len(joined)

    def flush(self, c: Connection, me: Member) -> bool:
        """Send what waits.  False: the peer takes no more for now, or is gone (then the connection is closed)."""
        out = c.out
        assert out is not None
        words = me.words
        try:
            while out:
                sent = streams.send(c.fd, out)
                words[me.bytes_out] += sent
                c.sent += sent
                if sent == len(out):
                    break
                out = memoryview(out)[sent:]
        except BlockingIOError:
            c.out = out
            return False
        except OSError:
            self.lose(c, me)
            return False
        c.out = None
        if c.armed:
            c.armed = False
            self.worker.poller.want_output(c.fd, False)
        return True

    def read(self, c: Connection, reading: Reading, me: Member) -> Reading:
        """Receive once, into `c.uncut`.  How far to go on reading."""
        try:
            received = streams.receive(c.fd, RECEIVE_BYTES)
        except BlockingIOError:
            return Reading.NOT
        except OSError:
            self.lose(c, me)
            return Reading.NOT
        if not received:
            c.phase = after(c.phase, Event.END_OF_FILE)
            return Reading.NOT
        words = me.words
        words[me.bytes_in] += len(received)
        c.uncut = memoryview(received)
        return Reading.DRY if reading is Reading.DRY or len(received) == RECEIVE_BYTES else Reading.NOT

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
        if not self.calls.hold(c, me):
            c.phase = after(c.phase, Event.LOST)
            self.forget(c)

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
        if c.out is not None and not c.armed:
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

    def end_output(self, c: Connection) -> None:
        """Everything is sent: say so, and let the peer finish; its input must not turn the last reply into a reset."""
        streams.end_output(c.fd)
        c.phase = after(c.phase, Event.SENT)
        c.received = 0
        c.rest = None

    def drop_input(self, c: Connection) -> bool:
        """Read and drop.  False: the peer ended the connection, or sent more than we are willing to drop."""
        dropped, is_over = streams.drop_input(c.fd, LINGER_BYTES - c.received)
        c.received += dropped
        return not is_over and c.received < LINGER_BYTES

    def break_off(self, c: Connection, error: PeerError) -> None:
        """The peer broke the framing or a limit; the messages before were answered."""
        self.worker.log.say("peer-broke", peer=c.peer, message=c.messages, error=str(error))
        self.calls.end(c, "broken")

    def log_truncated(self, c: Connection) -> None:
        c.reason = c.reason or "broken"
        self.worker.log.say("peer-broke", peer=c.peer, message=c.messages, error=str(truncated(c.rest)))

    def is_expired(self, c: Connection) -> bool:
        """Is the deadline still passed that the watcher saw passing?"""
        watch = c.watch
        if watch is None or c.is_closed or watch.owes != c.owes or watch.progress != c.progress:
            return False
        due = deadlines.due_at(watch, c.received, self.limits)
        return due is not None and due <= self.looked_at

    def expire(self, c: Connection, me: Member) -> None:
        """A deadline has passed.  A peer that only was quiet is told by an end-of-file; one that owes is cut off."""
        watch = c.watch
        assert watch is not None
        self.worker.log.say("peer-slow", peer=c.peer, why=deadlines.verdict(watch, self.limits))
        c.reason = "timeout"
        if watch.owes in (deadlines.Owes.NOTHING, deadlines.Owes.FIRST_BYTE):
            self.calls.end(c, "timeout")
        else:
            self.close(c, me)

    def lose(self, c: Connection, me: Member) -> None:
        """The connection was reset, or cannot be written to any more."""
        self.worker.log.say("peer-reset", peer=c.peer)
        c.reason = c.reason or "peer"
        self.close(c, me)

    def close(self, c: Connection, me: Member) -> None:
        """Owned, and over: its descriptor goes."""
        c.out = c.queue = c.uncut = None
        self.calls.farewell(c, me)
        if not c.is_closed:
            c.phase = after(c.phase, Event.LOST)
        fd = c.fd
        if c.polled:
            # Without this, a copy of the descriptor in a forked child keeps the epoll set reporting (epoll(7), Q6).
            self.worker.poller.remove(fd)
        self.forget(c)
        if c.reason == "timeout":
            streams.abort(fd)  # it does not read, or does not end: the kernel would go on for minutes
        else:
            streams.close(fd)

    def on_bug(self, c: Connection, error: BaseException, me: Member) -> None:
        """Something of ours raised while `c` was served: log it, and give the connection up."""
        self.calls.end_if_forked()
        detail = "".join(traceback.format_exception(error))
        self.worker.log.say("bug", where="serving", error=repr(error), detail=detail)
        if not c.is_closed and self.tables.parked.get(c.fd) is not c:
            c.reason = "error"
            with contextlib.suppress(BaseException):  # what cannot even be closed is left to the end of the process
                self.close(c, me)

    def forget(self, c: Connection) -> None:
        """Take it off the books, before its descriptor is closed."""
        worker = self.worker
        self.tables.forget(c.fd)
        worker.count("closed")
        worker.count(f"closed_{c.reason or 'peer'}")
        left = len(self.tables.open)
        worker.words[worker.row + WORKER["connections"]] = left
        if Shut.FULL in worker.gate.reasons and left < worker.most_connections:
            worker.gate.open(Shut.FULL)


def has_work(c: Connection) -> bool:
    """Something has arrived, or is to be replied, that nobody but us keeps waiting."""
    return bool(c.queue) or c.source is not None or c.uncut is not None


def _is_readable(fd: int) -> bool:
    """Data has arrived, or the end."""
    return bool(Waiter(fd).wait(0))
