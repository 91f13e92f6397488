"""What happens on the connections of one load process: messages go out, replies come in, connections break.

The upper half of engine.py, which has the loops.  `Traffic` keeps the books: at any time
`sent - answered - dropped` messages are under way.
"""

import os
import select
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from paceline.bench.dialling import Dialler
from paceline.bench.latency import Rulers
from paceline.bench.link import Link, State
from paceline.bench.pacing import SECOND, Schedule
from paceline.bench.patience import Patience
from paceline.bench.replies import BrokenReply, Replies
from paceline.bench.tally import Tally
from paceline.bench.troubles import Kind, of_traffic
from paceline.clock import now_ns

MOST_BYTES = 1 << 16
LONGEST_SLOW_NS = SECOND // 20
"""A slow client reads so often, or a byte at a time."""

_LOST = select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR


class Traffic:
    """The connections of one process, and what is under way on them.  For one thread."""

    def __init__(
        self,
        place: tuple[int, Any],
        replies: Replies,
        wires: Sequence[bytes],
        *,
        connections: int,
        first: int,
        in_flight: int,
        timeout_s: float,
        new_connection: bool,
        slow_bytes_s: int | None,
        on_tick: Callable[[Any], None],
    ) -> None:
        """`first`: the number of the first connection, from which it counts through the messages."""
        self.dialler = Dialler(
            place,
            is_slow=slow_bytes_s is not None,
            on_up=self._on_up,
            on_failed=self._on_dial_failed,
            on_time=self._on_time,
        )
        self.by_fd = self.dialler.by_fd
        self.poll = self.dialler.epoll.poll
        self.replies, self.wires = replies, wires
        self.links = [Link(first + number) for number in range(connections)]
        self.in_flight, self.timeout_ns = in_flight, int(timeout_s * SECOND)
        self.new_connection, self.slow_bytes_s = new_connection, slow_bytes_s
        self._on_tick = on_tick
        self._slow_ns = min(SECOND, max(LONGEST_SLOW_NS, SECOND // slow_bytes_s)) if slow_bytes_s else 0
        self.stop = False
        self.attention = False
        """The fast loop is to come back to the engine."""
        self.polled_ns = self._next_tick_ns = now_ns()
        self.begin(0, None)
        self.is_sending = False

    def begin(self, credit: int, schedule: Schedule | None) -> None:
        """Count from here."""
        self.tally = Tally()
        self.rulers = Rulers()
        self.replies.errors.clear()
        self.credit = credit
        self.schedule = schedule
        self.is_sending = True
        self.dropped = 0
        self.idle: deque[Link] = deque()
        self.spun_ns = 0
        self.next_slow_ns = now_ns() + self._slow_ns if self.slow_bytes_s else 0
        self.failing: Kind | None = None
        """How the last attempt to connect failed; None: it did not."""
        self.losing = Kind.UNANSWERED
        """How the last connection was lost, or could not be made."""
        self.patience = Patience(self.timeout_ns, now_ns())
        for link in self.links:
            link.is_idle = False

    def is_done(self) -> bool:
        """Whether all that this phase was to send is sent, and answered or lost."""
        left = self.credit if self.schedule is None else self.schedule.left
        return left == 0 and self.tally.sent == self.tally.answered + self.dropped

    def finish(self) -> None:
        """Nothing more is waited for: what is under way has no reply."""
        self.is_sending = False
        limit_ns = now_ns() - self.timeout_ns
        for link in self.links:
            waiting = link.waiting_ns is not None
            if link.under_way or waiting or link.state is State.DIALLING:
                is_late = link.oldest and max(link.active_ns, link.stamp) <= limit_ns
                self._drop(link.under_way + waiting, Kind.TIMEOUT if is_late else Kind.UNANSWERED)
                self.dialler.end(link)
            link.waiting_ns = None
        self.dialler.forget_later()
        if self.schedule is not None and self.schedule.left:
            self.tally.errors[Kind.UNANSWERED] += self.schedule.left
        self.tally.latencies = self.rulers.latencies()
        self.tally.errors.update(self.replies.errors)
        self.tally.example = self.tally.example or self.replies.example

    # Sending

    def refill(self, link: Link, now: int) -> None:
        """If the connection has room: send more (closed loop), or have it wait for what is due (open loop)."""
        if not self.is_sending:
            return
        if self.new_connection:
            room = 1 if link.waiting_ns is None and link.state is State.DOWN else 0
        else:
            room = self.in_flight - link.under_way if link.state is State.UP else 0
        if room <= 0:
            return
        if self.schedule is None:
            count = min(room, self.credit)
            if count > 0:
                self.credit -= count
                self.launch(link, count, now_ns(), now)
        elif not link.is_idle:
            link.is_idle = True
            link.idle_ns = now
            self.idle.append(link)

    def launch(self, link: Link, count: int, stamp: int, now: int) -> None:
        """Send so many messages; with --new-connection, as soon as it is made."""
        self.tally.sent += count
        if self.new_connection:
            link.waiting_ns = stamp
            self.dialler.dial(link, now)
        else:
            self._send(link, count, stamp)

    def _send(self, link: Link, count: int, stamp: int) -> None:
        wires = self.wires
        if len(wires) == 1:
            content = wires[0] * count
        else:
            content = b"".join([wires[number % len(wires)] for number in range(link.ask, link.ask + count)])
        if not link.under_way:
            link.active_ns = now_ns()
        link.sent(count, stamp)
        self.tally.sent_bytes += len(content)
        if link.out:
            link.out += content
        else:
            self._write(link, content)
        link.look_forward(self.replies.reply, wires[0])

    def _write(self, link: Link, content: bytes) -> None:
        taken = 0
        try:
            while taken < len(content):  # until it says that it is full: only then it tells when it is not any more
                taken += os.write(link.fd, content[taken:] if taken else content)
        except BlockingIOError:
            pass
        except OSError as error:
            self._lose(link, of_traffic(error.errno or 0))
            return
        had_rest, link.out = bool(link.out), content[taken:]
        if had_rest != bool(link.out):
            self.dialler.watch(link, bool(link.out))

    def on_short_write(self, link: Link, taken: int) -> None:
        """From the fast loop: of `link.again` only so much was sent."""
        link.expect = None
        self._write(link, link.again[taken:])

    def settle(self, done: int) -> None:
        """From the fast loop: so many were answered, and as many sent."""
        self.credit -= done
        self.tally.sent += done
        self.tally.answered += done
        self.tally.sent_bytes += done * len(self.wires[0])
        self.tally.received_bytes += done * len(self.replies.reply or b"")

    # Receiving

    def on_event(self, fd: int, flags: int, now: int) -> None:
        """Something happened on a descriptor."""
        link = self.by_fd.get(fd)
        if link is None:
            return  # ended while earlier events of this poll were handled
        if link.state is State.DIALLING:
            self.dialler.on_event(link)
            return
        sock = link.sock
        if flags & select.EPOLLOUT and link.out:
            self._write(link, link.out)
        if link.sock is sock and flags & (_LOST if self.slow_bytes_s else ~select.EPOLLOUT):
            self._receive(link, flags, now, MOST_BYTES)

    def on_piece(self, link: Link, piece: bytes, now: int, most: int) -> None:
        """From the fast loop: this was read, of at most `most` bytes, and is not what was expected."""
        sock = link.sock
        if not piece:
            self._lose(link, Kind.CLOSED if link.rest is None else Kind.TRUNCATED)
            return
        self._feed(link, piece, now)
        if link.sock is sock and len(piece) == most:
            self._receive(link, select.EPOLLIN, now, MOST_BYTES)

    def _receive(self, link: Link, flags: int, now: int, most: int, once: bool = False) -> None:
        """Read until there is no more, or until it is certain that nothing more is there."""
        sock = link.sock  # not its number, which the next connection gets as soon as this one ends
        while link.sock is sock:
            try:
                piece = os.read(link.fd, most)
            except BlockingIOError:
                return
            except OSError as error:
                self._lose(link, of_traffic(error.errno or 0))
                return
            if not piece:
                self._lose(link, Kind.CLOSED if link.rest is None else Kind.TRUNCATED)
                return
            self._feed(link, piece, now)
            if once or (len(piece) < most and not flags & _LOST):
                return
            now = now_ns()  # what comes from now on may have arrived after the poll

    def _feed(self, link: Link, piece: bytes, now: int) -> None:
        """These bytes have come."""
        self.tally.received_bytes += len(piece)
        link.active_ns = now
        try:
            count, link.rest = self.replies.count(link.rest, piece, link.answer)
        except BrokenReply as broken:
            self.tally.example = self.tally.example or str(broken)
            self._lose(link, broken.kind)
            return
        if count > link.under_way:
            self.tally.example = self.tally.example or f"it began {bytes(piece[:40])!r}"
            self._lose(link, Kind.UNASKED)
            return
        if not count:
            link.expect = None
            return
        link.failures = 0
        self.tally.answered += count
        if now < link.stamp:
            now = now_ns()  # sent after the poll, and answered already
        for stamp, weight in link.answered(count):
            self.rulers.record(now - stamp, weight)
        if self.new_connection:
            self.dialler.end(link)
        self.refill(link, now)
        if link.state is State.UP:
            link.look_forward(self.replies.reply, self.wires[0])

    def read_slowly(self, now: int) -> None:
        """A slow client's reading: of each connection as many bytes as its rate allows since the last time."""
        if not self.slow_bytes_s or now < self.next_slow_ns:
            return
        self.next_slow_ns = now + self._slow_ns
        most = max(1, self.slow_bytes_s * self._slow_ns // SECOND)
        for link in list(self.by_fd.values()):
            if link.state is State.UP:
                self._receive(link, 0, now, most, once=True)

    # Connections

    def _on_up(self, link: Link) -> None:
        now = now_ns()
        self.tally.connections += 1
        self.failing = None
        self.patience.connected(now)
        if link.waiting_ns is not None:
            stamp, link.waiting_ns = link.waiting_ns, None
            self._send(link, 1, stamp)
        else:
            self.refill(link, now)

    def _on_dial_failed(self, link: Link, kind: Kind) -> None:
        self.tally.errors[kind] += 1
        self.failing = self.losing = kind
        if link.waiting_ns is not None:
            link.waiting_ns = None
            self._drop(1, Kind.UNANSWERED)
        self._come_again(link)

    def _on_time(self, link: Link, now: int) -> None:
        if self.new_connection and link.waiting_ns is None:
            self.refill(link, now)
        else:
            self.dialler.dial(link, now)

    def _lose(self, link: Link, kind: Kind) -> None:
        if link.stamp > link.active_ns:
            link.failures = 0  # the fast loop has had replies here
        if kind is Kind.TIMEOUT:
            self._drop(link.under_way, kind)
        else:
            self.tally.errors[kind] += 1
            self._drop(link.under_way, Kind.UNANSWERED)
        self.losing = kind
        self.dialler.end(link)
        self._come_again(link)

    def _drop(self, count: int, kind: Kind) -> None:
        if count:
            self.tally.errors[kind] += count
            self.dropped += count

    def _come_again(self, link: Link) -> None:
        """Another connection takes the place, soon."""
        self.attention = True
        if self.is_sending:
            self.dialler.later(link, now_ns())

    def look_at_time_limits(self, now: int) -> None:
        """End what has taken too long, and see whether it is all over."""
        limit_ns = now - self.timeout_ns
        is_any_up = False
        for link in list(self.by_fd.values()):
            if link.state is State.DIALLING:
                if link.active_ns < limit_ns:
                    self.dialler.fail(link, Kind.CONNECT_TIMEOUT)
                continue
            if link.oldest and max(link.active_ns, link.stamp) < limit_ns:
                self._lose(link, Kind.TIMEOUT)
            is_any_up = is_any_up or link.state is State.UP
        self.patience.look(
            now,
            answered=self.tally.answered,
            dropped=self.dropped,
            is_any_up=is_any_up,
            failing=self.failing,
            losing=self.losing,
            # A slow client's reply may take any time, and in an open loop nothing may be due.
            is_waiting=self.slow_bytes_s is None
            and (self.schedule is None or self.tally.sent > self.tally.answered + self.dropped),
        )
