"""What a load process spends: read before and after the measured time."""

from contextlib import suppress
from dataclasses import dataclass

from paceline.bench.tally import Effort
from paceline.clock import now_ns, process_cpu


@dataclass(frozen=True, slots=True)
class Reading:
    """The clocks at one moment; `starved_s`: how long this thread has been ready to run without a core, so far."""

    at_ns: int
    cpu_s: float
    starved_s: float

    def since(self, before: "Reading", *, until_ns: int, spun_ns: int) -> Effort:
        """What was spent between the two readings, of a time that is taken to have ended at `until_ns`."""
        seconds = (until_ns - before.at_ns) / 1e9
        busy = max(0.0, self.cpu_s - before.cpu_s - spun_ns / 1e9)
        return Effort(seconds, min(busy, seconds), min(max(0.0, self.starved_s - before.starved_s), seconds))


def read() -> Reading:
    """Of this moment, of this thread."""
    starved_s = 0.0
    with suppress(OSError, ValueError, IndexError), open("/proc/thread-self/schedstat", "rb") as file:
        starved_s = int(file.read().split()[1]) / 1e9  # time on a run queue (Linux, scheduler/sched-stats)
    return Reading(now_ns(), process_cpu(), starved_s)
