"""What waits for this worker, and for how long; in an overload, who has waited for too long is turned away at once.

Two lines are looked at by the watcher, once a tick:

    the accept queue    how long a fresh connection has waited is asked of the kernel when it is accepted: the first one
                        of each tick; in an overload each of them
    `ready`             how long ago the last bytes of who is next arrived, if they are not read yet

No clock is read for it where messages are served.  overload.py decides.  In an overload, and if `--queue-timeout` is
set, `worker.shed_after_s` says so: the leader then resets fresh connections that have waited for longer (`accept`) and
looks at each other one before it is read (`Ending.is_stale`).  While nobody leads the watcher does both; but the accept
queue is shared, and while a sibling has a thread for those in it they are the sibling's.

**A message that was read is answered**, also one of which only a part was read, and the reply is not destroyed before
the peer's kernel has it: what a peer has sent ahead is in its own order behind it, and is not shed.

Of Unix sockets the kernel says no age: their listeners are not looked at here.

`accept` is the leader's; everything else is the watcher's.
"""

import errno
import select
from collections.abc import Callable, Mapping

from paceline.events import counted
from paceline.host import streams
from paceline.host.listeners import Listener
from paceline.host.poller import MOST_EVENTS
from paceline.worker.ending import Ending
from paceline.worker.gate import Shut
from paceline.worker.giving import Giving
from paceline.worker.overload import INTERVAL_S, Line, Overload
from paceline.worker.tables import MORE, NOBODY
from paceline.worker.worker import Worker

NOTICE_S = 1.0
"""Where nothing is shed: so long a wait is said, and shown."""

MOST_SHED = 256
"""Turned away one after the other, before somebody else has a turn."""

MOST_LOOKED_AT = 8
"""Entries of `ready`, until one can say how long it has waited."""

_EVERYBODY_WAITS = (
    "nothing is refused (--queue-timeout off), so everybody waits: raise --threads if the calls wait for something, "
    "--workers if they compute"
)

LetIn = Callable[[int, streams.Peer, int], bool]


