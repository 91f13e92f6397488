"""The states of a worker, as the supervisor knows them.  Pure: one table; what is not in it cannot happen.

    FORKING    Spawn was given, its answer is awaited
    BOOTING    there is a process; it imports the user's code and starts
    STANDBY    it could serve, and waits for its turn: until its whole generation can
    READY      it serves
    DRAINING   it was told to take nothing new, and to leave
    LEAVING    it has said its last word: that it could not start, or that it is done
    ABORTING   it was sent SIGABRT, so that it shows where it is stuck
    KILLED     it was sent SIGKILL

A worker ends when it is reaped, in whatever state: that is no transition, its record is gone.  What leads from state to
state is a message, or a command that was given.  What has no row changes nothing: a worker runs the user's code, which
may say anything at any time.
"""

from dataclasses import dataclass
from enum import Enum, auto

from paceline.supervisor.vocabulary import Abort, Forked, Kill
from paceline.worker.messages import Drain, Failed, Leaving, Ready, Serve

RESPAWN_S = 0.05
"""Two processes of a slot are made at least so far apart."""


class State(Enum):
    FORKING = auto()
    BOOTING = auto()
    STANDBY = auto()
    READY = auto()
    DRAINING = auto()
    LEAVING = auto()
    ABORTING = auto()
    KILLED = auto()


S = State

TABLE: dict[tuple[State, type], State] = {
    (S.FORKING, Forked): S.BOOTING,
    (S.BOOTING, Ready): S.STANDBY,
    (S.STANDBY, Serve): S.READY,
    (S.BOOTING, Failed): S.LEAVING,
    (S.BOOTING, Leaving): S.LEAVING,
    (S.STANDBY, Leaving): S.LEAVING,
    (S.READY, Leaving): S.LEAVING,
    (S.DRAINING, Leaving): S.LEAVING,
    (S.STANDBY, Drain): S.DRAINING,
    (S.READY, Drain): S.DRAINING,
    (S.DRAINING, Drain): S.DRAINING,
    (S.BOOTING, Kill): S.KILLED,
    (S.STANDBY, Kill): S.KILLED,
    (S.READY, Kill): S.KILLED,
    (S.DRAINING, Kill): S.KILLED,
    (S.LEAVING, Kill): S.KILLED,
    (S.BOOTING, Abort): S.ABORTING,
    (S.STANDBY, Abort): S.ABORTING,
    (S.READY, Abort): S.ABORTING,
    (S.DRAINING, Abort): S.ABORTING,
    (S.LEAVING, Abort): S.ABORTING,
    (S.ABORTING, Kill): S.KILLED,
}


@dataclass(slots=True)
class Worker:
    """A process in a seat."""

    slot: int
    seat: int
    generation: int = 1
    rises: bool = False
    """It is of a reload: when it is ready it waits until all of its generation are."""
    state: State = State.FORKING
    pid: int = 0
    forked_at: float = 0.0
    boot_s: float = 0.0
    """What its start may take."""
    ready_at: float | None = None
    kill_at: float | None = None
    """When it is killed unless something happens before."""
    delayed_s: float = 0.0
    """How much longer it was given to drain, because it had stood still."""
    failed: Failed | None = None
    left: Leaving | None = None
    killed_because: str = ""
    beat: int = 0
    beat_at: float = 0.0
    """When it last gave a sign of life."""
    new_bytes: int = 0
    """How much memory it had when it was ready; 0: not known."""
    patience: float = -1.0
    """The share of --max-messages and --max-age after which it is recycled; not drawn yet when negative."""

    def advance(self, cause: type) -> bool:
        """Move along the table; False: there is no such way, and nothing changes."""
        state = TABLE.get((self.state, cause))
        if state is None:
            return False
        self.state = state
        return True


@dataclass(slots=True)
class Slot:
    """A worker that should exist."""

    number: int
    seat: int | None = None
    """Where its current worker sits."""
    incoming: int | None = None
    """Where the worker sits that will take its place."""
    not_before: float = 0.0
    forked_at: float = -RESPAWN_S
    failures: int = 0
    """Boots in a row that failed."""
    refusals: int = 0
    """Forks in a row that failed."""

    @property
    def fork_at(self) -> float:
        """When it may get a process again."""
        return max(self.not_before, self.forked_at + RESPAWN_S)
