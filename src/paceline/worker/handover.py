"""Passing a connection to a sibling, and taking in what siblings pass.

The way is the other's inbox (host/passing.py); beside the descriptor goes a record in JSON, so that a newer or older
Paceline can read it: fields that a reader does not know are ignored.

    listener   index of the listener it came in by

A fresh connection has been accepted and nothing else: nothing was read, no hook was called.  It is passed before it is
registered anywhere, by the leader; the watcher of the other worker takes it in.
"""

import json
from collections.abc import Callable, Iterator, Sequence

from paceline.host import passing, streams
from paceline.host.descriptors import Spare
from paceline.scoreboard.board import Board
from paceline.scoreboard.fields import WORKER, WorkerState
from paceline.worker.balance import Balance, Sibling
from paceline.worker.plan import Inbox
from paceline.worker.worker import Worker

MOST_AT_ONCE = 64
"""Connections taken from the inbox before the watcher looks at anything else."""

LATER_S = 1.0
"""How long the watcher lets them wait when they could not be taken."""

_READY = int(WorkerState.READY)
_STATE, _GENERATION, _SATURATED = WORKER["state"], WORKER["generation"], WORKER["saturated"]
_CONNECTIONS, _LIMIT, _RECEIVED = WORKER["connections"], WORKER["connections_limit"], WORKER["received"]


class Passing:
    """The leader's side: is there a sibling that should have it?"""

    def __init__(self, worker: Worker, board: Board, inboxes: Sequence[Inbox], seat: int, generation: int) -> None:
        self.worker = worker
        self.words = board.words
        self.generation = generation
        self.rows = [(other, board.layout.worker_index(other)) for other in range(len(inboxes)) if other != seat]
        self.writers = [inbox.writer for inbox in inboxes]
        self.balance = Balance()

    def siblings(self) -> Iterator[Sibling]:
        """Those that can take a connection now."""
        words = self.words
        for seat, row in self.rows:
            if (
                words[row + _STATE] == _READY
                and words[row + _GENERATION] == self.generation
                and not words[row + _SATURATED]
            ):
                yield Sibling(seat, words[row + _CONNECTIONS], words[row + _LIMIT], words[row + _RECEIVED])

    def try_pass(self, fd: int, listener: int) -> bool:
        """Give the fresh connection away if a sibling should have it.  True: it is not ours any more."""
        seat = self.balance.choose(len(self.worker.tables.open) + 1, self.siblings())
        if seat is None:
            return False
        try:
            if not passing.send_connection(self.writers[seat], fd, json.dumps({"listener": listener}).encode()):
                return False
        except OSError:
            return False  # its inbox is gone with the supervisor
        streams.let_go(fd)
        self.balance.on_passed(seat)
        self.worker.count("passed")
        return True


class Receiving:
    """The watcher's side: what siblings have passed.  `admit(fd, listener_index)` takes one in."""

    def __init__(self, worker: Worker, inbox: Inbox, admit: Callable[[int, int], None]) -> None:
        self.worker = worker
        self.reader = inbox.reader
        self.admit = admit
        self.spare = Spare()

    def receive(self) -> bool:
        """Take in what has arrived.  False: no descriptors are left, and what is in the inbox stays there for later."""
        for _ in range(MOST_AT_ONCE):
            try:
                arrived = passing.receive_connection(self.reader, self.spare)
                if arrived is None:
                    return True
                fd, record = arrived
                listener = int(json.loads(record)["listener"])
            except passing.NotAConnection as error:
                self.worker.log.say("bug", where="the inbox", error=str(error))
                continue
            except (ValueError, KeyError, TypeError) as error:
                streams.close(fd)
                self.worker.log.say("bug", where="the inbox", error=f"a record cannot be read: {error}")
                continue
            except EOFError:
                return False  # the supervisor and all siblings are gone
            except OSError as error:
                open_now = len(self.worker.tables.open)
                self.worker.log.say("accept-paused", error=error.strerror, seconds=LATER_S, open=open_now)
                return False
            self.worker.count("received")
            self.admit(fd, listener)
        return True
