"""Children of the process that measures: forked, each with a job whose answer comes back, and ended with the block.

Whatever happens in the block, an interrupt too, no child is left after it: each is killed, if it has not ended, and
reaped; and each dies with its parent.  A child ends by os._exit, so that nothing of the parent's is run twice.  For the
main thread: to the kernel, the parent is the thread that forks.
"""

import json
import os
import select
import signal
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Self

from paceline.clock import now
from paceline.errors import HostError
from paceline.host.processes import die_with_parent

Job = Callable[[], Any]
"""What a child does; what it returns must be something that JSON can say."""


class Children:
    """`with Children(jobs) as children:` one for each job; `pids` in their order."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self._jobs = jobs
        self._pids: dict[int, int] = {}
        """By the descriptor of each one's answer."""

    def __enter__(self) -> Self:
        try:
            for job in self._jobs:
                self._start(job)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    @property
    def pids(self) -> list[int]:
        return list(self._pids.values())

    def answers(self, within_s: float) -> list[Any]:
        """What each job returned; waits for all.  Raises HostError when one failed, or has not answered in time."""
        kept = dict.fromkeys(self._pids, b"")
        poll = select.poll()
        for fd in kept:
            poll.register(fd, select.POLLIN)
        open_, until_s = len(kept), now() + within_s
        while open_:
            if now() > until_s:
                raise HostError(
                    f"{open_} of {len(kept)} processes had not answered after {within_s:g} s; is the machine very busy?"
                )
            for fd, _ in poll.poll(250):
                piece = os.read(fd, 1 << 16)
                kept[fd] += piece
                if not piece:
                    poll.unregister(fd)
                    open_ -= 1
        if not all(kept.values()):
            raise HostError("a process failed; what it said is above")
        try:
            return [json.loads(answer) for answer in kept.values()]
        except ValueError:
            raise HostError("a process ended in the middle of its answer") from None

    def _start(self, job: Job) -> None:
        readable, writable = os.pipe()
        parent = os.getpid()
        try:
            pid = os.fork()
        except OSError as error:
            os.close(readable)
            raise HostError(f"a process could not be made: {error.strerror}") from None
        else:
            if pid == 0:
                _do(job, writable, parent)
            self._pids[readable] = pid
        finally:
            os.close(writable)

    def _end(self) -> None:
        while self._pids:
            fd, pid = self._pids.popitem()
            os.close(fd)
            with suppress(ProcessLookupError):  # not reaped yet, so it is still ours
                os.kill(pid, signal.SIGKILL)
            with suppress(ChildProcessError):
                os.waitpid(pid, 0)


def _do(job: Job, fd: int, parent: int) -> None:
    """The life of a child.  Does not return."""
    try:
        if not die_with_parent(parent, signal.SIGKILL):
            os._exit(1)
        whole = memoryview(json.dumps(job()).encode())
        while whole:
            whole = whole[os.write(fd, whole) :]
    except BaseException:  # noqa: BLE001 - nothing may go on in what was the parent's code
        traceback.print_exc()
        os._exit(1)
    os._exit(0)
