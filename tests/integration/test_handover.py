"""Handover on real sockets, between real processes: a worker leaves, and its clients notice nothing."""

import os
import select
import signal
import socket

import pytest

from crewbed import Workers, crew
from leftovers import eventually
from paceline import clock
from paceline.scoreboard.fields import WorkerState
from paceline.worker.messages import Drain, Serve
from workerbed import receive_all, receive_exactly

pytestmark = pytest.mark.usefixtures("nothing_left")

COUNTING = """
import os

def handler(line, connection):
    total = (connection.state or {"total": 0})["total"] + len(line)
    connection.state = {"total": total, "kept": (None, "é", b"\\xff")}
    return b"%d %d %d %s" % (os.getpid(), connection.messages, total, line)
"""
"""Replies with the process, the number of the message, the bytes of all so far, and the message."""

CLIENTS = 200


class Client:
    """Sends numbered lines, and knows what must come back."""

    def __init__(self, workers: Workers, name: int) -> None:
        self.socket = workers.connect()
        self.name = name
        self.sent = self.received = self.bytes = 0
        self.pid = 0
        self.begun = b""

    def send(self) -> None:
        self.sent += 1
        whole = b"client %d line %d" % (self.name, self.sent)
        self.bytes += len(whole)
        rest = whole[len(self.begun) :]
        assert whole.startswith(self.begun)
        self.begun = b""
        self.socket.sendall(rest + b"\n")

    def begin(self) -> None:
        """The first half of the next line."""
        self.begun = b"client %d " % self.name
        self.socket.sendall(self.begun)

    def receive(self) -> None:
        reply = b""
        while not reply.endswith(b"\n"):
            piece = self.socket.recv(65536)
            assert piece, f"client {self.name} was disconnected after {self.received} replies and {reply!r}"
            reply += piece
        self.received += 1
        pid, number, size, words = reply[:-1].split(b" ", 3)
        assert words == b"client %d line %d" % (self.name, self.received)
        assert (int(number), int(size)) == (self.received, self.bytes)
        self.pid = int(pid)

    def ask(self) -> None:
        self.send()
        self.receive()


def test_a_worker_leaves_and_200_clients_stay_connected() -> None:
    with crew(COUNTING, framing="line") as workers:
        old = workers.start()
        clients = [Client(workers, name) for name in range(CLIENTS)]
        for client in clients:
            client.ask()
        halfway, talking = clients[:50], clients[50:]
        for client in halfway:
            client.begin()
        new = workers.start(generation=2, standby=True)
        assert workers.cells(new)["connections"] == 0
        workers.tell(new, Serve())
        workers.tell(old, Drain(20.0, True))
        rounds = 0
        while not workers.has_ended(old) or rounds < 3:
            for client in talking:
                client.send()
            for client in talking:
                client.receive()
            rounds += 1
        assert workers.wait_ended(old)["code"] == 0
        assert workers.wait_said(old, "leaving")["cut"] == 0
        for client in halfway:
            client.ask()
        for client in clients:
            client.ask()
            assert client.pid == workers.pid(new)
            assert client.sent == client.received
        assert f"handed over {CLIENTS} connections" in workers.log
        assert "not handed over" not in workers.log
        assert workers.cells(new)["received"] == CLIENTS


def drain_and_ask(workers: Workers, old: int, clients: list[Client], *, within_s: float = 20.0) -> None:
    """Tell it to leave, and let each client ask in turn until it has left."""
    workers.tell(old, Drain(within_s, True))
    rounds = 0
    while not workers.has_ended(old) or rounds < 2:
        for client in clients:
            client.ask()
        rounds += 1
    assert workers.wait_ended(old)["code"] == 0


def test_from_generation_to_generation_in_the_middle_of_a_message() -> None:
    """Each worker is replaced by the next; who is inside a long message stays so through all of them."""
    half = b"x" * 200_000
    with crew(COUNTING, framing="line") as workers:
        old = workers.start()
        clients = [Client(workers, name) for name in range(20)]
        slow = workers.connect()
        slow.sendall(half)
        for client in clients:
            client.ask()
            client.begin()
        for generation in range(2, 5):
            new = workers.start(generation=generation)
            drain_and_ask(workers, old, clients[10:])
            slow.sendall(half)
            old = new
        for client in clients:
            client.ask()
            assert client.pid == workers.pid(old)
        slow.sendall(b"\n")
        reply = receive_exactly(slow, 4 * len(half))
        while not reply.endswith(b"\n"):
            reply += slow.recv(65536)
        assert reply == b"%d 1 %d %s\n" % (workers.pid(old), 4 * len(half), 4 * half)


def test_a_client_that_never_stops_sending_moves_between_two_messages() -> None:
    with crew(COUNTING, framing="line") as workers:
        old = workers.start()
        client = Client(workers, 0)
        client.ask()
        new = workers.start(generation=2)
        workers.tell(old, Drain(20.0, True))
        while not workers.has_ended(old) or client.pid != workers.pid(new):
            while client.sent < client.received + 2000:
                client.send()
            for _ in range(1000):
                receive_one(client)
        assert workers.wait_said(old, "leaving")["cut"] == 0
        while client.received < client.sent:
            receive_one(client)


