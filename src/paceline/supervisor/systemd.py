"""What the service manager is told, and when (sd_notify(3)).  Pure: it decides, host/notify.py sends.

The supervisor says in one value how it is, `Situation`, as often as it likes; `due` answers with the datagrams that
follow from that, from what was told before, and from the time.  What was not taken is due again.

    READY=1        the server serves; and again after each reload, whatever came of it
    RELOADING=1    a reload has begun, with MONOTONIC_USEC: a manager that asked for it by a signal (Type=notify-reload)
                   waits for this, and then for READY=1
    STOPPING=1     the end has begun
    STATUS=…       one line for people (`systemctl status`), when it has changed
    WATCHDOG=1     twice as often as is asked for, as long as a worker proves that it lives: a supervisor that goes
                   round and round over dead workers is not alive
    EXTEND_TIMEOUT_USEC=…    a start, reload or end takes longer than usual, and goes on
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto

USUAL_S = 5.0
"""A start, reload or end that takes longer asks for more time, and asks again so often."""
EXTENSION_S = 30.0
"""So much from then on; the manager's own limit holds if it ends later."""
STATUS_CHARACTERS = 400


class Phase(Enum):
    STARTING = auto()
    SERVING = auto()
    RELOADING = auto()
    STOPPING = auto()


@dataclass(frozen=True, slots=True)
class Situation:
    """How the server is."""

    phase: Phase
    status: str = ""
    """For people; one line is made of it."""
    reloads: int = 0
    """How many were asked for since the start: one that fails at once is over before it could be seen going on."""
    beat_at: float | None = None
    """When a worker that serves last gave a sign of life; None: there is no such worker."""


@dataclass(slots=True)
class Systemd:
    """What was told.  Times are seconds of CLOCK_MONOTONIC."""

    pid: int
    begun_at: float
    watchdog_s: float | None = None
    """How often a sign of life is expected; None: never."""
    fresh_s: float = 10.0
    """So long a worker's sign of life counts: --heartbeat, after which the supervisor itself would act."""
    told: Situation = Situation(Phase.STARTING)
    alive_at: float | None = None
    extended_at: float | None = None
    looked_at: float = 0.0

    def next_at(self) -> float | None:
        """When `due` wants to be asked although nothing has happened; None: with the next tick is soon enough."""
        if self.watchdog_s is None or self.alive_at is None:
            return None
        at = self.alive_at + self.watchdog_s / 2
        return at if at > self.looked_at else None  # it was due, and no worker lived

    def due(self, situation: Situation, now: float) -> list[str]:
        """The datagrams to be sent now, in this order.  When all were taken, `on_told` is to be called."""
        self.looked_at = now
        lines = [*self._news(situation, now)]
        if self._wants_time(situation, now):
            lines.append([f"EXTEND_TIMEOUT_USEC={round(EXTENSION_S * 1e6)}"])
        if self._shows_life(situation, now):
            lines.append(["WATCHDOG=1"])
        return ["\n".join(part) for part in lines]

    def on_told(self, situation: Situation, now: float) -> None:
        """What was due has been sent."""
        if self._wants_time(situation, now):
            self.extended_at = now
        if self._shows_life(situation, now):
            self.alive_at = now
        if situation.phase is not self.told.phase:
            self.begun_at, self.extended_at = now, None
        self.told = situation

    def _news(self, now_is: Situation, now: float) -> Iterator[list[str]]:
        before = self.told
        status = [f"STATUS={line_of(now_is.status)}"] if now_is.status != before.status else []
        is_new = now_is.phase is not before.phase
        has_served = before.phase in (Phase.SERVING, Phase.RELOADING)
        match now_is.phase:
            case Phase.SERVING | Phase.RELOADING if has_served and now_is.reloads != before.reloads:
                yield ["RELOADING=1", f"MONOTONIC_USEC={int(now * 1e6)}", *status]
                if now_is.phase is Phase.SERVING:
                    yield ["READY=1", *status]
            case Phase.SERVING if is_new:
                yield ["READY=1", f"MAINPID={self.pid}", *status]
            case Phase.STOPPING if is_new:
                yield ["STOPPING=1", *status]
            case _ if status:
                yield status

    def _wants_time(self, now_is: Situation, now: float) -> bool:
        if now_is.phase is Phase.SERVING or now_is.phase is not self.told.phase:
            return False
        return now - (self.begun_at if self.extended_at is None else self.extended_at) >= USUAL_S

    def _shows_life(self, now_is: Situation, now: float) -> bool:
        if self.watchdog_s is None or now_is.phase is Phase.STARTING or now_is.beat_at is None:
            return False
        is_due = self.alive_at is None or now >= self.alive_at + self.watchdog_s / 2
        return is_due and now - now_is.beat_at <= self.fresh_s


def line_of(text: str) -> str:
    """One line without control characters, of bounded length: a line feed would begin another variable."""
    line = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return line if len(line) <= STATUS_CHARACTERS else line[: STATUS_CHARACTERS - 1] + "…"


def serving_text(addresses: str, workers: int, generation: int) -> str:
    """`serving on 127.0.0.1:8888, 2 workers, generation 3`."""
    return f"serving on {addresses}, {workers} worker{'' if workers == 1 else 's'}, generation {generation}"
