"""A roster with a clock of its own and a supervisor that carries out at once, and a log that remembers."""

from collections.abc import Iterable
from itertools import pairwise

from paceline.supervisor.lifecycle import State
from paceline.supervisor.posts import Limits, Posts
from paceline.supervisor.roster import Roster
from paceline.supervisor.vocabulary import (
    Answer,
    Command,
    Event,
    Exited,
    Forked,
    ForkFailed,
    Said,
    Say,
    SeatEmptied,
    Spawn,
    Tell,
    TimePassed,
    Vacate,
)
from paceline.worker.messages import Leaving, Message, Ready, Serve, Turned

READY = Ready("message", "raw", "echo")
TICK = TimePassed()


class Scene:
    """A roster, its clock, and a supervisor that carries out at once: forks succeed, inboxes are empty."""

    def __init__(
        self,
        workers: int = 2,
        *,
        boot: float = 30.0,
        drain: float = 30.0,
        heartbeat: float = 10.0,
        forks: bool = True,
        **more: object,
    ) -> None:
        """`more` are limits of posts.py."""
        limits = Limits(boot_s=boot, drain_s=drain, heartbeat_s=heartbeat, **more)  # type: ignore[arg-type]
        posts = Posts.of(workers, 2 * max(4, workers) + 2, limits)
        self.roster = Roster(posts, max(4, workers), lambda: 0.0)
        self.slots = posts.slots
        self.workers = posts.workers
        self.now = 100.0
        self.forks = forks
        self.pid = 1000
        self.done: list[Command] = []
        self.spawned: list[tuple[float, int]] = []
        """(when, slot)."""

    def tell(self, event: Event) -> list[Command]:
        """Everything that came of it."""
        start = len(self.done)
        todo = [event]
        while todo:
            for command in self.roster.on(todo.pop(0), self.now):
                self.done.append(command)
                match command:
                    case Spawn(slot, seat):
                        self.spawned.append((self.now, slot))
                        self.pid += 1
                        todo.append(Forked(seat, self.pid) if self.forks else ForkFailed(seat, "no room"))
                    case Vacate(seat):
                        todo.append(SeatEmptied(seat))
        return self.done[start:]

    def run(self, seconds: float) -> list[Command]:
        """Let time pass: the roster is asked exactly when it wants to be."""
        until, start = self.now + seconds, len(self.done)
        for _ in range(10_000):
            at = self.roster.next_at
            if at is None or at > until:
                self.now = until
                return self.done[start:]
            self.now = max(self.now, at)
            self.tell(TICK)
        raise AssertionError("it wants to be asked all the time")

    def say(self, slot: int, message: Message) -> list[Command]:
        return self.tell(Said(self.seat(slot), message))

    def exit(
        self, slot: int, cause: str = "was killed by SIGSEGV", code: int | None = None, **more: object
    ) -> list[Command]:
        return self.tell(Exited(self.seat(slot), cause, code, **more))  # type: ignore[arg-type]

    def ready(self, seat: int) -> list[Command]:
        """Whoever boots in the seat is ready; and accepts, if it is told to."""
        commands = self.tell(Said(seat, READY))
        return commands + (self.tell(Said(seat, Turned())) if Tell(seat, Serve()) in commands else [])

    def turn(self) -> list[Command]:
        """All who were told to serve or to hand over have done so."""
        leaves = {seat: worker.state is State.DRAINING for seat, worker in self.workers.items()}
        return [command for seat, its in leaves.items() for command in self.tell(Said(seat, Turned(its)))]

    def incoming(self, slot: int) -> int:
        seat = self.slots[slot].incoming
        assert seat is not None, f"slot {slot} has nobody incoming"
        return seat

    def leave(self, seat: int) -> list[Command]:
        """The worker in the seat has drained."""
        start = len(self.done)
        self.tell(Said(seat, Leaving()))
        self.tell(Exited(seat, "exited with code 0", 0))
        return self.done[start:]

    def seat(self, slot: int) -> int:
        seat = self.slots[slot].seat
        assert seat is not None, f"slot {slot} has no worker"
        return seat

    def state(self, slot: int) -> State:
        return self.workers[self.seat(slot)].state

    def gaps(self) -> list[float]:
        """Between the processes that were made."""
        return [later - earlier for (earlier, _), (later, _) in pairwise(self.spawned)]

    @classmethod
    def serving(cls, workers: int = 2, **options: object) -> "Scene":
        """All workers ready, a second ago."""
        scene = cls(workers, **options)  # type: ignore[arg-type]
        scene.run(0)
        for slot in range(workers):
            scene.say(slot, READY)
            scene.run(0)
        scene.run(1)
        scene.done.clear()
        scene.spawned.clear()
        return scene


def said(commands: Iterable[Command], event: str) -> list[dict[str, object]]:
    return [dict(command.fields) for command in commands if isinstance(command, Say) and command.event == event]


def of(kind: type, commands: Iterable[Command]) -> list[Command]:
    return [command for command in commands if isinstance(command, kind)]


def answer_of(commands: list[Command]) -> Answer:
    """The one answer among them."""
    (answer,) = [command for command in commands if isinstance(command, Answer)]
    return answer


class Log:
    """A log that remembers."""

    def __init__(self) -> None:
        self.fmt = "text"
        self.said: list[tuple[str, dict[str, object]]] = []

    def say(self, event: str, /, **fields: object) -> None:
        self.said.append((event, fields))

    def reopen(self) -> None:
        self.said.append(("reopened", {}))

    def close(self) -> None:
        pass