_KEPT: dict[Client, bytes] = {}


def receive_one(client: Client) -> None:
    """One of many replies that may come at once."""
    kept = _KEPT.get(client, b"")
    while b"\n" not in kept:
        piece = client.socket.recv(65536)
        assert piece, "disconnected"
        kept += piece
    line, _, _KEPT[client] = kept.partition(b"\n")
    client.received += 1
    pid, number, _, words = line.split(b" ", 3)
    assert words == b"client %d line %d" % (client.name, client.received)
    assert int(number) == client.received
    client.pid = int(pid)


def test_while_nobody_can_take_them_they_are_served_and_then_they_move() -> None:
    with crew(COUNTING, framing="line") as workers:
        old = workers.start()
        clients = [Client(workers, name) for name in range(10)]
        for client in clients:
            client.ask()
        workers.tell(old, Drain(20.0, True))
        for _ in range(20):
            for client in clients:
                client.ask()
                assert client.pid == workers.pid(old)
        new = workers.start(generation=2)
        while not workers.has_ended(old):
            clients[0].ask()
        for client in clients:
            client.ask()
            assert client.pid == workers.pid(new)
        workers.wait_log("handed over 10 connections")


def test_when_nobody_comes_they_are_answered_and_closed() -> None:
    with crew(COUNTING, framing="line") as workers:
        old = workers.start()
        clients = [Client(workers, name) for name in range(3)]
        for client in clients:
            client.ask()
        workers.tell(old, Drain(0.5, True))
        for client in clients:
            assert client.socket.recv(1) == b""
        assert workers.wait_ended(old)["code"] == 0
        workers.wait_log("handed over no connection; not handed over: 3 that nobody could take")


def test_a_stop_meanwhile_closes_what_has_not_moved() -> None:
    with crew(COUNTING, framing="line") as workers:
        old = workers.start()
        client = Client(workers, 0)
        client.ask()
        workers.tell(old, Drain(1000.0, True))
        client.ask()
        workers.tell(old, Drain(1000.0, False))
        assert client.socket.recv(1) == b""
        assert workers.wait_ended(old)["code"] == 0


def test_the_inbox_of_a_worker_that_dies_is_moved_with_all_that_is_in_it() -> None:
    """It is stopped while it is given to, and then killed; half messages of any length go on."""
    half = b"y" * 200_000
    with crew(COUNTING, framing="line") as workers:
        old = workers.start()
        clients = [Client(workers, name) for name in range(60)]
        for client in clients:
            client.ask()
            client.begin()
        slow = workers.connect()
        slow.sendall(half)
        victim = workers.start(generation=2)
        workers.kill(victim, signal.SIGSTOP)
        workers.tell(old, Drain(20.0, True))
        assert workers.wait_ended(old)["code"] == 0
        last = workers.start(generation=2)
        workers.kill(victim)
        assert workers.wait_ended(victim)["code"] == -signal.SIGKILL
        for client in clients:
            client.ask()
            assert client.pid == workers.pid(last)
        slow.sendall(b"\n")
        reply = receive_exactly(slow, len(half))
        while not reply.endswith(b"\n"):
            reply += slow.recv(65536)
        assert reply.endswith(half + b"\n")
        assert workers.cells(last)["received"] == 61


def test_a_worker_that_is_told_to_leave_by_a_signal_hands_over() -> None:
    with crew(COUNTING, framing="line") as workers:
        old = workers.start()
        client = Client(workers, 0)
        client.ask()
        new = workers.start()
        workers.kill(old, signal.SIGTERM)
        workers.wait_said(old, "terminated")
        workers.tell(old, Drain(20.0, True))
        while not workers.has_ended(old):
            client.ask()
        client.ask()
        assert client.pid == workers.pid(new)


WHOLE = """
import os, paceline

@paceline.connection(start="data")
def handler(conn):
    while line := conn.recv(1024):
        conn.sendall(b"%d %s" % (os.getpid(), line))
    conn.sendall(b"end")
"""


def test_whole_connections_move_until_their_call_begins() -> None:
    with crew(WHOLE) as workers:
        old = workers.start()
        quiet, talking = workers.connect(), workers.connect()
        talking.sendall(b"hi")
        assert talking.recv(100) == b"%d hi" % workers.pid(old)
        wait_connections(workers, old, 2)
        new = workers.start()
        workers.tell(old, Drain(20.0, True))
        assert receive_all(talking) == b"end"
        talking.close()
        assert workers.wait_ended(old)["code"] == 0
        quiet.sendall(b"hello")
        assert quiet.recv(100) == b"%d hello" % workers.pid(new)
        quiet.close()
        workers.wait_log("handed over 1 connection; not handed over: 1 in a whole-connection call")


