"""The rehearsal of an upgrade: the new program is tried in a child, before the running one gives up anything.

The child is what the supervisor would become: the same command line, the interpreter and the Paceline that are on disk
*now*, in the folder where the server was started.  It is given a copy of the state (testament.py) and told to try it
(upgrade.py, `take`): it reads the state and the settings, and loads the target in a process of its own, as --check
does.  Whatever is wrong with the new program costs this child: an interpreter that does not start, a Paceline that
cannot be imported, an option that is gone, a scoreboard of another layout, a target that raises.

Nobody waits in here: the supervisor's loop waits for `pidfd` and for `ends_at`.  As PID 1 it must leave the reaping of
`pid` to `try_finish`, or pass the wait status on.
"""

import contextlib
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass

from paceline.host import images, memory, processes
from paceline.supervisor.sentences import span_text
from paceline.supervisor.start import Origin

SHOWN_BYTES = 32 * 1024
MOST_OUTPUT_BYTES = 64 * 1024 * 1024
"""Whoever writes more is stopped: what it writes is kept in memory."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the rehearsal ended."""

    ok: bool
    why: str = ""
    detail: str = ""
    """What the child wrote, the user's traceback among it."""


class Rehearsal:
    """One that runs.  Made by `begin`; `close` at the end, whatever came of it."""

    def __init__(self, pid: int, pidfd: int, output_fd: int, ends_at: float, within_s: float) -> None:
        self.pid = pid
        """0: it has been reaped."""
        self.pidfd = pidfd
        """Readable when it has ended."""
        self.ends_at = ends_at
        """When it is given up."""
        self._output_fd = output_fd
        self._within_s = within_s
        self._was_killed = ""

    @classmethod
    def begin(
        cls,
        origin: Origin,
        state_fd: int,
        board_fd: int,
        within_s: float,
        now: float,
        fork: Callable[[], int] = processes.fork,
    ) -> "Rehearsal":
        """Start it.  Raises OSError, HostError when no process or no memory can be had; then nothing is left open."""
        output_fd = memory.create_growing("paceline-rehearsal")
        try:
            environment = origin.environment(state_fd, is_rehearsal=True)
            pid = images.start(origin.command, environment, origin.folder, output_fd, [state_fd, board_fd], fork)
            try:
                pidfd = processes.open_pidfd(pid)
            except OSError:
                os.kill(pid, signal.SIGKILL)  # its number is its own until it is reaped
                processes.reap_soon(pid)
                raise
        except BaseException:
            memory.close(output_fd)
            raise
        return cls(pid, pidfd, output_fd, now + within_s, within_s)

    def fds(self) -> list[int]:
        """Its descriptors."""
        return [self.pidfd, self._output_fd]

    def try_finish(self, now: float) -> Outcome | None:
        """The outcome, if it has ended; one that takes too long, or writes too much, is killed.  Never waits."""
        status = processes.reap(self.pid) if self.pid else processes.UNKNOWN
        if status is not None:
            return self.on_reaped(status)
        if not self._was_killed:
            if now >= self.ends_at:
                self._was_killed = f"has not ended after {span_text(self._within_s)}"
            elif memory.size_of(self._output_fd) > MOST_OUTPUT_BYTES:
                self._was_killed = f"writes more than {MOST_OUTPUT_BYTES // 1024**2} MiB"
            if self._was_killed:
                self._kill()
        return None

    def on_reaped(self, status: int) -> Outcome:
        """The outcome, by its wait status, when somebody else has reaped it (`find_ended`, as PID 1)."""
        self.pid = 0
        size = memory.size_of(self._output_fd)
        said = memory.read(self._output_fd, max(0, size - SHOWN_BYTES), size).decode(errors="replace").strip()
        if self._was_killed:
            return Outcome(False, f"the new version {self._was_killed}", said)
        if processes.exit_code_of(status) == 0:
            return Outcome(True, "", said)
        return Outcome(False, f"the new version, when it was tried, {processes.cause_of(status)}", said)

    def close(self) -> None:
        """End it, if it still runs, and give everything back."""
        if self.pid:
            self._kill()
            processes.reap_soon(self.pid)
            self.pid = 0
        os.close(self.pidfd)
        memory.close(self._output_fd)

    def _kill(self) -> None:
        """The child, and the process in which it loads the target: they are a group of their own."""
        processes.send_signal(self.pidfd, signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)  # not reaped yet: the number is still its own
