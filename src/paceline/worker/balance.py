"""Which worker should have a fresh connection.  Pure: handover.py asks after each accept, on the leader's thread.

Wake-ups favour one worker: of 200 paced connects over four idle workers, one gets all.  Therefore a worker that has
clearly more connections than the least loaded of its siblings passes a fresh one on, at most once.  What lies in an
inbox and was not yet taken in counts for its seat, whoever sent it there: in a burst several workers pass at once, and
an inbox may wait longer than the burst lasts.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

SLACK = 4
SLACK_SHARE = 0.12
"""Within this much of the least loaded, a worker keeps what it accepts: passing costs more than it helps."""


@dataclass(frozen=True, slots=True)
class Sibling:
    """Another worker of the same generation that is ready and not saturated, as its row on the scoreboard says."""

    seat: int
    connections: int
    limit: int


def choose(mine: int, siblings: Iterable[Sibling], waiting: Callable[[int], int]) -> int | None:
    """The seat that should have the fresh connection, given that we have `mine` with it; None: we should.

    `waiting` says how many connections lie in the inbox of a seat; it is asked only where that matters.
    """
    best: int | None = None
    least = mine
    for sibling in siblings:
        # What waits there can only make it more.
        if sibling.connections < least and is_clearly_more(mine, sibling.connections):
            load = sibling.connections + waiting(sibling.seat)
            if load < least and load < sibling.limit and is_clearly_more(mine, load):
                best, least = sibling.seat, load
    return best


def is_clearly_more(mine: int, theirs: int) -> bool:
    """Worth a pass."""
    return mine > theirs + max(SLACK, SLACK_SHARE * theirs)
