"""What came out of a run, and whether every promise was kept.  Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from paceline.chaos.books import Books, Broken
from paceline.chaos.figures import worst
from paceline.chaos.judge import How
from paceline.chaos.plan import Plan
from paceline.chaos.tally import Tally


@dataclass(frozen=True, slots=True)
class Rest:
    """The supervisor at rest, before and after: `idle_share` of one core, by it and its workers, afterwards."""

    descriptors: tuple[int, int]
    threads: tuple[int, int]
    rss_bytes: tuple[int, int]
    zombies: int
    idle_share: float


RSS_MORE_BYTES = 8 << 20
IDLE_SHARE = 0.05


def judge_rest(rest: Rest) -> list[str]:
    """What is not as it was."""
    said = []
    for what, (before, after) in (("descriptors", rest.descriptors), ("threads", rest.threads)):
        if after != before:
            said.append(f"the supervisor had {before} {what} before, and has {after} afterwards")
    if rest.rss_bytes[1] - rest.rss_bytes[0] > RSS_MORE_BYTES:
        before_mib, after_mib = (amount / (1 << 20) for amount in rest.rss_bytes)
        said.append(f"the supervisor's memory (RSS) grew from {before_mib:.1f} to {after_mib:.1f} MiB")
    if rest.zombies:
        said.append(f"{rest.zombies} dead processes are not reaped")
    if rest.idle_share > IDLE_SHARE:
        said.append(f"with nobody connected it takes {rest.idle_share:.0%} of a core")
    return said


@dataclass(slots=True)
class Result:
    """All of it.  `schedule`: the steps that were done, each with when it began, in seconds from the start."""

    plan: Plan
    seconds: float
    tally: Tally
    books: Books
    most_generations: int
    servers: int
    """How many were started, one after the other."""
    rest: Rest | None
    schedule: Sequence[tuple[int, str, float]] = field(default_factory=list)
    is_interrupted: bool = False

    @property
    def broken(self) -> Sequence[Broken]:
        """Promises that were not kept."""
        return self.books.broken

    @property
    def injected(self) -> int:
        return sum(count.injected for count in self.books.counts.values())

    @property
    def lost(self) -> int:
        """Messages that were sent and not answered."""
        return sum(self.books.lost_by.values())

    @property
    def parked_cut(self) -> int:
        """Connections that were ended between two messages."""
        return sum(count for (how, _), count in self.books.cut_by.items() if how is How.PARKED)

    @property
    def worst_stall_s(self) -> float:
        return max(self.tally.worst_ns.values(), default=0) / 1e9

    def unexplained(self) -> int:
        """Losses that no fault explains."""
        return sum(count for (_, by), count in self.books.cut_by.items() if not by)

    def to_json(self) -> dict[str, Any]:
        tally, books = self.tally, self.books
        waits = tally.waits
        return {
            "paceline_chaos": 1,
            "plan": self.plan.to_json(),
            "command": self.plan.command(),
            "seconds": round(self.seconds, 3),
            "interrupted": self.is_interrupted,
            "faults": {name: count.to_json() for name, count in sorted(books.counts.items())},
            "figures": [figure.to_json() for figure in worst(books.figures)],
            "schedule": [
                {"step": number, "fault": name, "at_s": round(at_s, 3)} for number, name, at_s in self.schedule
            ],
            "messages": {
                "sent": tally.sent,
                "answered_once_in_order": tally.answered,
                "lost": _grouped(books.lost_by.items()),
                "wrong": dict(tally.wrong),
            },
            "connections": {"made": tally.connections, "cut": _grouped(books.cut_by.items())},
            "wait_ms": {
                name: round(waits.percentile(percent) / 1e6, 3) if waits.count else None
                for name, percent in (("p50", 50), ("p99", 99), ("p999", 99.9))
            },
            "worst_stall_s": round(self.worst_stall_s, 4),
            "worst_stall_without_fault_s": round(books.calm_stall_s, 4),
            "most_generations": self.most_generations,
            "servers": self.servers,
            "rest": None if self.rest is None else {name: getattr(self.rest, name) for name in self.rest.__slots__},
            "broken": [{"what": each.what, "step": each.step} for each in books.broken],
            "broken_not_shown": books.broken_more,
        }


def _grouped(items: Any) -> list[dict[str, Any]]:
    found = [{"how": how.value, "by": by or None, "count": count} for (how, by), count in items if count]
    return sorted(found, key=lambda each: -each["count"])
