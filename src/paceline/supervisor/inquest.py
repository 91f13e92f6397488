"""What is known of a death: the wait status, the scoreboard, faulthandler's memfd, and what the kernel counts."""

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass

from paceline.host import memory, processes
from paceline.host.cgroups import count_oom_kills
from paceline.scoreboard.board import Board
from paceline.scoreboard.snapshot import Snapshot, describe_threads
from paceline.supervisor import child
from paceline.supervisor.vocabulary import Exited

DETAIL_BYTES = 32 * 1024
"""The most of what faulthandler wrote that is logged: its beginning, which has the thread that crashed."""

_BIRTH = f'"{child.__file__}"'
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


def read_dump(fault_fd: int) -> str:
    """What faulthandler wrote there, without the frames below the worker's own: how it was born is not the question."""
    kept: list[str] = []
    in_birth = False
    for line in memory.read(fault_fd, 0, DETAIL_BYTES).decode(errors="replace").rstrip().split("\n"):
        in_birth = bool(line) and (in_birth or _BIRTH in line)
        if not in_birth:
            kept.append(line)
    return "\n".join(kept)


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
