"""State that is left to the next program, and taken up by it: round trips, and what cannot be believed."""

import os
import signal
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from paceline.addresses import parse_address
from paceline.errors import HostError, SettingError
from paceline.host import processes
from paceline.host.listeners import close_listener, open_listener
from paceline.scoreboard.board import Board
from paceline.settings import Settings
from paceline.supervisor import testament as paper
from paceline.supervisor import upgrade
from paceline.supervisor.lifecycle import State, Worker
from paceline.supervisor.posts import Limits, Posts, SeatState
from paceline.supervisor.seats import close_seats, open_seats
from paceline.supervisor.start import FD_VARIABLE, TRY_VARIABLE
from paceline.worker import messages

pytestmark = pytest.mark.usefixtures("nothing_left")

SETTINGS = Settings(threads=2)


class Scene:
    """A board, three seats, a listener; in seat 1 a child of ours that waits for ever."""

    def __init__(self, folder: Path) -> None:
        self.board = Board.create(3, 2)
        self.seats = open_seats(3)
        self.listener = open_listener(parse_address(f"unix:{folder}/s"), 0, 8, None)
        self.posts = Posts.of(2, 3, Limits())
        self.posts.generation, self.posts.newest, self.posts.is_serving = 4, 5, True
        self.pid = os.fork()
        if not self.pid:
            while True:
                signal.pause()
        seat = self.seats[1]
        self.theirs = seat.open_control()
        seat.sit(self.pid, processes.open_pidfd(self.pid), 7)
        worker = Worker(0, 1, 4)
        worker.state, worker.pid, worker.forked_at, worker.ready_at = State.READY, self.pid, 1.5, 2.5
        self.posts.workers[1] = worker
        self.posts.slots[0].seat = 1
        self.posts.seats[1:] = [SeatState.TAKEN, SeatState.EMPTYING]

    def server(self, settings: Settings = SETTINGS) -> upgrade.Server:
        return upgrade.Server(
            self.board, self.seats, [self.listener], self.posts, settings, started_at=1.0, gap_s=0.25,
            passed={3: "web"},
        )  # fmt: skip

    def testament(self, **changes: Any) -> paper.Testament:
        return replace(upgrade.testament_of(self.server()), **changes)

    def let_go(self) -> None:
        """As an exec does: the objects are gone, the descriptors are not."""
        for seat in self.seats:
            seat.inbox.reader.detach()
            seat.inbox.writer.detach()
            if seat.control is not None:
                seat.control.detach()
            if seat.pidfd >= 0:
                os.close(seat.pidfd)
        self.listener.socket.detach()

    def close(self) -> None:
        self.theirs.close()
        os.kill(self.pid, signal.SIGKILL)
        processes.reap_soon(self.pid)


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    made = Scene(tmp_path)
    yield made
    made.close()


def end(scene: Scene) -> None:
    """Of a scene that nobody adopted."""
    close_seats(scene.seats)
    close_listener(scene.listener)
    scene.board.close()


def handed_over(testament: paper.Testament, *, is_rehearsal: bool = False) -> tuple[paper.Testament | None, bool]:
    environment = {FD_VARIABLE: str(upgrade.write(testament)), "A": "b"} | ({TRY_VARIABLE: "1"} if is_rehearsal else {})
    try:
        return upgrade.take(environment)
    finally:
        assert environment == {"A": "b"}


