"""A whole worker inside the test's process, without its fork, its listeners and its watcher's loop.

Real threads, real sockets, a real scoreboard.  Connections are socket pairs that are admitted as if they came through
the inbox.  The watcher does nothing by itself: a test calls `bed.tick()` when it wants a tick, so that time passes when
the test says so; only `bed.drain()` runs its loop, in real time, to the end.  A `Gate` makes handlers wait until they
are let go.
"""

import array
import dataclasses
import fcntl
import os
import socket
import struct
import termios
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

from leftovers import eventually
from paceline import clock
from paceline.addresses import parse_address
from paceline.handlers import examine
from paceline.host import streams
from paceline.host.listeners import close_listener, open_listener
from paceline.host.output import Log
from paceline.scoreboard.board import Board
from paceline.scoreboard.fields import THREAD, WORKER, ThreadState
from paceline.settings import Settings
from paceline.wire import as_framing
from paceline.worker.assembly import Parts, assemble
from paceline.worker.connection import Connection, WayIn
from paceline.worker.gate import Shut
from paceline.worker.lifecycle import State
from paceline.worker.messages import Drain, encode
from paceline.worker.plan import Inbox, Plan
from paceline.worker.process import certificates_of
from paceline.worker.watcher import REST_S, TICK_S

DEADLINE_S = 10.0


def receive_exactly(client: socket.socket, count: int) -> bytes:
    received = bytearray()
    while len(received) < count:
        piece = client.recv(min(65536, count - len(received)))
        assert piece, f"end-of-file after {len(received)} bytes: {bytes(received[:200])!r}"
        received += piece
    return bytes(received)


def receive_all(client: socket.socket) -> bytes:
    """Up to end-of-file; a reset is an exception."""
    received = bytearray()
    while piece := client.recv(65536):
        received += piece
    return bytes(received)


def reset(client: socket.socket) -> None:
    """End a TCP connection by a reset (socket(7), SO_LINGER)."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def tcp_pair(receive_buffer: int | None = None, source: str = "") -> tuple[socket.socket, socket.socket]:
    """(a client, the other end of it) of a new TCP connection; from this address of this machine, if it is named."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        ours = socket.socket()
        if receive_buffer is not None:  # before it connects, so that no larger window is offered (tcp(7))
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        if source:
            ours.bind((source, 0))
        ours.connect(server.getsockname())
        return ours, server.accept()[0]


def unread_bytes(fd: int) -> int:
    """What has arrived and was not received yet (tcp(7), SIOCINQ)."""
    size = array.array("i", [0])
    fcntl.ioctl(fd, termios.FIONREAD, size)
    return size[0]


class ByteByByte:
    """A framing for tests, as a user may write one: each byte is a message, replies go out as they are."""

    def cut(self, _rest: object, data: bytes) -> tuple[list[bytes], None]:
        return [data[at : at + 1] for at in range(len(data))], None

    def join(self, replies: Sequence[bytes]) -> bytes:
        return b"".join(replies)


class Pairs:
    """A framing of a user's that keeps a list: two bytes are a message."""

    def cut(self, rest: list[int] | None, data: bytes) -> tuple[list[bytes], list[int] | None]:
        kept = [*(rest or []), *data]
        whole = len(kept) - len(kept) % 2
        return [bytes(kept[at : at + 2]) for at in range(0, whole, 2)], kept[whole:] or None

    def join(self, replies: Sequence[bytes]) -> bytes:
        return b"".join(replies)


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


@dataclass(frozen=True)
class Place:
    """A seat among others, where one worker's board and inbox are (house.py)."""

    board: Board
    inboxes: tuple[Inbox, ...]
    seat: int
    generation: int


class Drained:
    """A watcher's loop on a thread of its own, until the worker has drained."""

    def __init__(self, run: Callable[[], int]) -> None:
        self._cut: int | None = None
        self._thread = threading.Thread(target=self._run, args=(run,), name="watcher")
        self._thread.start()

    def _run(self, run: Callable[[], int]) -> None:
        self._cut = run()

    @property
    def is_over(self) -> bool:
        return not self._thread.is_alive()

    def wait(self) -> int:
        """How many calls were cut; fails the test when it takes too long."""
        self._thread.join(DEADLINE_S)
        assert self._cut is not None, "the worker did not drain"
        return self._cut


