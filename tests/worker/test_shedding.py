"""worker/shedding.py: who has waited for too long is turned away in an overload, and only then."""

import socket
from typing import Any

import pytest

from doorbed import is_served, may
from leftovers import eventually
from paceline.host import streams
from paceline.scoreboard.fields import ThreadState
from paceline.worker.gate import Shut
from paceline.worker.overload import INTERVAL_S
from paceline.worker.shedding import NOTICE_S
from paceline.worker.watcher import CALM_TICK_S, TICK_S
from shedbed import (
    LIMIT_S,
    TICKS,
    Greeting,
    Handler,
    Waits,
    cells,
    is_reset,
    overload,
    saturate,
    tick_until_calm,
    told,
    wait_arrived,
    wait_knocking,
)  # fmt: skip
from workerbed import DEADLINE_S, bed, receive_exactly

pytestmark = pytest.mark.usefixtures("nothing_left")


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> Waits:
    return told(monkeypatch)


# Without the setting


def test_without_the_setting_nobody_is_turned_away_and_a_standing_queue_is_said_once(waits: Waits) -> None:
    handler = Handler()
    with bed(handler, listen=True, threads=1) as worker:
        held = saturate(worker, handler)
        waits.seconds = 2 * NOTICE_S
        clients = [worker.call_in() for _ in range(3)]
        wait_knocking(worker, 3)
        worker.tick(round((NOTICE_S + INTERVAL_S) / TICK_S) + 3)
        assert cells(worker) == {"overloads": 1, "overloaded": 1}
        (said,) = worker.log.find("overloaded")
        assert "--queue-timeout off" in str(said["next"])
        assert worker.cell("queue_wait_ns") > NOTICE_S * 1e9
        handler.gate.open()
        assert receive_exactly(held, 4) == b"slow"
        assert all(is_served(client) for client in clients)
        tick_until_calm(worker)
        assert cells(worker) == {"overloads": 1}
        assert worker.cell("queue_wait_ns") == 0
        assert worker.log.find("overload-over")[0]["shed"] == ""


def test_a_quiet_worker_asks_nothing(waits: Waits) -> None:
    waits.seconds = 100.0
    with bed(Handler(), listen=True, queue_timeout=LIMIT_S) as worker:
        clients = [worker.call_in() for _ in range(3)]
        for client in clients:
            assert is_served(client)
        for _ in range(3 * TICKS):
            worker.tick_until_led()
        assert all(is_served(client) for client in clients)
        assert cells(worker) == {}


# While nobody leads


def test_while_nobody_leads_the_watcher_resets_who_has_waited_in_the_accept_queue(waits: Waits) -> None:
    handler = Handler()
    with bed(handler, listen=True, threads=1, queue_timeout=LIMIT_S) as worker:
        held = saturate(worker, handler)
        clients = [worker.call_in() for _ in range(5)]
        wait_knocking(worker, 5)
        waits.seconds = LIMIT_S / 4
        worker.tick(TICKS)
        assert cells(worker) == {}, "it has not waited for too long yet"
        waits.seconds = 2 * LIMIT_S
        worker.tick(round(LIMIT_S / TICK_S) + TICKS)
        assert all(is_reset(client) for client in clients)
        worker.tick(TICKS)
        assert cells(worker) == {"refused": 5, "refused_overload": 5, "overloads": 1}, "and nobody waits any more"
        assert worker.log.find("overload-over")[0]["shed"] == ": 5 connections were refused"
        handler.gate.open()
        assert receive_exactly(held, 4) == b"slow"


def test_who_is_young_keeps_its_place_in_front_and_is_served_first(waits: Waits) -> None:
    handler = Handler()
    with bed(handler, listen=True, threads=1, queue_timeout=LIMIT_S) as worker:
        held = saturate(worker, handler)
        old, young, next_one = (worker.call_in() for _ in range(3))
        wait_knocking(worker, 3)
        waits.first, waits.seconds = [2 * LIMIT_S], 0.75 * LIMIT_S
        worker.tick(round(LIMIT_S / TICK_S) + TICKS)
        assert is_reset(old)
        assert cells(worker) == {"refused": 1, "refused_overload": 1, "overloads": 1, "overloaded": 1}
        assert worker.parts.accepting.shedding.in_hand
        wait_knocking(worker, 1)
        handler.gate.open()
        assert receive_exactly(held, 4) == b"slow"
        tick_until_calm(worker)
        assert not worker.parts.accepting.shedding.in_hand
        assert is_served(young)
        assert is_served(next_one)
        assert worker.cell("accepted") == 3
        assert cells(worker) == {"refused": 1, "refused_overload": 1, "overloads": 1}


