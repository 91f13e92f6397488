"""The ends of processes, as the loop meets them; the whole is in test_loop.py and test_loop_end.py."""

import pytest

from paceline.host import processes
from paceline.supervisor.hands import Hands
from paceline.supervisor.loop import Supervisor
from paceline.supervisor.vocabulary import Exited, Kill, Said, TimePassed
from paceline.worker.messages import Leaving, encode

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
"""The test runner has a thread for its time limit; the supervisor has none."""


def test_a_worker_that_is_buried_has_left_the_board(hands: Hands, monkeypatch: pytest.MonkeyPatch) -> None:
    supervisor = Supervisor(hands)
    supervisor.react(TimePassed())
    (worker,) = supervisor.roster.posts.workers.values()
    seat = hands.seats[worker.seat]
    hands.carry_out(Kill(seat.number))
    status = processes.reap_soon(seat.pid)
    hands.board.sit(seat.number, pid=1, slot=0, generation=1, now_ns=1)
    assert seat.control is not None
    seat.control.close()
    with seat.open_control() as theirs:
        for n in range(20):
            theirs.send(encode(Leaving(n)))
    monkeypatch.setattr(processes, "reap", lambda _pid: status)
    *said, exited = supervisor.burying.on_ended(seat)
    assert said == [Said(seat.number, Leaving(n)) for n in range(20)], "its last words, heard first"
    assert isinstance(exited, Exited)
    assert hands.board.snapshot().seats[seat.number].state == "free"
    assert not seat.is_taken
