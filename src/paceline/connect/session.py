"""What is awaited on a connection, and how long it took.  Pure: the time is an argument, in nanoseconds.

A reply is taken for the answer to the oldest message that has none: servers answer in order.  What answers nothing was
not asked for, and has no time.  A server need not answer every message, so one that has waited for the time-out is
given up: from then on it is not awaited, and the times of later replies are right again.

Without a framing (`raw`) nobody knows where a reply ends: then the first bytes after a message answer all that is
awaited, with the time since the oldest of it, and what comes behind them has no time.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum


class State(Enum):
    """ENDED: we have sent our end, and the server has not.  CLOSED: nothing more comes or goes."""

    OPEN = "open"
    ENDED = "ended"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class Reply:
    """`took_ns` since the message was sent; None when it answers nothing."""

    message: bytes
    took_ns: int | None


class Session:
    """One client's connections, one after the other."""

    def __init__(self, *, is_raw: bool, timeout_ns: int | None) -> None:
        self.state = State.CLOSED
        self._is_raw = is_raw
        self._timeout_ns = timeout_ns
        self._runs: deque[tuple[int, int]] = deque()
        """When they were sent, how many, oldest first."""

    @property
    def awaited(self) -> int:
        """How many messages have no reply yet and are not given up."""
        return sum(count for _, count in self._runs)

    def on_open(self) -> None:
        """There is a new connection; nothing is awaited on it."""
        self.state = State.OPEN
        self._runs.clear()

    def on_sent(self, now_ns: int, count: int = 1) -> None:
        """So many messages began to be sent."""
        if count:
            self._runs.append((now_ns, count))

    def on_our_end(self) -> None:
        """Our end is sent."""
        if self.state is State.OPEN:
            self.state = State.ENDED

    def on_closed(self) -> None:
        """The connection is over; what was awaited on it can still be asked for."""
        self.state = State.CLOSED

    def on_replies(self, messages: Sequence[bytes], now_ns: int) -> list[Reply]:
        """These came."""
        return [Reply(message, self._took(now_ns)) for message in messages]

    def _took(self, now_ns: int) -> int | None:
        if not self._runs:
            return None
        sent_ns, count = self._runs.popleft()
        if self._is_raw:
            self._runs.clear()
        elif count > 1:
            self._runs.appendleft((sent_ns, count - 1))
        return now_ns - sent_ns

    @property
    def due_ns(self) -> int | None:
        """When the oldest is given up."""
        if self._timeout_ns is None or not self._runs or self.state is State.CLOSED:
            return None
        return self._runs[0][0] + self._timeout_ns

    def give_up(self, now_ns: int) -> int:
        """Await no longer what has waited for the time-out; how many that is."""
        given_up = 0
        while (due_ns := self.due_ns) is not None and due_ns <= now_ns:
            given_up += self._runs.popleft()[1]
        return given_up
