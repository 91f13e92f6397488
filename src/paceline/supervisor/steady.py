"""A clock that stands still while the whole machine does.  Pure.

A laptop that slept, a virtual machine that was paused, a container that was frozen: the monotonic clock may go on
meanwhile, and then every deadline seems to have passed at once.  Whoever waits with an end, and wakes long after it,
has not run in between, and neither has anybody else of the family: that time does not count.  Nor does what lies
between two steps of whoever never waits elsewhere, if it is long: he has been held up there.  He says `on_step` before
he decides anything, so that nothing is decided by a time that is taken back afterwards.
"""

from collections.abc import Callable
from dataclasses import dataclass

LATE_S = 1.0
"""Less than this is the ordinary lateness of a busy machine."""


@dataclass(slots=True)
class Steady:
    """`now` is the clock less the time that did not count."""

    clock: Callable[[], float]
    gap_s: float = 0.0
    stepped_at: float | None = None
    """When the last wait was over, or the last step begun, in this clock's time."""

    def now(self) -> float:
        return self.clock() - self.gap_s

    def go_on(self, gap_s: float, since: float) -> None:
        """As the clock of another program, which ended at `since`, by the clock below (0: nobody knows).

        Starting took time in which nobody was heard: it does not count, or deadlines would pass before anybody is.
        """
        self.gap_s = gap_s + (max(0.0, self.clock() - since) if since else 0.0)

    def on_woken(self, until: float) -> None:
        """A wait is over that was to end at `until` at the latest, in this clock's time."""
        self._leave_out(self.now() - until)
        self.stepped_at = self.now()

    def on_step(self) -> None:
        """Something is about to be decided, or a wait begins."""
        if self.stepped_at is not None:
            self._leave_out(self.now() - self.stepped_at)
            self.stepped_at = self.now()

    def _leave_out(self, late: float) -> None:
        if late > LATE_S:
            self.gap_s += late
