"""worker/watcher.py: when it sleeps, whom it promotes, what it looks after."""

import os
import signal
import socket
import threading

import pytest

from leftovers import eventually
from paceline import clock
from paceline.scoreboard.fields import ThreadState
from paceline.worker import lookout as lookout_module
from paceline.worker.estimate import Verdict
from paceline.worker.gate import Shut
from paceline.worker.lookout import MOST_COMPUTING
from paceline.worker.messages import Nudge, Terminated, decode, encode
from paceline.worker.roles import Why
from paceline.worker.watcher import ACTIVE_S, CALM_TICK_S, LOOK_S, REST_S, TICK_S
from slowcalls import Slow, enter, leader_of, wait_polling
from workerbed import Bed, bed, receive_exactly


def say(client: socket.socket, line: bytes = b"ping\n") -> None:
    client.sendall(line)
    assert receive_exactly(client, len(line)) == line


# Arming: who looks last, sees


def later(worker: Bed) -> float:
    """A time at which the worker has not been active for long."""
    return worker.parts.watcher.active_until + 1


def test_it_ticks_while_the_worker_is_active_and_sleeps_long_when_it_is_not() -> None:
    with bed(Slow(), framing="line") as worker:
        watcher = worker.parts.watcher
        wait_polling(worker)
        watcher.active_until, watcher.next_rest = 100.0, 200.5
        assert watcher.pace(99.9) == TICK_S
        assert not worker.worker.watch_asleep
        assert watcher.pace(200.0) == 0.5
        assert worker.worker.watch_asleep
        assert watcher.pace(300.0) == 0.0, "it has overslept"


def test_a_call_makes_it_active() -> None:
    with bed(Slow(), framing="line") as worker:
        watcher = worker.parts.watcher
        client = worker.connect()
        watcher.active_until = 0.0
        say(client)
        before = clock.now()
        worker.tick()
        assert watcher.active_until >= before + ACTIVE_S


def test_the_leader_looks_after_the_watcher_lay_down() -> None:
    """The flag is set while the leader polls; back from the poll it sees the flag, before it calls anybody."""
    handler = Slow(b"slow")
    with bed(handler, framing="line") as worker:
        watcher = worker.parts.watcher
        wait_polling(worker)
        watcher.alarm.clear()
        watcher.pace(later(worker))
        assert worker.worker.watch_asleep
        enter(worker, handler, b"slow")
        assert watcher.alarm.clear(), "it was woken"
        assert not worker.worker.watch_asleep
        handler.open()


def test_the_leader_looked_before_the_watcher_lies_down() -> None:
    """The leader is in a call already, and saw no flag: then the watcher sees that it serves, and does not lie down."""
    handler = Slow(b"slow")
    with bed(handler, framing="line") as worker:
        watcher = worker.parts.watcher
        enter(worker, handler, b"slow")
        watcher.alarm.clear()
        assert watcher.pace(later(worker)) == TICK_S
        assert not worker.worker.watch_asleep
        handler.open()


def test_a_leader_that_takes_over_wakes_the_watcher_too() -> None:
    """It does not come from a poll: it goes on with the batch of another."""
    handler = Slow(b"slow1", b"slow2")
    with bed(handler, framing="line", run=False) as worker:
        watcher = worker.parts.watcher
        first, second = worker.connect(), worker.connect()
        first.sendall(b"slow1\n")
        second.sendall(b"slow2\n")
        assert worker.parts.start()
        handler.gates[b"slow1"].wait_entered()
        watcher.alarm.clear()
        worker.worker.watch_asleep = True  # as if it had lain down; it may not stay so
        worker.worker.crew.promote(leader_of(worker), Why.WATCHED)
        handler.gates[b"slow2"].wait_entered()
        assert watcher.alarm.clear()
        assert not worker.worker.watch_asleep
        handler.open()


def test_a_pause_of_accepting_is_slept_through_and_no_longer() -> None:
    with bed(Slow(), framing="line") as worker:
        watcher = worker.parts.watcher
        wait_polling(worker)
        now = later(worker)
        watcher.next_rest = now + REST_S
        worker.worker.resume_accepting_at = now + 0.03
        assert watcher.pace(now) == pytest.approx(0.03)
        worker.worker.resume_accepting_at = now - 5
        assert watcher.pace(now) == 0.0


# Promotion


