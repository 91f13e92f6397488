"""When to give up: the server is gone, or never answers.  Pure.

One failure is counted and the run goes on, because how a server behaves in trouble is worth measuring.  A server that
is not there any more is not, and a run of a fixed count against it would never end.
"""

from paceline.bench.troubles import Kind

SECOND = 1_000_000_000
GONE_NS = 2 * SECOND
"""For so long no connection could be made, and none is left."""


class Patience:
    """What has been seen, and the verdict.  Times in nanoseconds."""

    __slots__ = ("_answered", "_connected_ns", "_limit_ns", "_reply_ns", "_timeouts", "verdict")

    def __init__(self, timeout_ns: int, now_ns: int) -> None:
        self._limit_ns = 2 * timeout_ns + GONE_NS
        self._connected_ns = self._reply_ns = now_ns
        self._answered = 0
        self._timeouts = 0
        self.verdict: Kind | None = None
        """Why it is over; None: it is not."""

    def connected(self, now_ns: int) -> None:
        """A connection was made."""
        self._connected_ns = now_ns

    def look(self, now_ns: int, *, answered: int, timeouts: int, is_any_up: bool, failing: Kind | None) -> Kind | None:
        """`answered`, `timeouts`: messages so far; `failing`: how the last attempt to connect failed, if one did."""
        if answered != self._answered:
            self._answered, self._timeouts, self._reply_ns = answered, timeouts, now_ns
        if is_any_up:
            self._connected_ns = now_ns
        elif failing is not None and now_ns - self._connected_ns > GONE_NS:
            self.verdict = failing
        if timeouts > self._timeouts and now_ns - self._reply_ns > self._limit_ns:
            self.verdict = Kind.TIMEOUT
        return self.verdict
