"""What two looks at a scoreboard show: each worker, what is wrong, and whether the server is healthy.  Pure.

The looks are some time apart (default 0.2 s), because two things cannot be seen in one: how many calls there are per
second, and that a call goes on.  No worker notes when a call began; one that is the same in both looks has run for all
the time between, and how much longer, nobody knows.

**Healthy** means: at least one worker can take new work, or begins calls at least.  A worker that boots, drains, waits
in standby, is stopped, or has shown no sign of life for `SILENT_S` does not count.  If all others have every thread in
a call, something has to move between the looks: a call begins, a message is taken, or one of the threads only waits for
its peer in a whole-connection call, which is capacity and no illness.  Else nobody who comes now is served.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass

from paceline.events import counted
from paceline.scoreboard.snapshot import Seat, Snapshot, same_calls
from paceline.supervisor.sentences import span_text

VERSION = 1
"""Of the JSON; raised when a field gets another meaning."""
SILENT_S = 10.0
"""A worker shows a sign of life every second; the supervisor replaces it after --heartbeat, of which this is the
default."""
_BUSY = ("calling", "peer", "serving")
_SERVING = ("ready", "saturated")
_ALIVE = ("ready", "saturated", "draining", "standby")
"""In these states its watcher runs."""


@dataclass(frozen=True, slots=True)
class Process:
    """What the kernel says of one."""

    state: str
    """A letter (proc_pid_stat(5)); empty: there is none, or nobody knows."""
    rss_bytes: int | None
    """Resident memory; None: nobody knows."""


UNKNOWN = Process("?", None)


@dataclass(frozen=True, slots=True)
class Look:
    """One of the two."""

    at_ns: int
    """CLOCK_MONOTONIC."""
    snapshot: Snapshot


@dataclass(frozen=True, slots=True)
class Worker:
    """One line of the table, and one object in the JSON: its fields are named as they are there."""

    slot: int
    pid: int
    seat: int
    generation: int
    state: str
    """A state of the scoreboard; or what keeps it from running: stopped, dead, silent."""
    age_s: float
    heartbeat_age_s: float
    connections: int
    connections_limit: int
    threads: int
    threads_busy: int
    threads_peer: int
    """Of the busy ones, in a whole-connection call that waits for its peer."""
    threads_limit: int
    calls: int
    """Begun by this seat's workers since the server was started; messages, errors, too."""
    calls_per_s: float
    messages: int
    errors: int
    long_calls: int
    """Those that were the same in both looks."""
    oldest_call_s: float | None
    """How old the oldest of them is at least; None: there is none."""
    rss_bytes: int | None

    @property
    def is_serving(self) -> bool:
        return self.state in _SERVING


