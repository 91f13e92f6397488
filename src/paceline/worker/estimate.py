"""Does the handler block or compute?  Pure: the watcher feeds it once a tick, the leader reads its verdict.

A handler counts as *blocking* when its mean blocked time (of sampled calls, wall − thread CPU, and nothing for a call
that never gave its processor away: that one was only preempted) is over 100 µs, or when the watcher had to promote more
than once per 2,000 of the last 10,000 calls: a sampled mean misses rare long blocks.

While the process itself keeps a core busy, a thread that waits for the GIL looks blocked; such samples do not enter.
Once blocking, every call is measured and the verdict is left slowly: after 10,000 calls of which at most one in 2,000
was blocked for longer than a tick and the others below 50 µs in the mean.  There the busy samples do count: what the
GIL adds can only make a call look *more* blocked than it is.

`most_calls` is how many calls one batch may make so that it stays within its bounds of time and bytes without reading
a clock in between.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum

ENTER_BLOCKED_NS = 100_000
LEAVE_BLOCKED_NS = 50_000
LONG_NS = 5_000_000
WINDOW_CALLS = 10_000
RARE = 2_000
WEIGHT = 1 / 16

BATCH_CALLS = 256
BATCH_NS = 1_000_000
BATCH_BYTES = 256 * 1024
FIRST_BATCH_CALLS = 16

RUNNING = 0.5
"""The share of a tick above which a thread that was in one call all the time counts as computing, or as queueing."""


Times = tuple[int, int, int]
"""What a thread got of the processors so far (host/scheduling.py): ns that it ran, ns that it queued, slices."""


class Verdict(Enum):
    """Why a call goes on."""

    BLOCKS = "it waits for something: somebody else can lead"
    COMPUTES = "it uses a processor, and holds the GIL: a few others may lead, to take turns with it"
    QUEUES = "it would run if it had a processor, or the GIL: more threads would only lengthen the queue"


def judge(before: Times | None, after: Times | None, is_runnable: bool, elapsed_ns: float, busy: bool) -> Verdict:
    """Why the leader is in the same call as `elapsed_ns` ago, by what the scheduler says of its thread.

    Who waits for the GIL wakes at each switch interval to ask for it; who waits for anything else sleeps all the time.
    `busy`: the process used most of a core meanwhile, which is all there is where the kernel does not tell more.
    """
    if before is None or after is None:
        return Verdict.COMPUTES if busy else Verdict.BLOCKS
    ran, waited, slices = (now - then for now, then in zip(after, before, strict=True))
    if ran >= RUNNING * elapsed_ns:
        return Verdict.COMPUTES
    if is_runnable:
        return Verdict.QUEUES
    if slices <= 1:
        return Verdict.BLOCKS
    # It woke again and again: many short waits, or the queue for the GIL or a processor.
    return Verdict.QUEUES if busy or ran + waited >= RUNNING * elapsed_ns else Verdict.BLOCKS


@dataclass(slots=True)
class Estimate:
    """What is known of the handler.  Written by the watcher only."""

    blocking: bool = False
    mean_blocked_ns: float = 0.0
    mean_wall_ns: float = 0.0
    most_calls: int = FIRST_BATCH_CALLS
    promotions: deque[int] = field(default_factory=deque)
    """The call counts at which the watcher had to promote, as far as they lie in the window."""
    quiet_calls: int = 0
    quiet_long: int = 0
    quiet_sum_ns: float = 0.0

    def on_samples(self, samples: Iterable[tuple[int, int]], busy: bool) -> None:
        """Calls measured since the last tick: (took, blocked) nanoseconds.  `busy`: the process used most of a core."""
        for wall, blocked in samples:
            self.mean_wall_ns += (wall - self.mean_wall_ns) * WEIGHT if self.mean_wall_ns else wall
            if not busy:
                self.mean_blocked_ns += (blocked - self.mean_blocked_ns) * WEIGHT
            if self.blocking:
                self._on_quiet(blocked)
        # Once blocking, the quiet calls alone decide: the mean stands still while the process is busy.
        if self.mean_blocked_ns > ENTER_BLOCKED_NS and not self.blocking:
            self._enter()

    def on_watched(self, calls: int) -> None:
        """The watcher had to promote; `calls` were begun so far in this worker."""
        self.promotions.append(calls)
        while self.promotions[0] <= calls - WINDOW_CALLS:
            self.promotions.popleft()
        if len(self.promotions) > 1 and len(self.promotions) * RARE > min(calls, WINDOW_CALLS):
            self._enter()

    def on_traffic(self, calls: int, bytes_out: int) -> None:
        """So many calls were made and bytes sent since the last tick: bound the next batches."""
        if not calls:
            return
        most = min(BATCH_CALLS, int(BATCH_NS / self.mean_wall_ns)) if self.mean_wall_ns else FIRST_BATCH_CALLS
        if bytes_out:
            most = min(most, BATCH_BYTES * calls // bytes_out)
        self.most_calls = max(1, most)

    def _enter(self) -> None:
        self.blocking = True
        self.quiet_calls = self.quiet_long = 0
        self.quiet_sum_ns = 0.0

    def _on_quiet(self, blocked_ns: int) -> None:
        self.quiet_calls += 1
        if blocked_ns > LONG_NS:
            self.quiet_long += 1
        else:
            self.quiet_sum_ns += blocked_ns
        if self.quiet_calls >= WINDOW_CALLS:
            rare = self.quiet_long * RARE <= self.quiet_calls
            if rare and self.quiet_sum_ns / self.quiet_calls < LEAVE_BLOCKED_NS:
                self.blocking = False
                self.mean_blocked_ns = 0.0
                self.promotions.clear()
            self.quiet_calls = self.quiet_long = 0
            self.quiet_sum_ns = 0.0
