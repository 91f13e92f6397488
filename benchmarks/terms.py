"""What the table of rows is made of: servers, loads, what is measured, what is to be reached.  Pure."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Server = tuple[str, ...]
"""Who serves: ("paceline", TARGET, option…), ("c" or "peer", NAME, argument…) or ("python", argument…)."""

CERTIFICATE = "{certificate}"
KEY = "{key}"
"""Among a server's words: the paths of those that are made for the run (certificate.py)."""


@dataclass(frozen=True, slots=True)
class Load:
    """What load/load.c is told to do; sizes in bytes, `rate` in messages per second (0: closed loop)."""

    connections: int = 64
    size: int = 64
    in_flight: int = 1
    line: bool = False
    upper: bool = False
    rate: float = 0
    slow_share: float = 0
    hold: bool = False
    silent: bool = False
    tls: bool = False
    connects: Literal["before", "when due"] | None = None
    """Row 7 only, whose load is saturation.py: when the connections of the quick messages are made."""

    def options(self) -> list[str]:
        """The command line, without what a run decides: port, warm-up and duration."""
        words: list[str] = []
        for name, value in asdict(self).items():
            if value is False or value is None or (name in ("rate", "slow_share") and not value):
                continue
            words.append(f"--{name.replace('_', '-')}")
            if value is not True:
                words.append(str(value))
        return words


@dataclass(frozen=True, slots=True)
class Trial:
    """One server under one load.

    measures   load: throughput, latency and CPU time; saturated: the same while one worker is (saturation.py);
               memory: of connections that are held; start: of a server; lifetime: of a program that ends by itself;
               import: seconds that it prints
    cores      apart: the server on one core, the load on another; shared: both on all cores (several workers)
    settle_s   memory is read so long after the last message
    """

    name: str
    server: Server
    load: Load = field(default_factory=Load)
    measures: Literal["load", "saturated", "memory", "start", "lifetime", "import"] = "load"
    cores: Literal["apart", "shared"] = "apart"
    settle_s: float = 0.4

    def settings(self) -> dict[str, Any]:
        """What a record keeps of it."""
        load = asdict(self.load) if self.measures in ("load", "saturated", "memory") else {}
        return {
            "server": list(self.server),
            "measures": self.measures,
            "cores": self.cores,
            "settle_s": self.settle_s,
            **load,
        }


@dataclass(frozen=True, slots=True)
class Goal:
    """`metric` of the trial `of`, divided by the same of the trial `to` in the same round, or by the number `to`.

    `by_cpu`: the server is the limit in both trials, so that CPU time per message must tell the same, also on a machine
    that is busy with something else.
    """

    text: str
    metric: str
    of: str
    to: str | float
    sense: Literal["≥", "≤"]
    bound: float
    by_cpu: bool = False

    def is_reached(self, value: float) -> bool:
        return value >= self.bound if self.sense == "≥" else value <= self.bound


@dataclass(frozen=True, slots=True)
class Row:
    """One question.  `us` is the trial that the others are compared with; `metric` what they are compared by.

    shows   what stands in the table        draws   what is drawn in the picture, one under the other
    """

    number: int
    title: str
    us: str
    metric: str
    shows: Sequence[str]
    draws: Sequence[str]
    trials: Sequence[Trial]
    goals: Sequence[Goal]
    times: int = 1
    """Repetitions per round, for trials that take a blink."""
    once_if_quick: bool = False
    """One repetition is all that a quick run makes of trials that take long and differ little."""
    note: str = ""
