"""What the watcher does while all threads are inside calls.

**Saturated for a whole tick**: new connections belong to the siblings, until somebody is back.  The listeners leave the
epoll set, and the scoreboard says so.

**At two ticks in a row**, whether or not somebody came back for a moment in between: what is ready waits for a thread,
and nobody polls.  So the watcher polls, and gives what is ready to siblings that have threads (giving.py).  What cannot
move waits in `ready` for the first thread that is free.  A connection that was passed `MOST_PASSES` times without being
served stays where it is: everybody is busy then, and moving it on would only cost.
"""

from paceline.events import counted
from paceline.host.poller import MOST_EVENTS
from paceline.host.streams import accept_queue
from paceline.scoreboard.fields import WORKER
from paceline.worker.gate import Shut
from paceline.worker.giving import MOST_PASSES, Giving, Reach, reach
from paceline.worker.plan import Plan
from paceline.worker.tables import MORE
from paceline.worker.worker import Worker

MOST_GIVEN = 128
"""Connections given away in one tick."""


class Relief:
    """The watcher's view of one worker's saturation."""

    def __init__(self, worker: Worker, plan: Plan, giving: Giving | None) -> None:
        self.worker = worker
        self.plan = plan
        self.giving = giving
        self.was_saturated = False
        self.last_leads = 0

    def look(self) -> None:
        """Once a tick."""
        worker = self.worker
        roles = worker.crew.roles
        is_saturated = roles.is_saturated
        if is_saturated and self.was_saturated:
            if roles.leads == self.last_leads:
                self.on_saturated()
            self.relieve()
        elif worker.words[worker.row + WORKER["saturated"]]:
            worker.gauge("saturated", 0)
        self.was_saturated, self.last_leads = is_saturated, roles.leads

    def on_saturated(self) -> None:
        """Nobody has led since the last tick."""
        worker = self.worker
        if Shut.SATURATED in worker.gate.reasons:
            return
        worker.gate.shut(Shut.SATURATED)
        if worker.crew.roles.leader is not None:
            worker.gate.open(Shut.SATURATED)  # somebody came back in between, and looked too early
            return
        worker.gauge("saturated", 1)
        worker.count("saturations")
        worker.log.say(
            "saturated",
            threads=len(worker.crew.members),
            waiting=counted(self.waiting(), "|, # connection waits|, # connections wait"),
        )

    def relieve(self) -> None:
        """Nobody polls: do it, and give what is ready to who can serve it."""
        worker = self.worker
        if self.giving is None or worker.leaving:
            return
        takers = self.giving.takers()
        if not takers:
            return
        tables = worker.tables
        ready = tables.ready
        ready.extend(worker.poller.wait(0, MOST_EVENTS))
        given = 0
        for _ in range(len(ready)):
            if given >= MOST_GIVEN or not takers:
                break
            try:
                fd, flags = ready.popleft()
            except IndexError:  # somebody is back, and serves them
                break
            c = tables.parked.pop(fd, None)
            if c is None:
                if fd in tables.open:
                    ready.append((fd, flags))  # somebody owns it; who leads next notes the event
                continue
            passes = self.giving.passes_of(c)
            if passes < MOST_PASSES and reach(c) is not Reach.NOWHERE:
                if self.giving.try_give(c, takers, passes + 1):
                    given += 1
                    continue
                c = tables.parked.pop(fd, None)  # it is parked again; its event is still to be seen to
            if c is not None:
                tables.pending.discard(fd)  # what came meanwhile is read then
                tables.parked[fd] = c
                ready.append((fd, flags | MORE))
        worker.wakeup.wake()  # who came back in between may have found `ready` empty, and polls

    def waiting(self) -> int:
        """How many connections wait in the accept queues."""
        return sum(accept_queue(listener.socket) for listener in self.plan.listeners)
