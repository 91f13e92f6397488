"""What one process, or all of them, counted in the measured time.  Pure."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from paceline.bench.latency import Latencies
from paceline.bench.troubles import Kind


@dataclass(slots=True)
class Tally:
    """Counts; `add` merges those of several processes.

    sent          messages sent in the measured time (a message is sent once, also when it fails)
    answered      replies to them; `errors` has the wrong ones, too
    in_time       those that came before the measured time was over, from which the throughput is taken
    …_bytes       on the wire, before the measured time was over, too
    connections   made in the measured time (all of them once, where there is no --new-connection)
    late_ns       open loop: by how much the generator itself sent later than it could have, at most; and in sum
    waited        open loop: messages that were due while no connection was free
    """

    sent: int = 0
    answered: int = 0
    in_time: int = 0
    sent_bytes: int = 0
    received_bytes: int = 0
    connections: int = 0
    late_ns: int = 0
    late_sum_ns: int = 0
    waited: int = 0
    errors: Counter[Kind] = field(default_factory=Counter)
    latencies: Latencies = field(default_factory=Latencies)
    example: str = ""
    """The first error that has more to tell than its kind."""

    def add(self, other: "Tally") -> None:
        """Count what the other has counted, too."""
        for name in _COUNTS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.late_ns = max(self.late_ns, other.late_ns)
        self.errors.update(other.errors)
        self.latencies.add(other.latencies)
        self.example = self.example or other.example

    def to_json(self) -> dict[str, Any]:
        """Builtin values only; `from_json` reads them."""
        return {
            **{name: getattr(self, name) for name in (*_COUNTS, "late_ns", "example")},
            "longest_ns": self.latencies.longest_ns,
            "errors": {str(kind): count for kind, count in sorted(self.errors.items()) if count},
            "latencies": self.latencies.to_json(),
        }

    @classmethod
    def from_json(cls, read: Mapping[str, Any]) -> "Tally":
        """Raises KeyError, TypeError or ValueError when this is no tally."""
        made = cls()
        for name in (*_COUNTS, "late_ns"):
            setattr(made, name, int(read[name]))
        made.example = str(read["example"])
        made.errors = Counter({Kind(name): int(count) for name, count in read["errors"].items()})
        made.latencies = Latencies.from_json(read["latencies"])
        made.latencies.longest_ns = int(read["longest_ns"])
        return made


_COUNTS = (
    "sent", "answered", "in_time", "sent_bytes", "received_bytes", "connections", "late_sum_ns", "waited",
)  # fmt: skip
"""What merges by addition."""


@dataclass(slots=True, frozen=True)
class Effort:
    """What one process spent on the measured time.

    seconds          from its begin to its end, drained
    busy_seconds     of them, on a core and not merely spinning until the next message is due
    starved_seconds  of them, ready to run but without a core, because somebody else had it (0 where it is not known)
    """

    seconds: float
    busy_seconds: float
    starved_seconds: float

    @property
    def cores(self) -> float:
        """How much of a core it was busy, 0 to 1."""
        return self.busy_seconds / self.seconds if self.seconds > 0 else 0.0

    @property
    def starved(self) -> float:
        """For how much of the time it waited for a core, 0 to 1."""
        return self.starved_seconds / self.seconds if self.seconds > 0 else 0.0
