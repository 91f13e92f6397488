"""The books of a run: wounds, losses, stalls, and what was broken; each loss is judged as soon as it can be.  Pure."""

from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from paceline.chaos.catalogue import Fault, Loses
from paceline.chaos.figures import Figure
from paceline.chaos.judge import How, Loss, Wound, explain
from paceline.chaos.messages import Wrong

REMEMBERED_S = 60.0
"""A loss may have begun so long before it was noticed, at most."""
SHOWN = 10
"""So many of each kind of trouble are told with all that is known of them."""


@dataclass(slots=True)
class Count:
    """What one kind of fault did; times in seconds.  `took_s`: from each fault to full strength again."""

    injected: int = 0
    lost: int = 0
    """Messages."""
    cut: int = 0
    """Connections, with messages under way or not."""
    worst_stall_s: float = 0.0
    stalls: int = 0
    """Replies that took longer than 50 ms (tally.LONG_NS) while one was on."""
    took_s: list[float] = field(default_factory=list)

    def took(self, percent: float) -> float | None:
        """The percentile (nearest rank) of the times; None: there are none."""
        ranked = sorted(self.took_s)
        return ranked[min(len(ranked) - 1, int(len(ranked) * percent / 100))] if ranked else None

    def to_json(self) -> dict[str, Any]:
        return {
            "injected": self.injected,
            "messages_lost": self.lost,
            "connections_cut": self.cut,
            "worst_stall_s": round(self.worst_stall_s, 4),
            "stalls": self.stalls,
            "took_s": {"p50": self.took(50), "p99": self.took(99), "worst": self.took(100)},
        }


@dataclass(frozen=True, slots=True)
class Broken:
    """A promise that was not kept: what happened, and in which step (0: at no one's)."""

    what: str
    step: int = 0
    at_s: float = 0.0


class Books:
    """`left`: processes that went in peace, and when they were last seen whole."""

    def __init__(self) -> None:
        self.counts: dict[str, Count] = {}
        self.lost_by: Counter[tuple[How, str]] = Counter()
        """Messages, by how and by the fault that explains it (empty: none)."""
        self.cut_by: Counter[tuple[How, str]] = Counter()
        """Connections, likewise."""
        self.broken: list[Broken] = []
        self.broken_more = 0
        self.figures: list[Figure] = []
        self.calm_stall_s = 0.0
        """The worst stall while no fault was on."""
        self.left: dict[int, float] = {}
        self.wounds: deque[Wound] = deque()
        self._here: frozenset[int] = frozenset()
        self._losses: deque[Loss] = deque()
        self._stalls: deque[tuple[float, float]] = deque()

    def count_of(self, fault: str) -> Count:
        return self.counts.setdefault(fault, Count())

    def on_injected(self, fault: Fault, took_s: float | None) -> None:
        count = self.count_of(fault.name)
        count.injected += 1
        if took_s is not None:
            count.took_s.append(took_s)

    def on_figure(self, figure: Figure, step: int, at_s: float) -> None:
        """It was measured of an abuse; over its bound a promise is broken."""
        self.figures.append(figure)
        if figure.is_broken:
            self.breaks(f"{figure.fault}: {figure.text()}", step, at_s)

    def on_heard(self, message: dict[str, Any], began_s: float) -> None:
        """What the load process has noticed."""
        if "loss" in message:
            self._losses.append(Loss.from_json(message["loss"]))
        elif "stall" in message:
            self._stalls.append((message["stall"][0], message["stall"][1]))
        elif "wrong" in message:
            wrong, at_s = Wrong(message["wrong"]), message["at_s"]
            self.breaks(f"{wrong.value} (client {message['client']}, {at_s - began_s:.3f} s after the start)", 0, at_s)

    def on_here(self, pids: Iterable[int], at_s: float) -> None:
        """These are the workers now that are not about to leave.

        Who is not among them any more has left in peace, unless a fault has cost it its connections: one that was asked
        to leave hands them over, and whatever befalls their next worker befalls them.
        """
        here = frozenset(pids)
        gone, self._here = self._here - here, here
        if gone:
            latest = [wound for wound in islice(reversed(self.wounds), 3) if wound.loses is not Loses.NOTHING]
            for pid in gone.difference(*(wound.pids for wound in latest)):
                self.left.setdefault(pid, at_s)

    def breaks(self, what: str, step: int, at_s: float) -> None:
        if len(self.broken) < SHOWN:
            self.broken.append(Broken(what, step, at_s))
        else:
            self.broken_more += 1

    def settle(self, before_s: float, began_s: float) -> None:
        """Judge what was noticed before that moment: all wounds of that time are known."""
        while self._losses and self._losses[0].at_s < before_s:
            self._judge(self._losses.popleft(), began_s)
        while self._stalls and self._stalls[0][1] < before_s:
            self._attribute(*self._stalls.popleft())
        while self.wounds and self.wounds[0].to_s < before_s - REMEMBERED_S:
            self.wounds.popleft()
        if len(self.left) > 1_000:
            self.left = {pid: at_s for pid, at_s in self.left.items() if at_s > before_s - REMEMBERED_S}

    def _judge(self, loss: Loss, began_s: float) -> None:
        wound = explain(loss, self.wounds, self.left)
        by = wound.fault if wound is not None else ""
        self.cut_by[loss.how, by] += 1
        self.lost_by[loss.how, by] += loss.messages
        if wound is not None:
            count = self.count_of(by)
            count.lost += loss.messages
            count.cut += loss.how is not How.REFUSED
            return
        at_s = loss.at_s - began_s
        pid = f"pid {loss.pid}" if loss.pid else "a worker that is not known"
        during = ", ".join(self._near(loss.since_s, loss.at_s)) or "no fault"
        self.breaks(
            f"{loss.how.value}: client {loss.client} of {pid}, {loss.messages} under way, {at_s:.3f} s after the "
            f"start, {loss.at_s - loss.since_s:.3f} s after it was last well; that time saw {during}",
            0,
            loss.at_s,
        )

    def _near(self, from_s: float, to_s: float) -> Iterable[str]:
        for wound in self.wounds:
            if wound.from_s <= to_s and from_s <= wound.to_s + 1.0:
                pids = f" of {', '.join(map(str, wound.pids))}" if wound.pids else ""
                yield f"{wound.fault}{pids} (step {wound.step})"

    def _attribute(self, from_s: float, to_s: float) -> None:
        stall_s = to_s - from_s
        hit = [wound.fault for wound in self.wounds if wound.from_s <= to_s and from_s <= wound.to_s]
        for fault in hit:
            count = self.count_of(fault)
            count.stalls += 1
            count.worst_stall_s = max(count.worst_stall_s, stall_s)
        if not hit:
            self.calm_stall_s = max(self.calm_stall_s, stall_s)
