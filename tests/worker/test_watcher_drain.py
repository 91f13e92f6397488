"""worker/watcher.py: the end.  Its loop runs here, in real time; what must not happen is shown by what comes first."""

import os
import signal
import socket
from collections.abc import Iterator

import pytest

from leftovers import eventually
from paceline.handlers import Close
from paceline.scoreboard.fields import WorkerState
from paceline.worker.gate import Shut
from paceline.worker.messages import Delayed, Drain, Terminated, decode, encode
from workerbed import DEADLINE_S, Bed, Drained, Gate, bed, receive_all, receive_exactly, reset


class Handler:
    """Echoes lines; some do more."""

    def __init__(self) -> None:
        self.gate = Gate()
        self.calls: list[bytes] = []

    def __call__(self, message: bytes) -> object:
        self.calls.append(message)
        match message:
            case b"slow":
                self.gate.wait()
            case b"large":
                return b"l" * 500_000
            case b"pieces":
                return self.pieces()
            case b"close":
                return Close(b"bye")
        return message

    def pieces(self) -> Iterator[bytes]:
        yield b"one"
        self.gate.wait()
        yield b"two"


def say(client: socket.socket, line: bytes = b"ping\n") -> None:
    client.sendall(line)
    assert receive_exactly(client, len(line)) == line


def wait_draining(worker: Bed) -> None:
    eventually(lambda: worker.cell("state") == WorkerState.DRAINING, DEADLINE_S)


def test_a_worker_without_connections_has_drained_at_once() -> None:
    with bed(Handler(), framing="line") as worker:
        assert worker.drain().wait() == 0
        assert worker.log.find("draining") == [{"connections": 0, "calls": 0}]
        assert Shut.DRAINING in worker.worker.gate.reasons


def test_idle_connections_are_closed_at_once() -> None:
    with bed(Handler(), framing="line") as worker:
        clients = [worker.connect_tcp() for _ in range(20)]
        for client in clients[:10]:
            say(client)
        drained = worker.drain()
        for client in clients:
            assert receive_all(client) == b""
            client.close()
        assert drained.wait() == 0
        assert worker.cell("closed_drain") == 20


def test_a_peer_that_does_not_close_holds_the_drain_up_for_the_lingering_time_only() -> None:
    with bed(Handler(), framing="line") as worker:
        client = worker.connect_tcp()
        drained = worker.drain(DEADLINE_S)
        assert receive_all(client) == b""
        assert drained.wait() == 0
        assert worker.cell("closed_drain") == 1


def test_a_running_call_finishes_and_its_reply_arrives() -> None:
    handler = Handler()
    with bed(handler, framing="line") as worker:
        client, idle = worker.connect_tcp(), worker.connect_tcp()
        client.sendall(b"slow\n")
        handler.gate.wait_entered()
        drained = worker.drain()
        assert receive_all(idle) == b"", "it is closed while the other call runs"
        idle.close()
        assert not drained.is_over
        handler.gate.open()
        assert receive_all(client) == b"slow\n"
        client.close()
        assert drained.wait() == 0


def test_a_message_that_has_arrived_is_answered() -> None:
    """Nobody has read it yet when the drain begins: the only thread is in a call."""
    handler = Handler()
    with bed(handler, framing="line", threads=1) as worker:
        client, other = worker.connect_tcp(), worker.connect_tcp()
        client.sendall(b"slow\n")
        handler.gate.wait_entered()
        other.sendall(b"in time\n" * 1000)
        client.sendall(b"in time, too\n")
        drained = worker.drain()
        wait_draining(worker)
        handler.gate.open()
        assert receive_all(client) == b"slow\nin time, too\n"
        assert receive_all(other) == b"in time\n" * 1000
        client.close()
        other.close()
        assert drained.wait() == 0


def test_a_reply_in_pieces_is_finished() -> None:
    handler = Handler()
    with bed(handler, framing="line") as worker:
        client = worker.connect_tcp()
        client.sendall(b"pieces\nping\n")
        handler.gate.wait_entered()
        drained = worker.drain()
        wait_draining(worker)
        handler.gate.open()
        assert receive_all(client) == b"one\ntwo\nping\n"
        client.close()
        assert drained.wait() == 0