def test_nobody_is_promoted_before_a_whole_tick_in_the_same_call() -> None:
    handler = Slow(b"slow")
    with bed(handler, framing="line") as worker:
        enter(worker, handler, b"slow")
        leader = leader_of(worker)
        worker.tick()
        assert worker.worker.crew.roles.leader is leader, "it may just have begun"
        worker.parts.watcher.tick(worker.now + TICK_S / 2)
        assert worker.worker.crew.roles.leader is leader, "woken early, it does not count"
        worker.tick_until_led()
        assert worker.worker.crew.roles.leader is not leader
        assert worker.worker.crew.roles.watched == 1
        handler.open()


def test_calls_that_each_are_short_are_not_taken_for_a_long_one() -> None:
    handler = Slow(b"slow1", b"slow2", b"slow3")
    with bed(handler, framing="line") as worker:
        client = worker.connect()
        client.sendall(b"slow1\nslow2\nslow3\n")
        for gate in handler.gates.values():
            gate.wait_entered()
            worker.tick()
            worker.worker.estimate.blocking = False  # for it may be found blocking, and promote by itself
            gate.open()
        assert receive_exactly(client, 18) == b"slow1\nslow2\nslow3\n"
        assert worker.worker.crew.roles.watched == 0
        assert len(worker.worker.crew.members) == 1


def test_a_leader_that_polls_is_left_alone() -> None:
    with bed(Slow(), framing="line") as worker:
        wait_polling(worker)
        worker.tick(20)
        assert len(worker.worker.crew.members) == 1


def test_a_leader_that_computes_gets_two_beside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """More would only take turns.  Those that block do not count."""
    handler = Slow(*[b"slow%d" % n for n in range(6)])
    verdict = Verdict.BLOCKS
    monkeypatch.setattr(lookout_module, "judge", lambda *_arguments: verdict)
    with bed(handler, framing="line") as worker:
        roles = worker.worker.crew.roles
        for number in range(3):
            enter(worker, handler, b"slow%d" % number)
            worker.worker.estimate.blocking = False
            worker.tick_until_led()
            worker.worker.estimate.blocking = False  # for it may be found blocking, and promote by itself
        assert len(roles.out) == 3
        verdict = Verdict.COMPUTES
        promotions = len(worker.worker.estimate.promotions)
        for number in range(3, 5):
            enter(worker, handler, b"slow%d" % number)
            worker.tick_until_led()
        assert len(roles.out) == 3 + MOST_COMPUTING
        last = enter(worker, handler, b"slow5")
        leader = leader_of(worker)
        worker.tick(20)
        assert roles.leader is leader
        assert len(worker.worker.estimate.promotions) == promotions, "that a call computes says nothing about blocking"
        handler.gates[b"slow3"].open()
        eventually(lambda: len(roles.out) == 4)
        worker.tick_until_led()
        assert roles.leader is not leader, "one has come back, so another may be let go"
        handler.open()
        assert receive_exactly(last, 6) == b"slow5\n"


def test_a_leader_that_queues_for_a_processor_keeps_the_lead(monkeypatch: pytest.MonkeyPatch) -> None:
    handler = Slow(b"slow")
    monkeypatch.setattr(lookout_module, "judge", lambda *_arguments: Verdict.QUEUES)
    with bed(handler, framing="line") as worker:
        enter(worker, handler, b"slow")
        leader = leader_of(worker)
        worker.tick(20)
        assert worker.worker.crew.roles.leader is leader
        handler.open()


def test_long_calls_make_a_handler_count_as_blocking() -> None:
    handler = Slow(b"slow1", b"slow2")
    with bed(handler, framing="line") as worker:
        for name in (b"slow1", b"slow2"):
            enter(worker, handler, name)
            worker.tick_until_led()
        assert worker.worker.estimate.blocking
        handler.open()


def test_a_call_that_ends_while_another_is_promoted_leaves_nobody_deaf() -> None:
    """Two poll for a moment; the demoted one is woken, and hands on what it was told."""
    with bed(Slow(), framing="line") as worker:
        clients = [worker.connect() for _ in range(3)]
        for _ in range(30):
            worker.worker.crew.promote(leader_of(worker), Why.WATCHED)
            worker.worker.wakeup.wake()
            for client in clients:
                say(client)
            eventually(lambda: worker.worker.crew.roles.leader is not None)


# What it looks after


def test_accepting_goes_on_after_a_pause() -> None:
    with bed(Slow(), framing="line") as worker:
        worker.worker.gate.shut(Shut.PAUSED)
        worker.worker.resume_accepting_at = worker.now + 0.1
        worker.tick(2)
        assert worker.worker.gate.reasons == {Shut.PAUSED}
        worker.look(0.1)
        assert not worker.worker.gate.reasons
        assert worker.worker.resume_accepting_at is None


