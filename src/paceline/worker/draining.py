"""What a drain does with the connections: they are handed over to those who stay, or closed.

Called by the watcher, from the moment on at which `Worker.leaving` is set.  There are two ways:

**Handing over**, while others go on serving.  Every tick, what is parked and can move goes to the workers that serve
(giving.py).  What is in hand is served first, and moves when it is parked again: while there is somebody to take it,
nothing more is read from a connection that has nothing in hand (serving.py, `leave_unread`), so that even a peer that
never stops sending comes to a place between two messages.  Whole-connection calls see end-of-file.  While there is
nobody to take them, connections are served as ever.  When the time is nearly up, what is left is closed.

**Closing** (`Worker.draining`): everything that had arrived is answered, then each connection is closed.  The watcher
closes nothing itself, because that may call the handler: it puts what is quiet into `ready`, and whoever serves it
reads what had arrived and closes.
"""

import dataclasses
from collections.abc import Callable

from paceline.events import counted
from paceline.scoreboard.fields import ThreadState
from paceline.worker.balance import Takers
from paceline.worker.connection import Connection
from paceline.worker.crew import Member
from paceline.worker.giving import Giving, Reach, reach
from paceline.worker.lifecycle import State
from paceline.worker.tables import MORE
from paceline.worker.timing import Timing, has_work
from paceline.worker.worker import Worker

LINGER_S = 0.5
"""How long a peer may take, in a drain, to end its side: those that never do must not hold every stop up."""

RETRY_S = 1.0
"""What could not be written down is tried again after so long: its state may have changed."""

SUCCESSOR_S = 0.25
"""So long a worker waits until all of a newer generation are ready that have started, and gives to nobody else: the
others of its own may be about to leave as it does, and would hand everything over once more."""

CLOSING_S = 1.0
"""So long before the time is up, whoever could not be handed over is closed; a quarter of a time that is short."""

_IN_CALLS = (int(ThreadState.SERVING), int(ThreadState.CALLING), int(ThreadState.PEER))
_ENDING = (State.ENDING, State.CLOSING, State.LINGERING, State.CLOSED)

_QUIET = frozenset({State.OPEN, State.UNNAMED, State.SECURING})

_WHY_NOT = {
    "held": "# in a whole-connection call|# in whole-connection calls",
    "call": "# in a call|# in calls",
    "unsent": "# with a reply that its peer has not taken|# with replies that their peers have not taken",
    "tls": "# whose TLS cannot move|# whose TLS cannot move",
    "state": "# whose connection.state holds what cannot travel|# whose connection.state holds what cannot travel",
    "rest": "# inside a message that only its own generation can go on with"
    "|# inside messages that only their own generation can go on with",
    "nobody": "# that nobody could take|# that nobody could take",
}
"""Why a connection was not handed over, in the order in which it is said."""