@dataclass(frozen=True, slots=True)
class Picture:
    """All of it."""

    pid: int
    addresses: tuple[str, ...]
    target: str
    paceline: str
    control: str | None
    started: float
    supervisor: str
    """running, silent (it does not answer), stopped or gone."""
    uptime_s: float
    over_s: float
    """Between the two looks."""
    workers: tuple[Worker, ...]
    moved: int
    """Calls begun and messages taken between the two looks."""
    counters: Mapping[str, int]
    """By name, over all workers there ever were."""
    words: tuple[str, ...] = ()
    """Of each address, which families it serves, where its text does not show it; none: it is not known."""

    @property
    def places(self) -> str:
        """Where it listens, for people: `[::]:8888 (IPv4 and IPv6), unix:/run/app.sock`."""
        words = self.words if len(self.words) == len(self.addresses) else ("",) * len(self.addresses)
        pairs = zip(self.addresses, words, strict=True)
        return ", ".join(f"{address} ({word})" if word else address for address, word in pairs)

    @property
    def generation(self) -> int:
        """The one that serves; while none does, the newest."""
        serving = [worker.generation for worker in self.workers if worker.is_serving]
        return max(serving or [worker.generation for worker in self.workers], default=0)

    @property
    def is_full_and_still(self) -> bool:
        """All threads of all workers that serve are in calls, and nothing moves."""
        serving = [worker for worker in self.workers if worker.is_serving]
        is_full = all(worker.state == "saturated" and not worker.threads_peer for worker in serving)
        return bool(serving) and is_full and not self.moved

    @property
    def unhealthy_because(self) -> str:
        """Empty: it is healthy."""
        serving = [worker for worker in self.workers if worker.is_serving]
        if not self.workers:
            return "there is no worker"
        if not serving:
            return f"no worker serves: {', '.join(f'{_name(worker)} {_is(worker)}' for worker in self.workers)}"
        if self.is_full_and_still:
            who = counted(len(serving), "the one worker that serves|all # workers that serve")
            return f"all threads of {who} are inside calls, and no call has ended within {span_text(self.over_s)}"
        if self.supervisor == "gone":
            return "its supervisor is gone, so its workers are about to leave"
        return ""

    @property
    def health(self) -> str:
        """One line."""
        why = self.unhealthy_because
        if why:
            return f"unhealthy: {why}"
        serving = sum(worker.is_serving for worker in self.workers)
        others = [worker for worker in self.workers if worker.state in _WRONG]
        more = [f"{_name(worker)} {_is(worker)}" for worker in others]
        if self.supervisor == "stopped":
            more.append("the supervisor is stopped")
        return "; ".join([f"healthy: {counted(serving, '# worker serves|# workers serve')}", *more])

    @property
    def warnings(self) -> list[str]:
        """What is wrong, and what to do: a sentence each."""
        found = list(_of_supervisor(self))
        for worker in self.workers:
            found += _of_worker(worker)
        generations = sorted({worker.generation for worker in self.workers})
        if len(generations) > 1:
            listed = f"{', '.join(map(str, generations[:-1]))} and {generations[-1]}"
            found.append(f"generations {listed} are there at the same time: a reload goes on, or calls of old code do")
        if self.unhealthy_because:
            found.append(self.health)
        return found

    def to_json(self) -> dict[str, object]:
        """For --json; docs/operating.md says what each field is."""
        return {
            "version": VERSION,
            "healthy": not self.unhealthy_because,
            "health": self.health,
            "pid": self.pid,
            "addresses": list(self.addresses),
            "families": list(self.words),
            "target": self.target,
            "generation": self.generation,
            "uptime_s": round(self.uptime_s, 3),
            "started": self.started or None,
            "paceline": self.paceline or None,
            "control": self.control,
            "supervisor": self.supervisor,
            "over_s": round(self.over_s, 3),
            "warnings": self.warnings,
            "workers": [_rounded(asdict(worker)) for worker in self.workers],
            "counters": dict(self.counters),
        }


_WRONG = ("stopped", "dead", "silent")


def workers_of(before: Look, after: Look, processes: Mapping[int, Process]) -> tuple[Worker, ...]:
    """All that sit somewhere, by slot; those of a slot that serve come first.  `processes` is by seat."""
    over_s = (after.at_ns - before.at_ns) / 1e9
    earlier = {seat.index: seat for seat in before.snapshot.seats}
    long_by: dict[int, int] = {}
    for call in same_calls(before.snapshot, after.snapshot):
        long_by[call.seat] = long_by.get(call.seat, 0) + 1
    found = [
        _worker(earlier.get(seat.index, seat), seat, processes.get(seat.index, UNKNOWN), over_s, after.at_ns, long_by)
        for seat in after.snapshot.occupied
    ]
    return tuple(sorted(found, key=lambda worker: (worker.slot, not worker.is_serving, worker.generation)))