def test_while_nobody_leads_the_watcher_resets_whose_message_has_waited(waits: Waits) -> None:
    handler = Handler()
    with bed(handler, threads=1, queue_timeout=LIMIT_S) as worker:
        asking = [worker.connect_tcp() for _ in range(3)]
        quiet = worker.connect_tcp()
        for client in (*asking, quiet):
            assert is_served(client)
        held = saturate(worker, handler)
        for client in asking:
            client.sendall(b"quick")
        wait_arrived(worker, *asking)
        waits.seconds = 2 * LIMIT_S
        worker.tick(TICKS)
        worker.wait_closed(3)
        assert all(is_reset(client) for client in asking)
        worker.tick(TICKS)
        assert cells(worker) == {"closed_overload": 3, "overloads": 1}, "nobody waits any more"
        assert worker.log.find("overload-over")[0]["shed"] == ": 3 connections were refused"
        handler.gate.open()
        assert receive_exactly(held, 4) == b"slow"
        assert is_served(quiet)


def test_what_the_watcher_has_polled_wakes_who_came_back_meanwhile(waits: Waits) -> None:
    """Else it would poll for what lies in `ready` already."""
    handler = Handler()
    with bed(handler, threads=1, queue_timeout=LIMIT_S) as worker:
        client = worker.connect_tcp()
        assert is_served(client)
        held = saturate(worker, handler)
        client.sendall(b"quick")
        wait_arrived(worker, client)
        tables, poller = worker.worker.tables, worker.worker.poller
        poller.wait(0, 16)  # older wake-ups
        tables.ready.clear()
        client.sendall(b"er")
        eventually(lambda: streams.unread_bytes(next(iter(tables.parked))) == 7)
        worker.tick()
        assert [fd for fd, _flags in tables.ready if fd in tables.open] == list(tables.parked)
        assert worker.worker.wakeup.fd in {fd for fd, _flags in poller.wait(0, 16)}
        handler.gate.open()
        assert receive_exactly(held, 4) == b"slow"
        assert receive_exactly(client, 7) == b"quicker"


def test_who_was_greeted_waits_for_a_thread_that_says_farewell(waits: Waits) -> None:
    handler = Handler()
    greeting = Greeting(handler)
    with bed(greeting, threads=1, queue_timeout=LIMIT_S) as worker:
        client = worker.connect_tcp()
        assert is_served(client)
        held = saturate(worker, handler)
        client.sendall(b"quick")
        wait_arrived(worker, client)
        waits.seconds = 2 * LIMIT_S
        worker.tick(TICKS)
        assert cells(worker) == {"overloads": 1, "overloaded": 1}
        handler.gate.open()
        assert receive_exactly(held, 4) == b"slow"
        worker.wait_closed(1)
        assert is_reset(client)
        assert greeting.farewells == 1
        assert worker.cell("closed_overload") == 1


# The leader's


def test_the_leader_resets_what_has_waited_and_serves_what_has_not(waits: Waits) -> None:
    with bed(Handler(), listen=True, queue_timeout=LIMIT_S) as worker:
        kept, old = worker.connect_tcp(), worker.connect_tcp()
        assert is_served(kept)
        assert is_served(old)
        overload(worker, waits)
        assert not is_served(old)
        worker.wait_closed(1)
        assert not may(worker)
        waits.seconds = LIMIT_S
        assert is_served(kept)
        assert may(worker)
        assert cells(worker) == {
            "refused": 1, "refused_overload": 1, "closed_overload": 1, "overloads": 1, "overloaded": 1
        }  # fmt: skip


def test_of_whom_the_kernel_says_nothing_everybody_is_served(waits: Waits) -> None:
    with bed(Handler(), listen=True, queue_timeout=LIMIT_S) as worker:
        kept = worker.connect()
        overload(worker, waits)
        waits.seconds = None
        assert is_served(kept)
        assert is_served(worker.call_in())
        assert cells(worker) == {"overloads": 1, "overloaded": 1}


def test_what_was_read_is_answered_and_an_end_alone_is_no_message(waits: Waits) -> None:
    """A pipeline goes on although it takes longer than the limit; who only ends is closed as ever."""
    handler = Handler()
    with bed(handler, framing="fixed:4", threads=2, queue_timeout=LIMIT_S) as worker:
        pipeline, ending = worker.connect_tcp(), worker.connect_tcp()
        pipeline.sendall(b"slow" + b"next" * 9)
        handler.gate.wait_entered()
        worker.tick_until_led()
        overload(worker, waits)
        handler.gate.open()
        assert receive_exactly(pipeline, 40) == b"slow" + b"next" * 9
        ending.shutdown(socket.SHUT_WR)
        assert ending.recv(1) == b""
        worker.wait_closed(1)
        assert worker.cell("closed_peer") == 1
        assert worker.cell("closed_overload") == 0


def test_who_has_not_been_introduced_is_refused_as_well(waits: Waits) -> None:
    """The header of a proxy waits to be read, as a message would."""
    with bed(Handler(), proxy_protocol=("127.0.0.0/8",), queue_timeout=LIMIT_S) as worker:
        young, old = worker.connect_tcp(), worker.connect_tcp()
        overload(worker, waits)
        waits.seconds = LIMIT_S
        young.sendall(b"PROXY UNKNOWN\r\nhello")
        assert receive_exactly(young, 5) == b"hello"
        waits.seconds = 2 * LIMIT_S
        old.sendall(b"PROXY UNKNOWN\r\nhello")
        assert is_reset(old)
        worker.wait_closed(1)
        assert worker.cell("closed_overload") == 1


