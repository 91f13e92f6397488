"""What the scoreboard holds, one row per cell.  Pure.

Two tables: `WORKER_FIELDS`, one row of cells per seat, and `THREAD_FIELDS`, one row per thread of a seat.  Everything
else is made from them: the offsets below, the columns a reader shows, the metrics, the manual.  Every cell is an
unsigned 64-bit word and begins as 0, so that a row nobody has touched reads as "free" and "none".

**Who writes.**  A thread row belongs to its thread alone.  A worker row belongs to the worker that sits there: each
cell is written by its watcher, or by whoever leads, or under one lock of the worker; never by two at a time without
one, because `words[i] += 1` is a load and a store.  The supervisor writes to a row only while no worker sits there.

**In which order.**  A thread stores the new `calls` *before* the state that says it calls, and another state after the
call; so "calling" beside an unchanged count means that the call is the same one (snapshot.py, `same_calls`).  The
watcher says in `leader` who leads, at every tick.

**What a new occupant does** is said by the kind.  Counters run on from where the last occupant left them, so that the
sum over all rows never falls; everything else is set anew.
"""

from dataclasses import dataclass
from enum import IntEnum

CELL_BYTES = 8
LINE_CELLS = 8
"""Cells of one cache line of 64 bytes: rows begin and end with lines, so that no two writers share one."""


class WorkerState(IntEnum):
    """The codes of the cell `state` in a worker row."""

    FREE = 0
    BOOTING = 1
    READY = 2
    SATURATED = 3
    DRAINING = 4
    GONE = 5
    STANDBY = 6
    """It could serve, and waits until its whole generation can."""


class ThreadState(IntEnum):
    """The codes of the cell `state` in a thread row."""

    NONE = 0
    """No such thread."""
    WAITING = 1
    """It follows: it waits for the lead."""
    POLLING = 2
    """It leads, and waits for events."""
    SERVING = 3
    """It leads and serves what it polled: it receives, calls the handler, sends.  The fast path tells no more of its
    calls than their count; so one that serves and no longer leads is in the call in which it lost the lead."""
    CALLING = 4
    """It is inside the user's handler, and somebody else leads, or nobody."""
    PEER = 5
    """It is inside a whole-connection call that waits for its peer, which no call time-out counts."""
    STARTING = 6
    """It runs the user's `thread_start`."""


class FieldKind(IntEnum):
    """How a cell behaves in time."""

    COUNTER = 0
    """Only grows, and continues under the next occupant of the row."""
    GAUGE = 1
    """What is true now; begins at 0 with each occupant."""
    CODE = 2
    """One of the words in `codes`, by position."""
    TIME = 3
    """A moment: nanoseconds of CLOCK_MONOTONIC, comparable between the processes of one machine."""
    ID = 4
    """Tells which, not how much: sums mean nothing."""

    @property
    def continues(self) -> bool:
        """The next occupant of the row goes on from what is there."""
        return self is FieldKind.COUNTER

    @property
    def adds(self) -> bool:
        """Sums over rows mean something."""
        return self in (FieldKind.COUNTER, FieldKind.GAUGE)


@dataclass(frozen=True, slots=True)
class Field:
    """One cell: what it is called, how it behaves, in which unit it counts and what it says."""

    name: str
    kind: FieldKind
    unit: str
    help: str
    codes: tuple[str, ...] = ()


def _codes(states: type[IntEnum]) -> tuple[str, ...]:
    return tuple(state.name.lower() for state in states)


_C, _G, _T, _I = FieldKind.COUNTER, FieldKind.GAUGE, FieldKind.TIME, FieldKind.ID

