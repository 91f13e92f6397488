"""Connections made in numbers, without waiting for any: by the one thread of a load process.

A connection that breaks is made again at once, one that breaks again and again after a pause that doubles.  What
became of an attempt is told by calling back: `on_up(link)`, `on_failed(link, kind)`; and `on_time(link, now_ns)` when
the pause before another one is over.
"""

import errno
import select
import socket
from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any

from paceline.bench.link import Link, State
from paceline.bench.troubles import Kind, of_connecting

WATCHED = select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLET
FIRST_PAUSE_NS = 10_000_000
LONGEST_PAUSE_NS = 1_000_000_000
FULL_PAUSE_NS = 1_000_000
"""After this time a unix: listener whose queue was full is asked again."""
SLOW_BUFFER_BYTES = 4096
"""The receive buffer of a slow client: the kernel must not read ahead for it (socket(7), SO_RCVBUF)."""


class Dialler:
    """Makes and ends the connections of one process."""

    def __init__(
        self,
        place: tuple[int, Any],
        *,
        is_slow: bool,
        on_up: Callable[[Link], None],
        on_failed: Callable[[Link, Kind], None],
        on_time: Callable[[Link, int], None],
    ) -> None:
        """`place`: address family and address, as socket(2) and connect(2) want them."""
        # Made first, so that its number is small: select(2) cannot wait for one over 1,023.
        self.epoll = select.epoll()
        self.by_fd: dict[int, Link] = {}
        self.pending = 0
        """How many are being made."""
        self._family, self._address = place
        self._is_slow = is_slow
        # A slow client is read by the clock, not when something is there.
        self._watched = select.EPOLLET if is_slow else WATCHED
        self._on_up, self._on_failed, self._on_time = on_up, on_failed, on_time
        self._later: list[tuple[int, int, Link]] = []
        self._order = 0

    def dial(self, link: Link, now_ns: int) -> None:
        """Begin to connect."""
        try:
            sock = socket.socket(self._family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        except OSError as error:
            self._on_failed(link, of_connecting(error.errno or 0))
            return
        if self._family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._is_slow:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SLOW_BUFFER_BYTES)
        number = sock.connect_ex(self._address)
        if number == errno.EAGAIN and self._family == socket.AF_UNIX:  # its queue is full, connect(2)
            sock.close()
            self._push(link, now_ns + FULL_PAUSE_NS)
            return
        if number not in (0, errno.EINPROGRESS):
            sock.close()
            self._on_failed(link, of_connecting(number))
            return
        link.sock, link.fd, link.state, link.active_ns = sock, sock.fileno(), State.DIALLING, now_ns
        self.by_fd[link.fd] = link
        self.pending += 1
        self.epoll.register(link.fd, WATCHED | select.EPOLLOUT)  # reported at once if it is made already

    def on_event(self, link: Link) -> None:
        """The connection is made, or has failed."""
        assert link.sock is not None
        number = link.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if number:
            self.fail(link, of_connecting(number))
            return
        try:
            peer = link.sock.getpeername()
        except OSError:
            return  # neither made nor failed: the event was for an earlier socket of this number
        if self._family != socket.AF_UNIX and link.sock.getsockname() == peer:
            # Nobody listens, and the port we were given is the one we asked for: connected to itself (RFC 9293, 3.5).
            self.fail(link, Kind.REFUSED)
            return
        self.pending -= 1
        link.state = State.UP
        self.watch(link, False)
        self._on_up(link)

    def watch(self, link: Link, wants_output: bool) -> None:
        """Hear of input (a slow client: not), and of room to write or not."""
        self.epoll.modify(link.fd, self._watched | (select.EPOLLOUT if wants_output else 0))

    def fail(self, link: Link, kind: Kind) -> None:
        """Give up an attempt."""
        self.end(link)
        self._on_failed(link, kind)

    def end(self, link: Link) -> None:
        """End the connection, if there is one."""
        if link.sock is not None:
            if link.state is State.DIALLING:
                self.pending -= 1
            del self.by_fd[link.fd]
            link.sock.close()  # which takes it out of the epoll set, too
        link.clear()

    def later(self, link: Link, now_ns: int) -> None:
        """Tell when it is time to connect again: at once after the first failure in a row, then after pauses."""
        link.failures += 1
        pause = min(LONGEST_PAUSE_NS, FIRST_PAUSE_NS << min(link.failures - 2, 10)) if link.failures > 1 else 0
        self._push(link, now_ns + pause)

    def _push(self, link: Link, when_ns: int) -> None:
        self._order += 1
        heappush(self._later, (when_ns, self._order, link))

    @property
    def next_ns(self) -> int | None:
        """When the next pause is over; None: there is none."""
        return self._later[0][0] if self._later else None

    def tell_due(self, now_ns: int) -> None:
        """Tell of those for which it is time."""
        for _ in range(len(self._later)):  # no more than there are now: one that fails may come back at once
            if not self._later or self._later[0][0] > now_ns:
                return
            self._on_time(heappop(self._later)[2], now_ns)

    def forget_later(self) -> None:
        """Tell of none of them."""
        self._later.clear()

    def close(self) -> None:
        """End all."""
        for link in list(self.by_fd.values()):
            self.end(link)
        self.epoll.close()