class Bed:
    """The worker under test."""

    def __init__(self, parts: Parts, plan: Plan, log: RecordingLog, supervisor: socket.socket, signal_fd: int) -> None:
        self.parts = parts
        self.plan = plan
        self.log = log
        self.supervisor = supervisor
        """The other end of the control channel."""
        self.signal_fd = signal_fd
        """Where Python would write the numbers of signals."""
        self.worker = parts.worker
        self.now = clock.now()
        self.clients: list[socket.socket] = []
        """Closed at the end."""

    def connect(self, *, send_buffer: int | None = None) -> socket.socket:
        """A new client; the worker has its other end, with so much room for what it sends."""
        ours, theirs = socket.socketpair()
        return self._admit(ours, theirs, send_buffer)

    def connect_tcp(self, *, send_buffer: int | None = None, receive_buffer: int | None = None) -> socket.socket:
        """The same over TCP: for resets, and for buffers of both ends."""
        return self._admit(*tcp_pair(receive_buffer), send_buffer)

    def call_in(self, source: str = "", to: str = "", listener: int = 0) -> socket.socket:
        """A new client, by the listener; from and to addresses of this machine, if they are named."""
        name = self.plan.listeners[listener].socket.getsockname()
        if isinstance(name, str):
            ours = socket.socket(socket.AF_UNIX)
            ours.settimeout(DEADLINE_S)
            ours.connect(name)
        else:
            place = (to or name[0], name[1])
            ours = socket.create_connection(place, DEADLINE_S, (source, 0) if source else None)
        self.clients.append(ours)
        return ours

    def _admit(self, ours: socket.socket, theirs: socket.socket, send_buffer: int | None) -> socket.socket:
        if send_buffer is not None:
            theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
        ours.settimeout(DEADLINE_S)
        theirs.setblocking(False)
        self.clients.append(ours)
        accepting = self.parts.accepting
        way_in = accepting.way_in(0)
        phase = accepting.first_phase(way_in, streams.peer_address(theirs.fileno()))
        way_in = way_in.proxied if phase is State.UNNAMED else way_in
        if accepting.enter(Connection(theirs.detach(), way_in, phase)):
            self.worker.wakeup.wake()
        return ours

    def connections(self) -> list[Connection]:
        """All that are open, oldest first."""
        return list(self.worker.tables.open.copy().values())

    def wait_stuck(self) -> Connection:
        """Wait until a connection is parked with bytes that its peer does not take; the oldest such."""
        found: list[Connection] = []

        def is_stuck() -> bool:
            found[:] = [c for c in self.worker.tables.parked.copy().values() if c.out is not None]
            return bool(found)

        eventually(is_stuck, DEADLINE_S)
        return found[0]

    def wait_parked(self) -> None:
        """Wait until no thread has a connection in hand."""
        tables = self.worker.tables

        def are_parked() -> bool:
            return tables.open.keys() == tables.parked.keys()

        eventually(are_parked, DEADLINE_S)

    def wait_closed(self, count: int) -> None:
        """Wait until so many connections were closed; then nothing of them is left on the books."""

        def are_closed() -> bool:
            return self.cell("closed") >= count

        eventually(are_closed, DEADLINE_S)
        tables = self.worker.tables
        gone = {fd for book in (tables.parked, tables.timed, tables.pending) for fd in book} - tables.open.keys()
        assert self.cell("closed") == count
        assert not gone, "a closed connection is still on the books"

    def tick(self, times: int = 1) -> None:
        """The watcher looks, a tick after the last time; the process counts as not busy."""
        for _ in range(times):
            self.now += TICK_S
            self.parts.watcher.last_cpu = clock.process_cpu()  # more may have been used than fits into a tick
            self.parts.watcher.tick(self.now)

    def tick_until_led(self) -> None:
        """The watcher looks, until somebody leads who is not in a call; or nobody can, because all threads are."""
        roles = self.worker.crew.roles

        def is_led() -> bool:
            self.tick()
            leader = roles.leader
            return roles.is_saturated or (leader is not None and leader.words[leader.state] == ThreadState.POLLING)

        eventually(is_led, DEADLINE_S)

    def look(self, after_s: float = REST_S, *, in_calls: bool = False) -> None:
        """So much time passes, and the watcher looks at the deadlines; `in_calls`: though threads are in calls.

        A reply may arrive before its connection is parked again, and who is not parked is not timed.
        """
        if not in_calls:
            self.wait_parked()
        self.now += max(after_s, REST_S)
        self.parts.watcher.tick(self.now)

    def drain(self, within_s: float = DEADLINE_S) -> "Drained":
        """The supervisor asks for the end; the watcher's loop runs until then."""
        self.supervisor.send(encode(Drain(within_s)))
        return Drained(self.parts.watcher.run)

    def cell(self, name: str) -> int:
        """A cell of the worker's row."""
        return int(self.worker.words[self.worker.row + WORKER[name]])

    def thread_total(self, name: str) -> int:
        """A cell of the thread rows, summed up."""
        layout = self.plan.board.layout
        rows = [layout.thread_index(0, index) for index in range(layout.threads)]
        return sum(int(self.worker.words[row + THREAD[name]]) for row in rows)

    def close(self) -> None:
        for client in self.clients:
            client.close()
        crew = self.worker.crew
        crew.stop()
        self.worker.wakeup.wake()
        assert crew.join(clock.now() + DEADLINE_S, clock.now), "a thread of the worker did not end"
        for fd in list(self.worker.tables.open):
            os.close(fd)
        for listener in self.plan.listeners:
            close_listener(listener)
        self.worker.poller.close()
        self.worker.wakeup.close()
        self.parts.watcher.close()