def test_a_reply_that_a_slow_peer_has_not_taken_is_waited_for() -> None:
    with bed(Handler(), framing="line") as worker:
        client = worker.connect_tcp(send_buffer=4096, receive_buffer=4096)
        client.sendall(b"large\n")
        worker.wait_stuck()
        drained = worker.drain()
        wait_draining(worker)
        assert receive_all(client) == b"l" * 500_000 + b"\n"
        client.close()
        assert drained.wait() == 0


def test_half_a_message_is_not_waited_for() -> None:
    handler = Handler()
    with bed(handler, framing="line") as worker:
        client = worker.connect_tcp()
        client.sendall(b"ping\nhalf")
        receive_exactly(client, 5)
        drained = worker.drain()
        assert receive_all(client) == b""
        client.close()
        assert drained.wait() == 0
        assert handler.calls == [b"ping"]


def test_a_connection_in_the_middle_of_its_end_is_left_alone() -> None:
    with bed(Handler(), framing="line") as worker:
        client = worker.connect_tcp()
        client.sendall(b"close\n")
        assert receive_all(client) == b"bye\n"
        drained = worker.drain()
        wait_draining(worker)
        client.close()
        assert drained.wait() == 0
        assert worker.cell("closed_handler") == 1


def test_new_connections_are_not_taken() -> None:
    handler = Handler()
    with bed(handler, framing="line", listen=True) as worker:
        client = worker.call_in()
        client.sendall(b"slow\n")
        handler.gate.wait_entered()
        address = worker.plan.listeners[0].socket.getsockname()
        drained = worker.drain()
        wait_draining(worker)
        eventually(lambda: worker.plan.listeners[0].fileno() == -1)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address, DEADLINE_S)
        handler.gate.open()
        assert receive_all(client) == b"slow\n"
        client.close()
        assert drained.wait() == 0


# Whole-connection calls


def echo(conn: socket.socket) -> None:
    while data := conn.recv(1024):
        conn.sendall(data)
    conn.sendall(b"bye")


def test_whole_connection_calls_see_the_end() -> None:
    with bed(echo, as_="connection") as worker:
        clients = [worker.connect_tcp() for _ in range(3)]
        for client in clients:
            say(client)
        drained = worker.drain()
        for client in clients:
            assert receive_all(client) == b"bye"
            client.close()
        assert drained.wait() == 0


def test_calls_that_wait_for_a_thread_have_their_turn() -> None:
    gate = Gate()

    def handler(conn: socket.socket) -> None:
        conn.sendall(b"in")
        gate.wait()
        echo(conn)

    with bed(handler, as_="connection", threads=1) as worker:
        first, second = worker.connect_tcp(), worker.connect_tcp()
        assert receive_exactly(first, 2) == b"in"
        second.sendall(b"ping")
        drained = worker.drain()
        wait_draining(worker)
        gate.open()
        assert receive_all(first) == b"bye"
        first.close()
        assert receive_all(second) == b"inpingbye"
        second.close()
        assert drained.wait() == 0


def test_who_has_sent_nothing_is_no_call_with_start_data() -> None:
    with bed(echo, as_="connection", start="data") as worker:
        clients = [worker.connect_tcp() for _ in range(5)]
        drained = worker.drain()
        for client in clients:
            assert receive_all(client) == b""
            client.close()
        assert drained.wait() == 0
        assert worker.thread_total("calls") == 0


# The deadline


def test_what_is_not_over_in_time_is_counted() -> None:
    """A call, a reply that waits in pieces, bytes that a peer does not take: each was cut.  Idle ones were not."""
    handler = Handler()
    with bed(handler, framing="line") as worker:
        clients = [worker.connect_tcp(send_buffer=4096, receive_buffer=4096) for _ in range(4)]
        clients[0].sendall(b"slow\n")
        clients[1].sendall(b"large\n")
        handler.gate.wait_entered()
        worker.tick_until_led()
        worker.wait_stuck()
        clients[2].sendall(b"pieces\n")
        handler.gate.wait_entered()
        worker.tick_until_led()
        drained = worker.drain(0.1)
        assert drained.wait() == 3
        handler.gate.open()


def test_time_that_is_up_at_once_cuts_at_once() -> None:
    handler = Handler()
    with bed(handler, framing="line") as worker:
        clients = [worker.connect_tcp() for _ in range(3)]
        clients[0].sendall(b"slow\n")
        handler.gate.wait_entered()
        worker.tick_until_led()
        assert worker.drain(0.0).wait() == 1
        handler.gate.open()