class Draining:
    """The end of one worker's connections."""

    def __init__(self, worker: Worker, timing: Timing, giving: Giving | None) -> None:
        self.worker = worker
        self.timing = timing
        self.giving = giving
        self.hand_over = False
        """Others go on serving: nobody waits here for calls that take too long."""
        self.late: Callable[[], set[Member]] = set  # set once, by the watcher
        self.on_turned: Callable[[], None] = lambda: None  # set once, by the watcher
        self.has_turned = False
        """What was parked when the drain began has been handed over, as far as it could be."""
        self.began_at = 0.0
        self.retry_at = 0.0
        self.moved: int | None = None
        """How many were handed over; None: none was to be."""
        self.left: dict[str, int] | None = None
        """How many were not handed over, and why; None: that is not decided yet."""
        self.held = 0
        """Whole-connection calls that ran when the drain began."""

    def begin(self, now: float, *, hand_over: bool) -> None:
        self.timing.limits = dataclasses.replace(self.timing.limits, linger_s=LINGER_S)
        self.began_at = now
        self.held = len(self.worker.held)
        self.hand_over = hand_over and self.giving is not None
        self.moved = 0 if self.hand_over else None
        self.worker.leaving = True
        if not self.hand_over:
            self.close_all()

    def stop_handing_over(self) -> None:
        """The server stops meanwhile: nobody stays who could take them."""
        self.hand_over = False
        self.close_all()

    def close_all(self) -> None:
        """Nothing is handed over from here on."""
        if self.worker.draining:
            return
        self.left = self._reasons() if self.hand_over else {}
        self.worker.hands_over = False
        self.worker.draining = True

    def push(self, now: float, until: float) -> None:
        """Once a tick, until the time is up at `until`."""
        self.worker.held.end_input()
        if not self.worker.draining:
            if now < until - min(CLOSING_S, (until - self.began_at) / 4):
                self._move(now)
                return
            self.close_all()
        self._close_quiet()

    def tell(self) -> None:
        """At the end: what became of the connections, where they were to be handed over."""
        if self.moved is None:
            return
        if self.left is None:
            self.left = self._reasons() if self.hand_over else {}
        if not (self.moved or any(self.left.values())):
            self.worker.log.say("nothing-handed-over")
            return
        said = [counted(self.left[why], forms) for why, forms in _WHY_NOT.items() if self.left.get(why)]
        why_not = f"; not handed over: {', '.join(said)}" if said else ""
        self.worker.log.say("handed-over", moved=self.moved, left=why_not)

    def in_hand(self) -> int:
        """Connections for which a call runs, or something waits to be answered or sent: what an end now would cut."""
        tables = self.worker.tables
        found = [c for c in tables.open.copy().values() if c.phase not in (State.LINGERING, State.CLOSED)]
        owned = sum(c.fd not in tables.parked for c in found)
        waiting = sum(c.fd in tables.parked and (c.out is not None or has_work(c)) for c in found)
        return min(owned, len(self._in_calls())) + waiting + self.worker.held.taken

    def is_over(self) -> bool:
        """No connection is open, and nobody is in a call; but for calls that take too long, if others go on serving."""
        tables = self.worker.tables
        if tables.parked:
            return False
        # In this order: whoever is found late after it was found in a call has been in that same call.  And whoever
        # begins one meanwhile has a connection besides, for each late call has one, at the most.
        calling = self._in_calls()
        late = self.late() if self.hand_over else set()
        return calling <= late and len(tables.open) <= len(late)

    def _in_calls(self) -> set[Member]:
        words = self.worker.words
        return {member for member in list(self.worker.crew.members.values()) if words[member.state] in _IN_CALLS}

    # Handing over

    def _move(self, now: float) -> None:
        """Give away all that can be given now."""
        worker = self.worker
        if now >= self.retry_at:
            self.retry_at = now + RETRY_S
            worker.stays.clear()
        assert self.giving is not None
        tables = worker.tables
        takers = self._takers(self.giving, now)
        worker.hands_over = bool(takers)
        if takers:
            parked = tables.parked.copy()
            for fd in [*worker.unread.copy(), *parked]:  # who has something to say comes first
                if not takers:
                    break
                if (c := parked.get(fd)) is not None and self._is_due(c):
                    self._try_move(fd, takers)
        if not self.has_turned and not any(map(self._is_due, tables.parked.copy().values())):
            self.has_turned = True
            self.on_turned()
        unread = worker.unread
        due = [fd for fd in unread.copy() if not worker.hands_over or fd in worker.stays]
        for fd in due:
            unread.discard(fd)
            tables.ready.append((fd, MORE))
        if due:
            worker.wakeup.wake()

    def _takers(self, giving: Giving, now: float) -> Takers:
        """Those to whom something can be given now."""
        if now < self.began_at + SUCCESSOR_S:
            ready, in_standby = giving.successors()
            if in_standby:  # the first one to be ready would get all
                return Takers((), giving.waiting)
            if ready:
                takers = giving.takers(any_generation=True)
                takers.leave_out(giving.generation)
                return takers
        return giving.takers(any_generation=True)

    def _is_due(self, c: Connection) -> bool:
        """It can travel, and what could not be written down has not just been tried."""
        is_tried = c.fd in self.worker.stays and (c.rest is not None or c.state is not None)
        return not is_tried and reach(c) is not Reach.NOWHERE

    def _try_move(self, fd: int, takers: Takers) -> None:
        worker = self.worker
        tables = worker.tables
        assert self.giving is not None
        c = tables.parked.pop(fd, None)
        if c is None:
            return
        if reach(c) is Reach.NOWHERE:  # it was served in between
            if tables.park(c) is not None:
                tables.requeue(c)
                worker.wakeup.wake()
        elif self.giving.try_give(c, takers, self.giving.passes_of(c)):
            self.moved = (self.moved or 0) + 1
        elif takers:
            worker.stays.add(fd)  # it is no want of room: it is served here for as long as it stays

    def _reasons(self) -> dict[str, int]:
        """Why those that are open now are still here."""
        reasons = dict.fromkeys(_WHY_NOT, 0)
        reasons["held"] = self.held
        tables = self.worker.tables
        for fd, c in tables.open.copy().items():
            if c.phase not in (*_ENDING, State.HELD):
                reasons[self._reason(c, is_owned=fd not in tables.parked)] += 1
        return reasons

    def _reason(self, c: Connection, *, is_owned: bool) -> str:
        if is_owned or has_work(c):
            return "call"
        if c.out is not None:
            return "unsent"
        if c.secrecy is not None:
            return "tls"
        far = reach(c)
        if far is not Reach.ANYWHERE:
            return "rest"
        assert self.giving is not None
        return "nobody" if self.giving.can_be_written(c) else "state"

    # Closing

    def _close_quiet(self) -> None:
        """What is quiet is looked at once more; calls that wait for their peers have seen end-of-file."""
        tables = self.worker.tables
        queued = {fd for fd, _flags in list(tables.ready)}
        due = [
            (fd, MORE)
            for fd, c in tables.parked.copy().items()
            if c.phase in _QUIET and c.out is None and fd not in queued
        ]
        if due:
            tables.ready.extend(due)
            self.worker.wakeup.wake()
