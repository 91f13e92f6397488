"""Dumps for several askers: one at a time, and who asks during one shares the next."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from paceline.supervisor import stacktaking as room
from paceline.supervisor.lifecycle import State, Worker
from paceline.supervisor.posts import Limits, Posts
from paceline.supervisor.stacktaking import Stacktaking
from paceline.worker.messages import Dumped


class Dumps:
    """Instead of dumping.Dumping: knows what the test tells it."""

    made: list["Dumps"] = []  # noqa: RUF012 - emptied by the fixture

    def __init__(self, now: Any) -> None:
        self.known: list[tuple[Any, str]] = []
        self.left = 0
        self.made.append(self)

    def begin(self, asker: int, seats: Any) -> None:
        self.asker, self.left = asker, len(list(seats))

    @property
    def is_over(self) -> bool:
        return not self.left and not self.known

    @property
    def next_at(self) -> float | None:
        return 42.0 if self.left else None

    def on_message(self, seat: Any, message: Dumped) -> None:
        self.known.append((seat, message.text))
        self.left -= 1

    def on_time(self, now: float) -> list[tuple[Any, str]]:
        known, self.known = self.known, []
        return known


class Scene:
    def __init__(self) -> None:
        self.posts = Posts.of(2, 4, Limits())
        for seat, slot in ((0, 1), (2, 0)):
            self.posts.workers[seat] = Worker(slot, seat, 3, state=State.READY, pid=100 + seat)
        self.seats = [SimpleNamespace(number=number, is_taken=number in (0, 2)) for number in range(4)]
        server: Any = SimpleNamespace(now=lambda: 5.0, seats=self.seats, roster=SimpleNamespace(posts=self.posts))
        self.taking = Stacktaking(server)

    def say(self, seat: int, text: str) -> None:
        self.taking.on_message(self.seats[seat], Dumped(1, text))  # type: ignore[arg-type]


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    monkeypatch.setattr(room, "Dumping", Dumps)
    yield Scene()
    Dumps.made.clear()


def test_one_dump(scene: Scene) -> None:
    taking = scene.taking
    assert taking.next_at is None
    assert list(taking.step(0.0)) == []
    taking.ask(7)
    assert taking.next_at == 5.0
    assert list(taking.step(0.0)) == []
    assert taking.next_at == 42.0
    scene.say(0, "seat 0")
    assert list(taking.step(0.0)) == []
    scene.say(2, "seat 2")
    ((asker, workers),) = taking.step(0.0)
    assert asker == 7
    assert workers == [
        {"slot": 0, "pid": 102, "seat": 2, "generation": 3, "state": "ready", "text": "seat 2"},
        {"slot": 1, "pid": 100, "seat": 0, "generation": 3, "state": "ready", "text": "seat 0"},
    ]
    assert taking.next_at is None


def test_who_asks_during_one_shares_the_next(scene: Scene) -> None:
    taking = scene.taking
    for asker in (1, 2):
        taking.ask(asker)
    list(taking.step(0.0))
    for asker in (3, 4):
        taking.ask(asker)
    assert len(Dumps.made) == 1
    scene.say(0, "first")
    scene.say(2, "first")
    assert [(asker, workers[0]["text"]) for asker, workers in taking.step(0.0)] == [(1, "first"), (2, "first")]
    assert taking.next_at == 5.0
    list(taking.step(0.0))
    assert len(Dumps.made) == 2
    scene.say(0, "second")
    scene.say(2, "second")
    assert [(asker, workers[0]["text"]) for asker, workers in taking.step(0.0)] == [(3, "second"), (4, "second")]
    assert taking.next_at is None


def test_nobody_is_there(scene: Scene) -> None:
    scene.posts.workers.clear()
    scene.taking.ask(7)
    assert list(scene.taking.step(0.0)) == [(7, [])]
    assert scene.taking.next_at is None


def test_long_stacks_fit_into_one_answer(scene: Scene) -> None:
    scene.taking.ask(7)
    list(scene.taking.step(0.0))
    scene.say(0, "short")
    scene.say(2, "x" * 2 * room.MOST_BYTES)
    ((_, workers),) = scene.taking.step(0.0)
    assert workers[1]["text"] == "short"
    assert len(str(workers[0]["text"])) < room.MOST_BYTES
    assert "characters left out" in str(workers[0]["text"])
