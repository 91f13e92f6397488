"""The processes of attackers, as a fault sees them: apart from the one that measures.  One thread."""

from contextlib import suppress
from typing import Any, Self

from paceline.chaos.attackers import Order
from paceline.chaos.crew import Child
from paceline.errors import HostError
from paceline.host import descriptors

MOST_EACH = 50_000
KEPT_DESCRIPTORS = 100
"""Of each process, for other things than connections."""


def most_each() -> int:
    """How many attackers one process can have: each takes a descriptor."""
    return max(1, min(MOST_EACH, descriptors.most_allowed() - KEPT_DESCRIPTORS))


class Mob:
    """All attackers of one fault.  Raises HostError when a process cannot be started, or dies."""

    def __init__(self, order: Order) -> None:
        each = most_each() if order.kind not in ("flood", "churn", "tear") else order.count
        self.count = order.count
        self._members: list[Child] = []
        self._progress: dict[int, dict[str, int]] = {}
        self._said: dict[str, int] = {"stand": 0, "over": 0, "calm": 0}
        self._results: list[dict[str, Any]] = []
        try:
            for at in range(0, order.count, each):
                part = order.to_json() | {"count": min(each, order.count - at), "first": at}
                with descriptors.allowed(part["count"] + KEPT_DESCRIPTORS):
                    self._members.append(Child("paceline.chaos.attackers", "a process of attackers", order=part))
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def look(self) -> Self:
        """Hear what they have to say."""
        for number, member in enumerate(self._members):
            for message in member.wait_heard(0):
                if "progress" in message:
                    self._progress[number] = message["progress"]
                elif "result" in message:
                    self._results.append(message["result"])
                else:
                    for word in message:
                        self._said[word] += 1
        return self

    def tell_stop(self) -> None:
        for member in self._members:
            with suppress(HostError):
                member.tell(stop=True)

    def tell_calm(self) -> None:
        """They ask nothing more, and wait for what they have asked."""
        for member in self._members:
            member.tell(calm=True)

    @property
    def all_calm(self) -> bool:
        return self._said["calm"] == len(self._members)

    @property
    def all_stand(self) -> bool:
        return self._said["stand"] == len(self._members)

    @property
    def all_over(self) -> bool:
        return self._said["over"] == len(self._members)

    @property
    def connected(self) -> int:
        return sum(progress["connected"] for progress in self._progress.values())

    @property
    def result(self) -> dict[str, Any] | None:
        """What all have met together, when all have said it."""
        if len(self._results) < len(self._members):
            return None
        found: dict[str, Any] = dict(self._results[0])
        for other in self._results[1:]:
            for name, value in other.items():
                if isinstance(value, dict):
                    for key, count in value.items():
                        found[name][key] = found[name].get(key, 0) + count
                else:
                    found[name] = found[name] + value
        found["lasted_s"].sort()
        found["begun_s"].sort()
        return found

    def close(self) -> None:
        for member in self._members:
            member.close()
