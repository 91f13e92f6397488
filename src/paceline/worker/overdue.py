"""Which calls take longer than they may.  Pure: the watcher looks, reports.py says what was found.

A look compares each thread with what it was at the look before.  Whose marks (calls begun, polls made, waits for the
peer) all stand where they stood, and who was in a call both times, is in the same call.  So no clock is read when a
call begins: its age counts from the first look that saw it, and is never more than the truth; less by one look at most.

A thread that waits for its peer, in a whole-connection call, is in no call here.  When it comes back its marks have
changed, and its time begins anew.

**Time counts only while the worker runs.**  A look that comes much later than it should have come (the process was
stopped, the machine slept or had no processor to spare) counts as one that came in time.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from paceline.errors import TargetError
from paceline.handlers import AUTO, Handler
from paceline.settings import Settings
from paceline.settings.table import BY_KEY
from paceline.settings.values import WrongValueError

DEFAULT_S = 30.0
"""What a call may take where nobody says anything else."""

LONGEST_PACE_S, SHORTEST_PACE_S = 0.25, 0.02
"""Between two looks, while calls go on."""
UNLIMITED_PACE_S = 1.0
"""The same where no call is ever late: the ages are for whoever asks what the threads do."""
LATE_S = 1.0
"""How much later than it should have come a look may come, at most, and its time count."""

Marks = tuple[int, int, int]
M = TypeVar("M")


@dataclass(frozen=True, slots=True)
class Limit:
    """How long a call may take, and who says so."""

    seconds: float | None
    """None: as long as it likes."""
    said_by: str = "by default (--timeout)"


def limit_of(settings: Settings, handler: Handler) -> Limit:
    """What holds for the calls of this handler: an explicit --timeout, else what the handler says, else the default.

    Raises TargetError when what the handler says is no time, also where the setting overrides it.
    """
    kind = BY_KEY["timeout"].kind
    said = handler.marks.timeout
    try:
        own = kind.read(said)
    except WrongValueError as wrong:
        nearest = f"; the nearest right value is {wrong.nearest}" if wrong.nearest else ""
        raise TargetError(f"{handler.name} says timeout={said!r}: must be {wrong.rule}{nearest}") from None
    if settings.timeout != AUTO:
        return Limit(settings.timeout, "by --timeout")  # type: ignore[arg-type]  # what is left is a time, or None
    return Limit(DEFAULT_S) if own == AUTO else Limit(own, "by the handler (--timeout overrides it)")


@dataclass(slots=True)
class Seen:
    """A call that goes on."""

    marks: Marks
    since: float
    """By the clock that counts."""
    is_late: bool = False
    """It was found to take longer than it may."""


@dataclass(slots=True)
class Found(Generic[M]):
    """What a look found: the threads, and how many seconds each has been in its call."""

    late: list[tuple[M, float]] = field(default_factory=list)
    """Each call once, when it has become late."""
    ended: list[tuple[M, float]] = field(default_factory=list)
    """Those that were late, and have come to an end after all."""


class Overdue(Generic[M]):
    """The calls of one worker, from look to look."""

    def __init__(self, limit_s: float | None) -> None:
        self.limit_s = limit_s
        self.pace_s = UNLIMITED_PACE_S if limit_s is None else min(LONGEST_PACE_S, max(SHORTEST_PACE_S, limit_s / 5))
        """How often to look while calls go on."""
        self.late_s = LATE_S if limit_s is None else min(LATE_S, limit_s / 2)
        self.seen: dict[M, Seen] = {}
        self._counted_s = 0.0
        self._looked_at: float | None = None

    def look(self, now: float, threads: Iterable[tuple[M, Marks | None]]) -> Found[M]:
        """Each thread, with its marks if it is in a call."""
        if self._looked_at is not None:
            step = now - self._looked_at
            self._counted_s += step if step <= self.pace_s + self.late_s else self.pace_s
        self._looked_at = now
        before, self.seen = self.seen, {}
        found: Found[M] = Found()
        for thread, marks in threads:
            seen = before.get(thread)
            if marks is None:
                continue
            if seen is None or seen.marks != marks:
                self.seen[thread] = Seen(marks, self._counted_s)
                continue
            del before[thread]
            self.seen[thread] = seen
            if not seen.is_late and self.limit_s is not None and self._counted_s - seen.since > self.limit_s:
                seen.is_late = True
                found.late.append((thread, self._counted_s - seen.since))
        found.ended.extend((thread, self._counted_s - seen.since) for thread, seen in before.items() if seen.is_late)
        return found

    def age_s(self, thread: M, marks: Marks) -> float | None:
        """How long it has been in the call that has these marks, as of the last look; None: that is a new one."""
        seen = self.seen.get(thread)
        return self._counted_s - seen.since if seen is not None and seen.marks == marks else None

    def is_late(self, thread: M, marks: Marks | None) -> bool:
        """It is still in a call that was found late."""
        seen = self.seen.get(thread)
        return seen is not None and seen.is_late and seen.marks == marks
