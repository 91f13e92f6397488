"""64 clients send lines in pieces of random length: every reply comes once and in order, whatever the pieces were.

Each line says whose it is and which one, so the bytes that a client receives show it all: they must be those of its own
lines, in order, without one missing or doubled.  All clients live in one loop of one thread, which never waits for one
of them while another could go on.

A test prints its seed; PACELINE_SEED repeats it.  PACELINE_LONG=1 makes it 100,000 lines for each client.
"""

import os
import random
import selectors
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto

import pytest

from paceline.clock import now
from testbed import Server, running

CLIENTS = 64
IS_LONG = os.environ.get("PACELINE_LONG", "") not in ("", "0")
LINES = 100_000 if IS_LONG else 2_000
PATIENCE_S = 1_800 if IS_LONG else 40

SHOUT = {"app.py": "def shout(line): return line.upper()\n"}
BLOCK = 500
"""So many lines are made at once."""


class End(Enum):
    """How a client ends when it has sent what it wanted to."""

    HALF_CLOSE = auto()
    RESET = auto()


@dataclass(frozen=True)
class Plan:
    """What a client does: `lines` complete ones, `part` bytes of a further one, and the end."""

    lines: int
    part: int = 0
    end: End = End.HALF_CLOSE


class Client:
    """One of them.  Its socket does not block."""

    def __init__(self, number: int, plan: Plan, pieces: Iterator[int], address: tuple[str, int]) -> None:
        self.number = number
        self.plan = plan
        self.pieces = pieces
        self.lines = 0
        self.received = 0
        self.unsent = memoryview(b"")
        self.due = bytearray()
        """The replies to what was sent, or is about to be, and has not been answered yet."""
        self.has_sent = False
        self.has_ended = False
        self.is_over = False
        self.socket = socket.create_connection(address, 5)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)

    def line(self, number: int) -> bytes:
        return b"client %d says line %d\n" % (self.number, number)

    def on_writable(self) -> None:
        """Send one more piece, or end."""
        if not self.unsent and not self._make_more():
            if not self.has_ended:
                self._end()
            return
        sent = self.socket.send(self.unsent[: next(self.pieces)])
        self.unsent = self.unsent[sent:]

    def on_readable(self) -> None:
        data = self.socket.recv(65536)
        if not data:
            assert self.has_sent, f"{self} was disconnected before it had sent everything"
            assert not self.due, f"{self} was disconnected before it had all its replies; missing: {self.due[:80]!r}…"
            self.is_over = True
        elif not self.due.startswith(data):
            raise AssertionError(f"{self} received {data[:200]!r}… when it was to receive {self.due[:200]!r}…")
        del self.due[: len(data)]
        self.received += len(data)

    def _make_more(self) -> bool:
        plan = self.plan
        until = min(self.lines + BLOCK, plan.lines)
        block = b"".join([self.line(number) for number in range(self.lines, until)])
        self.due += block.upper()
        if until == plan.lines and not self.has_sent:
            block += self.line(until)[: plan.part]
            self.has_sent = True
        self.lines = until
        self.unsent = memoryview(block)
        return bool(block)

    def _end(self) -> None:
        self.has_ended = True
        if self.plan.end is End.RESET:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            self.is_over = True
        else:
            self.socket.shutdown(socket.SHUT_WR)

    def __str__(self) -> str:
        return f"client {self.number} ({self.plan}, {self.lines} lines made, {self.received} bytes received)"


def serve_all(clients: list[Client]) -> None:
    """Let them do what they want to; AssertionError when one gets a wrong byte, or they do not end in time."""
    deadline = now() + PATIENCE_S
    with selectors.DefaultSelector() as selector:
        for client in clients:
            selector.register(client.socket, selectors.EVENT_READ | selectors.EVENT_WRITE, client)
        while selector.get_map():
            for key, events in selector.select(1):
                client = key.data
                if events & selectors.EVENT_READ:
                    client.on_readable()
                if events & selectors.EVENT_WRITE and not client.is_over:
                    client.on_writable()
                    if client.has_sent and not client.unsent:
                        selector.modify(client.socket, selectors.EVENT_READ, client)
                        client.on_writable()
                if client.is_over:
                    selector.unregister(client.socket)
                    client.socket.close()
            late = [str(key.data) for key in selector.get_map().values()] if now() > deadline else []
            assert not late, f"not over after {PATIENCE_S} s: " + "; ".join(late)


def run(server: Server, plans: list[Plan], pieces: Iterator[int]) -> None:
    clients: list[Client] = []
    try:
        clients += [Client(number, plan, pieces, server.address) for number, plan in enumerate(plans)]
        serve_all(clients)
    finally:
        for client in clients:
            client.socket.close()


@pytest.fixture
def chance() -> random.Random:
    seed = int(os.environ.get("PACELINE_SEED", random.randrange(2**32)))
    print(f"PACELINE_SEED={seed}")
    return random.Random(seed)


def random_pieces(chance: random.Random) -> Iterator[int]:
    """Lengths of a byte or two, of parts of lines, of many lines."""
    while True:
        yield chance.randint(1, chance.choice((2, 20, 200, 2_000, 20_000)))


def single_bytes() -> Iterator[int]:
    while True:
        yield 1


def said_besides(server: Server) -> list[str]:
    """What was logged that is no ordinary event of a server's life."""
    return [line for line in server.log.splitlines() if " supervisor: " not in line]


@pytest.mark.timeout(PATIENCE_S + 20)
def test_every_reply_comes_once_and_in_order(chance: random.Random) -> None:
    with running("app.py:shout", "--framing", "line", "--workers", "2", files=SHOUT) as server:
        run(server, [Plan(LINES)] * CLIENTS, random_pieces(chance))
    server.wait_for_log(f"; {CLIENTS * LINES} calls served")
    assert said_besides(server) == []


def test_byte_by_byte() -> None:
    with running("app.py:shout", "--framing", "line", "--workers", "2", files=SHOUT) as server:
        run(server, [Plan(20)] * CLIENTS, single_bytes())
    assert said_besides(server) == []


def test_among_others_that_half_close_and_reset(chance: random.Random) -> None:
    """Those who leave in the middle, at any byte, do not cost the others one of theirs."""

    def plan(number: int) -> Plan:
        lines = chance.randrange(1_000)
        match number % 4:
            case 0:
                return Plan(lines, chance.randrange(20), End.HALF_CLOSE)
            case 1:
                return Plan(lines, chance.randrange(20), End.RESET)
            case _:
                return Plan(1_000)

    with running("app.py:shout", "--framing", "line", "--workers", "2", files=SHOUT) as server:
        pids = server.pids()
        for _ in range(3):
            run(server, [plan(number) for number in range(CLIENTS)], random_pieces(chance))
        assert set(server.pids()) >= set(pids), "no worker was replaced"
    assert all("the peer ended the connection inside a message" in line for line in said_besides(server))
