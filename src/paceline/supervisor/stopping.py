"""The end of the server: who drains, for how long, and what is left behind.  Pure: a part of the roster.

    the first signal    the listeners close, all workers drain within the drain time
    a second one        calls are cut at once, in good order
    a third, or QUIT    all are killed

A stop takes the drain time, then workers are killed, and if one still does not go, it is left behind.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto

from paceline.supervisor.lifecycle import State, Worker
from paceline.supervisor.posts import GRACE_S, UP, Posts
from paceline.supervisor.sentences import span_text
from paceline.supervisor.vocabulary import Command, End, Say, StopAsked, StopListening

ABANDON_S = 5.0
"""In a stop, a killed worker that is not gone by then is left behind: the kernel does not let go of it."""
ABANDON_HARD_S = 0.4
"""The same after a second signal, which ends the server within a second."""
ECHO_S = 0.2
"""The same signal once more within this time is the first one: Ctrl-C reaches the whole process group, and whoever
started us (a wrapper, a container's init) passes it on, too."""


class Stop(Enum):
    """How urgent the end is."""

    SOFT = auto()
    HARD = auto()
    KILL = auto()


@dataclass(slots=True)
class Stopping:
    """Whether and how it ends."""

    posts: Posts
    urgency: Stop | None = None
    asked: tuple[str, float] = ("", -ECHO_S)
    """The signal that was last obeyed, and when."""
    cuts_at: float = 0.0
    """When calls that still run are cut; what ends before has not been cut by the stop."""
    abandon_at: float | None = None
    cut: int = 0
    """Calls that the stop has cut."""
    ended: bool = False

    def on_asked(self, event: StopAsked, now: float) -> Iterator[Command]:
        name, at = self.asked
        if event.signal == name and now - at < ECHO_S:
            return
        self.asked = event.signal, now
        within = self.posts.limits.drain_s
        if event.at_once or self.urgency in (Stop.HARD, Stop.KILL):
            self.urgency, within = Stop.KILL, 0.0
            yield Say("stopping-now", {"signal": event.signal})
            yield StopListening()
            for worker in list(self.posts.workers.values()):
                yield from self.posts.kill(worker)
        elif self.urgency is Stop.SOFT:
            self.urgency, within = Stop.HARD, 0.0
            yield Say("stopping-now", {"signal": event.signal})
            yield from self._drain_all(0.0, now)
        else:
            self.urgency = Stop.SOFT
            yield Say("stopping", {"signal": event.signal, "within": span_text(within)})
            yield StopListening()
            yield from self._drain_all(within, now)
        self.cuts_at = now + within
        patience = ABANDON_S if self.urgency is Stop.SOFT else ABANDON_HARD_S
        self.abandon_at = now + patience + (0.0 if self.urgency is Stop.KILL else within + GRACE_S)
        if not self.posts.workers:
            yield from self.end()

    def _drain_all(self, within_s: float, now: float) -> Iterator[Command]:
        latest = now + within_s + GRACE_S
        for worker in list(self.posts.workers.values()):
            match worker.state:
                case State.BOOTING:  # it serves nobody, and cannot hear us while it imports
                    yield from self.posts.kill(worker)
                case state if state in (*UP, State.DRAINING):
                    yield from self.posts.drain(worker, within_s, now, hand_over=False)
                case State.LEAVING if worker.kill_at is not None:
                    worker.kill_at = min(latest, worker.kill_at)

    def allow_for(self, worker: Worker, seconds: float) -> None:
        """It stood still for so long in its drain: it has so much longer, and so has the stop."""
        if self.urgency in (None, Stop.SOFT):
            self.posts.allow_for(worker, seconds)
            if self.abandon_at is not None and worker.kill_at is not None:
                self.abandon_at = max(self.abandon_at, worker.kill_at + ABANDON_S)

    def keep_time(self, now: float) -> Iterator[Command]:
        if self.abandon_at is not None and self.abandon_at <= now:
            for worker in self.posts.workers.values():
                yield Say("left-behind", self.posts.named(worker, now))
            yield from self.end()

    def end(self) -> Iterator[Command]:
        if self.cut:
            soft = self.urgency is Stop.SOFT
            why = f"the end of the drain time, {span_text(self.posts.limits.drain_s)} (--drain-timeout)"
            yield Say("cut", {"cut": self.cut, "why": why if soft else "a signal that asked for the end at once"})
        yield self.ending(4 if self.cut or self.posts.workers else 0)

    def ending(self, code: int) -> End:
        self.ended = True
        return End(code)
