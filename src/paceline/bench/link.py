"""One connection's place: what is under way on it.  No I/O.

A place outlives its connection: when that breaks, another one takes it.  Messages that were sent at once are a run,
with one stamp (closed loop: when they were sent; open loop: when the one of it was due).
"""

import socket
from collections import deque
from enum import Enum
from typing import Any

LONGEST_EXPECTED = 1 << 18
"""Replies of more bytes are never compared whole: they do not arrive in one piece."""


class State(Enum):
    """`DOWN`: no connection.  `DIALLING`: not made yet.  `UP`."""

    DOWN = "down"
    DIALLING = "dialling"
    UP = "up"


class Link:
    """A place for a connection.

    fd            -1: none
    stamp         of the oldest run
    oldest        how many of the oldest run are unanswered; 0: nothing is under way
    runs          the runs behind it: [stamp, count]
    expect        the bytes that arrive if the oldest run is answered at once, if those are known and it is the only run
    again         the bytes to send then
    rest, out     part of a reply; part of messages not sent yet
    ask, answer   numbers of the next message to send, and of the oldest unanswered one
    active_ns     when something went forward here
    idle_ns       open loop: since when it is free
    """

    __slots__ = (
        "active_ns", "again", "answer", "ask", "expect", "failures", "fd", "idle_ns", "is_idle", "oldest", "out",
        "rest", "runs", "sock", "stamp", "state", "waiting_ns",
    )  # fmt: skip

    def __init__(self, number: int) -> None:
        self.ask = number
        self.failures = 0
        self.idle_ns = 0
        self.is_idle = False
        self.waiting_ns: int | None = None
        """The stamp of the message for which this connection is being made (--new-connection)."""
        self.clear()

    def clear(self) -> None:
        """No connection, and nothing under way."""
        self.state = State.DOWN
        self.fd = -1
        self.sock: socket.socket | None = None
        self.stamp = 0
        self.oldest = 0
        self.runs: deque[list[int]] = deque()
        self.expect: bytes | None = None
        self.again = b""
        self.rest: Any = None
        self.out: bytes = b""
        self.answer = self.ask
        self.active_ns = 0

    @property
    def under_way(self) -> int:
        """How many messages have no reply yet."""
        return self.ask - self.answer

    def sent(self, count: int, stamp: int) -> None:
        """So many more are under way."""
        self.ask += count
        if not self.oldest:
            self.stamp, self.oldest = stamp, count
        elif self.runs and self.runs[-1][0] == stamp:
            self.runs[-1][1] += count
        else:
            self.runs.append([stamp, count])

    def answered(self, count: int) -> list[tuple[int, int]]:
        """The oldest `count` have their replies; gives (stamp, how many) for each run among them."""
        self.answer += count
        found = []
        while count > 0:
            taken = min(count, self.oldest)
            found.append((self.stamp, taken))
            count -= taken
            self.oldest -= taken
            if not self.oldest and self.runs:
                self.stamp, self.oldest = self.runs.popleft()
        return found

    def look_forward(self, reply: bytes | None, message: bytes) -> None:
        """Know what will arrive if all that is under way is answered by `reply`, and what is to be sent then."""
        count = self.oldest
        is_plain = bool(count) and not (self.runs or self.out) and self.rest is None
        if reply is None or not is_plain or count * max(len(reply), len(message)) > LONGEST_EXPECTED:
            self.expect = None
        elif self.expect is None or len(self.expect) != count * len(reply):
            self.expect, self.again = reply * count, message * count
