"""Taking new connections: from a listener that is ready (the leader), from the inbox (the watcher).

An accept has one of these outcomes, each a row of `OUTCOMES` or in `accept`:

    a connection       it is passed to a sibling, or becomes ours
    nothing            a sibling was quicker (EAGAIN)
    it went away       the peer left before we came: the next one, please; after many in a row, as anything else
    nothing is left    no descriptors or memory, or none to watch it: accepting pauses, what is open stays served
    anything else      said in the log; accepting pauses as well, because it would spin

Where a setting asks who connects (doorkeeper.py), a connection may be refused, which is its end; and accepting pauses
while connections come too fast, so that they wait in the kernel's queue.
"""

import errno
from collections.abc import Mapping
from enum import Enum, auto

from paceline import clock
from paceline.host import streams
from paceline.host.listeners import Listener
from paceline.scoreboard.fields import WORKER
from paceline.worker.connection import Connection, WayIn
from paceline.worker.crew import Member
from paceline.worker.gate import Shut
from paceline.worker.giving import Giving
from paceline.worker.lifecycle import State
from paceline.worker.shedding import Shedding
from paceline.worker.worker import Worker

BURST = 16
"""The most accepts for one event: the others of the batch wait meanwhile."""

PAUSE_S = 0.1

MOST_GONE = 64
"""So many that went away, and no connection between them: that is no accident of theirs, and would go on for ever."""

SHORTEST_PAUSE_S = 0.01
"""When connections come too fast; it is as long again as the watcher may be late."""


class Outcome(Enum):
    """What an error of accept(2) means, and what is done then."""

    NOTHING = auto()
    """Nobody waits: a sibling was quicker."""
    GONE = auto()
    """It is that connection's own: the next one."""
    SHORTAGE = auto()
    """No descriptor or memory is left: a pause, and a line that says what to raise."""
    FAILURE = auto()
    """Whatever is not in the table: a pause, because the next try would say the same, and a line with the error."""


OUTCOMES: Mapping[int, Outcome] = {
    errno.EAGAIN: Outcome.NOTHING,
    errno.EINTR: Outcome.GONE,
    errno.ECONNABORTED: Outcome.GONE,
    errno.EPROTO: Outcome.GONE,
    errno.EPERM: Outcome.GONE,  # a firewall rule forbids it (accept(2))
    # accept(2), "Error handling": errors of the new connection that Linux passes on; they are like EAGAIN
    errno.ENETDOWN: Outcome.GONE,
    errno.ENOPROTOOPT: Outcome.GONE,
    errno.EHOSTDOWN: Outcome.GONE,
    errno.ENONET: Outcome.GONE,
    errno.EHOSTUNREACH: Outcome.GONE,
    errno.EOPNOTSUPP: Outcome.GONE,
    errno.ENETUNREACH: Outcome.GONE,
    errno.ETIMEDOUT: Outcome.GONE,
    errno.ESOCKTNOSUPPORT: Outcome.GONE,
    errno.EPROTONOSUPPORT: Outcome.GONE,
    errno.EMFILE: Outcome.SHORTAGE,
    errno.ENFILE: Outcome.SHORTAGE,
    errno.ENOBUFS: Outcome.SHORTAGE,
    errno.ENOMEM: Outcome.SHORTAGE,
    errno.ENOSR: Outcome.SHORTAGE,
    errno.ENOSPC: Outcome.SHORTAGE,  # of epoll_ctl(2): max_user_watches
}


