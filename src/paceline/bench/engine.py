"""The loop of one load process: one thread, non-blocking sockets, one clock reading for all that a poll returns.

A run has phases, each with nothing under way before and after it: `connect`, then `run` for the warm-up, then `run` for
the measured time.  In a phase messages are sent until its end, and then what is under way is waited for.

A reply's time is when epoll reported it, a message's time is read just before it is sent (closed loop) or is when it
was due (open loop).  What is common, the closed loop over connections that stay, is in fast.py; all else goes through
here and traffic.py.
"""

import select
from collections import deque

from paceline.bench import effort
from paceline.bench.fast import run_closed
from paceline.bench.link import State
from paceline.bench.pacing import SECOND, Schedule
from paceline.bench.traffic import Traffic
from paceline.bench.troubles import Kind
from paceline.clock import now_ns

MOST_EVENTS = 256
MOST_DIALLING = 256
TICK_NS = SECOND // 10
SPIN_NS = 120_000
"""A message that is due sooner than this is waited for awake: the kernel wakes a sleeper about that much late (timer
slack, prctl(2), and what it takes to get a core)."""
LATE_NS = 1_000_000
"""A message counts as one that waited for a free connection if it did for longer."""
STOPPED_NS = SECOND
"""After an interrupt, replies are waited for so long at most."""
NO_LIMIT = 1 << 62


class Engine(Traffic):
    """The load of one process.  `stop` may be set from `on_tick`."""

    def connect(self) -> Kind | None:
        """Make all connections; None, or why one of them could not be made.  With --new-connection none is made yet."""
        if self.new_connection:
            return None
        missing = deque(self.links)
        limit_ns = now_ns() + self.timeout_ns + SECOND
        while (missing or self.dialler.pending or self.dialler.next_ns) and not self.stop:
            while missing and self.dialler.pending < MOST_DIALLING and self.failing is None:
                self.dialler.dial(missing.popleft(), now_ns())
            for fd, flags in self._wait(now_ns(), now_ns() + TICK_NS // 10):
                self.on_event(fd, flags, self.polled_ns)
            self.dialler.tell_due(now_ns())
            self._tick(now_ns())
            if self.dialler.pending == 0 and now_ns() > limit_ns:  # the queue of a unix: listener stays full
                return Kind.CONNECT_TIMEOUT
            if self.failing is not None:
                return self.failing
        return None

    def run(
        self, end_ns: int | None, count: int | None, schedule: Schedule | None, *, drops_backlog: bool = False
    ) -> int:
        """Send until the end, or so many messages, and wait for what is under way.  Gives when sending ended.

        `self.tally` has the counts then, `self.spent` the clocks of that moment.  Without a schedule the loop is
        closed.  `drops_backlog`: what was due before the end and had no free connection is not sent after it.
        """
        self.begin(NO_LIMIT if count is None else count, schedule)
        for link in self.links:
            if link.state is State.DOWN and not self.new_connection:
                self.dialler.dial(link, now_ns())
            else:
                self.refill(link, now_ns())
        limit_ns = NO_LIMIT if end_ns is None else end_ns
        while not self.stop and not self.is_done() and (now := now_ns()) < limit_ns:
            until_ns = min(now + TICK_NS, limit_ns)
            if self._is_plain():
                run_closed(self, min(until_ns, self.dialler.next_ns or NO_LIMIT))
                self.attention = False
                self.dialler.tell_due(now_ns())
            else:
                self._careful(until_ns)
            self._tick(now_ns())
        self.spent = effort.read()
        ended_ns = self.spent.at_ns
        if drops_backlog:
            self.schedule = None
        self._drain(ended_ns, is_cut=end_ns is not None and ended_ns >= end_ns)
        self.finish()
        return ended_ns

    def _is_plain(self) -> bool:
        """Whether the fast loop may run: nothing is sent by the clock, or could be sent beyond the count."""
        return (
            self.schedule is None
            and not self.new_connection
            and not self.slow_bytes_s
            and self.replies.reply is not None
            and self.credit > len(self.links) * self.in_flight
        )

    def _drain(self, ended_ns: int, *, is_cut: bool) -> None:
        """Wait for what is under way; what was due is still sent, late as it is."""
        was_stopped, self.stop = self.stop, False
        tally = self.tally
        in_time = tally.answered, tally.sent_bytes, tally.received_bytes
        self.credit = 0
        self.is_sending = self.schedule is not None
        if was_stopped and self.schedule is not None:
            self.schedule.end_at(ended_ns)
        limit_ns = ended_ns + (min(self.timeout_ns, STOPPED_NS) if was_stopped else self.timeout_ns + 2 * TICK_NS)
        while self.patience.verdict is None and not self.stop and not self.is_done() and (now := now_ns()) < limit_ns:
            self._careful(min(now + TICK_NS, limit_ns))
            self._tick(now_ns())
        self.stop = self.stop or was_stopped
        if not (is_cut or was_stopped):
            in_time = tally.answered, tally.sent_bytes, tally.received_bytes
        tally.in_time, tally.sent_bytes, tally.received_bytes = in_time

    def _tick(self, now: int) -> None:
        """What is looked at ten times a second."""
        if now < self._next_tick_ns:
            return
        self._next_tick_ns = now + TICK_NS
        self.look_at_time_limits(now)
        if self.patience.verdict is not None:
            self.stop = True
        self._on_tick(self)

    def _careful(self, until_ns: int) -> None:
        """Poll and handle until then, or until all is answered."""
        while not self.stop:
            now = now_ns()
            self.dialler.tell_due(now)
            self._pump(now)
            self.read_slowly(now)
            if now >= until_ns or self.is_done() or self._is_plain():
                return
            for fd, flags in self._wait(now, until_ns):
                self.on_event(fd, flags, self.polled_ns)

    def _wait(self, now: int, until_ns: int) -> list[tuple[int, int]]:
        """What epoll has, at the latest when the next thing is to be done by the clock."""
        due = self.schedule.next_ns if self.schedule is not None and self.idle else None
        then = min(until_ns, due or NO_LIMIT, self.dialler.next_ns or NO_LIMIT, self.next_slow_ns or NO_LIMIT)
        gap = then - now
        if then != due:
            events = self.poll(max(0, gap) / SECOND, MOST_EVENTS)
            self.polled_ns = now_ns()
            return events
        if gap > SPIN_NS:
            # epoll_wait counts milliseconds, select microseconds; a set of epoll can itself be waited for (epoll(7)).
            select.select([self.dialler.epoll], [], [], (gap - SPIN_NS) / SECOND)
            now = now_ns()
        events = self.poll(0, MOST_EVENTS)
        self.polled_ns = now_ns()
        if not events:
            self.spun_ns += self.polled_ns - now
        return events

    def _pump(self, now: int) -> None:
        """Open loop: send what is due, as far as there are free connections."""
        schedule, idle = self.schedule, self.idle
        if schedule is None:
            return
        while idle and (due := schedule.next_ns) is not None and due <= now:
            link = idle.popleft()
            link.is_idle = False
            if link.state is not State.UP and not self.new_connection:
                continue  # it comes back when it is connected again
            schedule.take()
            free_ns = link.idle_ns
            self.tally.late_sum_ns += now - max(due, free_ns)
            self.tally.late_ns = max(self.tally.late_ns, now - max(due, free_ns))
            self.tally.waited += free_ns - due > LATE_NS
            self.launch(link, 1, due, now)
            self.refill(link, now)
            link.idle_ns = free_ns  # with room for more it has been free all the time