def _worker(
    before: Seat, seat: Seat, process: Process, over_s: float, now_ns: int, long_by: Mapping[int, int]
) -> Worker:
    row = seat.worker
    calls, beat_age_s = seat.total("calls"), _age_s(row.get("heartbeat_ns", 0), now_ns)
    doing = [seat.doing(thread) for thread in seat.threads]
    long_calls = long_by.get(seat.index, 0)
    return Worker(
        slot=row.get("slot", 0),
        pid=row.get("pid", 0),
        seat=seat.index,
        generation=row.get("generation", 0),
        state=_state_of(seat, process, beat_age_s),
        age_s=_age_s(row.get("started_ns", 0), now_ns),
        heartbeat_age_s=beat_age_s,
        connections=row.get("connections", 0),
        connections_limit=row.get("connections_limit", 0),
        threads=row.get("threads", 0),
        threads_busy=sum(state in _BUSY for state in doing),
        threads_peer=doing.count("peer"),
        threads_limit=row.get("threads_limit", 0),
        calls=calls,
        calls_per_s=max(0, calls - before.total("calls")) / over_s if over_s > 0 else 0.0,
        messages=seat.total("messages"),
        errors=seat.total("errors"),
        long_calls=long_calls,
        oldest_call_s=over_s if long_calls else None,
        rss_bytes=process.rss_bytes,
    )


def _state_of(seat: Seat, process: Process, beat_age_s: float) -> str:
    if process.state in ("T", "t"):
        return "stopped"
    if process.state in ("", "Z", "X"):
        return "dead"
    if seat.state in _ALIVE and beat_age_s > SILENT_S:
        return "silent"
    return "saturated" if seat.state == "ready" and seat.worker.get("saturated") else seat.state


def _age_s(since_ns: int, now_ns: int) -> float:
    """A cell that was just written may be younger than the look."""
    return max(0, now_ns - since_ns) / 1e9 if since_ns else 0.0


def _rounded(fields: Mapping[str, object]) -> dict[str, object]:
    return {name: round(value, 3) if isinstance(value, float) else value for name, value in fields.items()}


# Words


def _name(worker: Worker) -> str:
    return f"worker {worker.slot}"


def _is(worker: Worker) -> str:
    """Fits behind its name."""
    match worker.state:
        case "booting":
            return "boots"
        case "draining":
            return "drains"
        case "standby":
            return "waits until its whole generation is ready"
        case "stopped":
            return "is stopped"
        case "silent":
            return f"has shown no sign of life for {span_text(worker.heartbeat_age_s)}"
        case _:
            return f"is {worker.state}"


def _of_supervisor(picture: Picture) -> Iterable[str]:
    if picture.supervisor == "stopped":
        yield (
            f"the supervisor is stopped (SIGSTOP, or a debugger): the workers serve, but nobody replaces one that "
            f"dies; kill -CONT {picture.pid} lets it go on"
        )
    elif picture.supervisor == "silent":
        yield (
            f"the supervisor does not answer at its control socket {picture.control}: the workers serve, but what is "
            f"asked of it is not done; if this stays, kill -TERM {picture.pid} stops the server"
        )
    elif picture.supervisor == "gone":
        yield "the supervisor is gone: its workers finish their calls and leave"


def _of_worker(worker: Worker) -> Iterable[str]:
    who = f"{_name(worker)} (pid {worker.pid})"
    match worker.state:
        case "saturated":
            threads = counted(worker.threads_limit, "its one thread is|all its # threads are")
            yield (
                f"{who} is saturated: {threads} inside calls, so it takes nothing new; paceline ctl dump shows where, "
                f"--threads allows more"
            )
        case "stopped":
            yield (
                f"{who} is stopped (SIGSTOP, or a debugger): its clients wait; it is replaced after --heartbeat, "
                f"kill -CONT {worker.pid} lets it go on"
            )
        case "dead":
            yield f"{who} is dead, and nobody has taken note of it yet"
        case "silent":
            yield (
                f"{who} has shown no sign of life for {span_text(worker.heartbeat_age_s)}: C code keeps the "
                f"interpreter, or it gets no processor time; paceline ctl dump shows where it is"
            )
        case "draining" if worker.long_calls:
            calls = counted(worker.long_calls, "# call that goes on|# calls that go on")
            yield f"{who} drains, and waits for {calls}; they are cut after --drain-timeout"
        case _:
            pass
