"""An upgrade, step by step, with a supervisor that is only what is asked of it.  The whole is in integration/."""

import os
import select
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from paceline import clock
from paceline.errors import SettingError
from paceline.host import processes
from paceline.scoreboard.board import Board
from paceline.settings import Settings
from paceline.supervisor.lifecycle import State, Worker
from paceline.supervisor.posts import Limits, Posts
from paceline.supervisor.presence import Presence
from paceline.supervisor.seats import close_seats, open_seats
from paceline.supervisor.start import NO_COMMAND, Origin
from paceline.supervisor.upgrading import MOMENT_S, MORE_S, Upgrading
from paceline.supervisor.vocabulary import Answer

pytestmark = pytest.mark.usefixtures("nothing_left")


class Scene:
    def __init__(self, folder: Path) -> None:
        self.said: list[tuple[str, dict[str, Any]]] = []
        self.answers: list[Answer] = []
        self.board, self.seats = Board.create(1, 1), open_seats(1)
        self.signal_fds = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.posts = Posts.of(1, 1, Limits(boot_s=5.0))
        self.posts.is_serving, self.posts.slots[0].seat = True, 0
        self.posts.workers[0] = Worker(0, 0, state=State.READY)
        self.parted: list[int] = []
        self.edits = SimpleNamespace(close=lambda: None, begin=lambda: self.said.append(("watched again", {})))
        self.start = SimpleNamespace(
            origin=self.command("pass", folder), passed={}, config=lambda: "", boot_timeout=lambda: 5.0
        )
        supervisor: Any = SimpleNamespace(
            log=SimpleNamespace(say=lambda event, **fields: self.said.append((event, fields))),
            start=self.start,
            board=self.board,
            seats=self.seats,
            hands=SimpleNamespace(
                pid_file=None,
                listeners=[],
                settings_for=lambda _generation: Settings(),
                target="echo",
                system=SimpleNamespace(now=clock.now),
                signal_fds=self.signal_fds,
                on_answer=self.answers.append,
                presence=Presence(),
            ),
            control=SimpleNamespace(fd_of=lambda asker: -1, is_dumping=False, part=self.parted.append),
            changing=SimpleNamespace(edits=self.edits),
            roster=SimpleNamespace(
                posts=self.posts,
                stopping=SimpleNamespace(urgency=None),
                reloading=SimpleNamespace(running=None),
                is_awaited=False,
            ),
            started_at=0.0,
            steady=SimpleNamespace(gap_s=0.0),
            bulletin=SimpleNamespace(reloads=0),
        )
        self.supervisor = supervisor
        self.upgrading = Upgrading(supervisor)

    @staticmethod
    def command(source: str, folder: Path) -> Origin:
        return Origin((sys.executable, "-c", source), str(folder), {})

    def wait_for_rehearsal(self) -> None:
        assert self.upgrading.rehearsal is not None
        poll = select.poll()
        poll.register(self.upgrading.rehearsal.pidfd, select.POLLIN)
        assert poll.poll(20_000)

    def events(self) -> list[str]:
        return [event for event, _ in self.said]

    def close(self) -> None:
        self.upgrading.close()
        close_seats(self.seats)
        self.board.close()
        for fd in self.signal_fds:
            os.close(fd)


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    made = Scene(tmp_path)
    yield made
    made.close()


def test_without_a_command_it_is_refused(scene: Scene) -> None:
    scene.start.origin = NO_COMMAND
    scene.upgrading.ask(7, 0.0)
    assert scene.said == [("upgrade-failed", {"why": NO_COMMAND, "detail": ""})]
    assert scene.answers == [Answer(7, NO_COMMAND, "", ok=False)]
    assert not scene.upgrading.is_running


def test_a_rehearsal_that_fails_is_shown_to_whoever_asked(scene: Scene, tmp_path: Path) -> None:
    scene.start.origin = scene.command("raise ValueError('boom')", tmp_path)
    scene.upgrading.ask(7, clock.now())
    assert scene.upgrading.rehearsal is not None
    assert scene.upgrading.is_rehearsed_by(scene.upgrading.rehearsal.pid)
    assert scene.upgrading.next_at == scene.upgrading.rehearsal.ends_at
    scene.wait_for_rehearsal()
    scene.upgrading.step(clock.now())
    assert scene.events() == ["upgrade-rehearsed", "upgrade-failed"]
    first, last = scene.answers
    assert (first.is_last, last.is_last, last.ok) == (False, True, False)
    assert "ValueError: boom" in last.detail
    assert not scene.upgrading.is_running