def test_what_is_left_is_taken_up(scene: Scene, tmp_path: Path) -> None:
    scene.seats[1].outbox.append(messages.Nudge())
    written = scene.testament()
    for fd in written.descriptors():
        os.set_inheritable(fd, True)
    found, is_rehearsal = handed_over(written)
    assert (found, is_rehearsal) == (written, False)
    assert found is not None
    assert not any(os.get_inheritable(fd) for fd in found.descriptors())
    scene.let_go()
    (listener,) = upgrade.adopt_listeners(found)
    assert (listener.text, listener.kind, listener.index) == (f"unix:{tmp_path}/s", "unix", 0)
    with upgrade.adopted(found) as (board, seats):
        assert board.is_current
        assert (seats[1].pid, seats[1].messages_before, list(seats[1].outbox)) == (scene.pid, 7, [messages.Nudge()])
        seats[1].flush()
        assert messages.decode(scene.theirs.recv(100)) == messages.Nudge()
        scene.theirs.send(messages.encode(messages.Leaving(3)))
        assert seats[1].hear() == [messages.Leaving(3)]
        assert [seat.is_taken for seat in seats] == [False, True, False]
        posts = upgrade.adopt_posts(found, seats, Limits(), 9.0)
        assert (posts.generation, posts.newest, posts.is_serving) == (4, 5, True)
        assert posts.seats == [SeatState.FREE, SeatState.TAKEN, SeatState.EMPTYING]
        worker = posts.workers[1]
        assert (worker.state, worker.pid, worker.generation, worker.ready_at) == (State.READY, scene.pid, 4, 2.5)
        assert posts.is_current(worker)
        assert posts.slots[1].seat is None
        assert posts.forked_at == {0: 1.5}
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(f"{tmp_path}/s")
    close_listener(listener)
    assert not (tmp_path / "s").exists(), "the file is still ours"
    scene.board.fd = -1  # closed by its other object
    scene.board.words.release()
    scene.board._mapped.close()


def test_a_worker_that_is_no_child_of_ours_is_not_adopted(scene: Scene) -> None:
    stranger = os.getppid()
    written = scene.testament()
    seat = written.seats[1]
    assert seat.worker is not None
    seats = (written.seats[0], replace(seat, worker=replace(seat.worker, pid=stranger)), written.seats[2])
    scene.let_go()
    with upgrade.adopted(replace(written, seats=seats)) as (_, adopted):
        assert [seat.is_taken for seat in adopted] == [False, False, False]
        posts = upgrade.adopt_posts(replace(written, seats=seats), adopted, Limits(), 9.0)
        assert posts.workers == {}
        assert posts.seats[1] is SeatState.EMPTYING, "its inbox may hold connections"
        assert posts.slots[0].seat is None, "somebody else gets its slot"
    close_listener(upgrade.adopt_listeners(written)[0])
    scene.board.fd = -1
    scene.board.words.release()
    scene.board._mapped.close()


def test_nothing_was_left_at_an_ordinary_start() -> None:
    assert upgrade.take({"A": "b"}) == (None, False)


def test_what_was_left_to_somebody_else_is_not_believed(scene: Scene) -> None:
    for changes in ({"pid": os.getppid()}, {"start_ticks": 1}):
        with pytest.raises(paper.TestamentError, match=f"{FD_VARIABLE} is for process .*; Paceline sets it itself"):
            handed_over(scene.testament(**changes))
    with pytest.raises(paper.TestamentError, match=f"{FD_VARIABLE} is for process {os.getpid()}"):
        handed_over(scene.testament(), is_rehearsal=True)
    end(scene)


def test_a_rehearsal_is_for_a_child_of_the_server(scene: Scene) -> None:
    parent = {"pid": os.getppid(), "start_ticks": processes.start_ticks(os.getppid())}
    found, is_rehearsal = handed_over(scene.testament(**parent), is_rehearsal=True)
    assert found is not None
    assert is_rehearsal
    end(scene)


def test_a_descriptor_that_was_not_kept_is_named(scene: Scene) -> None:
    with pytest.raises(paper.TestamentError, match="descriptor 7777 was not kept: Bad file descriptor"):
        handed_over(scene.testament(asker=7777))
    end(scene)


@pytest.mark.parametrize(
    ("text", "why"),
    [("", "is no descriptor"), ("-1", "is no descriptor"), ("x", "is no descriptor"), ("7777", "Bad file descriptor")],
)
def test_a_variable_that_names_nothing(text: str, why: str) -> None:
    with pytest.raises(paper.TestamentError, match=why):
        upgrade.take({FD_VARIABLE: text})


# What the new program can go on with


def test_the_same_settings_and_layout_will_do(scene: Scene) -> None:
    upgrade.examine(scene.testament(), SETTINGS)
    upgrade.examine(scene.testament(), replace(SETTINGS, drain_timeout=5.0))
    end(scene)


def test_what_only_a_restart_changes(scene: Scene) -> None:
    with pytest.raises(HostError, match=r"bind was 127.0.0.1:8888 and is :80; backlog was 2048 and is 1: only a r"):
        upgrade.examine(scene.testament(), replace(SETTINGS, bind=(":80",), backlog=1))
    end(scene)


