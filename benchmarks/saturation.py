"""Row 7's load: one worker is saturated, and quick messages come: `python -m benchmarks.saturation --port PORT …`.

The server serves handlers.gated.  Connections are made, one by one, and ask who answers, until one process has as many
of them as a worker has threads.  On each of these a slow message goes out, whose handler then connects to our gate and
waits there: when all have come, that worker is saturated, and it stays so until we open the gate.  Meanwhile quick
messages become due at a fixed rate, each on a connection of its own, made before (and served once) or when it is due.
Latency counts from when a message was *due*.  A second after the last one was due the gate opens, and what the
saturated worker had is answered, too.

Speaks as load/load.c does: `begin`, `end`, a line of JSON; exit code 0 even when replies were lost or wrong, 3 when the
server could not be saturated, with the reason.
"""

import argparse
import contextlib
import json
import math
import select
import socket
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from benchmarks.handlers import GATE_S
from benchmarks.rows import LATE_S

STRAGGLERS_S = 1.0
"""So long after the last message was due the gate opens; more than LATE_S by far."""

WAIT_S = 20.0
TRIES = 16
"""A server that has not given one worker its share of so many times that is not going to."""

HOST = "127.0.0.1"


class NotSaturated(Exception):
    """No worker could be saturated, or not for long enough; the text says why."""


def text_of(kind: str, number: int, size: int) -> bytes:
    """A message of `size` bytes that tells itself from all others."""
    return f"{kind} {number} ".encode().ljust(size, b".")


def connect(port: int) -> socket.socket:
    connection = socket.create_connection((HOST, port), WAIT_S)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def receive(connection: socket.socket, size: int) -> bytes:
    """So many bytes, or fewer when the connection ends.  Raises TimeoutError after WAIT_S, ConnectionError."""
    reply = b""
    while len(reply) < size and (piece := connection.recv(size - len(reply))):
        reply += piece
    return reply


def who_answers(connection: socket.socket, size: int) -> int:
    """The id of the process that has this connection."""
    connection.sendall(text_of("w", 0, size))
    reply = receive(connection, size)
    if not reply.strip().isdigit():
        raise NotSaturated(f"asked who answers, it said {reply!r}: the handler must be benchmarks.handlers:gated")
    return int(reply)


class Saturated:
    """A server one of whose workers has all its threads in calls, from `enter` to `open_gate`."""

    def __init__(self, port: int, threads: int, size: int) -> None:
        self.port, self.threads, self.size = port, threads, size
        self.held: list[socket.socket] = []
        self._open = contextlib.ExitStack()
        self._gates: list[socket.socket] = []

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as undo:
            undo.callback(self._open.close)
            self._enter()
            undo.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def _enter(self) -> None:
        """Raises NotSaturated, OSError."""
        of_process: dict[int, list[socket.socket]] = defaultdict(list)
        for _ in range(TRIES * self.threads):
            connection = self._open.enter_context(connect(self.port))
            mine = of_process[who_answers(connection, self.size)]
            mine.append(connection)
            if len(mine) == self.threads:
                self.held = mine
                break
        else:
            shares = ", ".join(str(len(mine)) for mine in of_process.values())
            raise NotSaturated(f"of {TRIES * self.threads} connections the processes have {shares}: none is enough")
        listener = self._open.enter_context(socket.create_server((HOST, 0), backlog=self.threads))
        listener.settimeout(WAIT_S)
        self.slow = text_of("s", listener.getsockname()[1], self.size)
        for connection in self.held:
            connection.sendall(self.slow)
        for count in range(self.threads):
            try:
                gate, _ = listener.accept()
            except TimeoutError:
                raise NotSaturated(f"{count} of {self.threads} slow calls had begun after {WAIT_S:g} s") from None
            self._gates.append(self._open.enter_context(gate))

    def check(self) -> None:
        """Raises NotSaturated when a slow call has ended already."""
        poll = select.poll()
        for connection in self.held:
            poll.register(connection, select.POLLIN)
        if ended := len(poll.poll(0)):
            raise NotSaturated(f"{ended} slow calls had ended before the gate was opened (they wait {GATE_S:g} s)")

    def open_gate(self) -> None:
        """The slow calls go on.  Their replies are checked by `wrong_replies`."""
        for gate in self._gates:
            gate.close()

    def wrong_replies(self) -> int:
        """How many of the slow messages were answered wrongly, or not."""
        wrong = 0
        for connection in self.held:
            try:
                wrong += receive(connection, self.size) != self.slow
            except OSError:
                wrong += 1
        return wrong


