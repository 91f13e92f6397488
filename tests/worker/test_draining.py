"""worker/draining.py: what a worker that leaves hands over, what it keeps until it can, and what it says of it.

The other end of a drain, closing, is in test_watcher_drain.py; whole processes are in integration/test_handover.py.
"""

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from house import GENERATION, House, house
from leftovers import eventually
from paceline import clock
from paceline.host.poller import IN
from paceline.scoreboard.fields import WorkerState
from paceline.worker.draining import SUCCESSOR_S
from paceline.worker.lifecycle import State
from paceline.worker.record import Record, decode
from workerbed import DEADLINE_S, Bed, Gate, Pairs, bed, receive_all, receive_exactly

pytestmark = pytest.mark.usefixtures("nothing_left")


class Handler:
    def __init__(self) -> None:
        self.gate = Gate()

    def __call__(self, message: bytes, connection: Any) -> object:
        match message:
            case b"slow":
                self.gate.wait()
            case b"large":
                return b"l" * 500_000
            case b"spoil":
                connection.state = kept = {}
                kept["file"] = object()
        return message


class Leaver:
    """A worker that leaves, and a house for what it hands over: seat 1 is a bare inbox of a newer generation."""

    def __init__(self, worker: Bed, seats: House) -> None:
        self.bed = worker
        self.seats = seats
        self.watcher = worker.parts.watcher
        giving = seats.giving(worker.worker)
        self.watcher.giving = self.watcher.draining.giving = giving
        seats.set(1, generation=GENERATION + 1)
        self.records: list[Record] = []

    def leave(self, within_s: float = 1000.0, *, hand_over: bool = True) -> None:
        self.bed.now = clock.now()
        self.watcher.drain(within_s, hand_over=hand_over)

    def take(self) -> list[Record]:
        """What has arrived in the inbox since; the connections are closed."""
        before = len(self.records)
        while (arrived := self.seats.take(1)) is not None:
            self.records.append(decode(arrived.record))
            arrived.close()
        return self.records[before:]

    def tick_until(self, is_so: Callable[[], bool]) -> None:
        def look() -> bool:
            self.bed.tick()
            return is_so()

        eventually(look, DEADLINE_S)

    def said(self) -> dict[str, object]:
        self.watcher.end()
        (said,) = self.bed.log.find("handed-over")
        return said


@contextmanager
def leaver(handler: Callable[..., Any] | None = None, *, run: bool = True, **settings: Any) -> Iterator[Leaver]:
    made = handler if handler is not None else Handler()
    settings.setdefault("framing", "line")
    with house(2) as seats, bed(made, run=run, **settings) as worker:
        try:
            yield Leaver(worker, seats)
        finally:
            for gate in vars(made).values():
                if isinstance(gate, Gate):
                    gate.open()


def say(client: socket.socket, line: bytes = b"ping") -> None:
    client.sendall(line + b"\n")
    assert receive_exactly(client, len(line) + 1) == line + b"\n"


def test_what_is_quiet_goes_with_the_first_tick() -> None:
    with leaver() as here:
        clients = [here.bed.connect() for _ in range(30)]
        for client in clients[:10]:
            say(client)
        here.bed.wait_parked()
        here.leave()
        assert here.bed.cell("state") == WorkerState.DRAINING
        here.bed.tick()
        assert sorted(record.messages for record in here.take()) == [0] * 20 + [1] * 10
        assert here.watcher.draining.is_over()
        assert here.watcher.end() == 0
        assert here.bed.log.find("handed-over") == [{"moved": 30, "left": ""}]
        assert here.bed.cell("closed") == 0


def test_without_connections_it_is_over_and_says_so_quietly() -> None:
    with leaver() as here:
        here.leave()
        here.bed.tick()
        assert here.watcher.draining.is_over()
        here.watcher.end()
        assert here.bed.log.find("nothing-handed-over")
        assert not here.bed.log.find("handed-over")