EVERY = Settings(
    target="app.py:\udcff", bind=("unix:/a,b", "127.0.0.1:1"), as_="connection", framing="line", start="data",
    workers=3, max_workers=9, threads=2, max_connections=5, max_message=1025, first_byte_timeout=None, idle_timeout=0.3,
    timeout=None, max_messages=7, max_messages_jitter=0.123, max_rss=123456789, max_age=86400.5, probe="\\n", pid="/p",
    control=None, chdir="/c", log_format="json",
)  # fmt: skip


@pytest.mark.parametrize("settings", [Settings(), EVERY], ids=["defaults", "others"])
def test_the_settings_are_read_back_as_they_were(scene: Scene, settings: Settings) -> None:
    written = scene.testament(settings=upgrade.testament_of(scene.server(settings)).settings, config="f.toml")
    found = upgrade.settings_left(paper.decode(paper.encode(written)))
    assert found is not None
    assert (found.settings, found.file) == (settings, "f.toml")
    posts = upgrade.adopt_posts(replace(written, seats=()), (), Limits(drain_s=9.0), 9.0)
    assert posts.limits == Limits.of(settings), "who is there is judged by what it was started with"
    older = scene.testament(settings={})
    assert upgrade.settings_left(older) is None, "an older version did not write them"
    assert upgrade.adopt_posts(replace(older, seats=()), (), Limits(drain_s=9.0), 9.0).limits.drain_s == 9.0
    end(scene)


def test_settings_that_this_version_does_not_take_are_named(scene: Scene) -> None:
    newer = scene.testament(settings={"threads": "0", "colour": '"red"'})
    with pytest.raises(SettingError, match=r"^threads = 0 in the running server: must be a whole number from 1 to"):
        upgrade.settings_left(newer)
    with pytest.raises(paper.TestamentError, match="the settings of the running server cannot be read: "):
        upgrade.settings_left(scene.testament(settings={"threads": "{"}))
    end(scene)


def test_more_threads_than_the_board_has_room_for(scene: Scene) -> None:
    with pytest.raises(HostError, match="threads = 3: there is room for 2 in each worker"):
        upgrade.examine(scene.testament(), replace(SETTINGS, threads=3))
    end(scene)


def test_more_workers_than_there_are_seats_for(scene: Scene) -> None:
    with pytest.raises(HostError, match="workers = 1000: there is room for "):
        upgrade.examine(scene.testament(), replace(SETTINGS, workers=1000))
    end(scene)


def test_each_of_the_two_must_fit_the_board(scene: Scene) -> None:
    testament = scene.testament()
    fewer = replace(testament, seats=testament.seats[:-1])
    with pytest.raises(HostError, match="threads = 3: there is room for 2 in each worker"):
        upgrade.examine(fewer, replace(SETTINGS, threads=3))
    more = replace(testament, seats=(*testament.seats, testament.seats[-1]))
    with pytest.raises(HostError, match=r"has \d seats, and its state speaks of \d; restart the server instead"):
        upgrade.examine(more, SETTINGS)
    end(scene)


def test_another_layout_of_the_board(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Board, "is_current", False)
    with pytest.raises(HostError, match=r"scoreboard of the running server \(Paceline 0\.9\) has another layout"):
        upgrade.examine(scene.testament(paceline="0.9"), SETTINGS)
    end(scene)


# When


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ("", ""),
        ("first", "the first worker is still starting"),
        ("booting", "a worker is just starting"),
        ("standby", "a worker is just starting"),
        ("incoming", "a worker is just being replaced"),
        ("vacant", "a worker is just being replaced"),
        ("draining", ""),
    ],
)
def test_the_moment(change: str, why: str) -> None:
    posts = Posts.of(1, 4, Limits())
    posts.is_serving = change != "first"
    posts.slots[0].seat = None if change == "vacant" else 0
    posts.workers[0] = Worker(0, 0, state=State.READY)
    match change:
        case "booting" | "standby" | "draining":
            posts.workers[1] = Worker(0, 1, state=State[change.upper()])
        case "incoming":
            posts.slots[0].incoming = 1
    assert upgrade.why_not_now(posts) == why
