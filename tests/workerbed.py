"""A whole worker inside the test's process, without its fork, its listeners and its watcher's loop.

Real threads, real sockets, a real scoreboard.  Connections are socket pairs that are admitted as if they came through
the inbox.  The watcher does nothing by itself: a test calls `bed.tick()` when it wants a tick, so that time passes when
the test says so.  `gate()` gives handlers that wait until they are let go.
"""

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

from paceline import clock
from paceline.handlers import examine
from paceline.host import memory
from paceline.host.output import Log
from paceline.scoreboard.board import Board
from paceline.scoreboard.fields import THREAD, WORKER
from paceline.settings import Settings
from paceline.wire import as_framing
from paceline.worker.assembly import Parts, assemble
from paceline.worker.connection import WayIn
from paceline.worker.gate import Shut
from paceline.worker.plan import Plan
from paceline.worker.watcher import TICK_S

DEADLINE_S = 10.0


class RecordingLog:
    """Stands where a Log stands."""

    def __init__(self) -> None:
        self.said: list[tuple[str, dict[str, object]]] = []
        self.dropped = 0
        self._changed = threading.Condition()

    def say(self, event: str, /, **fields: object) -> None:
        with self._changed:
            self.said.append((event, fields))
            self._changed.notify_all()

    def wait_for(self, event: str) -> dict[str, object]:
        """The fields of the first such event; fails the test when it does not come."""
        with self._changed:
            found = self._changed.wait_for(lambda: self.find(event), DEADLINE_S)
        assert found, f"{event} was not said; what was: {self.said}"
        return found[0]

    def find(self, event: str) -> list[dict[str, object]]:
        return [fields for name, fields in self.said if name == event]


class Gate:
    """A door for handlers: `wait` inside the handler, `open` in the test.  `entered` counts who came."""

    def __init__(self) -> None:
        self._door = threading.Event()
        self._entered = threading.Semaphore(0)

    def wait(self) -> None:
        self._entered.release()
        assert self._door.wait(DEADLINE_S), "nobody opened the gate"

    def wait_entered(self, count: int = 1) -> None:
        for _ in range(count):
            assert self._entered.acquire(timeout=DEADLINE_S), "no handler came to the gate"

    def open(self) -> None:
        self._door.set()


class Bed:
    """The worker under test."""

    def __init__(self, parts: Parts, plan: Plan, log: RecordingLog) -> None:
        self.parts = parts
        self.plan = plan
        self.log = log
        self.worker = parts.worker
        self.now = clock.now()
        self._clients: list[socket.socket] = []

    def connect(self) -> socket.socket:
        """A new client; the worker has its other end."""
        ours, theirs = socket.socketpair()
        ours.settimeout(DEADLINE_S)
        theirs.setblocking(False)
        self._clients.append(ours)
        if self.parts.accepting.admit(theirs.detach(), 0):
            self.worker.wakeup.wake()
        return ours

    def connect_tcp(self) -> socket.socket:
        """The same over TCP: for resets and small buffers."""
        with socket.create_server(("127.0.0.1", 0)) as server:
            ours = socket.create_connection(server.getsockname(), DEADLINE_S)
            theirs, _ = server.accept()
        theirs.setblocking(False)
        self._clients.append(ours)
        if self.parts.accepting.admit(theirs.detach(), 0):
            self.worker.wakeup.wake()
        return ours

    def tick(self, times: int = 1) -> None:
        """The watcher looks, a tick after the last time; the process counts as not busy."""
        for _ in range(times):
            self.now += TICK_S
            self.parts.watcher.tick(self.now)

    def cell(self, name: str) -> int:
        """A cell of the worker's row."""
        return int(self.worker.words[self.worker.row + WORKER[name]])

    def thread_total(self, name: str) -> int:
        """A cell of the thread rows, summed up."""
        layout = self.plan.board.layout
        rows = [layout.thread_index(0, index) for index in range(layout.threads)]
        return sum(int(self.worker.words[row + THREAD[name]]) for row in rows)

    def close(self) -> None:
        for client in self._clients:
            client.close()
        crew = self.worker.crew
        crew.stop()
        self.worker.wakeup.wake()
        assert crew.join(clock.now() + DEADLINE_S, clock.now), "a thread of the worker did not end"
        for fd in list(self.worker.tables.open):
            os.close(fd)
        self.worker.poller.close()
        self.worker.wakeup.close()
        self.parts.watcher.close()


@contextmanager
def bed(
    handler: Callable[..., Any], *, framing: object = "raw", as_: str | None = None, run: bool = True, **settings: Any
) -> Iterator[Bed]:
    """A worker that serves `handler`; `run=False`: assembled, and no thread made yet."""
    chosen = Settings(as_=as_, **settings)
    log = RecordingLog()
    board = Board.create(2, chosen.threads)
    board.sit(0, pid=os.getpid(), slot=0, generation=1, now_ns=clock.now_ns())
    control, far_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    control.setblocking(False)
    fault_fd = memory.create_growing("fault")
    signal_read, signal_write = os.pipe()
    plan = Plan(
        settings=chosen,
        target=handler,
        listeners=(),
        inboxes=(),
        board=board,
        control=control,
        fault_fd=fault_fd,
        seat=0,
        slot=0,
        generation=1,
        supervisor_pid=os.getppid(),
        close_fds=(),
    )
    found = examine(handler, "handler", as_)
    parts = assemble(plan, cast("Log", log), found, as_framing(framing, chosen.max_message), signal_read)
    parts.accepting.ways_in[0] = WayIn(0, "a socket pair")
    made = Bed(parts, plan, log)
    try:
        if run:
            assert parts.start()
            parts.worker.gate.open(Shut.STARTING)
        yield made
    finally:
        made.close()
        board.close()
        for end in (control, far_end):
            end.close()
        for fd in (fault_fd, signal_read, signal_write):
            os.close(fd)
