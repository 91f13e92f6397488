"""Which worker should have a fresh connection.  Pure: accepting.py asks after each accept.

Wake-ups favour one worker: of 200 paced connects over four idle workers, one gets all.  Therefore a worker that has
clearly more connections than the least loaded of its siblings passes a fresh one on, at most once.  What it passed is
not yet in the sibling's count; it adds what it knows to be on the way.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

SLACK = 4
SLACK_SHARE = 0.12
"""Within this much of the least loaded, a worker keeps what it accepts: passing costs more than it helps."""


@dataclass(frozen=True, slots=True)
class Sibling:
    """Another worker of the same generation that is ready and not saturated, as its row on the scoreboard says."""

    seat: int
    connections: int
    limit: int
    received: int
    """How many it has taken from its inbox so far."""


@dataclass(slots=True)
class Balance:
    """What one worker knows of its siblings.  Used by its leader only."""

    on_the_way: dict[int, int] = field(default_factory=dict)
    """By seat: passed by us and, as far as we know, still in its inbox."""
    received: dict[int, int] = field(default_factory=dict)
    """By seat: the count when we last looked."""

    def choose(self, mine: int, siblings: Iterable[Sibling]) -> int | None:
        """The seat that should have the fresh connection, given that we have `mine` with it; None: ours."""
        best: int | None = None
        least = mine
        for sibling in siblings:
            load = sibling.connections + self._waiting_at(sibling)
            if load < least and load < sibling.limit:
                best, least = sibling.seat, load
        return best if mine > least + max(SLACK, SLACK_SHARE * least) else None

    def on_passed(self, seat: int) -> None:
        self.on_the_way[seat] = self.on_the_way.get(seat, 0) + 1

    def _waiting_at(self, sibling: Sibling) -> int:
        """What it received since we looked is taken to be ours first: what others pass makes us less shy, briefly."""
        seat = sibling.seat
        arrived = sibling.received - self.received.get(seat, sibling.received)
        self.received[seat] = sibling.received
        waiting = self.on_the_way.get(seat, 0)
        if waiting and arrived:
            waiting = self.on_the_way[seat] = max(0, waiting - arrived)
        return waiting
