"""worker/shedding.py, worker/ending.py: whom an overload may hit, and whom it must leave alone."""

import threading
from pathlib import Path
from typing import Any

import pytest

from doorbed import is_served
from house import house
from leftovers import eventually
from paceline.host import streams
from paceline.scoreboard.fields import ThreadState
from paceline.settings import Settings
from paceline.worker import shedding
from paceline.worker.crew import Member
from paceline.worker.doorkeeper import Doorkeeper
from paceline.worker.gate import Shut
from paceline.worker.lifecycle import State
from paceline.worker.watcher import TICK_S
from shedbed import (
    LIMIT_S,
    TICKS,
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
from workerbed import DEADLINE_S, Bed, bed, receive_exactly

pytestmark = pytest.mark.usefixtures("nothing_left")

HOOKS = ["connected", "arrived", "disconnected"]
LONG = round(LIMIT_S / TICK_S) + TICKS


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> Waits:
    return told(monkeypatch)


def with_hook(name: str, handler: Handler, called: list[str]) -> Any:
    """The handler, with this hook."""
    members = {
        name: lambda _self, _connection: called.append(name),
        "__call__": lambda _self, message: handler(message),
    }
    return type("Hooked", (), members)()


# Who is to be greeted


@pytest.mark.parametrize("hook", HOOKS)
def test_the_leader_sheds_who_was_not_greeted_yet(waits: Waits, hook: str) -> None:
    called: list[str] = []
    with bed(with_hook(hook, Handler(), called), queue_timeout=LIMIT_S) as worker:
        overload(worker, waits)
        old = worker.connect_tcp()
        worker.wait_closed(1)
        assert is_reset(old)
        waits.seconds = LIMIT_S
        assert is_served(worker.connect_tcp())
        assert worker.cell("closed_overload") == 1
        assert called == (["connected"] if hook == "connected" else [])


@pytest.mark.parametrize("hook", HOOKS)
def test_the_watcher_sees_and_sheds_who_was_not_greeted_yet(waits: Waits, hook: str) -> None:
    handler = Handler()
    called: list[str] = []
    with bed(with_hook(hook, handler, called), threads=1, queue_timeout=LIMIT_S) as worker:
        held = saturate(worker, handler)
        del called[:]
        waiting = [worker.connect_tcp() for _ in range(3)]  # they send nothing: to be greeted is what they wait for
        waits.seconds = 2 * LIMIT_S
        worker.tick(TICKS)
        assert all(is_reset(client) for client in waiting)
        worker.tick(TICKS)
        assert cells(worker) == {"closed_overload": 3, "overloads": 1}
        handler.gate.open()
        assert receive_exactly(held, 4) == b"slow"
        assert called == []


# What was begun


def test_a_reply_that_is_still_on_its_way_is_not_destroyed(waits: Waits) -> None:
    """Our kernel has taken it, and the peer does not read yet: a reset would throw it away."""
    reply = bytes(100_000)
    with bed(lambda _message: reply, queue_timeout=LIMIT_S) as worker:
        client = worker.connect_tcp(send_buffer=1 << 20, receive_buffer=4096)
        client.sendall(b"one")
        worker_end = worker.connections()[0]
        eventually(lambda: streams.unsent_bytes(worker_end.fd) > 0, DEADLINE_S)
        worker.wait_parked()
        assert worker_end.out is None
        overload(worker, waits)
        client.sendall(b"two")
        eventually(lambda: worker_end.messages == 2, DEADLINE_S)
        assert receive_exactly(client, 2 * len(reply)) == 2 * reply
        assert worker.cell("closed_overload") == 0


def test_a_message_that_is_half_read_is_gone_on_with(waits: Waits) -> None:
    with bed(Handler(), framing="fixed:4", queue_timeout=LIMIT_S) as worker:
        half, none = worker.connect_tcp(), worker.connect_tcp()
        half.sendall(b"ha")
        eventually(lambda: worker.connections()[0].rest is not None, DEADLINE_S)
        worker.wait_parked()
        overload(worker, waits)
        half.sendall(b"lf")
        assert receive_exactly(half, 4) == b"half"
        none.sendall(b"none")
        assert is_reset(none)


def test_what_is_sent_beside_replies_is_sent(waits: Waits) -> None:
    handler = Handler()
    with bed(handler, threads=1, queue_timeout=LIMIT_S) as worker:
        client = worker.connect_tcp()
        assert is_served(client)
        c = worker.connections()[0]
        held = saturate(worker, handler)
        client.sendall(b"quick")
        wait_arrived(worker, client)
        c.send(b"news ")
        waits.seconds = 2 * LIMIT_S
        overload(worker, waits)
        worker.tick(TICKS)
        waits.seconds = 0.0
        handler.gate.open()
        assert receive_exactly(held, 4) == b"slow"
        assert receive_exactly(client, 10) == b"news quick"


# Listeners


def test_a_unix_listener_beside_it_changes_nothing(waits: Waits, tmp_path: Path) -> None:
    handler = Handler()
    places = (f"unix:{tmp_path}/s", "127.0.0.1:0")
    with bed(handler, listen=places, threads=1, queue_timeout=LIMIT_S) as worker:
        held = saturate(worker, handler)
        by_unix = worker.call_in()
        by_unix.sendall(b"quick")
        clients = [worker.call_in(listener=1) for _ in range(3)]
        wait_knocking(worker, 3, listener=1)
        waits.seconds = 2 * LIMIT_S
        worker.tick(LONG)
        assert all(is_reset(client) for client in clients)
        worker.tick(TICKS)
        assert cells(worker) == {"refused": 3, "refused_overload": 3, "overloads": 1}, "it does not wait for the other"
        assert not worker.parts.accepting.shedding.in_hand
        handler.gate.open()
        assert receive_exactly(held, 4) == b"slow"
        assert receive_exactly(by_unix, 5) == b"quick"


def test_a_connection_by_unix_does_not_say_that_nobody_waits(tmp_path: Path) -> None:
    with bed(Handler(), listen=(f"unix:{tmp_path}/s", "127.0.0.1:0"), queue_timeout=LIMIT_S) as worker:
        worker.worker.wait_due = True
        assert is_served(worker.call_in())
        assert worker.worker.fresh_waited_s is None
        assert worker.worker.wait_due
        assert is_served(worker.call_in(listener=1))
        assert worker.worker.fresh_waited_s is not None


def test_each_listener_has_one_in_hand(waits: Waits) -> None:
    handler = Handler()
    with bed(handler, listen=("127.0.0.1:0", "127.0.0.1:0"), threads=1, queue_timeout=LIMIT_S) as worker:
        held = saturate(worker, handler)
        waits.seconds = 2 * LIMIT_S
        old = [worker.call_in(listener=at) for at in (0, 1)]
        for at in (0, 1):
            wait_knocking(worker, 1, listener=at)
        worker.tick(LONG)
        assert all(is_reset(client) for client in old)
        waits.seconds = 0.75 * LIMIT_S
        young = [worker.call_in(listener=at) for at in (0, 0, 1, 1)]
        for at in (0, 1):
            wait_knocking(worker, 2, listener=at)
        worker.tick()
        assert set(worker.parts.accepting.shedding.in_hand) == {0, 1}
        for at in (0, 1):
            wait_knocking(worker, 1, listener=at)
        handler.gate.open()
        assert receive_exactly(held, 4) == b"slow"
        tick_until_calm(worker)
        assert all(is_served(client) for client in young)
        assert worker.cell("refused_overload") == 2


def test_who_waits_while_a_sibling_has_a_thread_is_the_siblings(waits: Waits) -> None:
    handler = Handler()
    with house(2) as seats, bed(handler, listen=True, threads=1, queue_timeout=LIMIT_S) as worker:
        giving = seats.giving(worker.worker)
        worker.parts.accepting.giving = worker.parts.accepting.shedding.giving = giving
        seats.set(1, saturated=1, connections=1000)
        held = saturate(worker, handler)
        old = worker.call_in()
        wait_knocking(worker, 1)
        waits.first, waits.seconds = [2 * LIMIT_S], 0.75 * LIMIT_S
        worker.tick(LONG)
        assert is_reset(old)
        for _ in range(3):
            worker.call_in()
        wait_knocking(worker, 3)
        worker.tick()
        assert worker.parts.accepting.shedding.in_hand, "nobody has a thread"
        wait_knocking(worker, 2)
        seats.set(1, saturated=0, connections=0)  # somebody has
        waits.seconds = 2 * LIMIT_S
        worker.tick(TICKS)
        assert not worker.parts.accepting.shedding.in_hand
        wait_knocking(worker, 2)
        tick_until_calm(worker)
        assert worker.cell("refused_overload") == 1
        wait_knocking(worker, 2)
        handler.gate.open()
        assert receive_exactly(held, 4) == b"slow"


# In order


def test_who_stays_keeps_its_place(waits: Waits, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where not all are looked at."""
    monkeypatch.setattr(shedding, "MOST_SHED", 2)
    handler = Handler()
    with bed(handler, threads=1, queue_timeout=LIMIT_S) as worker:
        clients = [worker.connect_tcp() for _ in range(4)]
        held = saturate(worker, handler)
        for client in clients:
            client.sendall(b"quick")
            wait_arrived(worker, client)
            worker.tick()
        ready = worker.worker.tables.ready

        def waiting() -> list[int]:
            return [fd for fd, _flags in ready if fd in worker.worker.tables.open]

        order = waiting()
        assert len(order) == 4
        overload(worker, waits)
        waits.seconds = 0.75 * LIMIT_S
        worker.tick(3)
        assert waiting() == order
        waits.seconds = None  # nobody can tell: all are looked at
        worker.tick(3)
        assert waiting() == order
        waits.seconds = 0.0
        handler.gate.open()
        assert receive_exactly(held, 4) == b"slow"


def leads(worker: Bed) -> Member:
    """As if somebody led; no thread runs."""
    worker.worker.gate.open(Shut.STARTING)
    roles = worker.worker.crew.roles
    leader = roles.leader = roles.make(0)
    leader.words[leader.state] = ThreadState.POLLING
    return leader


def test_who_came_after_the_last_poll_has_not_waited_for_longer() -> None:
    """While somebody leads and `ready` is empty."""
    with bed(Handler(), run=False, queue_timeout=LIMIT_S) as worker:
        leader = leads(worker)
        line = worker.parts.accepting.shedding.ready
        worker.connect().sendall(b"quick")
        worker.tick()
        assert line.wait_s <= TICK_S, "it may have come just now"
        worker.tick(20)
        assert line.wait_s == pytest.approx(20 * TICK_S, abs=TICK_S), "nobody has polled since"
        line.wait_s = 2 * LIMIT_S
        for _ in range(2 * TICKS):
            leader.rounds += 1
            worker.tick()
            assert line.wait_s == pytest.approx(TICK_S)
        assert cells(worker) == {}
        worker.worker.crew.roles.leader = None


# The rest


def test_in_an_overload_too_the_fast_path_serves(waits: Waits) -> None:
    with bed(Handler(), queue_timeout=LIMIT_S) as worker:
        young, old = worker.connect_tcp(), worker.connect_tcp()
        assert is_served(young)
        assert is_served(old)
        overload(worker, waits)
        waits.seconds = LIMIT_S
        assert is_served(young)  # the call that is measured is over
        careful: list[Member] = []
        worker.parts.loop._serve_next = careful.append  # type: ignore[assignment, method-assign]
        assert not worker.worker.sample_due
        assert is_served(young)
        waits.seconds = 2 * LIMIT_S
        assert not is_served(old)
        assert careful == []
        assert worker.cell("closed_overload") == 1


def test_in_a_drain_who_is_in_hand_is_one_of_us_before_it_is_asked_who_is_left(waits: Waits) -> None:
    handler = Handler()
    with bed(handler, listen=True, threads=1, queue_timeout=LIMIT_S) as worker:
        held = saturate(worker, handler)
        overload(worker, waits)
        waits.seconds = LIMIT_S
        young = worker.call_in()
        young.sendall(b"quick")
        wait_knocking(worker, 1)
        worker.tick()
        assert worker.parts.accepting.shedding.in_hand
        worker.parts.watcher.drain(DEADLINE_S, hand_over=False)
        assert not worker.parts.accepting.shedding.in_hand
        assert (worker.cell("accepted"), len(worker.worker.tables.open)) == (1, 2)
        handler.gate.open()
        drained = worker.drain()
        assert receive_exactly(held, 4) == b"slow"
        assert receive_exactly(young, 5) == b"quick"
        assert drained.wait() == 0


def test_a_handshake_that_is_shed_has_failed() -> None:
    with bed(Handler(), run=False) as worker:
        client = worker.connect_tcp()
        (c,) = worker.connections()
        c.phase = State.SECURING
        worker.worker.tables.parked.pop(c.fd)
        worker.parts.serving.ending.shed_unheard(c)
        assert is_reset(client)
        assert (worker.cell("handshakes_failed"), worker.cell("closed_overload")) == (1, 1)


class Guarded:
    """A lock that says whether it is held."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.entered = 0

    def __enter__(self) -> None:
        self.lock.acquire()
        self.entered += 1

    def __exit__(self, *_: object) -> None:
        self.lock.release()


def test_the_bucket_is_the_leaders_and_the_watchers() -> None:
    keeper = Doorkeeper(Settings(max_connection_rate=1.0), Any, lambda _cell: None, 0.0)  # type: ignore[arg-type]
    keeper.lock = guarded = Guarded()  # type: ignore[assignment]
    assert keeper.wait_s(0.0) == 0.0
    keeper.spend()
    assert guarded.entered == 2
