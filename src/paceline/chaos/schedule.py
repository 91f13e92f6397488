"""Which fault comes when: a function of the seed and of the faults, and of nothing else.  Pure.

Faults are dealt from a deck, in which each lies as often as its weight says, and which is shuffled when it is empty: so
every kind comes soon, and none by luck alone.  A pause lies between the end of one and the beginning of the next; so
the order and the pauses are the same on every machine, and the moments are not.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from paceline.chaos.catalogue import Fault


@dataclass(frozen=True, slots=True)
class Step:
    """One fault.  `pause_s`: how long after the end of the one before.  `seed`: for what is left to chance in it."""

    number: int
    fault: Fault
    pause_s: float
    seed: int

    def chance(self) -> random.Random:
        """The chance of this step: the same at each call."""
        return random.Random(self.seed)


def steps(seed: int, faults: Sequence[Fault], pause_s: float) -> Iterator[Step]:
    """All steps, without end.  `pause_s` is the mean of the pauses, which are between nothing and twice of it."""
    chance = random.Random(seed)
    number = 0
    while faults:
        deck = [fault for fault in faults for _ in range(fault.weight)]
        chance.shuffle(deck)
        for fault in deck:
            number += 1
            yield Step(number, fault, chance.uniform(0, 2 * pause_s), chance.randrange(1 << 32))


def first_steps(seed: int, faults: Sequence[Fault], pause_s: float, count: int) -> str:
    """How the schedule begins, for people: `kill, reload, scale, …`."""
    return ", ".join([*(step.fault.name for step in islice(steps(seed, faults, pause_s), count)), "…"])