def test_one_at_a_time(scene: Scene) -> None:
    scene.upgrading.ask(0, clock.now())
    scene.upgrading.ask(8, clock.now())
    assert scene.answers == [Answer(8, "an upgrade runs already; its outcome is in the log", "", ok=False)]


def test_a_program_that_can_no_longer_be_executed(scene: Scene, tmp_path: Path) -> None:
    """It could be a moment ago, when it was tried."""
    scene.upgrading.ask(7, clock.now())
    scene.wait_for_rehearsal()
    scene.start.origin = Origin(("/no/python",), str(tmp_path), {})
    scene.upgrading.step(clock.now())
    assert scene.events() == ["upgrade-rehearsed", "upgrading", "upgrade-failed", "watched again"]
    assert scene.parted == [7]
    assert scene.said[-2][1]["why"].startswith("/no/python cannot be executed: No such file or directory")
    assert not any(os.get_inheritable(fd) for fd in scene.seats[0].private_fds())


def test_the_new_program_has_as_long_to_start_as_its_own_settings_say(scene: Scene) -> None:
    scene.start.boot_timeout = lambda: 50.0
    scene.upgrading.ask(0, 100.0)
    assert scene.upgrading.next_at == 100.0 + 50.0 + MORE_S


def test_settings_that_are_wrong_are_for_the_new_program_to_complain_of(scene: Scene) -> None:
    def refuse() -> float:
        raise SettingError("threads = 0: must be at least 1")

    scene.start.boot_timeout = refuse
    scene.upgrading.ask(0, 100.0)
    assert scene.upgrading.next_at == 100.0 + 5.0 + MORE_S


@pytest.mark.parametrize("is_tried", [False, True])
def test_a_stop_ends_it_at_once(scene: Scene, is_tried: bool) -> None:
    scene.upgrading.ask(7, clock.now())
    scene.supervisor.roster.is_awaited = True
    if is_tried:
        scene.wait_for_rehearsal()
        scene.upgrading.step(clock.now())
    assert scene.upgrading.is_running
    scene.supervisor.roster.stopping.urgency = 1
    scene.upgrading.step(clock.now())
    assert scene.answers[-1] == Answer(7, "the server stops", "", ok=False)
    assert not scene.upgrading.is_running
    assert scene.events() == ["upgrade-rehearsed"], "nothing goes on that could be said to be as before"
    scene.upgrading.ask(8, clock.now())
    assert scene.answers[2:] == [Answer(8, "the server stops", "", ok=False)]


def test_a_stop_while_somebody_else_has_reaped_the_trial(scene: Scene) -> None:
    """As process 1 does."""
    scene.upgrading.ask(7, clock.now())
    assert scene.upgrading.rehearsal is not None
    scene.wait_for_rehearsal()
    status = processes.reap_soon(scene.upgrading.rehearsal.pid)
    scene.supervisor.roster.stopping.urgency = 1
    scene.upgrading.step(clock.now(), status)
    assert scene.answers[-1] == Answer(7, "the server stops", "", ok=False)


@pytest.mark.parametrize("what", ["reload", "asker", "worker"])
def test_the_moment_is_waited_for_but_not_for_ever(scene: Scene, what: str) -> None:
    match what:
        case "reload":
            scene.supervisor.roster.reloading.running = 1
        case "asker":
            scene.supervisor.roster.is_awaited = True
        case "worker":
            scene.posts.workers[0].state = State.BOOTING
    begun = clock.now()
    scene.upgrading.ask(7, begun)
    scene.wait_for_rehearsal()
    scene.upgrading.step(begun)
    assert scene.upgrading.next_at == begun + MOMENT_S
    scene.upgrading.step(begun + MOMENT_S - 1)
    assert scene.upgrading.is_running
    scene.upgrading.step(begun + MOMENT_S)
    why = {
        "reload": "a reload runs",
        "asker": "somebody waits for what comes before it",
        "worker": "a worker is just starting",
    }[what]
    assert scene.said[-1] == ("upgrade-failed", {"why": f"for 1 min there was no moment for it: {why}", "detail": ""})
    assert not scene.upgrading.is_running


def test_no_process_can_be_made(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> int:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(os, "pidfd_open", lambda *_: refuse())
    scene.upgrading.ask(7, clock.now())
    assert "no process can be made to try the new version in: Resource temporarily unavailable" in scene.answers[0].text