def wait_connections(workers: Workers, seat: int, count: int) -> None:
    eventually(lambda: workers.cells(seat)["connections"] == count)


FORKING = """
import os

class handler:
    def __call__(self, line, connection):
        if line == b"fork":
            pid = os.fork()
            if pid == 0:
                os.set_inheritable(connection.fd, True)
                os.execlp("sleep", "sleep", "60")
            return b"%d" % pid
        if line == b"bye":
            import paceline
            return paceline.Close(b"bye")
        return b"%d" % os.getpid()
"""


def test_a_forked_child_that_keeps_the_socket_does_not_keep_the_connection() -> None:
    """Neither the end of the connection, nor its handover, waits for the child."""
    with crew(FORKING, framing="line") as workers:
        old = workers.start()
        client = workers.connect()
        client.sendall(b"fork\n")
        child = int(client.recv(100))
        try:
            new = workers.start()
            workers.tell(old, Drain(20.0, True))
            assert workers.wait_ended(old)["code"] == 0
            client.sendall(b"who\n")
            assert int(client.recv(100)) == workers.pid(new)
            client.sendall(b"bye\n")
            assert receive_all(client) == b"bye\n"
        finally:
            os.kill(child, signal.SIGKILL)
        client.close()


# Standby


def test_in_standby_it_accepts_nothing_until_it_is_its_turn() -> None:
    with crew(COUNTING, framing="line") as workers:
        first = workers.start(standby=True)
        assert workers.cells(first)["state"] == WorkerState.STANDBY
        client = Client(workers, 0)
        client.send()
        second = workers.start(standby=True)  # as long as that takes, nobody has accepted
        assert workers.cells(first)["accepted"] == workers.cells(second)["accepted"] == 0
        workers.tell(second, Serve())
        client.receive()
        assert client.pid == workers.pid(second)
        assert workers.cells(second)["state"] == WorkerState.READY


@pytest.mark.parametrize("hand_over", [True, False])
def test_told_to_leave_in_standby_it_leaves_at_once(hand_over: bool) -> None:
    with crew(COUNTING, framing="line") as workers:
        first = workers.start(standby=True)
        workers.tell(first, Drain(1000.0, hand_over))
        assert workers.wait_ended(first)["code"] == 0
        assert "handed over" not in workers.log


# Relief

NAPPING = """
import os, time

def handler(line):
    if line == b"slow":
        time.sleep(0.05)
    return b"%d %s" % (os.getpid(), line)
"""


@pytest.mark.parametrize("kind", ["kept", "new"])
def test_nobody_waits_for_a_saturated_worker_while_its_sibling_is_idle(kind: str) -> None:
    """All threads of one are in calls of 50 ms, one after the other; none of 1,000 quick messages waits ten times that.

    Figures are in docs/benchmarks.md (row 7): here they have ten-fold room.
    """
    with crew(NAPPING, framing="line", threads=4) as workers:
        busy, idle = workers.start(), workers.start()
        kept: list[socket.socket] = []
        slow: list[socket.socket] = []
        while len(kept) < 100 or len(slow) < 4:
            client = workers.connect()
            client.sendall(b"who\n")
            if int(client.recv(100).split()[0]) == workers.pid(busy) and len(slow) < 4:
                slow.append(client)
            else:
                kept.append(client)
        poll = select.poll()
        for client in slow:
            poll.register(client, select.POLLIN)
            client.sendall(b"slow\n")
        longest_s, asked = 0.0, 0
        by_fd = {client.fileno(): client for client in slow}
        while asked < 1000:
            for fd, _ in poll.poll(0):
                by_fd[fd].recv(100)
                by_fd[fd].sendall(b"slow\n")
            asked += 1
            client = kept[asked % len(kept)] if kind == "kept" else workers.connect()
            began = clock.now()
            client.sendall(b"quick\n")
            assert client.recv(100).endswith(b" quick\n")
            longest_s = max(longest_s, clock.now() - began)
            if kind == "new":
                client.close()
        assert longest_s < 0.5
        assert workers.cells(idle)["received"] > 0


def test_what_lies_in_the_inbox_of_a_worker_that_stops_is_answered_before_it_ends() -> None:
    """Nobody stays who could have it."""
    with crew(COUNTING, framing="line") as workers:
        old = workers.start()
        clients = [Client(workers, name) for name in range(20)]
        for client in clients:
            client.ask()
        last = workers.start()
        workers.kill(last, signal.SIGSTOP)
        workers.tell(old, Drain(20.0, True))
        assert workers.wait_ended(old)["code"] == 0
        for client in clients:
            client.send()
        workers.tell(last, Drain(20.0, False))
        workers.kill(last, signal.SIGCONT)
        for client in clients:
            client.receive()
            assert client.pid == workers.pid(last)
            assert client.socket.recv(1) == b""
            client.socket.close()
        assert workers.wait_ended(last)["code"] == 0
