"""worker/handover.py: a saturated or leaving worker passes on what is still fresh."""

import os
import socket
from collections.abc import Iterator

import pytest

from house import house
from paceline.worker.connection import Connection
from paceline.worker.handover import read_record
from workerbed import Bed, bed

pytestmark = pytest.mark.usefixtures("nothing_left")


@pytest.fixture
def sender() -> Iterator[Bed]:
    with bed(lambda message: message, run=False) as worker:
        yield worker


def fresh_connection(sender: Bed, passes: int = 0) -> Connection:
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    ours.close()
    connection = Connection(theirs.detach(), sender.parts.accepting.ways_in[0])
    connection.passes = passes
    sender.worker.tables.enter(connection)
    return connection


def test_it_goes_to_the_least_loaded_and_says_how_often_it_was_passed(sender: Bed) -> None:
    with house(3) as seats:
        seats.set(1, connections=5)
        connection = fresh_connection(sender, passes=1)
        assert seats.passing(sender.worker).try_relieve(connection)
        assert seats.waiting() == [0, 0, 1]
        taken = seats.take(2)
        assert taken is not None
        os.close(taken[0])
        assert read_record(taken[1]) == (0, 2)
        assert not sender.worker.tables.open


@pytest.mark.parametrize("why", ["nobody can", "passed often enough"])
def test_otherwise_it_stays(sender: Bed, why: str) -> None:
    with house(2) as seats:
        if why == "nobody can":
            seats.set(1, saturated=1)
        connection = fresh_connection(sender, passes=3 if why == "passed often enough" else 0)
        assert not seats.passing(sender.worker).try_relieve(connection)
        assert sender.worker.tables.open == {connection.fd: connection}
