"""What the roster hears (events) and what it answers (commands).  Pure.

loop.py turns what happened into events; hands.py carries the commands out, in their order.  Nobody changes one once it
is made; they are not frozen, because that takes twice as long to import, and a server should start at once.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from paceline.worker.messages import Message

if TYPE_CHECKING:
    from paceline.settings import Settings


@dataclass(slots=True)
class Forked:
    """The answer to Spawn: there is a process in the seat."""

    seat: int
    pid: int


@dataclass(slots=True)
class ForkFailed:
    """The answer to Spawn: no process could be made."""

    seat: int
    error: str


@dataclass(slots=True)
class Said:
    """A worker said something over its control channel."""

    seat: int
    message: Message


@dataclass(slots=True)
class Exited:
    """A worker is dead and reaped; whatever it had said was heard before."""

    seat: int
    cause: str
    """`was killed by SIGSEGV`."""
    code: int | None
    """Its exit code; None when a signal ended it."""
    doing: str = "no thread had started"
    """What its threads were doing: a clause to follow `while`."""
    calls: int = 0
    """How many of them were in calls, or had replied and not gone on yet."""
    detail: str = ""
    """What faulthandler wrote as it died."""


@dataclass(slots=True)
class SeatEmptied:
    """Nothing is left in the inbox of a seat whose worker is dead: others may have the seat."""

    seat: int


@dataclass(slots=True)
class StopAsked:
    """A signal asked for the end; `at_once` means: without a drain."""

    signal: str
    at_once: bool = False


@dataclass(slots=True)
class ReloadAsked:
    """All workers are to be replaced by ones that run the present state of the user's code, with these settings."""

    asker: int
    """Who is told how it went: an id of the control socket's; 0: nobody, a signal asked."""
    settings: "Settings"
    workers: int = 0
    """How many there shall be afterwards, if the settings say another number than before; 0: as many as now."""


@dataclass(slots=True)
class ScaleAsked:
    """There are to be so many workers; or, with `by`, so many more or fewer than now."""

    asker: int
    workers: int = 0
    by: int = 0


@dataclass(slots=True)
class DrainAsked:
    """The worker of this slot is to be replaced, start first, and to leave."""

    asker: int
    slot: int


@dataclass(slots=True)
class Usage:
    """What a worker has used."""

    messages: int
    rss_bytes: int
    """Resident memory; 0 when it cannot be had."""


@dataclass(slots=True)
class Ticked:
    """What is looked at every second."""

    waiting: tuple[int, ...] = ()
    """The listeners, by index, in whose accept queue connections wait."""
    beats: Mapping[int, int] = field(default_factory=dict)
    """Per seat, when its watcher last ran: any number that changes as long as the watcher lives."""
    usage: Mapping[int, Usage] = field(default_factory=dict)
    """Per seat; empty where no limit is set that needs it."""
    ages: Mapping[int, float] = field(default_factory=dict)
    """Per seat, how many seconds ago its watcher last ran, as far as it is known."""


@dataclass(slots=True)
class TimePassed:
    """Nothing else happened, and it is `Roster.next_at`, or later."""


Event = (
    Forked | ForkFailed | Said | Exited | SeatEmptied | StopAsked | ReloadAsked | ScaleAsked | DrainAsked | Ticked
    | TimePassed
)  # fmt: skip


@dataclass(slots=True)
class Spawn:
    """Make a process for the slot, in this seat.  The answer is Forked or ForkFailed, before anything else."""

    slot: int
    seat: int
    generation: int
    probe: bool = False


@dataclass(slots=True)
class Adopt:
    """Workers of this generation have these settings; beside it, only those of the one that serves matter any more."""

    generation: int
    settings: "Settings"
    serving: int


@dataclass(slots=True)
class Answer:
    """Tell whoever asked (never 0) how it goes, or, as the last word, how it went."""

    asker: int
    text: str
    detail: str = ""
    """The user's traceback, or other lines."""
    ok: bool = True
    is_last: bool = True


@dataclass(slots=True)
class Tell:
    """Send the message to the worker in the seat, as soon as its channel takes it."""

    seat: int
    message: Message


@dataclass(slots=True)
class Abort:
    """Send SIGABRT to the process in the seat: faulthandler writes where its threads are, and it ends."""

    seat: int


@dataclass(slots=True)
class Kill:
    """End the process in the seat with SIGKILL."""

    seat: int


@dataclass(slots=True)
class Vacate:
    """Empty the inbox of the seat, whose worker is dead; SeatEmptied follows when that is done."""

    seat: int


@dataclass(slots=True)
class Say:
    """Log an event, a row of paceline.events, with its fields."""

    event: str
    fields: Mapping[str, object]


@dataclass(slots=True)
class Announce:
    """The first worker is ready: say where the server listens."""


@dataclass(slots=True)
class StopListening:
    """Close the listeners: once the workers have closed theirs, who connects is refused."""


@dataclass(slots=True)
class End:
    """It is over; the exit code of the server."""

    code: int


Command = Spawn | Adopt | Answer | Tell | Abort | Kill | Vacate | Say | Announce | StopListening | End
