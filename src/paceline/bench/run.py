"""One run, from a plan to a result: `measure` leads the load processes through their phases.

On the calling thread, which has to be the main one if Ctrl-C is to be heard.
"""

import signal
from collections.abc import Callable
from typing import Any

from paceline import __version__
from paceline.addresses import Address
from paceline.bench import machine
from paceline.bench.crew import SILENT_S, Crew
from paceline.bench.places import place_of
from paceline.bench.plan import Plan
from paceline.bench.result import Result
from paceline.bench.tally import Effort, Tally
from paceline.bench.troubles import Kind
from paceline.bench.verdicts import not_all_connected, nothing_answered
from paceline.clock import now, now_ns, wall_seconds
from paceline.errors import HostError
from paceline.host import signals

LOOK_S = 0.1
"""So often an interrupt is looked for."""
PATIENCE_S = 5.0
"""After an interrupt the results have to be there within this time."""
HEAD_START_NS = 30_000_000
"""So much later than they are told, several processes begin; all at the same moment."""

Progress = Callable[[float, int, int], None]
"""Called with (seconds measured so far, replies, errors), about twice a second for each process."""


def measure(plan: Plan, address: Address, on_progress: Progress | None = None) -> Result:
    """Do what the plan says.  Ctrl-C or SIGTERM ends the measured time; what was measured by then is the result.

    Raises ConnectFailed when there was nobody, PeerError when not a single reply came, HostError when the machine could
    not do it, UsageError for a framing that cannot be had; KeyboardInterrupt when nothing had been measured yet.
    """
    place = place_of(address)
    with signals.interrupting(signal.SIGTERM), Crew(plan, place) as crew:
        run = _Run(plan, crew)
        run.prepare()
        began_at = wall_seconds()
        is_interrupted = run.collect(on_progress or (lambda _seconds, _answered, _errors: None))
    return Result(
        settings=plan.settings(),
        machine=machine.describe(),
        paceline=__version__,
        began_at=began_at,
        seconds=max(run.seconds),
        tally=run.tally,
        efforts=run.efforts,
        is_interrupted=is_interrupted,
        gone=run.gone,
    )


class _Run:
    def __init__(self, plan: Plan, crew: Crew) -> None:
        self._plan, self._crew = plan, crew
        self._processes = plan.processes
        self.tally = Tally()
        self.seconds: list[float] = []
        self.efforts: list[Effort] = []
        self.gone: Kind | None = None

    def prepare(self) -> None:
        """Until all are connected and warm."""
        waiting = set(range(self._processes))
        warm = Tally()
        while waiting:
            for number, message in self._crew.wait_heard(1.0):
                if "failed" in message:
                    raise not_all_connected(self._plan, Kind(message["failed"]), message["made"])
                if "warm" in message:
                    warm.add(Tally.from_json(message["warm"]))
                if ("warm" if self._plan.warmup_s else "connected") in message:
                    waiting.discard(number)
        if self._plan.warmup_s and not warm.answered and warm.errors:
            raise nothing_answered(self._plan, warm)

    def collect(self, on_progress: Progress) -> bool:
        """Through the measured time, until all results are there; whether it was interrupted."""
        begin = now_ns() + HEAD_START_NS
        end = None if self._plan.duration_s is None else begin + int(self._plan.duration_s * 1e9)
        waiting = set(range(self._processes))
        so_far = [(0, 0)] * self._processes
        deadline: float | None = None
        overdue_ns = int((2 * self._plan.timeout_s + SILENT_S) * 1e9)
        with signals.noted(signal.SIGINT, signal.SIGTERM) as interrupts:  # a message is not torn apart
            self._crew.tell_all(begin=begin, end=end)
            while waiting:
                for number, message in self._crew.wait_heard(LOOK_S):
                    if "result" in message:
                        self._take(message["result"])
                        self._crew.dismiss(number)
                        waiting.discard(number)
                    elif "progress" in message:
                        so_far[number] = (message["progress"]["answered"], message["progress"]["errors"])
                        answered, errors = (sum(counts) for counts in zip(*so_far, strict=True))
                        on_progress((now_ns() - begin) / 1e9, answered, errors)
                if interrupts and deadline is None:
                    self._crew.tell_all(stop=True)
                    deadline = now() + PATIENCE_S
                if deadline is not None and now() > deadline:
                    raise KeyboardInterrupt
                if end is not None and now_ns() > end + overdue_ns:
                    raise HostError(
                        f"{len(waiting)} of {self._processes} load processes had no result {overdue_ns / 1e9:.0f} s "
                        "after the end; is the machine overloaded, or suspended?"
                    )
        return deadline is not None

    def _take(self, result: dict[str, Any]) -> None:
        self.tally.add(Tally.from_json(result["tally"]))
        self.seconds.append(result["seconds"])
        self.efforts.append(Effort(*result["effort"]))
        if result["gone"] is not None:
            self.gone = Kind(result["gone"])