class SlowStart:
    """Its second thread does not come up."""

    def __init__(self) -> None:
        self.first, self.second, self.starting = Gate(), Gate(), Gate()
        self.starts = 0

    def thread_start(self) -> None:
        self.starts += 1
        if self.starts == 2:
            self.starting.wait()

    def __call__(self, message: bytes) -> bytes:
        {b"first": self.first, b"second": self.second}[message].wait()
        return message


def test_a_thread_that_does_not_come_up_is_no_reason_to_cut_the_call_of_another() -> None:
    handler = SlowStart()
    with leaver(handler, timeout=5.0) as here:
        client = here.bed.connect()
        client.sendall(b"first\n")
        handler.first.wait_entered()
        here.tick_until(lambda: handler.starts == 2)  # somebody else is to lead
        handler.starting.wait_entered()
        handler.first.open()
        assert receive_exactly(client, 6) == b"first\n"
        here.bed.wait_parked()
        for _ in range(40):
            here.bed.now += 0.25
            here.watcher.tick(here.bed.now)
        (said,) = here.bed.log.find("call-stuck")
        assert said["call"] == "thread_start"
        client.sendall(b"second\n")
        handler.second.wait_entered()
        here.leave()
        here.bed.tick(3)
        assert not here.watcher.draining.is_over()
        handler.second.open()
        assert receive_exactly(client, 7) == b"second\n"
        here.tick_until(here.watcher.draining.is_over)
        assert here.watcher.end() == 0


class Twice:
    """Its first call takes too long; the next one is young."""

    def __init__(self) -> None:
        self.first, self.second = Gate(), Gate()

    def __call__(self, message: bytes) -> bytes:
        {b"first": self.first, b"second": self.second}[message].wait()
        return message


def test_a_call_that_begins_while_it_is_looked_is_not_taken_for_the_late_one(monkeypatch: pytest.MonkeyPatch) -> None:
    handler = Twice()
    with leaver(handler, timeout=5.0) as here:
        client = here.bed.connect()
        client.sendall(b"first\nsecond\n")
        handler.first.wait_entered()
        for _ in range(40):
            here.bed.now += 0.25
            here.watcher.tick(here.bed.now)
        here.leave()
        here.bed.tick()
        draining = here.watcher.draining
        assert draining.is_over(), "nothing but the late call is left"
        look = draining._in_calls

        def look_late() -> object:
            handler.first.open()
            handler.second.wait_entered()
            return look()

        monkeypatch.setattr(draining, "_in_calls", look_late)
        assert not draining.is_over(), "the late call has ended, and its thread is in another one"
        monkeypatch.undo()
        handler.second.open()
        assert receive_exactly(client, 13) == b"first\nsecond\n"
        here.tick_until(draining.is_over)
        assert here.watcher.end() == 0


def test_a_call_that_runs_is_finished_and_its_connection_moves_then() -> None:
    handler = Handler()
    with leaver(handler) as here:
        client = here.bed.connect()
        client.sendall(b"slow\n")
        handler.gate.wait_entered()
        here.leave()
        here.bed.tick(3)
        assert here.take() == []
        assert not here.watcher.draining.is_over()
        handler.gate.open()
        assert receive_exactly(client, 5) == b"slow\n"
        here.tick_until(here.watcher.draining.is_over)
        assert [record.messages for record in here.take()] == [1]


def test_a_reply_that_its_peer_has_not_taken_is_sent_first() -> None:
    with leaver() as here:
        client = here.bed.connect_tcp(send_buffer=4096, receive_buffer=4096)
        client.sendall(b"large\n")
        here.bed.wait_stuck()
        here.leave()
        here.bed.tick(3)
        assert here.take() == []
        assert receive_exactly(client, 500_001) == b"l" * 500_000 + b"\n"
        here.tick_until(here.watcher.draining.is_over)
        assert [record.messages for record in here.take()] == [1]


