"""The supervisor on a stage, and its hands without a loop, in the process of the test."""

import os
import signal
from collections.abc import Iterator
from typing import NoReturn

import pytest

from paceline.host import processes
from paceline.host.descriptors import open_count
from paceline.scoreboard.board import Board
from paceline.settings import Settings
from paceline.supervisor.hands import Hands
from paceline.supervisor.seats import close_seats, open_seats
from paceline.supervisor.size import Size
from paceline.supervisor.system import System
from paceline.worker.plan import Plan
from supervisor.scene import Log
from supervisor.stage import Stage


def wait_for_ever(plan: Plan) -> NoReturn:
    while True:
        signal.pause()


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
def hands(log: Log) -> Iterator[Hands]:
    """Three seats, no listener; at the end nobody and nothing is left."""
    before = open_count()
    board, seats, pipe = Board.create(3, 2), open_seats(3), (*os.pipe(), os.eventfd(0, os.EFD_NONBLOCK))
    yield Hands(Settings(), "echo", System(wait_for_ever), log, Size(1, 3, 1, ""), pipe, [], board, seats)
    for seat in seats:
        if seat.is_taken:
            processes.send_signal(seat.pidfd, signal.SIGKILL)
            processes.reap_soon(seat.pid)
    close_seats(seats)
    board.close()
    for fd in pipe:
        os.close(fd)
    assert open_count() == before


@pytest.fixture
def serving() -> Iterator[Stage]:
    """Two calm workers, both ready."""
    with Stage(workers=2, threads=4) as stage:
        stage.wait_for("listening")
        yield stage
