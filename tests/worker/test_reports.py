"""worker/reports.py: late calls are reported with their stacks, once; a dump shows every thread."""

import re
import socket
import threading

import pytest

from leftovers import eventually
from paceline.scoreboard.fields import ThreadState
from paceline.worker import reports
from paceline.worker.messages import MOST_BYTES, Dump, Dumped, Stuck, decode, encode
from paceline.worker.overdue import Overdue
from paceline.worker.reports import PEER_PACE_S, ranges
from slowcalls import wait_polling
from workerbed import Bed, Gate, bed

LIMIT_S = 5.0

_BEGINNING = (ThreadState.NONE, ThreadState.STARTING)


class Gated:
    """A handler that waits at its gate if told so."""

    def __init__(self) -> None:
        self.gate = Gate()

    def __call__(self, message: bytes) -> bytes:
        if message == b"wait":
            self.gate.wait()
        return message


def pass_time(worker: Bed, seconds: float, *, while_starting: bool = False) -> None:
    """The watcher looks all the time, as it does while somebody is in a call.

    A thread that a tick has made is given the real time that it takes to start.
    """

    def nobody_starts() -> bool:
        members = list(worker.worker.crew.members.copy().values())
        return not any(member.words[member.state] in _BEGINNING for member in members)

    for _ in range(int(seconds / 0.1)):
        worker.now += 0.1
        worker.parts.watcher.tick(worker.now)
        if not while_starting:
            eventually(nobody_starts, 5)


def told(worker: Bed) -> list[object]:
    """What the worker has told its supervisor."""
    heard: list[object] = []
    while True:
        try:
            heard.append(decode(worker.supervisor.recv(MOST_BYTES, socket.MSG_DONTWAIT)))
        except BlockingIOError:
            return heard


def dump(worker: Bed) -> str:
    """The supervisor asks, and the watcher answers."""
    worker.supervisor.send(encode(Dump(7)))
    worker.parts.watcher.on_control()
    (answer,) = (message for message in told(worker) if isinstance(message, Dumped))
    assert answer.asker == 7
    return answer.text


def test_a_late_call_is_reported_once_with_its_stack_and_its_peer() -> None:
    handler = Gated()
    with bed(handler, timeout=LIMIT_S) as worker:
        client = worker.connect_tcp()
        client.sendall(b"wait")
        handler.gate.wait_entered()
        pass_time(worker, LIMIT_S - 0.5)
        assert not worker.log.find("call-stuck")
        pass_time(worker, 1.0)
        (said,) = worker.log.find("call-stuck")
        peer = "{}:{}".format(*client.getsockname())
        assert said["call"] == f"a call for {peer}"
        assert said["limit"] == "5 s"
        assert said["said_by"] == "by --timeout"
        assert said["next"] == "it goes on, for nobody can replace the process it runs in"
        detail = str(said["detail"])
        assert detail.startswith(f'  File "{__file__}", line ')
        assert "self.gate.wait()" in detail
        (stuck,) = told(worker)
        assert isinstance(stuck, Stuck)
        assert (stuck.thread, stuck.limit_s, stuck.peer) == (0, LIMIT_S, peer)
        assert LIMIT_S < stuck.seconds < LIMIT_S + 1
        pass_time(worker, 30.0)
        assert len(worker.log.find("call-stuck")) == 1
        again = [message.seconds for message in told(worker) if isinstance(message, Stuck)]
        assert 25 <= len(again) <= 31, "once a second"
        assert again == sorted(again)
        (leader,) = worker.parts.watcher.reports.late()
        assert leader.index == 0
        handler.gate.open()
        assert client.recv(100) == b"wait"
        worker.wait_parked()
        pass_time(worker, 0.5)
        (ended,) = worker.log.find("call-ended-late")
        assert isinstance(ended["seconds"], float)
        assert ended["seconds"] > LIMIT_S
        assert not worker.parts.watcher.reports.late()
        told(worker)
        pass_time(worker, 3.0)
        assert not told(worker)


def test_a_supervisor_that_does_not_listen_is_not_told_again_until_it_does() -> None:
    """It is stopped, perhaps: words about late calls must not push out others that are kept for it."""
    handler = Gated()
    with bed(handler, timeout=LIMIT_S) as worker:
        worker.parts.watcher.plan.control.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)  # the least there is
        worker.connect().sendall(b"wait")
        handler.gate.wait_entered()
        pass_time(worker, 60.0)
        held = told(worker)
        pass_time(worker, 0.2)
        late = told(worker)
        assert len(held) < 20
        assert len(late) <= 2, "what was kept, and a fresh one"
        pass_time(worker, 3.0)
        again = [message.seconds for message in told(worker) if isinstance(message, Stuck)]
        assert 2 <= len(again) <= 4, "once a second again"
        assert again[-1] > 60
        handler.gate.open()


