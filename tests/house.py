"""A board and inboxes for some seats, without workers: for what workers pass to each other."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager

from paceline import clock
from paceline.host import passing
from paceline.host.descriptors import Spare
from paceline.scoreboard.board import Board
from paceline.scoreboard.fields import WORKER, WorkerState
from paceline.worker.giving import Giving
from paceline.worker.plan import Inbox
from paceline.worker.record import Record, encode
from paceline.worker.worker import Worker
from workerbed import Place, unread_bytes

GENERATION = 3


class House:
    """A board and inboxes for some seats; workers and bare readers sit there."""

    def __init__(self, seats: int, threads: int = 1) -> None:
        self.board = Board.create(seats, threads)
        self.inboxes = [Inbox(*passing.pair()) for _ in range(seats)]
        self.spare = Spare(passing.MOST_DESCRIPTORS)
        self.clients: list[socket.socket] = []
        for seat in range(seats):
            alive = clock.now_ns() + 3600 * 10**9  # as far as these tests go
            self.set(seat, state=WorkerState.READY, generation=GENERATION, connections_limit=1000, heartbeat_ns=alive)

    def set(self, seat: int, **cells: int) -> None:
        row = self.board.layout.worker_index(seat)
        for name, value in cells.items():
            self.board.words[row + WORKER[name]] = value

    def place(self, seat: int, generation: int = GENERATION) -> Place:
        """For a whole worker that is to sit there."""
        return Place(self.board, tuple(self.inboxes), seat, generation)

    def giving(self, worker: Worker, seat: int = 0) -> Giving:
        return Giving(worker, self.board, self.inboxes, seat, GENERATION)

    def fresh(self) -> int:
        """The descriptor of a new connection."""
        ours, theirs = socket.socketpair()
        ours.settimeout(10)
        theirs.setblocking(False)
        self.clients.append(ours)
        return theirs.detach()

    def take(self, seat: int) -> passing.Arrived | None:
        return passing.receive_connection(self.inboxes[seat].reader, self.spare)

    def waiting(self) -> list[int]:
        """How many lie in each inbox."""
        return [unread_bytes(inbox.reader.fileno()) // len(encode(Record(listener=0))) for inbox in self.inboxes]

    def close(self) -> None:
        # What is still in flight is closed with the last end.
        for inbox in self.inboxes:
            inbox.reader.close()
            inbox.writer.close()
        for client in self.clients:
            client.close()
        self.spare.close()
        self.board.close()


@contextmanager
def house(seats: int, threads: int = 1) -> Iterator[House]:
    made = House(seats, threads)
    try:
        yield made
    finally:
        made.close()
