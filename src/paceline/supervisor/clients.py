"""One client of the control socket: what has arrived, what is still to be sent, and when its patience ends, or ours.

Used by control.py.  Nothing here waits, and nothing raises: whatever goes wrong with a client is the end of that one.
"""

import select
import socket
from collections import deque

from paceline.supervisor.requests import LINE_BYTES, Lines, answer

MOST_UNREAD_BYTES = 1024 * 1024
"""A client that leaves more than that unread is dropped."""
INSIDE_S = 10.0
"""How long a client may be silent in the middle of a line."""
STALLED_S = 10.0
"""How long it may read nothing of what waits for it."""
_PIECE_BYTES = 64 * 1024
_SENT_AT_ONCE = 256 * 1024


class Client:
    """A connection.  `asker` names the request that runs; 0: none does."""

    __slots__ = ("_lines", "_out", "_since", "asker", "at_end", "is_closing", "requests", "socket", "who")

    def __init__(self, connection: socket.socket, who: str, now: float) -> None:
        connection.setblocking(False)
        self.socket = connection
        self.who = who
        """`process 4711 (uid 0)`, for the log."""
        self.asker = 0
        self.requests: deque[bytes] = deque()
        """Lines that wait for their turn."""
        self.at_end = False
        """The client will say nothing more."""
        self.is_closing = False
        """It is closed as soon as everything is sent."""
        self._lines = Lines()
        self._out = bytearray()
        self._since = now
        """Since when nothing has moved."""

    @property
    def is_open(self) -> bool:
        return self.socket.fileno() >= 0

    @property
    def is_free(self) -> bool:
        """Its next request may begin: one at a time, and only when the answers to the one before are read."""
        return self.is_open and not self.asker and not self._out and not self.is_closing

    @property
    def is_over(self) -> bool:
        """Nothing more will come of it."""
        return self.is_free and self.at_end and not self.requests

    @property
    def _is_heard(self) -> bool:
        return self.is_free and not self.at_end and not self.requests

    @property
    def mask(self) -> int:
        """For poll(2), which tells of a client that has hung up without being asked."""
        return (select.POLLIN if self._is_heard else 0) | (select.POLLOUT if self._out else 0)

    @property
    def ends_at(self) -> float | None:
        """When `on_time` will drop it, if nothing moves."""
        if self._out:
            return self._since + STALLED_S
        return self._since + INSIDE_S if self._is_heard and self._lines.is_inside else None

    def on_event(self, now: float) -> None:
        """poll(2) has told something of it."""
        if not self.is_open:  # what was waited for has gone meanwhile
            return
        poll = select.poll()
        poll.register(self.socket, self.mask)
        for _, events in poll.poll(0):
            if events & select.POLLIN:
                self._receive(now)
            if events & select.POLLOUT:
                self._flush(now)
            if events & (select.POLLHUP | select.POLLERR | select.POLLNVAL):
                self._on_hung_up(now)

    def on_time(self, now: float) -> None:
        """It may have been silent for too long."""
        ends_at = self.ends_at
        if ends_at is None or now < ends_at:
            return
        if self._out:
            self.close()
        else:
            self.send(
                answer(f"nothing has come for {INSIDE_S:g} s in the middle of a line; this is the end", ok=False), now
            )
            self.end(now)

    def send(self, line: bytes, now: float) -> None:
        """As soon as the client takes it; one that has left too much unread is dropped."""
        if not self.is_open:
            return
        if not self._out:
            self._since = now
        self._out += line
        self._flush(now)
        if len(self._out) > MOST_UNREAD_BYTES:
            self.close()

    def end(self, now: float) -> None:
        """Close it when all is sent."""
        self.is_closing = True
        self._flush(now)

    def close(self) -> None:
        self.socket.close()
        self._out.clear()
        self.requests.clear()

    def _flush(self, now: float) -> None:
        try:
            while self._out and self.is_open:
                sent = self.socket.send(self._out[:_SENT_AT_ONCE], socket.MSG_NOSIGNAL)
                del self._out[:sent]
                self._since = now
        except BlockingIOError:
            return
        except OSError:  # nobody reads any more
            self.close()
        if self.is_closing and not self._out:
            self.close()

    def _receive(self, now: float) -> None:
        try:
            data = self.socket.recv(_PIECE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            self.close()
            return
        self._since = now
        self.at_end = not data
        self.requests += self._lines.feed(data)
        if self._lines.is_too_long:
            self.send(answer(f"a request may have at most {LINE_BYTES} bytes", ok=False), now)
            self.end(now)

    def _on_hung_up(self, now: float) -> None:
        """Nobody will read an answer; what was asked before is still done."""
        for _ in range(2):  # the rest of a request, and the end
            if self._is_heard:
                self._receive(now)
        self.at_end = True
        if self.asker or not self.requests:
            self.close()