def test_equal_stacks_are_shown_once() -> None:
    handler = Gated()
    with bed(handler, timeout=LIMIT_S) as worker:
        for _ in range(3):
            worker.connect().sendall(b"wait")
            handler.gate.wait_entered()
            worker.tick_until_led()  # the first look comes at once, and sees the first call only
        pass_time(worker, LIMIT_S + 1)
        _, second, third = worker.log.find("call-stuck")
        assert "self.gate.wait()" in str(second["detail"])
        assert third["detail"] == f"  the same as that of thread {second['thread']} above"
        handler.gate.open()


def test_a_leader_that_computes_and_is_never_promoted_away_is_seen_too() -> None:
    """It says that it serves, and its call is found by its marks."""
    handler = Gated()
    with bed(handler, timeout=LIMIT_S, threads=1) as worker:
        worker.connect().sendall(b"wait")
        handler.gate.wait_entered()
        roles = worker.worker.crew.roles
        leader = roles.leader
        assert leader is not None
        assert leader.words[leader.state] == ThreadState.SERVING
        worker.parts.watcher.reports.look(100.0)
        for number in range(60):
            worker.parts.watcher.reports.look(100.1 + number / 10)
        assert roles.leader is leader
        assert len(worker.log.find("call-stuck")) == 1
        handler.gate.open()


def test_a_connection_that_waits_for_its_peer_is_not_late_but_one_that_does_not_come_back_is() -> None:
    gate = Gate()

    def handler(conn: socket.socket) -> None:
        while conn.recv(100) != b"wait":
            conn.sendall(b"more")
        gate.wait()

    with bed(handler, as_="connection", timeout=LIMIT_S) as worker:
        client = worker.connect()
        for _ in range(3):
            pass_time(worker, LIMIT_S + 1)
            client.sendall(b"x")
            assert client.recv(100) == b"more"
        assert not worker.log.find("call-stuck")
        client.sendall(b"wait")
        gate.wait_entered()
        pass_time(worker, LIMIT_S + 1)
        assert len(worker.log.find("call-stuck")) == 1
        gate.open()


def test_a_descriptor_that_the_handler_took_away_is_not_watched() -> None:
    """Nobody knows when it waits for its peer: TLS over it would be late whenever its peer is quiet."""
    gate = Gate()

    def handler(conn: socket.socket) -> None:
        with socket.socket(fileno=conn.detach()):
            gate.wait()

    with bed(handler, as_="connection", timeout=LIMIT_S) as worker:
        worker.connect()
        gate.wait_entered()
        pass_time(worker, LIMIT_S + 1)
        assert not worker.log.find("call-stuck")
        gate.open()


@pytest.mark.parametrize("hook", ["connected", "disconnected"])
def test_hooks_of_connections_count_as_calls(hook: str) -> None:
    gate = Gate()

    class Hooked:
        def __call__(self, message: bytes) -> bytes:
            return message

    setattr(Hooked, hook, lambda _self, _connection: gate.wait())
    with bed(Hooked, timeout=LIMIT_S) as worker:
        client = worker.connect()
        client.sendall(b"x")
        client.shutdown(socket.SHUT_WR)
        gate.wait_entered()
        pass_time(worker, LIMIT_S + 1)
        assert len(worker.log.find("call-stuck")) == 1
        gate.open()


def test_a_thread_start_that_takes_too_long_is_named() -> None:
    gate, starting = Gate(), threading.Event()

    class Hooked:
        def thread_start(self) -> None:
            if threading.current_thread().name != "paceline-0":
                starting.set()
                gate.wait()

        def __call__(self, message: bytes) -> bytes:
            gate.wait()
            return message

    with bed(Hooked, timeout=LIMIT_S) as worker:
        worker.connect().sendall(b"x")
        gate.wait_entered()

        def is_starting() -> bool:
            worker.tick()
            return starting.is_set()

        eventually(is_starting, 5)
        pass_time(worker, LIMIT_S + 1, while_starting=True)
        assert {said["thread"]: said["call"] for said in worker.log.find("call-stuck")}[1] == "thread_start"
        assert "thread 1 · in thread_start for " in dump(worker)
        gate.open()