def test_nothing_more_is_read_from_who_has_nothing_in_hand_while_somebody_can_take_it() -> None:
    """Its event is served by no call: it is left for the watcher, with all that it sent."""
    with leaver() as here:
        client = here.bed.connect()
        here.bed.wait_parked()
        (c,) = here.bed.connections()
        here.leave()
        here.bed.worker.hands_over = True  # as after a tick in which somebody could take something
        calls = here.bed.thread_total("calls")
        worker = here.bed.worker
        # As the careful way does, which every event goes when it is not plain.
        worker.tables.ready.append((c.fd, IN | 1 << 30))
        worker.wakeup.wake()
        eventually(lambda: c.fd in worker.unread)
        client.sendall(b"ping\n")
        here.tick_until(lambda: bool(here.take()))
        assert here.bed.thread_total("calls") == calls
        assert not worker.unread


def test_while_nobody_can_take_it_it_is_served_as_ever() -> None:
    with leaver() as here:
        here.seats.set(1, saturated=1)
        client = here.bed.connect()
        here.leave()
        for _ in range(5):
            here.bed.tick()
            say(client)
        here.bed.wait_parked()
        here.seats.set(1, saturated=0)
        here.tick_until(here.watcher.draining.is_over)
        assert [record.messages for record in here.take()] == [5]


def test_who_was_left_unread_is_read_when_nobody_can_take_it_any_more() -> None:
    with leaver() as here:
        here.seats.set(1, saturated=1)
        client = here.bed.connect()
        here.bed.wait_parked()
        here.leave()
        worker = here.bed.worker
        worker.hands_over = True
        (c,) = here.bed.connections()
        client.sendall(b"ping\n")
        worker.tables.ready.append((c.fd, IN | 1 << 30))
        worker.wakeup.wake()
        here.tick_until(lambda: not worker.hands_over)
        assert receive_exactly(client, 5) == b"ping\n"


def test_a_state_that_cannot_travel_is_served_here_to_the_end() -> None:
    with leaver() as here:
        client = here.bed.connect()
        say(client, b"spoil")
        here.bed.wait_parked()
        here.leave(0.4)
        for _ in range(5):
            here.bed.tick()
            say(client)
        assert here.take() == []
        here.bed.wait_parked()  # a reply may arrive before
        here.bed.now = clock.now() + 0.35
        here.tick_until(here.watcher.draining.is_over)
        assert receive_all(client) == b""
        left = "; not handed over: 1 whose connection.state holds what cannot travel"
        assert here.said() == {"moved": 0, "left": left}


def test_what_only_its_own_generation_understands_waits_for_the_end_of_its_message() -> None:
    with leaver(lambda message: message, framing=Pairs()) as here:
        client = here.bed.connect()
        client.sendall(b"a")
        eventually(lambda: here.bed.connections()[0].rest == [97])
        here.bed.wait_parked()
        here.leave()
        here.bed.tick(3)
        assert here.take() == []
        client.sendall(b"bc")
        assert receive_exactly(client, 2) == b"ab"
        here.bed.tick(3)
        assert here.take() == []
        client.sendall(b"d")
        assert receive_exactly(client, 2) == b"cd"
        here.tick_until(here.watcher.draining.is_over)
        assert [record.messages for record in here.take()] == [2]


def test_what_is_left_at_the_end_is_counted_by_why_it_stayed() -> None:
    handler = Handler()
    with leaver(handler) as here:
        here.seats.set(1, saturated=1)
        calling, quiet = here.bed.connect(), here.bed.connect()
        unsent = here.bed.connect_tcp(send_buffer=4096, receive_buffer=4096)
        unsent.sendall(b"large\n")
        here.bed.wait_stuck()
        calling.sendall(b"slow\n")
        handler.gate.wait_entered()
        here.bed.tick_until_led()
        here.leave(0.4)
        here.bed.now = clock.now() + 0.35
        here.bed.tick()
        assert receive_all(quiet) == b""
        quiet.close()
        assert here.said() == {
            "moved": 0,
            "left": "; not handed over: 1 in a call, 1 with a reply that its peer has not taken, "
            "1 that nobody could take",
        }