class Shedding:
    """That of one worker."""

    def __init__(
        self, worker: Worker, listeners: Mapping[int, Listener], let_in: LetIn, giving: Giving | None = None
    ) -> None:
        """`let_in`: what is done with a fresh connection that may stay (accepting.py)."""
        self.worker = worker
        self.listeners = {fd: listener for fd, listener in listeners.items() if listener.kind == "tcp"}
        self.let_in = let_in
        self.giving = giving
        self.ending: Ending  # set once, by the watcher
        self.asks_address = worker.doorkeeper is not None or bool(worker.proxies)
        self.sheds = worker.settings.queue_timeout is not None
        self.overload = Overload(worker.settings.queue_timeout or NOTICE_S)
        self.fresh, self.ready = Line(), Line()
        self.in_hand: dict[int, tuple[int, streams.Peer]] = {}
        """By listener: accepted while nobody leads, and still young.  It stays in the front of its line."""
        self.last_led: tuple[int, int | None] = -1, None
        """How often somebody got the lead, and how often who leads has polled."""
        self.was_unpolled = False
        """At the last look `ready` was empty, and somebody waited to be polled."""
        self.shed_before = 0
        self._waiter = select.poll()
        for fd in (worker.poller.fd, *self.listeners):
            self._waiter.register(fd, select.POLLIN)

    # the leader's

    def accept(self, listener: Listener) -> tuple[int, streams.Peer]:
        """As `streams.accept_from`, but those that have waited for too long are reset; how long it has is noted."""
        worker = self.worker
        for _ in range(MOST_SHED):
            accepted, address = self._accept(listener)
            waited_s = streams.quiet_s(accepted)
            limit_s = worker.shed_after_s
            if limit_s is None or waited_s is None or waited_s <= limit_s:
                worker.fresh_waited_s = waited_s
                worker.wait_due = limit_s is not None
                return accepted, address
            self._refuse(accepted)
        raise BlockingIOError(errno.EAGAIN, "enough for now")  # the listener says so again

    def _accept(self, listener: Listener) -> tuple[int, streams.Peer]:
        if self.asks_address:
            return streams.accept_from(listener.socket)
        return streams.accept(listener.socket), None

    def _refuse(self, accepted: int) -> None:
        worker = self.worker
        streams.abort(accepted)
        for cell in ("accepted", "refused", "refused_overload"):
            worker.count(cell)

    # the watcher's

    @property
    def must_look(self) -> bool:
        """The watcher may not sleep: nobody else would see who waits."""
        return self.overload.is_on or bool(self.in_hand) or (self.sheds and self.worker.crew.roles.is_saturated)

    def look(self, elapsed_s: float) -> None:
        """Once a tick; the last one was so long ago."""
        worker = self.worker
        roles = worker.crew.roles
        waited_s, worker.fresh_waited_s = worker.fresh_waited_s, None
        worker.wait_due = True
        if worker.leaving:
            self.end()
            return
        leader = roles.leader
        led, before = (roles.leads, None if leader is None else leader.rounds), self.last_led
        self.last_led = led
        nobody_led = leader is None and roles.leads == before[0]
        # A sibling has a thread for those in the accept queue, and they are the sibling's.
        has_taker = nobody_led and self.giving is not None and bool(self.giving.takers())
        if has_taker or not nobody_led:
            self._let_in_hand_in()
        # That somebody polls says nothing: in an overload a leader polls as well, and when we run it often just has let
        # the GIL go for that.
        knocking = {fd for fd, _flags in self._waiter.poll(0)}
        has_events = self.worker.poller.fd in knocking
        wait_s = self.fresh.look(not has_taker and self._somebody_knocks(knocking), waited_s, elapsed_s)
        wait_s = max(wait_s, self._look_at_ready(has_events, nobody_led, elapsed_s, has_polled=led != before))
        worker.gauge("queue_wait_ns", int(wait_s * 1e9))
        if self.overload.look(wait_s, elapsed_s):
            self._turn(wait_s)
        if nobody_led and worker.shed_after_s is not None:
            self._relieve_ready(worker.shed_after_s)
            if not has_taker and worker.gate.reasons == {Shut.SATURATED}:
                self._relieve_accept_queues(worker.shed_after_s)

    def end(self) -> None:
        """The worker leaves: whoever is here is served."""
        self._let_in_hand_in()
        if self.overload.is_on:
            self.overload.end()
            self._turn(0.0)

    def _somebody_knocks(self, readable: set[int]) -> bool:
        """In an accept queue, though nothing else keeps the worker from accepting."""
        reasons = self.worker.gate.reasons
        if self.in_hand:
            return True
        return (not reasons or reasons == {Shut.SATURATED}) and any(fd in readable for fd in self.listeners)

    def _look_at_ready(self, has_events: bool, nobody_led: bool, elapsed_s: float, *, has_polled: bool) -> float:
        """`has_events`: there is something to be polled.  `has_polled`: who leads has, since the last look."""
        ready = self.worker.tables.ready
        if nobody_led and self.sheds and has_events:  # nobody else does
            ready.extend(self.worker.poller.wait(0, MOST_EVENTS))
            self.worker.wakeup.wake()  # who came back in between may have found `ready` empty, and polls
        measured_s = self._measured_in_ready()
        was_unpolled, self.was_unpolled = self.was_unpolled, has_events and not ready
        if not self.was_unpolled:
            return self.ready.look(measured_s is not None, measured_s, elapsed_s)
        # Who is next has not been polled yet.  It has waited since the last look, or has come after that.
        if not nobody_led and (has_polled or not was_unpolled):
            measured_s = min(self.ready.wait_s, elapsed_s)
        return self.ready.look(True, measured_s, elapsed_s)

    def _measured_in_ready(self) -> float | None:
        """How long who is next there has waited; None: nobody can tell."""
        tables = self.worker.tables
        for at in range(MOST_LOOKED_AT):
            try:
                fd, _flags = tables.ready[at]
            except IndexError:
                break
            c = tables.open.get(fd)
            # It may be served, closed and another's at any moment: then this is about somebody else, for one look.
            if c is not None and (measured_s := self.ending.waited_s(c)) is not None:
                return measured_s
        return None

    def _turn(self, wait_s: float) -> None:
        """It has begun, or ended."""
        worker = self.worker
        overload = self.overload
        worker.gauge("overloaded", int(overload.is_on))
        if overload.is_on:
            worker.count("overloads")
            self.shed_before = self._shed()
            then = _EVERYBODY_WAITS
            if self.sheds:
                worker.shed_after_s = overload.limit_s
                worker.tables.ready.appendleft(NOBODY)
                then = f"who waits for longer than {overload.limit_s:g} s (--queue-timeout) is refused by a reset"
            worker.log.say("overloaded", wait=wait_s, interval=INTERVAL_S, next=then)
        else:
            worker.shed_after_s = None
            shed = self._shed() - self.shed_before
            said = f": {counted(shed, '# connection was|# connections were')} refused" if self.sheds else ""
            worker.log.say("overload-over", seconds=overload.lasted_s, shed=said)

    def _shed(self) -> int:
        return self.worker.cell("refused_overload") + self.worker.cell("closed_overload")

    def _relieve_accept_queues(self, limit_s: float) -> None:
        """Nobody leads, and all threads are in calls that go on: do what the next leader would."""
        found = [self._relieve_accept_queue(listener, limit_s) for listener in self.listeners.values()]
        self.worker.fresh_waited_s = max((waited_s for waited_s in found if waited_s is not None), default=None)

    def _relieve_accept_queue(self, listener: Listener, limit_s: float) -> float | None:
        """Reset those that have waited for too long; the first one that has not is kept in hand.

        How long the last of them has waited; None: nobody was there.
        """
        waited_s: float | None = None
        for _ in range(MOST_SHED):
            if listener.index not in self.in_hand:
                try:
                    self.in_hand[listener.index] = self._accept(listener)
                except OSError:  # nobody waits; anything else is the next leader's to say
                    break
            accepted, _address = self.in_hand[listener.index]
            waited_s = streams.quiet_s(accepted)
            if waited_s is None or waited_s <= limit_s:
                break
            del self.in_hand[listener.index]
            self._refuse(accepted)
        return waited_s

    def _let_in_hand_in(self) -> None:
        """To be ours, or passed to a sibling."""
        while self.in_hand:
            listener, (accepted, address) = self.in_hand.popitem()
            self.worker.count("accepted")
            if self.let_in(accepted, address, listener):
                self.worker.wakeup.wake()

    def _relieve_ready(self, limit_s: float) -> None:
        """The same, up to the first one that is young; who stays keeps its place."""
        tables = self.worker.tables
        ready = tables.ready
        staying: list[tuple[int, int]] = []
        for _ in range(min(len(ready), MOST_SHED)):
            try:
                fd, flags = ready.popleft()
            except IndexError:  # somebody is back, and serves them
                break
            c = tables.parked.pop(fd, None)
            if c is None:
                if fd in tables.open:
                    staying.append((fd, flags))  # somebody owns it; who leads next notes the event
            elif not c.greeted and self.ending.is_stale(c):  # the user's `disconnected` is no work for us
                self.ending.shed_unheard(c)
            else:
                waited_s = self.ending.waited_s(c)
                tables.pending.discard(fd)  # what came meanwhile is read then
                tables.parked[fd] = c
                staying.append((fd, flags | MORE))
                if waited_s is not None and waited_s <= limit_s:
                    break
        for entry in reversed(staying):
            ready.appendleft(entry)
        self.worker.wakeup.wake()  # who came back in between may have found `ready` empty, and polls