def test_the_watcher_sleeps_no_longer_than_the_next_look_while_somebody_is_in_a_call() -> None:
    handler = Gated()
    with bed(handler, timeout=LIMIT_S) as worker:
        wait_polling(worker)
        found = worker.parts.watcher.reports
        found.look(100.0)
        assert found.until(100.0, 1.0) == 1.0
        worker.connect().sendall(b"wait")
        handler.gate.wait_entered()
        found.look(101.0)
        assert found.until(101.0, 1.0) == found.overdue.pace_s
        assert found.until(101.2, 0.01) == 0.01
        assert found.until(105.0, 1.0) == 0.0
        handler.gate.open()


def test_it_looks_more_often_while_connections_are_held_too() -> None:
    with bed(lambda conn: conn.recv(1), as_="connection", timeout=LIMIT_S) as worker:
        client = worker.connect()
        words, row = worker.worker.words, worker.worker.crew.members[0].state
        eventually(lambda: words[row] == ThreadState.PEER, 5)
        found = worker.parts.watcher.reports
        found.look(100.0)
        assert found.until(100.0, 1.0) == PEER_PACE_S
        client.sendall(b"x")


# Dumps


def test_a_dump_has_a_paragraph_for_each_place_and_the_watcher_comes_last() -> None:
    handler = Gated()
    with bed(handler, timeout=LIMIT_S) as worker:
        client = worker.connect_tcp()
        client.sendall(b"wait")
        handler.gate.wait_entered()
        worker.tick_until_led()
        pass_time(worker, 2.0)
        first, *others, last = dump(worker).rstrip().split("\n\n")
        heading, *stack = first.splitlines()
        peer = "{}:{}".format(*client.getsockname())
        assert re.fullmatch(rf"thread 0 · in a call for (1\.[789]|2\.0) s · peer {peer}", heading)
        assert any("self.gate.wait()" in line for line in stack)
        assert any(paragraph.startswith("thread 1 · leads, and waits for something to happen") for paragraph in others)
        assert last.startswith("the watcher · it wrote this\n")
        pass_time(worker, LIMIT_S)
        assert dump(worker).splitlines()[0].endswith(" · stuck")
        handler.gate.open()


def test_threads_at_the_same_place_share_a_paragraph() -> None:
    handler = Gated()
    with bed(handler) as worker:
        for _ in range(4):
            worker.connect().sendall(b"wait")
            handler.gate.wait_entered()
            worker.tick_until_led()
        text = dump(worker)
        assert text.count("self.gate.wait()") == 1
        assert text.startswith("threads 0-3 · in a call · peer unix ")
        handler.gate.open()
        worker.wait_parked()
        eventually(lambda: len(worker.worker.crew.roles.followers) == 4, 5)
        idle = dump(worker)
        assert " · waits for the lead" in idle
        assert idle.count("waits for the lead") == 1


def test_threads_of_the_users_are_in_it_by_their_names() -> None:
    gate = Gate()
    thread = threading.Thread(target=gate.wait, name="my refresher")
    with bed(lambda message: message) as worker:
        thread.start()
        gate.wait_entered()
        assert "a thread of the user's code · my refresher\n" in dump(worker)
        gate.open()
        thread.join()


def test_a_dump_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reports, "DUMP_CHARACTERS", 300)
    handler = Gated()
    with bed(handler) as worker:
        worker.connect().sendall(b"wait")
        handler.gate.wait_entered()
        worker.tick_until_led()
        text = dump(worker)
        assert "(no room for its stack)" in text
        assert text.splitlines()[-1].startswith("… and ")
        assert len(text) < 400
        handler.gate.open()


def test_without_a_limit_nothing_is_ever_late() -> None:
    handler = Gated()
    with bed(handler, timeout=None) as worker:
        worker.connect().sendall(b"wait")
        handler.gate.wait_entered()
        pass_time(worker, 100.0)
        assert not worker.log.find("call-stuck")
        assert isinstance(worker.parts.watcher.reports.overdue, Overdue)
        assert "in a call for 9" in dump(worker)
        handler.gate.open()


@pytest.mark.parametrize(
    ("numbers", "text"), [([], ""), ([3], "3"), ([1, 2, 3, 5], "1-3, 5"), ([9, 1, 2], "1-2, 9"), ([0, 2], "0, 2")]
)
def test_ranges(numbers: list[int], text: str) -> None:
    assert ranges(numbers) == text