@dataclass(slots=True)
class Quick:
    """The quick messages: what was due when, and what came back."""

    port: int
    size: int
    rate: float
    connections: list[socket.socket | None]
    """By message; None: to be made when it is due."""

    latencies_s: dict[int, float] = field(default_factory=dict)
    lost: int = 0
    wrong: int = 0
    under_way: dict[int, int] = field(default_factory=dict)
    """Descriptor → message."""

    start_s: float = 0.0
    next: int = 0
    poll: Any = field(default_factory=select.poll)

    def due_s(self, number: int) -> float:
        return self.start_s + number / self.rate

    def begin(self) -> None:
        self.start_s = time.monotonic()

    def run_until(self, end_s: float) -> None:
        """Send what becomes due, and read what comes, until that time, or until all is answered."""
        while (now := time.monotonic()) < end_s and (self.next < len(self.connections) or self.under_way):
            while self.next < len(self.connections) and self.due_s(self.next) <= now:
                self._send()
            until_s = min(end_s, self.due_s(self.next)) if self.next < len(self.connections) else end_s
            # poll(2) counts in milliseconds: the last one is waited for awake, so that nothing is sent late.
            for fd, _ in self.poll.poll(max(0, int((until_s - time.monotonic()) * 1e3))):
                self._receive(fd)

    def _send(self) -> None:
        number, self.next = self.next, self.next + 1
        try:
            connection = self.connections[number] or connect(self.port)
            self.connections[number] = connection
            connection.sendall(text_of("q", number, self.size))
        except OSError:
            self.lost += 1
            return
        self.under_way[connection.fileno()] = number
        self.poll.register(connection, select.POLLIN)

    def _receive(self, fd: int) -> None:
        number = self.under_way.pop(fd)
        self.poll.unregister(fd)
        connection = self.connections[number]
        assert connection is not None
        try:
            reply = receive(connection, self.size)
        except OSError:
            reply = b""
        if reply == text_of("q", number, self.size):
            self.latencies_s[number] = time.monotonic() - self.due_s(number)
        elif reply:
            self.wrong += 1
        else:
            self.lost += 1
        connection.close()

    def close(self) -> None:
        for connection in self.connections:
            if connection is not None:
                connection.close()


def percentile(ordered: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of the values does not exceed; NaN of none."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else math.nan


def result_of(quick: Quick, seconds: float, wrong_slow: int, cpu_s: float) -> dict[str, Any]:
    """The line of JSON."""
    ordered = sorted(latency * 1e6 for latency in quick.latencies_s.values())
    shares = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999, "max": 1.0}
    return {
        "messages": len(ordered),
        "seconds": seconds,
        "lost": quick.lost,
        "wrong": quick.wrong + wrong_slow,
        "unanswered": len(quick.under_way),
        "load_cpu_s": cpu_s,
        "quick_late": sum(latency > LATE_S for latency in quick.latencies_s.values()),
        **({f"quick_{name}_us": percentile(ordered, share) for name, share in shares.items()} if ordered else {}),
    }


def run(options: argparse.Namespace) -> dict[str, Any]:
    """One measurement.  Raises NotSaturated, OSError."""
    count: int = options.connections
    with contextlib.ExitStack() as stack:
        quick = Quick(options.port, options.size, options.rate, [None] * count)
        stack.callback(quick.close)
        if options.connects == "before":
            for number in range(count):
                connection = quick.connections[number] = connect(options.port)
                who_answers(connection, options.size)
        saturated = stack.enter_context(Saturated(options.port, options.threads, options.size))
        print("begin", flush=True)
        began_cpu_s = time.process_time()
        quick.begin()
        quick.run_until(quick.due_s(count - 1) + STRAGGLERS_S)
        saturated.check()
        saturated.open_gate()
        quick.run_until(time.monotonic() + WAIT_S)
        seconds, cpu_s = time.monotonic() - quick.start_s, time.process_time() - began_cpu_s
        print("end", flush=True)
        return result_of(quick, seconds, saturated.wrong_replies(), cpu_s)


def read_command_line(words: Sequence[str]) -> argparse.Namespace:
    """As Load.options writes it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.saturation", description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--connections", type=int, default=1000, help="quick messages, each on its own")
    parser.add_argument("--connects", choices=["before", "when due"], default="when due")
    parser.add_argument("--rate", type=float, default=500.0, help="quick messages per second")
    parser.add_argument("--size", type=int, default=64, help="bytes of a message")
    parser.add_argument("--threads", type=int, default=64, help="slow calls that saturate a worker")
    parser.add_argument("--in-flight", type=int, choices=[1], default=1, help="on a connection")
    options = parser.parse_args(words)
    if min(options.connections, options.rate, options.threads) <= 0 or options.size < len("s 65535 "):
        parser.error("--connections, --rate and --threads must be more than 0, --size 8 or more")
    return options


def main(words: Sequence[str]) -> int:
    try:
        result = run(read_command_line(words))
    except (NotSaturated, OSError) as error:
        print(f"saturation: {error}", file=sys.stderr)
        return 3
    print(json.dumps(result), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
