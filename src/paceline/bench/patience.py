"""When to give up: the server is gone, or never answers.  Pure.

One failure is counted and the run goes on, because how a server behaves in trouble is worth measuring.  A server that
is not there any more is not, and a run of a fixed count against it would never end; nor would it against one that takes
messages and answers none.
"""

from paceline.bench.troubles import Kind

SECOND = 1_000_000_000
GONE_NS = 2 * SECOND
"""For so long no connection could be made, and none is left."""


class Patience:
    """What has been seen, and the verdict.  Times in nanoseconds."""

    __slots__ = (
        "_answered",
        "_connected_ns",
        "_dropped",
        "_finished",
        "_finished_ns",
        "_limit_ns",
        "_reply_ns",
        "verdict",
    )

    def __init__(self, timeout_ns: int, now_ns: int) -> None:
        self._limit_ns = 2 * timeout_ns + GONE_NS
        self._connected_ns = self._reply_ns = now_ns
        self._finished_ns = now_ns
        self._answered = self._finished = 0
        self._dropped = 0
        self.verdict: Kind | None = None
        """Why it is over; None: it is not."""

    def connected(self, now_ns: int) -> None:
        """A connection was made."""
        self._connected_ns = now_ns

    def look(
        self,
        now_ns: int,
        *,
        answered: int,
        dropped: int,
        is_any_up: bool,
        failing: Kind | None,
        losing: Kind,
        is_waiting: bool,
    ) -> Kind | None:
        """`answered`, `dropped`: messages so far, the latter for ever without a reply, last because of `losing`.

        `failing`: how the last attempt to connect failed, if it did.  `is_waiting`: something is under way,
        or should be.
        """
        if answered + dropped != self._finished or not is_waiting:
            self._finished, self._finished_ns = answered + dropped, now_ns
        if answered != self._answered:
            self._answered, self._dropped, self._reply_ns = answered, dropped, now_ns
        if is_any_up:
            self._connected_ns = now_ns
        elif failing is not None and now_ns - self._connected_ns > GONE_NS:
            self.verdict = failing
        if dropped > self._dropped and now_ns - self._reply_ns > self._limit_ns:
            self.verdict = losing
        if now_ns - self._finished_ns > self._limit_ns:
            self.verdict = Kind.UNANSWERED
        return self.verdict
