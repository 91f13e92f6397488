"""What the clients of a run have counted.  Pure."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from paceline.stats.histogram import Histogram

LONG_NS = 50_000_000
"""A reply that takes longer is a stall, and told with its time."""


@dataclass(slots=True)
class Tally:
    """All of one load process, from its beginning.

    sent         messages that were sent, or begun
    answered     of them, once and in order
    connections  that were made
    wrong        replies that were none, by what was wrong
    worst_ns     the longest that a client has waited for a reply, by its number
    """

    sent: int = 0
    answered: int = 0
    connections: int = 0
    wrong: Counter[str] = field(default_factory=Counter)
    worst_ns: dict[int, int] = field(default_factory=dict)
    waits: Histogram = field(default_factory=Histogram)
    versions: int = 0
    """The newest version of the code that was heard of."""

    def on_answer(self, client: int, waited_ns: int) -> None:
        """One reply as it should be."""
        self.answered += 1
        self.waits.record(waited_ns)
        if waited_ns > self.worst_ns.get(client, 0):
            self.worst_ns[client] = waited_ns

    def to_json(self) -> dict[str, Any]:
        return {
            "sent": self.sent,
            "answered": self.answered,
            "connections": self.connections,
            "wrong": dict(self.wrong),
            "worst_ns": {str(client): ns for client, ns in self.worst_ns.items()},
            "waits": list(self.waits.cells),
            "versions": self.versions,
        }

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> "Tally":
        """The tally that `to_json` wrote."""
        return cls(
            **{
                **record,
                "wrong": Counter(record["wrong"]),
                "worst_ns": {int(client): ns for client, ns in record["worst_ns"].items()},
                "waits": Histogram(record["waits"]),
            }
        )