def test_the_fast_path_looks_up_when_an_overload_begins(waits: Waits) -> None:
    """The batch in hand is gone through with care, though it was polled before."""
    handler = Handler()
    with bed(handler, run=False, queue_timeout=LIMIT_S) as worker:
        clients = [worker.connect_tcp() for _ in range(3)]
        tables = worker.worker.tables
        clients[0].sendall(b"slow")
        for client in clients[1:]:
            client.sendall(b"quick")
        wait_arrived(worker, *clients)
        tables.ready.extend(worker.worker.poller.wait(0, 16))
        assert [fd for fd, _flags in tables.ready if fd in tables.open] == list(tables.open)
        assert worker.parts.start()
        handler.gate.wait_entered()
        overload(worker, waits)
        handler.gate.open()
        assert receive_exactly(clients[0], 4) == b"slow"
        worker.wait_closed(2)
        assert all(is_reset(client) for client in clients[1:])


# Around


def test_that_somebody_polls_does_not_say_that_nobody_waits(waits: Waits) -> None:
    """In an overload whoever comes back polls first, and lets the GIL go for it: then the watcher looks."""
    with bed(Handler(), listen=True, run=False, queue_timeout=LIMIT_S) as worker:
        worker.worker.gate.open(Shut.STARTING)
        roles = worker.worker.crew.roles
        leader = roles.leader = roles.make(0)
        leader.words[leader.state] = ThreadState.POLLING
        worker.call_in()
        wait_knocking(worker, 1)
        for _ in range(TICKS):
            worker.worker.fresh_waited_s = 2 * LIMIT_S
            worker.tick()
        assert cells(worker) == {"overloads": 1, "overloaded": 1}
        roles.leader = None


def test_in_a_drain_everybody_who_is_here_is_served(waits: Waits) -> None:
    handler = Handler()
    with bed(handler, listen=True, threads=1, queue_timeout=LIMIT_S) as worker:
        held = saturate(worker, handler)
        old, young = worker.call_in(), worker.call_in()
        young.sendall(b"quick")
        wait_knocking(worker, 2)
        waits.first, waits.seconds = [2 * LIMIT_S], 0.75 * LIMIT_S
        worker.tick(round(LIMIT_S / TICK_S) + TICKS)
        assert is_reset(old)
        assert worker.parts.accepting.shedding.in_hand
        waits.seconds = 2 * LIMIT_S
        drained = worker.drain()
        eventually(lambda: not worker.cell("overloaded"), DEADLINE_S)
        assert worker.worker.shed_after_s is None
        handler.gate.open()
        assert receive_exactly(held, 4) == b"slow"
        assert receive_exactly(young, 5) == b"quick"
        assert drained.wait() == 0
        assert worker.cell("refused_overload") == 1


@pytest.mark.parametrize("reason", [Shut.FULL, Shut.PAUSED])
def test_who_waits_because_of_another_limit_is_no_overload(waits: Waits, reason: Shut) -> None:
    handler = Handler()
    with bed(handler, listen=True, threads=1, queue_timeout=LIMIT_S) as worker:
        held = saturate(worker, handler)
        worker.worker.gate.shut(reason)
        worker.worker.resume_accepting_at = worker.now + 1000.0
        worker.call_in()
        wait_knocking(worker, 1)
        waits.seconds = 2 * LIMIT_S
        worker.tick(round(LIMIT_S / TICK_S) + TICKS)
        assert cells(worker) == {}
        handler.gate.open()
        assert receive_exactly(held, 4) == b"slow"


def test_the_watcher_looks_each_tick_while_nobody_leads_or_in_an_overload(waits: Waits) -> None:
    handler = Handler()
    with bed(handler, threads=1, queue_timeout=LIMIT_S) as worker:
        watcher = worker.parts.watcher
        held = saturate(worker, handler)
        assert watcher.pace(watcher.active_until + 1.0) == TICK_S
        overload(worker, waits)
        watcher.lookout.is_calm = True
        assert watcher.pace(watcher.active_until - 0.01) == TICK_S != CALM_TICK_S
        handler.gate.open()
        assert receive_exactly(held, 4) == b"slow"


def hold(connection: Any) -> None:
    while received := connection.recv(64):
        connection.sendall(received)


def test_connections_that_wait_for_a_thread_of_their_own_are_turned_away_too(waits: Waits) -> None:
    with bed(hold, as_="connection", listen=True, threads=1, queue_timeout=LIMIT_S) as worker:
        held = worker.call_in()
        assert is_served(held)
        worker.tick_until_led()
        worker.tick(2)
        waiting = [worker.call_in() for _ in range(3)]
        wait_knocking(worker, 3)
        waits.seconds = 2 * LIMIT_S
        worker.tick(round(LIMIT_S / TICK_S) + TICKS)
        assert all(is_reset(client) for client in waiting)
        assert worker.cell("refused_overload") == 3
        assert is_served(held)
        held.close()
        eventually(lambda: worker.cell("closed") == 1, DEADLINE_S)
        leader = worker.worker.crew.roles.leader
        assert leader is None or leader.words[leader.state] in set(ThreadState)
