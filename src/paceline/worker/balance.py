"""Which worker should have a connection.  Pure: giving.py asks.

**A fresh one**, after each accept, on the leader's thread.  Wake-ups favour one worker: of 200 paced connects over four
idle workers, one gets all.  Therefore a worker that has clearly more connections than the least loaded of its siblings
passes a fresh one on, at most once.  What lies in an inbox and was not yet taken in counts for its seat, whoever sent
it there: in a burst several workers pass at once, and an inbox may wait longer than the burst lasts.

**One that must go**, because its worker is saturated or leaves: the least loaded one with room has it, of the newest
generation that there is, lest it be moved twice.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

SLACK = 4
SLACK_SHARE = 0.12
"""Within this much of the least loaded, a worker keeps what it accepts: passing costs more than it helps."""


@dataclass(frozen=True, slots=True)
class Sibling:
    """Another worker that is ready and not saturated, as its row on the scoreboard says."""

    seat: int
    connections: int
    limit: int
    generation: int = 0


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


@dataclass(slots=True)
class Taker:
    """A worker that has room for more; `load` counts what we have given it, too."""

    seat: int
    load: int
    limit: int
    generation: int


class Takers:
    """Those to whom connections can be given now: looked up once, for as many as are given at once."""

    def __init__(self, siblings: Iterable[Sibling], waiting: Callable[[int], int]) -> None:
        found = (Taker(it.seat, it.connections + waiting(it.seat), it.limit, it.generation) for it in siblings)
        self._with_room = [taker for taker in found if taker.load < taker.limit]

    def __bool__(self) -> bool:
        return bool(self._with_room)

    def best(self, generation: int | None = None) -> Taker | None:
        """The least loaded one of the newest generation, or of this one."""
        able = [taker for taker in self._with_room if generation is None or taker.generation == generation]
        return min(able, key=lambda taker: (-taker.generation, taker.load), default=None)

    def leave_out(self, generation: int) -> None:
        """Those of this generation, and of older ones, are to have none."""
        self._with_room = [taker for taker in self._with_room if taker.generation > generation]

    def on_given(self, taker: Taker) -> None:
        taker.load += 1
        if taker.load >= taker.limit:
            self.on_full(taker)

    def on_full(self, taker: Taker) -> None:
        """It takes nothing more for now."""
        self._with_room.remove(taker)
