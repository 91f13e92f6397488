"""The main of one load process.  crew.py starts it, talks with it over one socket, in lines of JSON, and reaps it.

    to it    {"plan", "process", "place"}                       once, first
             {"begin": ns, "end": ns or null}                   when all are ready
             {"stop": true}                                     an end before the end
    from it  {"connected": n} or {"failed": kind, "made": n}    after connecting; failed: nothing follows
             {"warm": tally}                                    after the warm-up
             {"progress": {"answered", "errors"}}               twice a second
             {"result": {"tally", "effort", "gone", "seconds"}} at the end
             {"usage": text}                                    the framing cannot be had; nothing follows

When the socket ends, so does the process, whatever it is doing: nobody is left to be told.
"""

import gc
import json
import os
import resource
import select
import signal
import socket
import sys
from contextlib import suppress
from typing import Any

from paceline.bench import effort
from paceline.bench.engine import Engine
from paceline.bench.messages import on_the_wire
from paceline.bench.pacing import SECOND, Schedule
from paceline.bench.plan import Plan
from paceline.bench.replies import Replies, raw_size_of
from paceline.clock import now_ns
from paceline.errors import PacelineError
from paceline.host.processes import die_with_parent
from paceline.spoken import framing_of, is_ours

TOLD_EVERY_NS = SECOND // 2


class Control:
    """The socket to the parent."""

    def __init__(self, fd: int) -> None:
        self._socket = socket.socket(fileno=fd)
        self._kept = b""

    def tell(self, **message: Any) -> None:
        """Send a line; waits until the parent has room for it."""
        try:
            self._socket.sendall(json.dumps(message).encode() + b"\n")
        except OSError:
            os._exit(0)

    def wait_heard(self) -> dict[str, Any]:
        """The next line."""
        pieces = [self._kept]
        while b"\n" not in pieces[-1]:
            pieces.append(self._receive(0))
        line, _, self._kept = b"".join(pieces).partition(b"\n")
        heard: dict[str, Any] = json.loads(line)
        return heard

    def is_told_to_stop(self) -> bool:
        """Whether there is a line, which can only be that."""
        with suppress(BlockingIOError):
            self._kept += self._receive(socket.MSG_DONTWAIT)
        return bool(self._kept)

    def is_told_within(self, seconds: float) -> bool:
        """The same, waiting for it."""
        return bool(select.select([self._socket], [], [], max(0.0, seconds))[0]) and self.is_told_to_stop()

    def _receive(self, flags: int) -> bytes:
        try:
            piece = self._socket.recv(1 << 16, flags)
        except BlockingIOError:
            raise
        except OSError:
            piece = b""
        if not piece:
            os._exit(0)
        return piece


class Member:
    """One load process at work."""

    def __init__(self, control: Control, plan: Plan, process: int, place: tuple[int, Any]) -> None:
        self._control, self._plan, self._process = control, plan, process
        self._connections, first, self._count = plan.share(process)
        framing = framing_of(plan.framing, plan.max_message)
        wires = on_the_wire(plan.messages, framing, is_ours=is_ours(plan.framing))
        raw_size = raw_size_of(framing, plan.raw_reply_size)
        self._engine = Engine(
            place,
            Replies(framing, plan.messages, wires, check=plan.check, raw_size=raw_size),
            wires,
            connections=self._connections,
            first=first,
            in_flight=plan.in_flight,
            timeout_s=plan.timeout_s,
            new_connection=plan.new_connection,
            slow_bytes_s=plan.slow_bytes_s,
            on_tick=self._on_tick,
        )
        self._told_ns = now_ns()

    def work(self) -> None:
        """All phases."""
        failed = self._engine.connect()
        if failed is not None:
            self._control.tell(failed=failed, made=len(self._engine.by_fd))
            return
        self._control.tell(connected=self._connections)
        if self._plan.warmup_s:
            begin = now_ns()
            end = begin + int(self._plan.warmup_s * SECOND)
            self._engine.run(end, None, self._schedule(begin, end, None), drops_backlog=True)
            self._control.tell(warm=self._engine.tally.to_json())
        begun = self._control.wait_heard()
        self._control.is_told_within((begun["begin"] - now_ns()) / SECOND)  # to stop, which the first tick sees
        self._measure(begun["begin"], begun["end"])

    def _measure(self, begin: int, end: int | None) -> None:
        engine = self._engine
        before = effort.read()
        ended = engine.run(end, self._count, self._schedule(begin, end, self._count))
        if end is not None and not engine.stop and self._count is None:
            ended = end
        spent = engine.spent.since(before, until_ns=ended, spun_ns=engine.spun_ns)
        self._control.tell(
            result={
                "tally": engine.tally.to_json(),
                "effort": [spent.seconds, spent.busy_seconds, spent.starved_seconds],
                "seconds": max(1, ended - begin) / SECOND,
                "gone": engine.patience.verdict,
            }
        )

    def _schedule(self, begin: int, end: int | None, count: int | None) -> Schedule | None:
        rate = self._plan.rate
        if rate is None:
            return None
        return Schedule(rate, begin, end, first=self._process, stride=self._plan.processes, most=count)

    def _on_tick(self, engine: Engine) -> None:
        if self._control.is_told_to_stop():
            self._control.wait_heard()
            engine.stop = True
        now = now_ns()
        if now - self._told_ns >= TOLD_EVERY_NS:
            self._told_ns = now
            self._control.tell(
                progress={"answered": engine.tally.answered, "errors": sum(engine.tally.errors.values())}
            )


def allow_all_descriptors() -> None:
    """As many as the machine allows without asking: the soft limit becomes the hard one (getrlimit(2))."""
    with suppress(OSError, ValueError):
        _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def main(fd: int, parent: int) -> int:
    """Do the work that is asked for on this socket; the exit code."""
    for number in (signal.SIGINT, signal.SIGTERM):  # they reach the whole group; the parent tells us to stop
        signal.signal(number, signal.SIG_IGN)
    if not die_with_parent(parent, signal.SIGKILL):
        return 0
    os.dup2(2, 1)  # what a framing's module prints is no result
    allow_all_descriptors()
    control = Control(fd)
    job = control.wait_heard()
    gc.freeze()  # what was imported need not be looked through while latencies are taken
    family, address = job["place"]
    place = (family, tuple(address) if isinstance(address, list) else address)
    try:
        Member(control, Plan.from_json(job["plan"]), job["process"], place).work()
    except PacelineError as error:
        control.tell(usage=str(error))
    sys.stderr.flush()
    return 0
