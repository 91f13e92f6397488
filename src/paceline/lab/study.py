"""What an experiment's `measure` is given: the machine, chance, and where samples go.  Pure: `tell` is given.

Cases are measured in rounds, each case once a round in a shuffled order, so that what changes on the machine meanwhile
meets all of them alike; the first round only warms up, and is not kept.
"""

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from paceline.lab.experiment import Machine

Case = TypeVar("Case")


class Study:
    """`quick`: with few repetitions.  `seed`: of all that is left to chance; `chance` makes it.

    `tell` is called with each line for whoever runs the experiment: `sample=…`, `settings=…` or `progress=…`.
    """

    def __init__(self, machine: Machine, *, quick: bool, seed: int, tell: Callable[..., None]) -> None:
        self.machine, self.quick, self.seed = machine, quick, seed
        self.chance = random.Random(seed)
        self._tell = tell
        self._is_warming = False
        self._from, self._to = 0.0, 1.0

    def rounds(
        self, cases: Iterable[Case], *, quick: int, full: int, warm_up: bool = True
    ) -> Iterator[tuple[int, Case]]:
        """(round, case): each case in each round; round 0 is the warm-up, in which nothing is noted."""
        cases = list(cases)
        count = quick if self.quick else full
        first = 0 if warm_up else 1
        total, done = (count + 1 - first) * len(cases), 0
        for number in range(first, count + 1):
            order = self.chance.sample(cases, len(cases))
            for case in order:
                self._is_warming = number == 0
                try:
                    yield number, case
                finally:
                    self._is_warming = False  # also when whoever measures leaves the loop
                done += 1
                self.progress(done / total)

    def note(self, case: str, round_: int, **values: Any) -> None:
        """A sample: written at once, so that it is kept whatever happens next."""
        if not self._is_warming:
            self._tell(sample={"case": case, "round": round_, **values})

    def settings(self, **values: Any) -> None:
        """How it is measured: what is not in every sample, with the unit in the name (`clients`, `for_s`)."""
        self._tell(settings=values)

    def progress(self, share: float) -> None:
        """How much of the whole has been done, 0 to 1.  An experiment with several `rounds` may say so by `part`."""
        self._tell(progress=round(self._from + share * (self._to - self._from), 4))

    def part(self, from_share: float, to_share: float) -> None:
        """What follows is this part of the whole."""
        self._from, self._to = from_share, to_share

    def pick(self, quick: Sequence[Case], full: Sequence[Case]) -> Sequence[Case]:
        """The cases of a quick run, or of a full one."""
        return quick if self.quick else full
