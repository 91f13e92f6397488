"""Processes that are started, listened to and certainly ended: one Program per process, used as a context manager.

Each program leads a process group of its own, so that Ctrl-C reaches only the measuring process, which then ends its
programs by their ids: SIGTERM, a few seconds, SIGKILL for the whole group.  The group is looked at while its leader is
still unreaped, so that its number cannot belong to anybody else.

An interrupt may come between the fork of a program and the moment in which somebody holds it.  So it waits for the end
of `uninterrupted` blocks, in which a program is started and noted; `end_all` ends what is noted and not yet ended.
"""

import contextlib
import os
import select
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from types import FrameType, TracebackType
from typing import Self

from benchmarks import readings

BYTECODE = Path(__file__).parent / "build" / "pycache"

END_S = 10.0
LOG_LINES = 40


class Interrupts:
    """KeyboardInterrupt at the first signal, but not within an `uninterrupted` block: then at its end.

    The second signal is ignored: what the first has begun, ending everything, is bounded and must not be cut short.
    All of it happens on the main thread, where Python runs signal handlers.
    """

    def __init__(self) -> None:
        self._held = False
        self._came = False

    def take(self, *numbers: signal.Signals) -> None:
        """Be the handler of these signals from now on."""
        for number in numbers:
            signal.signal(number, self.on_signal)

    def on_signal(self, _number: int, _frame: FrameType | None) -> None:
        first, self._came = not self._came, True
        if first and not self._held:
            raise KeyboardInterrupt

    @contextlib.contextmanager
    def uninterrupted(self) -> Iterator[None]:
        before = self._came
        self._held = True
        try:
            yield
        finally:
            self._held = False
        if self._came and not before:
            raise KeyboardInterrupt


interrupts = Interrupts()
_not_ended: list["Program"] = []


def end_all() -> None:
    """End every program that was started and is not ended yet."""
    while _not_ended:
        _not_ended[-1].end()


class MeasurementError(Exception):
    """A measurement that could not be made; the text says why, with what the program said last."""


@contextlib.contextmanager
def on_cores(cores: Collection[int]) -> Iterator[None]:
    """What the calling thread starts in the block runs on `cores`: affinity is inherited."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


class Lines:
    """Lines from a pipe, each waited for with a deadline.  For one thread at a time."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.rest = b""
        self.lines: deque[str] = deque()
        self.ended = False

    def wait_line(self, timeout_s: float) -> str | None:
        """The next line without its end; None when none came in time, or when no more can come (`ended`)."""
        deadline = time.monotonic() + timeout_s
        poll = select.poll()
        poll.register(self.fd, select.POLLIN)
        while not self.lines and not self.ended:
            if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
                return None
            data = os.read(self.fd, 65536)
            *whole, self.rest = (self.rest + data).split(b"\n")
            self.lines += (line.decode(errors="replace") for line in whole)
            self.ended = not data
        return self.lines.popleft() if self.lines else None


class Program:
    """A running program.

    started_s   the monotonic clock just before it was forked
    output      its standard output
    log         its standard error; `log_in_background` once nobody waits for a line of it any more
    last_said   the end of its standard error
    """

    def __init__(self, words: Sequence[str], cores: Collection[int]) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PACELINE_")}
        # With compiled bytecode, as pip leaves it: else row 8 would time the compiler.
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        environment["PYTHONPYCACHEPREFIX"] = str(BYTECODE)
        with interrupts.uninterrupted(), on_cores(cores):
            self.started_s = time.monotonic()
            self.process = subprocess.Popen(
                words,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                process_group=0,
                env=environment,
            )
            assert self.process.stdout is not None
            assert self.process.stderr is not None
            self.words = words
            self.pid = self.process.pid
            self.output = Lines(self.process.stdout.fileno())
            self.log = Lines(self.process.stderr.fileno())
            self.last_said: deque[str] = deque(maxlen=LOG_LINES)
            self._reader: threading.Thread | None = None
            _not_ended.append(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.end()

    def wait_log_line(self, timeout_s: float) -> str | None:
        line = self.log.wait_line(timeout_s)
        if line is not None:
            self.last_said.append(line)
        return line

    def log_in_background(self) -> None:
        """From now on a thread reads standard error, so that the program never waits for a full pipe."""

        def read_all() -> None:
            while not self.log.ended:
                self.wait_log_line(3600)

        with interrupts.uninterrupted():  # a thread that was not quite started could not be joined
            self._reader = threading.Thread(target=read_all, daemon=True)
            self._reader.start()

    def failed(self, what: str) -> MeasurementError:
        """What is to be raised when the program did not do what it should."""
        while self._reader is None and self.wait_log_line(0.2) is not None:
            pass
        return MeasurementError("\n".join([f"{' '.join(self.words[1:])}: {what}", *self.last_said]))

    def wait_exit(self, timeout_s: float) -> int:
        """The exit code of a program that ends by itself.  Raises MeasurementError when that is late, or not 0."""
        try:
            code = self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise self.failed(f"has not ended in {timeout_s:g} s") from None
        if code != 0:
            raise self.failed(f"ended with {code}")
        return code

    def end(self) -> int:
        """End it and all that it started; how many processes were still there after its own time to end."""
        left = 0
        if self.process.returncode is None:
            self._signal(signal.SIGTERM)
            self._wait_exit_unreaped()
            left = len(readings.group_members(self.pid))
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
            self.process.wait()
        if self._reader is not None:
            self._reader.join(END_S)
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
        if self in _not_ended:
            _not_ended.remove(self)
        return left

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)  # the id is ours for as long as nobody has waited for it

    def _wait_exit_unreaped(self) -> None:
        pidfd = os.pidfd_open(self.pid)
        try:
            poll = select.poll()
            poll.register(pidfd, select.POLLIN)
            poll.poll(END_S * 1000)
        finally:
            os.close(pidfd)
