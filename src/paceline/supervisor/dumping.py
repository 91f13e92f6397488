"""Where all threads of all workers are, also of those that cannot say so: one question, from asking to the last answer.

Each worker is asked over its control channel, and its watcher answers, though all its threads hang.  Who has not
answered in time cannot run Python: C code keeps the GIL, or the worker still imports.  It is sent a signal then, upon
which faulthandler writes its stacks, in C code, into the memory of its seat.  Who does not do that either is stopped,
or waits in the kernel; /proc tells.

Nothing here waits.  The supervisor's loop calls `on_message` when a worker has answered, and `on_time` at `next_at`, or
earlier; what is known by then is handed over, each seat once.
"""

import contextlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import Enum

from paceline.host import memory, processes, signals
from paceline.supervisor.inquest import read_dump
from paceline.supervisor.seats import Seat
from paceline.worker.messages import Dump, Dumped

ASKED_S = 1.0
"""How long a worker has to answer by itself."""
SIGNALLED_S = 1.0
"""How long its C code has."""
GLANCE_S = 0.02
"""Between two looks at what is written; two equal ones, and it is complete."""

_HELD = {
    "T": "stopped (by SIGSTOP or at its terminal): it runs nothing until it gets SIGCONT, so it has no stacks to show",
    "t": "stopped by a debugger: it runs nothing until that lets it go on, so it has no stacks to show",
    "D": "waits for the kernel (uninterruptible), usually for a disk or a network file system: it shows no stacks",
    "Z": "has ended",
    "X": "has ended",
}
"""By the letter of its state (proc_pid_stat(5)): why a worker says nothing."""
_GONE = "ended before it answered"


class _Step(Enum):
    ASKED = 1
    SIGNALLED = 2


@dataclass(slots=True)
class _Wait:
    """One worker that was asked."""

    seat: Seat
    pid: int
    look_at: float
    step: _Step = _Step.ASKED
    until: float = 0.0
    """When its C code must have written."""
    start: int = 0
    """Where in the memory its answer begins."""
    size: int = 0
    """How far it went at the last look."""


@dataclass(slots=True)
class Dumping:
    """One question to the workers.  `now` is the clock of the loop."""

    now: Callable[[], float]
    asker: int = 0
    _waits: dict[int, _Wait] = field(default_factory=dict)
    _known: list[tuple[Seat, str]] = field(default_factory=list)

    def begin(self, asker: int, seats: Iterable[Seat]) -> None:
        """Ask whoever sits there."""
        self.asker = asker
        now = self.now()
        for seat in seats:
            if seat.is_taken:
                why = _HELD.get(processes.run_state(seat.pid), "")
                if why and not why.startswith("waits"):
                    self._known.append((seat, f"{why}\n"))
                else:
                    seat.tell(Dump(asker))
                    self._waits[seat.number] = _Wait(seat, seat.pid, now + ASKED_S)

    @property
    def is_over(self) -> bool:
        """Every answer is there, and was handed over."""
        return not self._waits and not self._known

    @property
    def next_at(self) -> float | None:
        """When to call `on_time` again; None: it is over."""
        if self._known:
            return self.now()
        return min((wait.look_at for wait in self._waits.values()), default=None)

    def on_message(self, seat: Seat, message: Dumped) -> None:
        """A worker has answered; a late answer, or one to somebody else, is nothing."""
        wait = self._waits.get(seat.number)
        if wait is not None and message.asker == self.asker and wait.pid == seat.pid:
            del self._waits[seat.number]
            self._known.append((seat, message.text))

    def on_time(self, now: float) -> list[tuple[Seat, str]]:
        """What has become known since the last call."""
        for wait in list(self._waits.values()):
            text = _GONE if wait.seat.pid != wait.pid else self._go_on(wait, now) if now >= wait.look_at else None
            if text is not None:
                del self._waits[wait.seat.number]
                self._known.append((wait.seat, text.rstrip("\n") + "\n"))
        known, self._known = self._known, []
        return known

    def _go_on(self, wait: _Wait, now: float) -> str | None:
        """The answer, or what is said instead of one; None: not yet."""
        if wait.step is _Step.ASKED:
            return self._signal(wait, now)
        size = memory.size_of(wait.seat.fault_fd)
        is_complete = size > wait.start and size == wait.size
        wait.size = size
        if not is_complete and now < wait.until:
            wait.look_at = now + GLANCE_S
            return None
        if size <= wait.start:
            return _excuse(wait.pid)
        text = read_dump(wait.seat.fault_fd, wait.start)
        if memory.size_of(wait.seat.fault_fd) == size:
            memory.empty(wait.seat.fault_fd)  # it is no part of the report, should the worker crash some day
        return f"it cannot run Python, so this is what C code sees (most recent call first):\n{text}"

    def _signal(self, wait: _Wait, now: float) -> str | None:
        """It did not answer by itself."""
        if not processes.catches(wait.pid, signals.STACKS):
            return f"does not answer, and the user's code has taken its handler for {signals.name_of(signals.STACKS)}"
        with contextlib.suppress(OSError):
            wait.start = wait.size = memory.size_of(wait.seat.fault_fd)
        if not processes.send_signal(wait.seat.pidfd, signals.STACKS):
            return _GONE
        wait.step, wait.until, wait.look_at = _Step.SIGNALLED, now + SIGNALLED_S, now + GLANCE_S
        return None


def _excuse(pid: int) -> str:
    state = processes.run_state(pid)
    return _HELD.get(
        state, f"does not answer, nor does it take signals (state {state or 'unknown'} in /proc/{pid}/stat)"
    )