def test_a_later_drain_may_be_shorter() -> None:
    handler = Handler()
    with bed(handler, framing="line") as worker:
        client = worker.connect_tcp()
        client.sendall(b"slow\n")
        handler.gate.wait_entered()
        drained = worker.drain(1000.0)
        wait_draining(worker)
        worker.supervisor.send(encode(Drain(0.0)))
        assert drained.wait() == 1
        assert len(worker.log.find("draining")) == 1
        handler.gate.open()


def test_a_peer_may_be_lost_in_a_drain() -> None:
    handler = Handler()
    with bed(handler, framing="line") as worker:
        client = worker.connect_tcp(send_buffer=4096, receive_buffer=4096)
        client.sendall(b"large\n")
        worker.wait_stuck()
        drained = worker.drain()
        wait_draining(worker)
        reset(client)
        assert drained.wait() == 0


# Who may ask for it


def test_time_in_which_it_could_not_run_does_not_count() -> None:
    with bed(Handler(), framing="line") as worker:
        watcher = worker.parts.watcher
        watcher.allow_for(60.0)
        assert watcher.drain_until is None
        watcher.drain(2.0, hand_over=False)
        until, begun = watcher.drain_until, watcher.draining.began_at
        assert until is not None
        watcher.allow_for(0.9)
        assert watcher.drain_until == until, "a busy machine"
        watcher.allow_for(60.0)
        assert (watcher.drain_until, watcher.draining.began_at) == (until + 60.0, begun + 60.0)
        assert decode(worker.supervisor.recv(65536)) == Delayed(60.0), "so that nobody ends it before"
        watcher.last_cpu -= 40.0
        watcher.allow_for(60.0)
        assert watcher.drain_until == until + 60.0, "it has computed: C code held the GIL"


def test_a_supervisor_that_is_gone_is_an_order_to_drain() -> None:
    handler = Handler()
    with bed(handler, framing="line") as worker:
        client = worker.connect_tcp()
        client.sendall(b"slow\n")
        handler.gate.wait_entered()
        worker.supervisor.shutdown(socket.SHUT_RDWR)
        drained = Drained(worker.parts.watcher.run)
        worker.log.wait_for("supervisor-gone")
        wait_draining(worker)
        handler.gate.open()
        assert receive_all(client) == b"slow\n"
        client.close()
        assert drained.wait() == 0
        assert len(worker.log.find("supervisor-gone")) == 1


def test_a_supervisor_that_is_gone_does_not_prolong_a_drain() -> None:
    handler = Handler()
    with bed(handler, framing="line", drain_timeout=1000.0) as worker:
        client = worker.connect_tcp()
        client.sendall(b"slow\n")
        handler.gate.wait_entered()
        drained = worker.drain(0.3)
        wait_draining(worker)
        worker.supervisor.shutdown(socket.SHUT_RDWR)
        assert drained.wait() == 1
        handler.gate.open()


def test_a_signal_asks_for_another_worker_again_and_again_until_there_is_an_answer() -> None:
    with bed(Handler(), framing="line") as worker:
        client = worker.connect_tcp()
        os.write(worker.signal_fd, bytes([signal.SIGTERM] * 3))
        worker.parts.watcher.on_signals()
        for _ in range(3):
            worker.look()
            assert decode(worker.supervisor.recv(65536)) == Terminated()
        client.sendall(b"still here\n")
        assert receive_exactly(client, 11) == b"still here\n"
        drained = worker.drain()
        assert receive_all(client) == b""
        client.close()
        assert drained.wait() == 0


def test_a_peer_that_never_stops_sending_does_not_hold_the_drain_up() -> None:
    """Each line is answered by one more from the peer, at once: there is always something to read."""
    clients: list[socket.socket] = []

    def handler(message: bytes) -> bytes:
        clients[0].sendall(b"more\n")
        return b""

    with bed(handler, framing="line") as worker:
        clients.append(worker.connect())
        clients[0].sendall(b"first\n")
        eventually(lambda: worker.thread_total("calls") > 100)
        drained = worker.drain()
        received = receive_all(clients[0])
        clients[0].close()
        assert drained.wait() == 0
        assert received.count(b"\n") == len(received)
