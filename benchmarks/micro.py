"""What the pieces cost that the fast path is made of: `python -m benchmarks.micro [WORD]`, a table in nanoseconds.

A piece is a statement, run in a loop long enough to be timed; the figure is the best of several loops (what the code
costs when nobody disturbs it), with the median beside it.  The empty loop is taken off both.  WORD keeps the pieces
whose names contain it.  Not a benchmark of the server: use it to decide between two ways of writing a line.
"""

import os
import select
import socket
import statistics
import struct
import sys
import threading
import time
import timeit
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from benchmarks.report import table
from paceline.wire import Fixed, LengthPrefixed, Lines, Netstring, Raw

LOOP_NS = 20_000_000
LOOPS = 9
SIZE = 64
"""Bytes in a message."""

BATCH = 16
"""Messages in a piece of data, where a framing is given several at once."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A statement and what it stands for; `share` divides the cost, when a statement does something several times."""

    group: str
    name: str
    statement: str
    share: int = 1


@dataclass(frozen=True, slots=True)
class Cost:
    """Nanoseconds."""

    best: float
    median: float

    def without(self, loop: "Cost") -> "Cost":
        """The empty loop taken off; never below nothing."""
        return Cost(max(0.0, self.best - loop.best), max(0.0, self.median - loop.median))


NOTHING = "pass"

OWNERSHIP = (
    Piece("who owns it", "dict: pop and set again", "owned = parked.pop(7); parked[7] = owned"),
    Piece("who owns it", "lock: acquire and release", "lock.acquire(); lock.release()"),
    Piece("who owns it", "lock: with", "with lock: pass"),
    Piece("who owns it", "set: add and discard", "pending.add(7); pending.discard(7)"),
    Piece("who owns it", "deque: append and popleft", "ready.append(7); ready.popleft()"),
)
PUBLISHING = (
    Piece("what is published", "store a word in a memoryview", "words[3] = 12345"),
    Piece("what is published", "add to a word in a memoryview", "words[3] += 1"),
    Piece("what is published", "add to an attribute in a slot", "record.count += 1"),
    Piece("what is published", "struct.pack_into a word", "pack_into('Q', page, 24, 12345)"),
)
CLOCKS = (
    Piece("clocks", "time.monotonic_ns()", "monotonic_ns()"),
    Piece("clocks", "time.thread_time_ns()", "thread_time_ns()"),
    Piece("clocks", "time.process_time_ns()", "process_time_ns()"),
)
CALLS = (
    Piece("calls", "a Python function of one argument", "handler(message)"),
    Piece("calls", "the same in try … except", "try: handler(message)\nexcept Exception: pass"),
    Piece("calls", "a list of 16 replies", "[handler(m) for m in messages]", BATCH),
)
SYSTEM = (
    Piece("system calls", "os.write + os.read, socketpair", "write(near_fd, message); read(far_fd, 65536)"),
    Piece("system calls", "send + recv, socketpair", "send(message); recv(65536)"),
    Piece("system calls", "os.write + os.read, TCP", "write(client_fd, message); read(server_fd, 65536)"),
    Piece("system calls", "os.read that finds nothing", "try: read(server_fd, 65536)\nexcept BlockingIOError: pass"),
    Piece("system calls", "epoll.poll, one ready", "poll(0, 64)"),
    Piece("system calls", "epoll.modify", "modify(readable_fd, EPOLLIN)"),
    Piece("system calls", "eventfd: write and read", "wake(wakeup, 1); clear(wakeup)"),
)
CUTTING = (
    Piece("cutting, per message", "raw, one message", "raw.cut(None, message)"),
    Piece("cutting, per message", "lines, one message", "lines.cut(None, line)"),
    Piece("cutting, per message", "lines, 16 messages", "lines.cut(None, line16)", BATCH),
    Piece(
        "cutting, per message", "lines, a message in two parts", "_, r = lines.cut(None, half1); lines.cut(r, half2)"
    ),
    Piece("cutting, per message", "length:4, one message", "prefixed.cut(None, frame)"),
    Piece("cutting, per message", "length:4, 16 messages", "prefixed.cut(None, frame16)", BATCH),
    Piece("cutting, per message", "fixed:64, 16 messages", "fixed.cut(None, message16)", BATCH),
    Piece("cutting, per message", "netstring, one message", "netstring.cut(None, net)"),
    Piece("cutting, per message", "netstring, 16 messages", "netstring.cut(None, net16)", BATCH),
    Piece("cutting, per message", "bytes.split alone, 16 lines", "line16.split(b'\\n')", BATCH),
    Piece("joining, per message", "lines, one reply", "lines.join(one)"),
    Piece("joining, per message", "lines, 16 replies", "lines.join(messages)", BATCH),
    Piece("joining, per message", "length:4, 16 replies", "prefixed.join(messages)", BATCH),
    Piece("joining, per message", "bytes.join alone, 16 replies", "b''.join(messages)", BATCH),
)
PIECES = (*OWNERSHIP, *PUBLISHING, *CLOCKS, *CALLS, *SYSTEM, *CUTTING)


