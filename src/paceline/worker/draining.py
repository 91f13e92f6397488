"""What a drain does with the connections: everything that had arrived is answered, then each is closed.

Called by the watcher, from the moment on at which `Worker.draining` is set.  It closes nothing itself, because that may
call the handler: it puts what is quiet into `ready`, and whoever serves it reads what had arrived and closes
(serving.py).  Connections that nothing was done with yet go to a sibling, if there is one that stays.
"""

import dataclasses

from paceline.scoreboard.fields import ThreadState
from paceline.worker.handover import Passing
from paceline.worker.lifecycle import State
from paceline.worker.tables import MORE
from paceline.worker.timing import Timing, has_work
from paceline.worker.worker import Worker

LINGER_S = 0.5
"""How long a peer may take, in a drain, to end its side: those that never do must not hold every stop up."""

_IN_CALLS = (int(ThreadState.SERVING), int(ThreadState.CALLING), int(ThreadState.PEER))


class Draining:
    """The end of one worker's connections."""

    def __init__(self, worker: Worker, timing: Timing, passing: Passing | None) -> None:
        self.worker = worker
        self.timing = timing
        self.passing = passing

    def begin(self) -> None:
        self.timing.limits = dataclasses.replace(self.timing.limits, linger_s=LINGER_S)

    def push(self) -> None:
        """Once a tick: what is quiet is looked at once more, and calls that wait for their peers see end-of-file."""
        worker = self.worker
        tables = worker.tables
        worker.held.end_input()
        self._relieve()
        queued = {fd for fd, _flags in list(tables.ready)}
        due = [
            (fd, MORE)
            for fd, c in tables.parked.copy().items()
            if c.phase is State.OPEN and c.out is None and fd not in queued
        ]
        if due:
            tables.ready.extend(due)
            worker.wakeup.wake()

    def in_hand(self) -> int:
        """Connections for which a call runs, or something waits to be answered or sent: what an end now would cut."""
        tables = self.worker.tables
        found = [c for c in tables.open.copy().values() if c.phase not in (State.LINGERING, State.CLOSED)]
        owned = sum(c.fd not in tables.parked for c in found)
        waiting = sum(c.fd in tables.parked and (c.out is not None or has_work(c)) for c in found)
        return min(owned, self._calls_running()) + waiting + self.worker.held.taken

    def is_over(self) -> bool:
        """No connection is open, and nobody is in a call."""
        return not self.worker.tables.open and not self._calls_running()

    def _calls_running(self) -> int:
        words = self.worker.words
        return sum(words[member.state] in _IN_CALLS for member in list(self.worker.crew.members.values()))

    def _relieve(self) -> None:
        """Connections that nothing was done with yet belong to those who stay: their first bytes may be on the way."""
        tables = self.worker.tables
        if self.passing is None:
            return
        for fd, fresh in tables.parked.copy().items():
            c = tables.parked.pop(fd, None) if fresh.is_fresh else None
            if c is not None and not (c.is_fresh and self.passing.try_relieve(c)):
                tables.requeue(c)
                self.worker.wakeup.wake()