WORKER_FIELDS: tuple[Field, ...] = (
    Field("pid", _I, "", "process id of the worker that sits here"),
    Field("slot", _I, "", "its logical number, the one people see"),
    Field("generation", _I, "", "which state of the user's code and settings it runs"),
    Field("state", FieldKind.CODE, "", "where it is in its life", _codes(WorkerState)),
    Field("started_ns", _T, "ns", "when it sat down"),
    Field("heartbeat_ns", _T, "ns", "when its watcher last ran"),
    Field("tick", _C, "ticks", "how often its watcher has run"),
    Field("leader", _I, "", "the thread that leads: its index + 1, or 0 when nobody does"),
    Field("connections", _G, "connections", "open now"),
    Field("connections_limit", _G, "connections", "how many may be open at once"),
    Field("accepted", _C, "connections", "taken from the listeners"),
    Field("passed", _C, "connections", "given to a sibling"),
    Field("received", _C, "connections", "taken from the inbox"),
    Field("closed", _C, "connections", "closed, for whatever reason"),
    Field("closed_peer", _C, "connections", "closed because the peer ended or reset them"),
    Field("closed_handler", _C, "connections", "closed because the handler asked for it"),
    Field("closed_error", _C, "connections", "closed because the handler raised or gave a wrong reply"),
    Field("closed_timeout", _C, "connections", "closed because a time limit passed"),
    Field("closed_buffered", _C, "connections", "closed because too much was kept for all of them together"),
    Field("closed_broken", _C, "connections", "closed because the peer broke the framing or a size limit"),
    Field("closed_drain", _C, "connections", "closed because the worker leaves"),
    Field("closed_refused", _C, "connections", "closed because a proxy named somebody who is refused"),
    Field("closed_overload", _C, "connections", "closed because a message had waited longer than --queue-timeout"),
    Field("refused", _C, "connections", "disconnected as soon as they came, for one of the next three reasons"),
    Field("refused_network", _C, "connections", "refused because of the networks of --allow and --deny"),
    Field("refused_crowd", _C, "connections", "refused because of --max-connections-per-address"),
    Field("refused_overload", _C, "connections", "refused because they had waited longer than --queue-timeout"),
    Field("handshakes", _C, "connections", "whose TLS handshake was done"),
    Field("handshakes_failed", _C, "connections", "whose TLS handshake failed, or was broken off"),
    Field("certificates_renewed", _C, "times", "the certificates were read again, because their files had changed"),
    Field("threads", _G, "threads", "that exist now"),
    Field("threads_max", _G, "threads", "the most that existed at once since the worker sat down"),
    Field("threads_limit", _G, "threads", "how many may exist"),
    Field("saturated", _G, "", "1 while all threads are inside calls and nobody leads"),
    Field("saturations", _C, "times", "how often that began"),
    Field("waiting", _G, "connections", "in the listeners' accept queues when last looked at"),
    Field("overloaded", _G, "", "1 while who is next has always waited too long"),
    Field("overloads", _C, "times", "how often that began"),
    Field("queue_wait_ns", _G, "ns", "how long who is next had waited when last looked at"),
    Field("eager", _C, "promotions", "made before a call that was expected to block"),
    Field("watched", _C, "promotions", "made by the watcher, because the leader's call went on"),
    Field("reclaimed", _C, "promotions", "undone: the call was over before the follower led"),
    Field("starved", _C, "promotions", "wanted, but there was no thread left"),
    Field("thread_failures", _C, "times", "a thread could not be started, or its start hook raised"),
    Field("accept_pauses", _C, "times", "accepting paused, because descriptors or memory ran out"),
    Field("rate_pauses", _C, "times", "accepting paused, because of --max-connection-rate"),
    Field("accept_errors", _C, "times", "an accept failed for another reason"),
    Field("logs_dropped", _C, "lines", "of the log, dropped because standard error was full"),
    Field("blocking", _G, "", "1 while the handler counts as blocking, so that a follower leads before each call"),
    Field("blocked_mean_ns", _G, "ns", "mean time a sampled call spent off the processor"),
)

THREAD_FIELDS: tuple[Field, ...] = (
    Field("state", FieldKind.CODE, "", "what it does", _codes(ThreadState)),
    Field("calls", _C, "calls", "begun; stored before each call, and unchanged while it runs"),
    Field("messages", _C, "messages", "taken in; in a whole-connection call, how often it has received from its peer"),
    Field("errors", _C, "calls", "that raised, or whose reply was of a wrong type"),
    Field("bytes_in", _C, "bytes", "received from peers"),
    Field("bytes_out", _C, "bytes", "sent to peers"),
    Field("fd", _I, "", "descriptor of the connection in the current slow call; 0 when there is none"),
    Field("sampled", _C, "calls", "whose duration is in the thread's histogram"),
)

WORKER: dict[str, int] = {field.name: cell for cell, field in enumerate(WORKER_FIELDS)}
"""Cell of each field, counted from `Layout.worker_index(seat)`."""

THREAD: dict[str, int] = {field.name: cell for cell, field in enumerate(THREAD_FIELDS)}
"""Cell of each field, counted from `Layout.thread_index(seat, thread)`."""

WORKER_STATES: dict[str, int] = {state.name.lower(): int(state) for state in WorkerState}
THREAD_STATES: dict[str, int] = {state.name.lower(): int(state) for state in ThreadState}
"""The codes by their words, for those who store them; a loop that is in a hurry binds them before it begins."""