class Record:
    """Something with a counter in a slot."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0


def tcp_pair(held: ExitStack) -> tuple[socket.socket, socket.socket]:
    """Two ends of a loopback connection that send at once: (client, server), the server's non-blocking."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = held.enter_context(socket.create_connection(listener.getsockname()))
        server = held.enter_context(listener.accept()[0])
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    server.setblocking(False)
    return client, server


def names(held: ExitStack) -> dict[str, Any]:
    """What the statements use; `held` closes what must be closed."""
    near, far = (held.enter_context(end) for end in socket.socketpair())
    readable, writer = (held.enter_context(end) for end in socket.socketpair())
    writer.send(b"!")
    client, server = tcp_pair(held)
    epoll = held.enter_context(select.epoll())
    epoll.register(readable, select.EPOLLIN)
    wakeup = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
    held.callback(os.close, wakeup)
    message = b"q" * SIZE
    line = message[:-1] + b"\n"
    frame = len(message).to_bytes(4, "big") + message
    net = b"%d:%b," % (len(message), message)
    page = bytearray(4096)
    system: dict[str, Any] = {
        "write": os.write, "read": os.read, "send": near.send, "recv": far.recv, "near_fd": near.fileno(),
        "far_fd": far.fileno(), "client_fd": client.fileno(), "server_fd": server.fileno(), "poll": epoll.poll,
        "modify": epoll.modify, "readable_fd": readable.fileno(), "EPOLLIN": select.EPOLLIN, "wakeup": wakeup,
        "wake": os.eventfd_write, "clear": os.eventfd_read,
    }  # fmt: skip
    framings: dict[str, Any] = {
        "raw": Raw(limit=65536), "lines": Lines(limit=65536), "prefixed": LengthPrefixed(4, limit=65536),
        "fixed": Fixed(SIZE), "netstring": Netstring(limit=65536),
    }  # fmt: skip
    plain: dict[str, Any] = {
        "parked": dict.fromkeys(range(64), object()), "lock": threading.Lock(), "pending": {1, 2}, "ready": deque([1]),
        "words": memoryview(page).cast("Q"), "page": page, "pack_into": struct.pack_into, "record": Record(),
        "monotonic_ns": time.monotonic_ns, "thread_time_ns": time.thread_time_ns,
        "process_time_ns": time.process_time_ns, "handler": lambda m: m,
        "message": message, "messages": [message] * BATCH, "one": [message], "message16": message * BATCH,
        "line": line, "line16": line * BATCH, "half1": line[:32], "half2": line[32:],
        "frame": frame, "frame16": frame * BATCH, "net": net, "net16": net * BATCH,
    }  # fmt: skip
    return system | framings | plain


def cost_of(statement: str, known: dict[str, Any], loops: int = LOOPS, loop_ns: int = LOOP_NS) -> Cost:
    """What one run of the statement costs, the loop included."""
    timer = timeit.Timer(statement, timer=time.perf_counter_ns, globals=known)
    once_ns = max(1.0, timer.timeit(200) / 200)
    number = max(1, int(loop_ns / once_ns))
    costs = [taken / number for taken in timer.repeat(loops, number)]
    return Cost(min(costs), statistics.median(costs))


def measured(pieces: Iterable[Piece], cost: Callable[[str], Cost]) -> list[list[str]]:
    """The lines of the table."""
    loop = cost(NOTHING)
    lines = []
    for piece in pieces:
        net = cost(piece.statement).without(loop)
        lines.append(
            [f"{piece.group}: {piece.name}", f"{net.best / piece.share:,.0f}", f"{net.median / piece.share:,.0f}"]
        )
    return lines


def main(words: list[str]) -> int:
    pieces = [piece for piece in PIECES if all(word in f"{piece.group} {piece.name}" for word in words)]
    if not pieces:
        print(f"no piece is called {' '.join(words)}", file=sys.stderr)
        return 2
    with ExitStack() as held:
        known = names(held)
        lines = measured(pieces, lambda statement: cost_of(statement, known))
    print(table(["", "ns, best", "median"], lines))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