def test_a_worker_that_was_full_accepts_again_when_there_is_room() -> None:
    with bed(Slow(), framing="line", max_connections=2) as worker:
        clients = [worker.connect() for _ in range(2)]
        assert worker.worker.gate.reasons == {Shut.FULL}
        for client in clients:
            say(client)
        clients[0].close()
        worker.wait_closed(1)
        assert not worker.worker.gate.reasons


def test_the_scoreboard_says_how_the_worker_is() -> None:
    handler = Slow(b"slow")
    with bed(handler, framing="line", threads=8) as worker:
        clients = [worker.connect() for _ in range(3)]
        for client in clients:
            say(client)
        enter(worker, handler, b"slow")
        worker.tick_until_led()
        before = clock.now_ns()
        worker.look(in_calls=True)
        assert worker.cell("heartbeat_ns") >= before
        assert worker.cell("connections") == 4
        assert worker.cell("threads") == 2
        assert worker.cell("threads_max") == 2
        assert worker.cell("watched") == 1
        ticks = worker.cell("tick")
        worker.tick()
        assert worker.cell("tick") == ticks + 1
        assert worker.cell("leader") == leader_of(worker).index + 1
        handler.open()


def test_a_nudge_makes_the_listeners_be_looked_at_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    with bed(Slow(), framing="line", listen=True) as worker:
        nudged = threading.Event()
        monkeypatch.setattr(worker.worker.gate, "nudge", nudged.set)
        worker.supervisor.send(encode(Nudge()))
        worker.supervisor.send(b"what is this?")
        worker.supervisor.send(encode(Nudge()))
        worker.parts.watcher.on_control()
        assert nudged.is_set()
        assert not worker.worker.draining


def test_only_one_signal_means_something() -> None:
    with bed(Slow(), framing="line") as worker:
        watcher = worker.parts.watcher
        reader, writer = os.pipe()
        watcher.signal_fd = reader
        os.write(writer, bytes([signal.SIGUSR1, signal.SIGCHLD]))
        watcher.on_signals()
        assert not worker.worker.draining
        os.write(writer, bytes([signal.SIGUSR1, signal.SIGTERM]))
        watcher.on_signals()
        assert not worker.worker.draining, "another worker comes first"
        now = clock.now()
        for later in (0.0, 0.5, REST_S, 1.5, 2 * REST_S):
            watcher.tick(now + later)
        assert not worker.worker.draining, "however long that takes"
        assert [decode(worker.supervisor.recv(65536)) for _ in range(3)] == [Terminated()] * 3
        with pytest.raises(BlockingIOError):
            worker.supervisor.recv(65536, socket.MSG_DONTWAIT)
        for fd in (reader, writer):
            os.close(fd)


def test_it_ticks_more_slowly_while_the_process_computes_and_calls_come_and_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each tick takes the GIL from a handler that computes; as soon as a call goes on, it looks closely."""
    cpu = iter(range(1000, 2000))
    with bed(Slow(), framing="line") as worker:
        client = worker.connect()
        say(client)
        wait_polling(worker)
        watcher, leader = worker.parts.watcher, leader_of(worker)
        monkeypatch.setattr(clock, "process_cpu", lambda: next(cpu))
        state = leader.words[leader.state]
        try:
            leader.words[leader.state] = int(ThreadState.SERVING)
            leader.words[leader.calls] += 1
            worker.tick()
            assert watcher.pace(worker.now) == CALM_TICK_S
            worker.tick()  # the same call
            assert watcher.pace(worker.now) == TICK_S
        finally:
            leader.words[leader.state] = state


def test_while_a_deadline_runs_it_looks_twice_a_second() -> None:
    """So that nobody has more than a second beyond it: half of one until it is seen to run, half until it is over."""
    with bed(lambda message: message, framing="line", message_timeout=3.0) as worker:
        watcher = worker.parts.watcher
        quiet, slow = worker.connect(), worker.connect()
        now = worker.now + REST_S
        watcher.tick(now)
        watcher.tick(now + TICK_S)
        assert watcher.next_rest == now + REST_S, "nobody owes anything"
        slow.sendall(b"begun")
        eventually(lambda: worker.worker.tables.timed)
        worker.wait_parked()
        watcher.tick(now + 2 * TICK_S)
        assert watcher.next_rest <= now + 2 * TICK_S + LOOK_S
        until = now + 3.0 + 2 * LOOK_S + 3 * TICK_S
        while now < until and not worker.log.find("peer-slow"):
            now += 0.1
            watcher.tick(now)
            worker.wait_parked()
        assert worker.log.wait_for("peer-slow")
        quiet.close()
