"""The bulletin: what the books say, as the service manager hears it."""

from collections.abc import Iterator

import pytest

from paceline.host.notify import ServiceManager
from paceline.scoreboard.board import Board
from paceline.scoreboard.fields import WORKER
from paceline.settings import Settings
from paceline.supervisor.bulletin import Bulletin
from paceline.supervisor.lifecycle import State, Worker
from paceline.supervisor.posts import Limits, Posts
from paceline.supervisor.roster import Roster
from paceline.supervisor.stopping import Stop
from paceline.supervisor.vocabulary import ReloadAsked

PLACES = ("127.0.0.1:80",)


class Manager(ServiceManager):
    """Takes everything, or nothing."""

    __slots__ = ("heard", "is_there")

    def __init__(self, watchdog_s: float | None = None) -> None:
        super().__init__("/n", watchdog_s)
        self.heard: list[str] = []
        self.is_there = True

    def send(self, text: str) -> bool:
        if self.is_there:
            self.heard.append(text)
        return self.is_there

    def take(self) -> list[str]:
        heard, self.heard = self.heard, []
        return heard


@pytest.fixture
def board() -> Iterator[Board]:
    made = Board.create(4, 1)
    yield made
    made.close()


def roster_of(workers: int) -> Roster:
    posts = Posts.of(workers, 4, Limits())
    for number in range(workers):
        posts.workers[number] = Worker(number, number, state=State.READY)
        posts.slots[number].seat = number
    posts.is_serving = True
    return Roster(posts, 4, lambda: 0.0)


def beat(board: Board, seat: int, at: float) -> None:
    board.words[board.layout.worker_index(seat) + WORKER["heartbeat_ns"]] = int(at * 1e9)


def test_a_life(board: Board) -> None:
    manager, roster = Manager(), roster_of(2)
    bulletin = Bulletin(manager, 100.0, 10.0)
    roster.posts.is_serving = False
    bulletin.look(roster, board, PLACES, 100.0)
    assert manager.take() == ["STATUS=starting"]
    roster.posts.is_serving, roster.announce_by = True, 102.0
    bulletin.look(roster, board, PLACES, 101.0)
    assert manager.take() == [], "not before it says so itself"
    roster.announce_by = None
    bulletin.look(roster, board, PLACES, 102.0)
    (ready,) = manager.take()
    assert ready.startswith("READY=1\nMAINPID=")
    assert ready.endswith("STATUS=serving on 127.0.0.1:80, 2 workers, generation 1")
    bulletin.on_reload_asked()
    roster.reloading.running = ReloadAsked(0, Settings())
    bulletin.look(roster, board, PLACES, 103.0)
    assert manager.take() == [
        "RELOADING=1\nMONOTONIC_USEC=103000000\nSTATUS=reloading; serving on 127.0.0.1:80, 2 workers, generation 1"
    ]
    roster.reloading.running = None
    bulletin.on_said("reload-failed", {"why": "boom"})
    bulletin.look(roster, board, PLACES, 104.0)
    assert manager.take()[0].endswith("generation 1; reload failed: boom")
    bulletin.on_said("reloaded", {})
    bulletin.look(roster, board, PLACES, 105.0)
    assert manager.take() == ["STATUS=serving on 127.0.0.1:80, 2 workers, generation 1"]
    roster.stopping.urgency = Stop.SOFT
    del roster.posts.workers[1]
    bulletin.look(roster, board, (), 106.0)
    assert manager.take() == ["STOPPING=1\nSTATUS=stopping, 1 worker is finishing calls"]


def test_a_second_reload_takes_the_trouble_of_the_first_away() -> None:
    bulletin = Bulletin(Manager(), 0.0, 10.0)
    bulletin.on_said("upgrade-failed", {"why": "boom"})
    assert bulletin.trouble == "upgrade failed: boom"
    bulletin.on_said("worker-ready", {})
    assert bulletin.trouble
    bulletin.on_reload_asked()
    assert (bulletin.trouble, bulletin.reloads) == ("", 1)


def test_a_sign_of_life_is_that_of_the_liveliest_worker_that_serves(board: Board) -> None:
    manager, roster = Manager(4.0), roster_of(2)
    bulletin = Bulletin(manager, 100.0, 10.0)
    beat(board, 0, 95.0)
    beat(board, 1, 70.0)
    beat(board, 2, 200.0)  # nobody sits there
    bulletin.look(roster, board, PLACES, 100.0)
    assert manager.take()[-1] == "WATCHDOG=1"
    assert bulletin.next_at(0.0) == 102.0
    assert bulletin.next_at(50.0) == 52.0, "by a clock that is behind"
    roster.posts.workers[0].state = State.DRAINING
    bulletin.look(roster, board, PLACES, 102.0)
    assert "WATCHDOG=1" not in manager.take()
    assert bulletin.next_at(0.0) is None


def test_what_was_not_taken_is_told_again(board: Board) -> None:
    manager, roster = Manager(), roster_of(1)
    bulletin = Bulletin(manager, 100.0, 10.0)
    manager.is_there = False
    bulletin.look(roster, board, PLACES, 100.0)
    manager.is_there = True
    bulletin.look(roster, board, PLACES, 101.0)
    assert manager.take()[0].startswith("READY=1\n")
    bulletin.look(roster, board, PLACES, 102.0)
    assert manager.take() == []


def test_without_a_manager_nothing_is_looked_at() -> None:
    bulletin = Bulletin(ServiceManager(), 100.0, 10.0)
    bulletin.look(None, None, (), 100.0)  # type: ignore[arg-type]
    assert bulletin.next_at(0.0) is None