@contextmanager
def bed(
    handler: Callable[..., Any],
    *,
    framing: object = "raw",
    as_: str | None = None,
    run: bool = True,
    listen: bool | str | tuple[str, ...] = False,
    place: Place | None = None,
    **settings: Any,
) -> Iterator[Bed]:
    """A worker that serves `handler`; `run=False`: assembled, and no thread made yet.  A bug of ours fails the test.

    `listen`: with a listener on a free port as well, or at this address, or these, for `bed.call_in`.  `place`: among
    siblings, to whom its watcher gives and from whom it takes, when it is told to.
    """
    chosen = Settings(as_=as_, **settings)
    log = RecordingLog()
    board = Board.create(2, chosen.threads) if place is None else place.board
    control, far_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    control.setblocking(False)
    signal_read, signal_write = os.pipe()
    addresses = ("127.0.0.1:0",) if listen is True else listen or ()
    addresses = (addresses,) if isinstance(addresses, str) else addresses
    listeners = tuple(open_listener(parse_address(each), index, 64, None) for index, each in enumerate(addresses))
    plan = Plan.alone(chosen, handler, listeners, board, control)
    if place is not None:
        plan = dataclasses.replace(plan, inboxes=place.inboxes, seat=place.seat, generation=place.generation)
    board.sit(plan.seat, pid=os.getpid(), slot=0, generation=plan.generation, now_ns=clock.now_ns())
    found = examine(handler, "handler", as_)
    certificates = certificates_of(chosen, {})
    parts = assemble(plan, cast("Log", log), found, as_framing(framing, chosen.max_message), signal_read, certificates)
    secures = certificates is not None
    parts.accepting.ways_in.setdefault(0, WayIn(0, "a socket pair", parts.worker.pushing.push, secures=secures))
    made = Bed(parts, plan, log, far_end, signal_write)
    try:
        if run:
            assert parts.start()
            parts.worker.gate.open(Shut.STARTING)
        yield made
        assert not log.find("bug")
    finally:
        made.close()
        if place is None:
            board.close()
        for end in (control, far_end):
            end.close()
        for fd in (signal_read, signal_write):
            os.close(fd)
