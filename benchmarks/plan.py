"""In which order the trials run, and how long that takes.  Pure.

Competitors are interleaved (A B C, B C A, …): whatever changes on the machine in the course of minutes, heat, other
people's programs, meets all of them, and a ratio is taken between neighbours in time.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from benchmarks.measure import Pace
from benchmarks.terms import Row, Trial

T = TypeVar("T")

OVERHEAD_S = {"load": 0.4, "saturated": 4.0, "memory": 2.0, "start": 0.2, "lifetime": 0.05, "import": 0.1}
"""What a trial takes beside its pace, roughly; progress corrects it by what the first ones took."""


@dataclass(frozen=True, slots=True)
class Step:
    """One repetition to be made; `round` counts the repetitions of its row, and pairs the trials."""

    row: Row
    trial: Trial
    round: int


def plan(rows: Iterable[Row], rounds: int, only: Collection[str] = (), *, is_quick: bool = False) -> list[Step]:
    """All repetitions in order; `only` keeps the trials whose name begins with one of its words."""
    steps = []
    for row in rows:
        count = 1 if is_quick and row.once_if_quick else rounds * row.times
        trials = [trial for trial in row.trials if not only or trial.name.startswith(tuple(only))]
        steps += [Step(row, trial, number) for number in range(count) for trial in rotated(trials, number)]
    return steps


def rotated(trials: Sequence[T], number: int) -> list[T]:
    """The trials from the `number`th on, round to the one before it: nobody is always first."""
    first = number % len(trials) if trials else 0
    return [*trials[first:], *trials[:first]]


def expected_s(step: Step, pace: Pace) -> float:
    """How long a step should take."""
    running = pace.warmup_s + pace.duration_s if step.trial.measures == "load" else 0.0
    settling = 2 * step.trial.settle_s if step.trial.measures == "memory" else 0.0
    return running + settling + OVERHEAD_S[step.trial.measures]


def left_s(steps: Sequence[Step], done: int, taken_s: float, pace: Pace) -> float:
    """How long the steps after the first `done` will take: as expected, or longer if those took longer.

    Not shorter, because a trial that fails does so in no time.
    """
    expected = [expected_s(step, pace) for step in steps]
    so_far, still = sum(expected[:done]), sum(expected[done:])
    return still * max(1.0, taken_s / so_far) if so_far else still


def span(seconds: float) -> str:
    """A time for people: `48 s`, `3 min 20 s`."""
    whole = round(seconds)
    return f"{whole} s" if whole < 60 else f"{whole // 60} min {whole % 60:02d} s"
