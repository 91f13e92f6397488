"""Does everybody wait for too long?  Pure: shedding.py looks once a tick, and acts.

A queue that comes and goes is what a queue is for: a burst is worked off, and the next one finds it empty.  A queue
that *stands* helps nobody: it only makes everybody wait.  What tells the two apart is not how long somebody has waited,
but that over an interval nobody has waited for less (Nichols and Jacobson, "Controlling Queue Delay", ACM Queue 10(5),
2012; as servers do it: Maurer, "Fail at Scale", ACM Queue 13(8), 2015).

So an overload begins when each look of an interval has found that who is next has waited longer than the limit, and
ends when each look of an interval has found half of it or less.  While it lasts, what has waited longer than the limit
is to be shed: those who have waited longest are the first to be given up anyway, and those behind them are answered in
time.  That it lasts for an interval too long costs nobody anything who does not wait longer than the limit.
"""

from dataclasses import dataclass

INTERVAL_S = 0.1

MOST_STEP_S = 0.04
"""What one look counts for at most: after a pause of the whole process (it was stopped, the machine slept) everything
has waited, and that alone is no overload.  What is not worked off within an interval afterwards is one."""

OVER_AT = 0.5
"""The share of the limit that counts as the end: what is shed at the limit must not look like it."""


@dataclass(slots=True)
class Line:
    """One place where somebody waits for us, and how long who is next has waited, at least."""

    wait_s: float = 0.0

    def look(self, waits: bool, measured_s: float | None, elapsed_s: float) -> float:
        """`measured_s`: who was next; None: nobody was taken for so long as has elapsed."""
        if not waits:
            self.wait_s = 0.0
        elif measured_s is not None:
            self.wait_s = measured_s
        else:
            self.wait_s += elapsed_s
        return self.wait_s


@dataclass(slots=True)
class Overload:
    """Whether it is one."""

    limit_s: float
    is_on: bool = False
    above_s: float = 0.0
    """For how long every look has found more than the limit."""
    below_s: float = 0.0
    """In an overload: for how long every look has found half of it or less."""
    lasted_s: float = 0.0
    """How long it has lasted, or the last one did."""

    def look(self, wait_s: float, elapsed_s: float) -> bool:
        """Who is next has waited so long; the look before was so long ago.  True: it has begun or ended just now."""
        was_on = self.is_on
        if self.is_on:
            self.lasted_s += elapsed_s
            self.below_s = self.below_s + min(elapsed_s, MOST_STEP_S) if wait_s <= OVER_AT * self.limit_s else 0.0
            if self.below_s >= INTERVAL_S:
                self.end()
        elif wait_s > self.limit_s:
            self.above_s += min(elapsed_s, MOST_STEP_S)
            if self.above_s >= INTERVAL_S:
                self.is_on, self.lasted_s = True, 0.0
        else:
            self.above_s = 0.0
        return self.is_on is not was_on

    def end(self) -> None:
        """It is over, whatever waits."""
        self.is_on = False
        self.above_s = self.below_s = 0.0
