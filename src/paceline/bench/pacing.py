"""When messages are due in an open loop.  Pure: time is an argument, in nanoseconds.

Users do not wait for each other's replies before they ask, so neither does the open loop: message i is due at
begin + i / rate, whatever became of those before it.  Its latency counts from then.  If the server stalls for a second
at 1,000 messages a second, a thousand were due within it, and each of them has waited, whether or not the generator had
a connection free to send it ("coordinated omission" is to forget them).  What is due and not sent yet is no list but a
number: the next one's.  So a stall of any length costs no memory.

Several processes share one schedule: process p of n takes the messages p, p + n, p + 2n, …
"""

from fractions import Fraction

SECOND = 1_000_000_000


class Schedule:
    """The messages of one process, in order."""

    __slots__ = ("_begin_ns", "_end_ns", "_over", "_stride", "_taken_index", "_times", "taken", "total")

    def __init__(
        self,
        rate: float,
        begin_ns: int,
        end_ns: int | None,
        *,
        first: int = 0,
        stride: int = 1,
        most: int | None = None,
    ) -> None:
        """`rate` in messages per second of all processes; those due before `end_ns`, and at most `most` of them."""
        period = SECOND / Fraction(str(rate))  # as it was written: 0.1 is a tenth, so that nothing drifts
        self._times, self._over = period.numerator, period.denominator
        self._begin_ns, self._stride = begin_ns, stride
        self._taken_index = first
        self.taken = 0
        self.total = most
        if end_ns is not None:
            self.end_at(end_ns)

    total: int | None
    """How many there are; None: there is no end to them."""

    @property
    def left(self) -> int | None:
        """How many are still to be taken; None: there is no end to them."""
        return None if self.total is None else self.total - self.taken

    @property
    def next_ns(self) -> int | None:
        """When the next one is due; None: there is none."""
        if self.total is not None and self.taken >= self.total:
            return None
        return self._begin_ns + self._taken_index * self._times // self._over

    def take(self) -> None:
        """The next one is sent."""
        self.taken += 1
        self._taken_index += self._stride

    def end_at(self, end_ns: int) -> None:
        """None that is due from then on is to be sent, after all."""
        following = self._taken_index
        due = -(-(end_ns - self._begin_ns) * self._over // self._times)  # rounded up
        total = self.taken + len(range(following, max(following, due), self._stride))
        self.total = total if self.total is None else min(self.total, total)
