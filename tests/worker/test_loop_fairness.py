"""worker/loop.py: who comes back for more waits behind those who have come meanwhile; and what is no long call."""

import socket
import threading
from collections.abc import Iterator

from paceline.worker.connection import Connection
from workerbed import DEADLINE_S, bed


class Endless:
    """A handler whose reply to "endless" goes on until it is told to stop."""

    def __init__(self) -> None:
        self.going = threading.Event()
        self.stop = threading.Event()

    def __call__(self, message: bytes) -> object:
        return self.pieces() if message == b"endless" else message

    def pieces(self) -> Iterator[bytes]:
        while not self.stop.is_set():
            yield b"."
            self.going.set()


def drop_all(client: socket.socket) -> threading.Thread:
    def run() -> None:
        while client.recv(65536):
            pass

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def test_one_who_always_comes_back_does_not_keep_the_others_waiting() -> None:
    """The endless reply is back at the tail of `ready` after each turn, so `ready` is never empty."""
    handler = Endless()
    with bed(handler, framing="line") as worker:
        endless = worker.connect()
        endless.sendall(b"endless\n")
        reader = drop_all(endless)
        try:
            assert handler.going.wait(DEADLINE_S)
            later = worker.connect()  # it comes when the other has begun
            for _ in range(3):
                later.sendall(b"hello\n")
                assert later.recv(100) == b"hello\n"
        finally:
            handler.stop.set()
            endless.shutdown(socket.SHUT_WR)  # the worker closes when the reply has ended, and the reader ends with it
            reader.join()


def test_parts_of_a_long_message_are_no_long_call() -> None:
    """The leader receives, tick after tick, and no call is made: it is not blocked, and nobody is needed."""
    with bed(lambda message: message, framing="line", max_message=1 << 20) as worker:
        client = worker.connect()
        for _ in range(20):
            client.sendall(b"x" * 1000)
            worker.tick()
        client.sendall(b"\n")
        assert client.recv(100).startswith(b"x")
        assert worker.worker.crew.roles.watched == 0
        assert not worker.worker.estimate.blocking
        assert len(worker.worker.crew.members) == 1


def test_a_leader_that_only_polls_again_is_not_in_one_call() -> None:
    """Two looks find the leader serving and no new call, but it has polled in between: it accepts, or receives."""
    seen: list[tuple[int, int]] = []

    def handler(message: bytes, connection: Connection) -> bytes:
        return message

    with bed(handler) as worker:
        client = worker.connect()
        client.sendall(b"x")
        assert client.recv(1) == b"x"
        leader = worker.worker.crew.roles.leader
        assert leader is not None
        lookout = worker.parts.watcher.lookout
        state = leader.words[leader.state]
        try:
            leader.words[leader.state] = 3  # ThreadState.SERVING, as the watcher would see it in a burst
            worker.tick()
            seen.append((lookout.last_calls, lookout.last_rounds))
            leader.rounds += 1
            worker.tick()
        finally:
            leader.words[leader.state] = state
        assert worker.worker.crew.roles.watched == 0
        assert seen[0][1] != lookout.last_rounds
