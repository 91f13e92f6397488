"""How a connection ends: by its peer, by us, by a limit of time, by a bug.

Called by the thread that owns the connection, from serving.py.  There are two ways to hang up:

    politely    our end-of-file, then the peer's input is read and dropped until it ends or a limit is reached: bytes
                that nobody read would turn the end into a reset, and the peer would lose the last reply with it
    at once     it is lost, or it owes something and has not done it in time

Every way leads through `close`, once: the farewell is said, the books are cleared, the descriptor goes.
"""

import contextlib
import traceback

from paceline.errors import PeerError
from paceline.host import streams
from paceline.scoreboard.fields import WORKER
from paceline.wire import truncated
from paceline.worker import deadlines
from paceline.worker.calls import Calls
from paceline.worker.connection import Connection
from paceline.worker.crew import Member
from paceline.worker.gate import Shut
from paceline.worker.lifecycle import Event, State, after
from paceline.worker.timing import Timing, has_work
from paceline.worker.worker import Worker

_BEFORE_MESSAGES = frozenset({State.UNNAMED, State.SECURING, State.FRESH})
"""Its peer has not said who it is, or was not greeted: it is `busy`, whether or not anything is in hand."""

LINGER_BYTES = 64 * 1024
"""How much a peer may still send after our end-of-file until we hang up on it."""


class Ending:
    """The ends of one worker's connections."""

    def __init__(self, worker: Worker, calls: Calls) -> None:
        self.worker = worker
        self.calls = calls
        self.tables = worker.tables
        self.timing = Timing(worker)

    def go_on(self, c: Connection, me: Member, is_due: bool) -> bool:
        """The next step of a connection that ends.  False: nothing more can be done now; it is closed, or lingers."""
        match c.phase:
            case State.CLOSING:
                if not self.says_goodbye(c):
                    self.end_output(c)
                return True
            case State.LINGERING:
                if not self.drop_input(c) or (is_due and self.timing.expired(c)):
                    self.close(c, me)
            case State.ENDING:
                if self.says_goodbye(c):
                    return True
                if c.rest is not None:
                    self.log_truncated(c)
                self.close(c, me)
        return False

    def says_goodbye(self, c: Connection) -> bool:
        """Where the connection is encrypted, the end is too.  True: it is to be sent first."""
        if c.secrecy is None or c.secrecy.is_ended:
            return False
        c.out = c.secrecy.end() or None
        return c.out is not None

    def end_output(self, c: Connection) -> None:
        """Everything is sent: say so, and let the peer finish."""
        streams.end_output(c.fd)
        c.phase = after(c.phase, Event.SENT)
        c.received = 0
        c.rest = None

    def drop_input(self, c: Connection) -> bool:
        """Read and drop.  False: the peer ended the connection, or sent more than we are willing to drop."""
        dropped, is_over = streams.drop_input(c.fd, LINGER_BYTES - c.received)
        c.received += dropped
        return not is_over and c.received < LINGER_BYTES

    def break_off(self, c: Connection, error: PeerError, me: Member) -> None:
        """The peer broke the framing, a limit or TLS; the messages before were answered, as far as that could be."""
        self.worker.log.say("peer-broke", peer=c.peer, message=c.messages, error=str(error))
        self.calls.break_off(c, "broken", me)

    def log_truncated(self, c: Connection) -> None:
        c.reason = c.reason or "broken"
        self.worker.log.say("peer-broke", peer=c.peer, message=c.messages, error=str(truncated(c.rest)))

    def expire(self, c: Connection, watch: deadlines.Watch, me: Member) -> None:
        """A deadline has passed.  A peer that only was quiet is told by an end-of-file; one that owes is cut off."""
        self.worker.log.say("peer-slow", peer=c.peer, why=deadlines.verdict(watch, self.timing.limits))
        c.reason = "buffered" if watch.owes is deadlines.Owes.ROOM else "timeout"
        if watch.owes in (deadlines.Owes.NOTHING, deadlines.Owes.FIRST_BYTE):
            self.calls.end(c, "timeout")
        else:
            self.close(c, me)

    def waited_s(self, c: Connection) -> float | None:
        """For how long what is to be done for it next has waited, at least; None: nothing is, or nobody can tell.

        Not where a message of it is in hand, nor where only an end has come.
        """
        return streams.quiet_s(c.fd) if self._waits(c) else None

    def _waits(self, c: Connection) -> bool:
        """For us to begin with what it has sent, or with it: to be greeted, to have a thread of its own."""
        is_in_hand = c.out is not None or has_work(c) if c.phase in _BEFORE_MESSAGES else c.busy
        if is_in_hand or c.pushed is not None:
            return False
        return c.phase is State.FRESH or self.worker.holds_at_once or streams.unread_bytes(c.fd) > 0

    def is_stale(self, c: Connection) -> bool:
        """In an overload: it has waited for too long (shedding.py), and a reset destroys nothing that was begun.

        What is half read is gone on with, and what its peer's kernel has not acknowledged would be lost.
        """
        limit_s = self.worker.shed_after_s
        if limit_s is None or (streams.quiet_s(c.fd) or 0.0) <= limit_s:
            return False
        return c.rest is None and self._waits(c) and not streams.unsent_bytes(c.fd)

    def shed(self, c: Connection, me: Member) -> None:
        """It has waited for too long to be served."""
        c.reason = "overload"
        try:
            self.close(c, me)
        except BaseException as error:  # noqa: BLE001 - a bug of ours
            self.on_bug(c, error, me)

    def shed_unheard(self, c: Connection) -> None:
        """The same by the watcher, for one that was not greeted: nobody has to be told."""
        c.reason = "overload"
        self._note_unsecured(c)
        self.worker.pushing.end(c)
        self._hang_up(c)

    def lose(self, c: Connection, me: Member) -> None:
        """The connection was reset, or cannot be written to any more."""
        self.worker.log.say("peer-reset", peer=c.peer)
        c.reason = c.reason or "peer"
        self.close(c, me)

    def close(self, c: Connection, me: Member) -> None:
        """Owned, and over: its descriptor goes."""
        c.out = c.queue = c.uncut = None
        self._note_unsecured(c)
        self.worker.pushing.end(c)
        self.calls.farewell(c, me)
        self._hang_up(c)

    def _note_unsecured(self, c: Connection) -> None:
        if c.phase is State.SECURING:
            self.worker.count("handshakes_failed")

    def _hang_up(self, c: Connection) -> None:
        c.secrecy = None  # it is large, and a handler may keep the connection for long
        if not c.is_closed:
            c.phase = after(c.phase, Event.LOST)
        fd = c.fd
        if c.polled:
            # Without this, a copy of the descriptor in a forked child keeps the epoll set reporting (epoll(7), Q6).
            self.worker.poller.remove(fd)
        self.forget(c)
        if c.reason in ("timeout", "buffered", "refused", "overload"):
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
