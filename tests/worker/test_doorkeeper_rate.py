"""worker/doorkeeper.py: connections that come too fast wait in the backlog."""

import pytest

from doorbed import accept_all, is_served, may
from leftovers import eventually
from paceline import clock
from paceline.worker.gate import Shut
from paceline.worker.watcher import TICK_S
from workerbed import DEADLINE_S, Bed, bed

pytestmark = pytest.mark.usefixtures("nothing_left")


def echo(message: bytes) -> bytes:
    return message


# The rate


def paused(worker: Bed, times: int) -> None:
    def has_paused() -> bool:
        return worker.cell("rate_pauses") == times and worker.worker.resume_accepting_at is not None

    eventually(has_paused, DEADLINE_S)


def test_over_the_rate_the_others_wait_in_the_backlog_and_come_in_one_after_the_other() -> None:
    with bed(echo, listen=True, max_connection_rate=0.01) as worker:
        keeper = worker.worker.doorkeeper
        assert keeper is not None
        assert keeper.bucket is not None
        begun = clock.now()
        clients = [worker.call_in() for _ in range(4)]
        for here in range(1, 4):
            paused(worker, here)
            assert worker.cell("accepted") == here
            assert worker.worker.gate.reasons == {Shut.PAUSED}
            assert is_served(clients[here - 1])
            until = worker.worker.resume_accepting_at
            assert until is not None
            assert 50.0 < until - begun <= 100.0 + clock.now() - begun
            worker.now = until - 2 * TICK_S
            worker.tick()
            assert worker.worker.gate.reasons == {Shut.PAUSED}
            keeper.bucket.at -= 100.0  # so much time passes
            worker.now = until
            worker.tick()
        assert is_served(clients[3])
        assert worker.log.find("connections-paced") == [{"rate": "0.01/s"}] * 3
        assert worker.cell("accepted") == 4
        assert worker.cell("refused") == worker.cell("accept_pauses") == 0


def test_where_nobody_else_waits_nothing_pauses_and_nothing_is_said() -> None:
    """The last token was spent, and that is all."""
    with bed(echo, listen=True, max_connection_rate=0.01) as worker:
        client = worker.call_in()
        assert is_served(client)
        assert is_served(client)
        assert not worker.worker.gate.reasons
        assert not worker.log.said
        assert worker.cell("rate_pauses") == 0


def test_a_pause_is_never_so_short_that_it_spins() -> None:
    with bed(echo, listen=True, run=False, max_connection_rate=1000.0) as worker:
        worker.worker.gate.open(Shut.STARTING)
        keeper = worker.worker.doorkeeper
        assert keeper is not None
        assert keeper.bucket is not None
        keeper.bucket.tokens = 0.999
        keeper.bucket.room = 0.9995
        before = clock.now()
        accept_all(worker)
        assert worker.worker.resume_accepting_at is not None
        assert worker.worker.resume_accepting_at - before >= 0.01


def test_who_is_refused_takes_nothing_of_the_rate() -> None:
    with bed(echo, listen=True, max_connection_rate=0.01, deny=("127.0.0.2",), max_connections_per_address=1) as worker:
        for _ in range(20):
            assert not may(worker, "127.0.0.2")
        assert may(worker, "127.0.0.3")
        worker.call_in("127.0.0.3")

        def has_paused() -> bool:
            return worker.cell("rate_pauses") == 1

        eventually(has_paused, DEADLINE_S)
        assert worker.cell("accepted") == 21


def test_with_threads_and_a_watcher_all_are_served_in_the_end() -> None:
    with bed(echo, listen=True, max_connection_rate=100.0) as worker:
        begun = clock.now()
        clients = [worker.call_in() for _ in range(30)]
        for client in clients:
            client.sendall(b"x")

        def are_here() -> bool:
            until = worker.worker.resume_accepting_at
            if until is not None and clock.now() >= until:
                worker.now = until
                worker.tick()
            return worker.cell("accepted") == 30

        eventually(are_here, DEADLINE_S)
        assert clock.now() - begun >= 0.19  # 10 at once, the others take a fifth of a second
        assert [client.recv(1) for client in clients] == [b"x"] * 30
        assert worker.cell("rate_pauses") >= 2