class Accepting:
    """The new connections of one worker."""

    def __init__(self, worker: Worker, listeners: Mapping[int, Listener], giving: Giving | None) -> None:
        self.worker = worker
        self.shedding = Shedding(worker, listeners, self.let_in, giving)
        self.listeners = listeners
        self.giving = giving
        self.ways_in = {
            listener.index: WayIn(
                listener.index,
                listener.text,
                worker.pushing.push,
                secures=worker.certificates is not None and listener.kind == "tcp",
            )
            for listener in listeners.values()
        }
        self.gone, self.accepted_then = 0, -1  # the leader's: how many went away, and the count of connections then
        # A whole-connection call needs a thread, so this worker may not take a second one before it has another.
        self.burst = 1 if worker.holds_at_once else BURST

    def accept(self, fd: int, me: Member) -> None:  # noqa: ARG002 - the loop says who asks
        """The listener is ready.  Called by the leader."""
        worker = self.worker
        listener = self.listeners[fd]
        keeper = worker.doorkeeper
        for turn in range(self.burst):
            if worker.gate.reasons or (worker.holds_at_once and worker.tables.ready):
                return
            if keeper is not None and (wait_s := keeper.wait_s(clock.now())):
                if turn == 0:  # somebody waits; later in a burst that is not known, and the listener says so again
                    self._pause_for_rate(wait_s)
                return
            address = None
            try:
                if worker.wait_due and listener.kind == "tcp":  # of the other kind nobody knows it
                    accepted, address = self.shedding.accept(listener)
                elif keeper is None and not worker.proxies:
                    accepted = streams.accept(listener.socket)
                else:
                    accepted, address = streams.accept_from(listener.socket)
            except OSError as error:
                if not self._goes_on_after(error):
                    return
                continue
            worker.count("accepted")
            self.let_in(accepted, address, listener.index)

    def let_in(self, accepted: int, address: streams.Peer, listener: int) -> bool:
        """It was accepted: it is refused, passed to a sibling, or becomes ours.  True: it is in `ready`.

        Called by the leader; by the watcher for those that it has taken while nobody led.
        """
        keeper = self.worker.doorkeeper
        way_in = self.ways_in[listener]
        phase = self.first_phase(way_in, address)
        asked = None if phase is State.UNNAMED else keeper  # for whom a proxy connects is judged when it says so
        if asked is not None and not asked.lets_in(accepted, address):
            return False
        is_ready = False
        if self.giving is None or not self.giving.try_pass(accepted, listener, phase):
            if asked is not None and not asked.takes(accepted, address):
                return False
            is_ready = self.enter(Connection(accepted, way_in.proxied if phase is State.UNNAMED else way_in, phase))
        if keeper is not None:
            keeper.spend()
        return is_ready

    def admit(self, fd: int, listener: int) -> bool:
        """A fresh connection that needs no introduction becomes ours.  True: as `enter` says."""
        return self.enter(Connection(fd, self.way_in(listener), self.worker.first_state))

    def enter(self, connection: Connection) -> bool:
        """A connection becomes ours as it is.  Called by the leader, and by the watcher for what siblings gave us.

        True: there is something to do for it already, and it is in `ready`.
        """
        worker = self.worker
        tables = worker.tables
        fd, phase = connection.fd, connection.phase
        is_introduced = phase is not State.UNNAMED and phase is not State.SECURING
        if not connection.known_peer and phase is not State.UNNAMED and worker.asks_for_peer:
            connection.remember_peer()
        tables.enter(connection)
        if worker.times_all or connection.rest is not None or not is_introduced:
            tables.timed[fd] = connection
        is_ready = phase is State.FRESH or connection.uncut is not None
        is_ready = is_ready or (worker.holds_at_once and is_introduced)
        if is_ready:
            tables.requeue(connection)
        else:
            connection.polled = True
            try:
                worker.poller.add_connection(fd)
            except OSError as error:  # no memory, or too many descriptors are watched (epoll_ctl(2): ENOMEM, ENOSPC)
                self._give_up(connection, error)
                return False
            if tables.park(connection) is not None:
                tables.requeue(connection)
                is_ready = True
        count = len(tables.open)
        worker.gauge("connections", count)
        if count >= worker.most_connections and not worker.leaving:
            self._shut_full(count)
        return is_ready

    def way_in(self, listener: int) -> WayIn:
        # One that is not ours: it was passed by a worker that knows more listeners than this one was born with.
        known = self.ways_in.get(listener)
        if known is None:
            worker = self.worker
            secures = worker.certificates is not None
            known = WayIn(listener, f"listener {listener}", worker.pushing.push, secures=secures)
            self.ways_in[listener] = known
        return known

    def first_phase(self, way_in: WayIn, address: streams.Peer) -> State:
        """Of a connection that was just accepted."""
        if self.worker.is_proxy(address):
            return State.UNNAMED
        return State.SECURING if way_in.secures else self.worker.first_state

    def _shut_full(self, count: int) -> None:
        worker = self.worker
        if Shut.FULL in worker.gate.reasons:
            return
        worker.gate.shut(Shut.FULL)
        worker.log.say("connections-full", open=count)
        if len(worker.tables.open) < worker.most_connections:
            worker.gate.open(Shut.FULL)  # one was closed in between, by somebody who found the gate open

    def _give_up(self, connection: Connection, error: OSError) -> None:
        """It cannot be served, and another would fare no better."""
        worker = self.worker
        worker.tables.forget(connection.fd)
        streams.close(connection.fd)
        worker.count("closed")
        worker.count("closed_error")
        self._pause(error, is_shortage=OUTCOMES.get(error.errno or 0) is Outcome.SHORTAGE)

    def _goes_on_after(self, error: OSError) -> bool:
        outcome = OUTCOMES.get(error.errno or 0, Outcome.FAILURE)
        if outcome is Outcome.GONE and self._is_an_accident():
            return True
        # In a drain the watcher closes the listeners, maybe while we are here.
        if outcome is not Outcome.NOTHING and not self.worker.leaving:
            self._pause(error, is_shortage=outcome is Outcome.SHORTAGE)
        return False

    def _is_an_accident(self) -> bool:
        """One that went away; not so many in a row that something else must be the matter."""
        worker = self.worker
        accepted = worker.words[worker.row + WORKER["accepted"]]
        self.gone = self.gone + 1 if accepted == self.accepted_then else 1
        self.accepted_then = accepted
        if self.gone < MOST_GONE:
            return True
        self.gone = 0
        return False

    def _pause(self, error: OSError, *, is_shortage: bool) -> None:
        worker = self.worker
        self._pause_for(PAUSE_S)
        if is_shortage:
            worker.count("accept_pauses")
            worker.log.say("accept-paused", error=error.strerror, seconds=PAUSE_S, open=len(worker.tables.open))
        else:
            worker.count("accept_errors")
            worker.log.say("accept-failed", error=error.strerror, seconds=PAUSE_S)

    def _pause_for_rate(self, wait_s: float) -> None:
        worker = self.worker
        self._pause_for(max(wait_s, SHORTEST_PAUSE_S))
        worker.count("rate_pauses")
        worker.log.say("connections-paced", rate=f"{worker.settings.max_connection_rate:g}/s")

    def _pause_for(self, seconds: float) -> None:
        worker = self.worker
        worker.gate.shut(Shut.PAUSED)
        worker.resume_accepting_at = clock.now() + seconds
        worker.wake_watcher()
