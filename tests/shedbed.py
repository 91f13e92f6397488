"""An overload in a worker of workerbed.py: how long connections have waited is the test's to say."""

import socket
from dataclasses import dataclass, field

import pytest

from leftovers import eventually
from paceline.host import streams
from paceline.worker.gate import Shut
from paceline.worker.overload import INTERVAL_S
from paceline.worker.watcher import TICK_S
from workerbed import DEADLINE_S, Bed, Gate

LIMIT_S = 0.5
TICKS = round(INTERVAL_S / TICK_S) + 2
"""An interval, and the looks before it that found out who waits."""


@dataclass
class Waits:
    """What the kernel says of how long connections have waited."""

    seconds: float | None = 0.0
    first: list[float] = field(default_factory=list)
    """Of those who are asked about first."""

    def quiet_s(self, fd: int) -> float | None:
        if streams.peer_credentials(fd) is not None:
            return None  # a Unix socket
        return self.first.pop(0) if self.first else self.seconds


def told(monkeypatch: pytest.MonkeyPatch) -> Waits:
    """In the place of what the kernel says."""
    waits = Waits()
    monkeypatch.setattr(streams, "quiet_s", waits.quiet_s)
    return waits


class Handler:
    """Echoes; waits at a gate for `slow`."""

    def __init__(self) -> None:
        self.gate = Gate()

    def __call__(self, message: bytes) -> bytes:
        if message == b"slow":
            self.gate.wait()
        return message


def saturate(worker: Bed, handler: Handler) -> socket.socket:
    """Its only thread is inside a call, for the client that is returned."""
    held = worker.connect_tcp()
    held.sendall(b"slow")
    handler.gate.wait_entered()
    worker.tick_until_led()
    worker.tick(2)
    assert worker.worker.gate.reasons == {Shut.SATURATED} or not worker.plan.listeners
    return held


def wait_arrived(worker: Bed, *clients: socket.socket) -> None:
    """What they have sent is there to be read."""
    names = {client.getsockname() for client in clients}

    def has_arrived() -> bool:
        fds = [fd for fd in worker.worker.tables.open if streams.peer_address(fd) in names]
        return len(fds) == len(names) and all(streams.unread_bytes(fd) for fd in fds)

    eventually(has_arrived, DEADLINE_S)


def wait_knocking(worker: Bed, count: int, listener: int = 0) -> None:
    eventually(lambda: streams.accept_queue(worker.plan.listeners[listener].socket) == count, DEADLINE_S)


def tick_until_calm(worker: Bed) -> None:
    """The watcher looks until the overload is over."""

    def is_calm() -> bool:
        worker.tick()
        return not worker.cell("overloaded")

    eventually(is_calm, DEADLINE_S)


def is_reset(client: socket.socket) -> bool:
    with pytest.raises(ConnectionResetError):
        client.recv(1)
    return True


def cells(worker: Bed) -> dict[str, int]:
    names = ("refused", "refused_overload", "closed_overload", "overloads", "overloaded")
    return {name: worker.cell(name) for name in names if worker.cell(name)}


class Greeting:
    """`disconnected` is called for each that was greeted, by a thread of the crew."""

    def __init__(self, handler: Handler) -> None:
        self.handler = handler
        self.farewells = 0

    def connected(self, _connection: object) -> None:
        pass

    def disconnected(self, _connection: object) -> None:
        self.farewells += 1

    def __call__(self, message: bytes) -> bytes:
        return self.handler(message)


def overload(worker: Bed, waits: Waits) -> None:
    """As if everybody had waited for an interval; the watcher does not look again."""
    shedding = worker.parts.accepting.shedding
    while not shedding.overload.is_on:
        shedding.overload.look(2 * LIMIT_S, TICK_S)
    shedding._turn(2 * LIMIT_S)
    worker.worker.wait_due = True
    waits.seconds = 2 * LIMIT_S
