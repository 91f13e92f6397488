"""How long to wait before the next try, and how many deaths are too many.  Pure.

Two curves.  A worker that could not start is tried again at once, then after 0.1, 0.2, 0.4 … 30 s: a mistake in the
code is seen without a storm of processes.  A process that could not be made is tried again after 0.1, 0.2, 0.4, then
every 0.5 s: the limit that forbade it may be lifted at any time, and to try costs next to nothing.

A worker that dies after it was ready is replaced at once, always; `Deaths` only says when that has become a disease.
"""

from collections import deque
from dataclasses import dataclass, field

JITTER = 0.25
"""A delay is shortened by up to this part of it, so that many slots do not try in step."""


@dataclass(frozen=True, slots=True)
class Curve:
    """Delays that double from `first_s` up to `most_s`."""

    first_s: float
    most_s: float
    free: int = 0
    """So many failures in a row cost no delay at all."""

    def after(self, failures: int, random: float) -> float:
        """Seconds to wait after so many failures in a row (1 or more); `random` is from 0 to 1."""
        paid = failures - self.free
        if paid <= 0:
            return 0.0
        doublings = min(paid - 1, 64)  # beyond that a float would overflow, and `most_s` was reached long before
        return min(self.first_s * 2.0**doublings, self.most_s) * (1.0 - JITTER * random)


BOOT = Curve(first_s=0.1, most_s=30.0, free=1)
"""After a worker died or gave up before it was ready."""

FORK = Curve(first_s=0.1, most_s=0.5)
"""After no process could be made."""


@dataclass(slots=True)
class Deaths:
    """The deaths of workers that had been ready: more than `limit` within `window_s` is called degraded.

    It is over when only half as many are left in the window, so that a rate near the limit does not flutter.
    """

    limit: int = 60
    window_s: float = 60.0
    degraded: bool = False
    times: deque[float] = field(default_factory=deque)

    def record(self, now: float) -> bool:
        """One more death.  True: with it the server has become degraded."""
        self._forget(now)
        self.times.append(now)
        if self.degraded or len(self.times) <= self.limit:
            return False
        self.degraded = True
        return True

    def has_recovered(self, now: float) -> bool:
        """True once, when it is over."""
        self._forget(now)
        if self.degraded and len(self.times) <= self.limit // 2:
            self.degraded = False
            return True
        return False

    @property
    def recovers_at(self) -> float | None:
        """When it will be over if nobody else dies; None when nothing is wrong."""
        if not self.degraded:
            return None
        return self.times[max(0, len(self.times) - self.limit // 2 - 1)] + self.window_s

    def __len__(self) -> int:
        return len(self.times)

    def _forget(self, now: float) -> None:
        while self.times and self.times[0] + self.window_s <= now:
            self.times.popleft()