def test_closing_begins_a_second_before_the_time_is_up() -> None:
    with leaver(run=False) as here:
        here.seats.set(1, saturated=1)
        here.bed.connect()
        here.leave(100.0)
        worker = here.bed.worker
        here.bed.now += 98.9
        here.bed.tick()
        assert not worker.draining
        here.bed.now += 0.2
        here.bed.tick()
        assert worker.draining


def test_a_later_drain_without_handover_closes() -> None:
    with leaver() as here:
        here.seats.set(1, saturated=1)
        client = here.bed.connect()
        here.leave()
        here.bed.tick(2)
        say(client)
        here.bed.wait_parked()
        here.leave(hand_over=False)
        here.bed.tick()
        assert receive_all(client) == b""
        client.close()
        here.tick_until(here.watcher.draining.is_over)
        assert not here.watcher.draining.hand_over


def test_a_later_drain_with_handover_does_not_open_what_is_closed() -> None:
    with leaver() as here:
        here.leave(hand_over=False)
        here.leave(hand_over=True)
        assert here.bed.worker.draining
        assert not here.watcher.draining.hand_over


def test_they_are_spread_evenly_over_those_who_stay() -> None:
    with house(4) as seats, bed(Handler(), run=False, framing="line") as worker:
        here = Leaver(worker, seats)
        for seat in (2, 3):
            seats.set(seat, generation=GENERATION + 1)
        seats.set(3, connections=5)
        for _ in range(25):
            worker.connect()
        here.leave()
        worker.tick()
        assert seats.waiting()[1:] != [0, 0, 0]
        counts = []
        for seat in (1, 2, 3):
            count = 0
            while (arrived := seats.take(seat)) is not None:
                arrived.close()
                count += 1
            counts.append(count)
        assert counts == [10, 10, 5]


def test_those_who_have_just_started_are_waited_for_a_moment() -> None:
    """Others of its own generation are ready, and may be about to leave as well."""
    with house(3) as seats, bed(Handler(), run=False, framing="line") as worker:
        here = Leaver(worker, seats)
        seats.set(1, state=WorkerState.STANDBY)
        worker.connect()
        here.leave()
        worker.tick()
        assert seats.waiting() == [0, 0, 0]
        seats.set(1, state=WorkerState.READY)
        worker.tick()
        assert len(here.take()) == 1


def test_those_who_start_and_never_serve_are_not_waited_for() -> None:
    with house(3) as seats, bed(Handler(), run=False, framing="line") as worker:
        here = Leaver(worker, seats)
        seats.set(1, state=WorkerState.STANDBY)
        worker.connect()
        here.leave()
        worker.tick()
        assert seats.take(2) is None
        worker.now += SUCCESSOR_S
        worker.tick()
        arrived = seats.take(2)
        assert arrived is not None
        arrived.close()


def test_more_than_an_inbox_holds_goes_in_several_ticks() -> None:
    with leaver(run=False) as here:
        here.watcher.draining.giving.waiting = lambda seat: 0  # type: ignore[union-attr, method-assign]
        clients = [here.bed.connect() for _ in range(600)]
        here.leave()
        here.bed.tick()
        first = len(here.take())
        assert 100 < first < 600
        taken = first
        while taken < len(clients):
            here.bed.tick()
            taken += len(here.take())
        assert taken == 600
        assert not here.bed.connections()


def test_connections_in_the_middle_of_their_end_are_left_alone() -> None:
    with leaver(run=False) as here:
        here.bed.connect()
        (c,) = here.bed.connections()
        c.phase = State.LINGERING
        here.leave()
        here.bed.tick(3)
        assert here.take() == []
        assert here.watcher.draining.in_hand() == 0
        here.watcher.end()
        assert here.bed.log.find("nothing-handed-over")


def test_without_siblings_there_is_no_handover() -> None:
    with bed(Handler(), framing="line") as worker:
        client = worker.connect()
        worker.parts.watcher.drain(10.0, hand_over=True)
        assert worker.worker.draining
        worker.tick()
        assert receive_all(client) == b""
