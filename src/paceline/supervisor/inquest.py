"""What is known of a death: the wait status, the scoreboard, faulthandler's memfd, and what the kernel counts.

The dead tell no tales of time, so the living are looked at once a second: what calls go on, and since when.
"""

import os
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import paceline
from paceline.host import memory, processes
from paceline.host.cgroups import count_oom_kills
from paceline.scoreboard.board import Board
from paceline.scoreboard.fields import WORKER, WorkerState
from paceline.scoreboard.snapshot import Call, Snapshot, describe_threads
from paceline.supervisor import child
from paceline.supervisor.backtraces import readable
from paceline.supervisor.sentences import span_text
from paceline.supervisor.vocabulary import Exited
from paceline.worker.messages import Message, Stuck

LOOK_S = 1.0
"""How often `look` is called; what is younger is not known."""
MOST_THREADS = 1024
"""Threads per worker; where there are more, looking at all of them every second would cost too much."""
MOST_CALLS = 20
"""Of how many calls the ages are told, the longest first."""

MOST_READ = 1024 * 1024
"""Bytes of what faulthandler wrote: a hundred threads, a hundred frames each, are less."""
DETAIL_CHARACTERS = 32 * 1024
"""The most of it that is logged."""

_LED_THERE = (os.path.join(os.path.dirname(paceline.__file__), ""), threading.__file__)
_EMPTY = frozenset({int(WorkerState.FREE), int(WorkerState.GONE)})
_IN_CALLS = frozenset({"calling", "peer", "serving"})


@dataclass(slots=True)
class OutOfMemory:
    """How often the kernel has killed in our control groups because memory ran out, and when that last went up."""

    count: Callable[[], int | None] = count_oom_kills
    recent_s: float = 10.0
    """A process that is killed with a lot of memory takes seconds to end."""
    last: int | None = None
    at: float | None = None

    def look(self, now: float) -> None:
        """Every second, so that a kill and a death are seen together."""
        found = self.count()
        if found is not None and self.last is not None and found > self.last:
            self.at = now
        self.last = found

    def is_recent(self, now: float) -> bool:
        return self.at is not None and now - self.at <= self.recent_s


@dataclass(slots=True)
class Inquest:
    """What the supervisor's loop knows of its workers' ends, and of their lives as far as it helps to explain them."""

    board: Board
    oom: OutOfMemory = field(default_factory=OutOfMemory)
    _seen: dict[int, dict[Call, float]] = field(default_factory=dict)
    """By seat: the calls that go on, and since when they are known to."""
    _stuck: dict[int, dict[int, Stuck]] = field(default_factory=dict)
    """By seat and thread: the last call that its worker said takes too long."""

    def look(self, now: float) -> None:
        """Every second: at what the kernel counts, and at each worker's calls."""
        self.oom.look(now)
        if self.board.layout.threads <= MOST_THREADS:
            before, self._seen = self._seen, {}
            states, row_of = WORKER["state"], self.board.layout.worker_index
            for seat in range(self.board.layout.seats):
                if self.board.words[row_of(seat) + states] not in _EMPTY:
                    earlier = before.get(seat, {})
                    self._seen[seat] = {call: earlier.get(call, now) for call in _look_at(self.board, seat).running()}

    def heard(self, seat: int, messages: list[Message]) -> list[Message]:
        """What a worker said, which is given back as it is."""
        for message in messages:
            if isinstance(message, Stuck):
                self._stuck.setdefault(seat, {})[message.thread] = message
        return messages

    def inquire(self, seat: int, fault_fd: int, status: int, now: float) -> Exited:
        """The event of a death; to be called before the board's `leave`."""
        snapshot = _look_at(self.board, seat)
        seen, stuck = self._seen.pop(seat, {}), self._stuck.pop(seat, {})
        running = [(seen[call], call.thread) for call in snapshot.running() if call in seen]
        lines = [_age_of(thread, now - since, stuck.get(thread)) for since, thread in sorted(running)]
        more = [f"… and {len(lines) - MOST_CALLS} more"] if len(lines) > MOST_CALLS else []
        exited = inquire(seat, fault_fd, status, self.board, self.oom, now)
        return replace(exited, detail="\n".join([*lines[:MOST_CALLS], *more, *filter(None, [exited.detail])]))


def _age_of(thread: int, seconds: float, stuck: Stuck | None) -> str:
    """How long a call had run, and what its worker had said of it, if that was of this one."""
    said = f"thread {thread} had been in a call for {span_text(seconds)}"
    if stuck is not None and seconds >= stuck.seconds - 2 * LOOK_S:
        said += f", over its limit of {span_text(stuck.limit_s)}" + (f", for {stuck.peer}" if stuck.peer else "")
    return said


def inquire(seat: int, fault_fd: int, status: int, board: Board, oom: OutOfMemory, now: float) -> Exited:
    """The event of a death; to be called before the board's `leave`."""
    cause = processes.cause_of(status)
    if status != processes.UNKNOWN and os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        oom.look(now)
        if oom.is_recent(now):
            cause += " (the kernel counts out-of-memory kills in this control group just now)"
    snapshot = _look_at(board, seat)
    threads = snapshot.seats[seat]
    return Exited(
        seat,
        cause,
        processes.exit_code_of(status),
        doing=describe_threads(snapshot, seat),
        calls=sum(threads.doing(thread) in _IN_CALLS for thread in threads.threads),
        detail=read_dump(fault_fd),
    )


def read_dump(fault_fd: int, start: int = 0) -> str:
    """What faulthandler wrote there, from byte `start` on, for a reader: the thread that crashed first, each stack down
    to the user's first line."""
    written = memory.read(fault_fd, start, start + MOST_READ).decode(errors="replace")
    return readable(written, _LED_THERE, [child.__file__], DETAIL_CHARACTERS)


def _look_at(board: Board, seat: int) -> Snapshot:
    """The rows of one seat: a death is judged at once, however large the board is."""
    layout, words = board.layout, board.words
    row, threads = layout.worker_index(seat), layout.thread_index(seat, 0)
    return Snapshot.of(
        layout,
        [
            (row, words[row : row + layout.worker_cells].tolist()),
            (threads, words[threads : threads + layout.threads * layout.thread_cells].tolist()),
        ],
    )
