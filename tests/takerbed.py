"""Workers with inboxes on a board of their own: what one gives, another takes.  For tests of handover."""

import os
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from house import GENERATION, House, house
from paceline.worker.connection import Connection
from paceline.worker.receiving import Receiving
from paceline.worker.record import Record, encode
from workerbed import Bed, bed

FRESH = encode(Record(listener=0))


def who(_message: bytes) -> bytes:
    return b"the other one"


class Taker:
    """A worker with an inbox."""

    def __init__(self, worker: Bed, seats: House, seat: int = 1, generation: int = GENERATION) -> None:
        self.bed = worker
        self.seats = seats
        self.seat = seat
        accepting = worker.parts.accepting

        def enter(connection: Connection) -> None:
            if accepting.enter(connection):
                worker.worker.wakeup.wake()

        inbox = seats.inboxes[seat]
        self.receiving = Receiving(worker.worker, inbox, generation, enter, accepting.way_in)

    def post(self, record: bytes, fds: Sequence[int] | None = None) -> None:
        """Into its inbox, whatever it is."""
        sent = [self.seats.fresh()] if fds is None else list(fds)
        socket.send_fds(self.seats.inboxes[self.seat].writer, [record], sent)
        for fd in sent:
            os.close(fd)

    def take_in(self) -> list[Connection]:
        """All that are there, as they are then."""
        before = set(self.bed.worker.tables.open)
        assert self.receiving.receive()
        return [c for c in self.bed.connections() if c.fd not in before]


@contextmanager
def taker(
    handler: Callable[..., Any] = who, *, run: bool = True, generation: int = GENERATION, **settings: Any
) -> Iterator[Taker]:
    with house(2) as seats, bed(handler, run=run, **settings) as worker:
        made = Taker(worker, seats, generation=generation)
        try:
            yield made
        finally:
            made.receiving.spare.close()
