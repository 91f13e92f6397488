"""Clients of a server on one thread, in a loop: how long each of their messages waited for its answer.

Either so many clients, each of which sends when it was answered (closed), or messages that become due at fixed times,
each on a connection of its own (open); then a latency counts from when the message was due.  Whoever was not answered
when the time is up has waited at least until then.
"""

import math
import select
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Self

from paceline.clock import now, process_cpu
from paceline.errors import HostError

REST_S = 0.25
"""When the time is up, what is under way has so long to be answered, so that it does not disturb who comes next."""


@dataclass
class Ran:
    """What came of it.

    cpu_s          how much processor time the clients took; they have one thread, so no more than took_s
    answered_ms    how long each waited that was answered in time
    unanswered_ms  how long each had waited until then that was not, or whose connection the server has ended
    connections    how many were made
    lost           how many of them the server has ended
    """

    took_s: float = 0.0
    cpu_s: float = 0.0
    answered_ms: list[float] = field(default_factory=list)
    unanswered_ms: list[float] = field(default_factory=list)
    connections: int = 0
    lost: int = 0

    def percentile_ms(self, percent: float) -> float:
        """The smallest latency that so many of them do not exceed; 0 when there are none.

        Without an answer, only those count that have already waited longer than nearly all who have one: of the others
        nothing is known.
        """
        counted = self.answered_ms + self.long_unanswered_ms()
        return _at_rank(counted, percent) if counted else 0.0

    def long_unanswered_ms(self) -> list[float]:
        """Whose true latency is longer than this; where there are such, so are the last percentiles."""
        usual_ms = _at_rank(self.answered_ms, 99) if self.answered_ms else 0.0
        return [waited_ms for waited_ms in self.unanswered_ms if waited_ms > usual_ms]


def _at_rank(values: list[float], percent: float) -> float:
    return sorted(values)[max(0, math.ceil(len(values) * percent / 100) - 1)]


@dataclass
class _Client:
    connection: socket.socket
    sent_s: float
    left: int
    """So many more messages on this connection."""


class Loop:
    """Connections that wait for an answer.  `with Loop(address) as loop:` closes them all."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.address = address
        self.ran = Ran()
        self.waiting: dict[int, _Client] = {}
        self._poll = select.epoll()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for client in self.waiting.values():
            client.connection.close()
        self.waiting.clear()
        self._poll.close()

    def dial(self, message: bytes, since_s: float, left: int) -> None:
        """A new connection, and its first message.  Raises HostError."""
        try:
            connection = socket.create_connection(self.address, 5)
        except OSError as error:
            raise HostError(f"the server under load cannot be reached: {error}") from None
        self.ran.connections += 1
        self._poll.register(connection, select.EPOLLIN)
        self.waiting[connection.fileno()] = client = _Client(connection, since_s, left)
        self.send(client, message, since_s)

    def send(self, client: _Client, message: bytes, since_s: float) -> None:
        client.sent_s = since_s
        client.left -= 1
        with suppress(ConnectionError):  # it is noticed when the answer should come
            client.connection.sendall(message + b"\n")

    def answers(self, within_s: float) -> list[_Client]:
        """Who was answered; those whom the server has left are closed, and counted."""
        found = []
        for fd, _ in self._poll.poll(max(0.0, within_s)):
            client = self.waiting[fd]
            piece = b""
            with suppress(ConnectionError):
                piece = client.connection.recv(1024)
            if piece.endswith(b"\n"):
                self.ran.answered_ms.append((now() - client.sent_s) * 1e3)
                found.append(client)
            elif not piece:
                self.ran.lost += 1
                self.ran.unanswered_ms.append((now() - client.sent_s) * 1e3)
                self.leave(client)
        return found

    def leave(self, client: _Client) -> None:
        del self.waiting[client.connection.fileno()]
        client.connection.close()  # which takes it out of the epoll set

    def give_up(self) -> None:
        """Who waits now has waited so long at least."""
        at_s = now()
        self.ran.unanswered_ms += [(at_s - client.sent_s) * 1e3 for client in self.waiting.values()]


def closed(
    address: tuple[str, int],
    clients: int,
    message: Callable[[], bytes],
    *,
    calls: int,
    for_s: float,
    at_end: Callable[[], object] = int,
) -> Ran:
    """So many clients, each with one message under way; after so many calls it leaves, and another one comes.

    `at_end` is called while all are connected still.
    """
    with Loop(address) as loop:
        begun_s, begun_cpu_s = now(), process_cpu()
        for _ in range(clients):
            loop.dial(message(), now(), calls)
        while (left_s := begun_s + for_s - now()) > 0:
            for client in loop.answers(left_s):
                if client.left:
                    loop.send(client, message(), now())
                else:
                    loop.leave(client)
                    loop.dial(message(), now(), calls)
            for _ in range(clients - len(loop.waiting)):  # the server has ended some
                loop.dial(message(), now(), calls)
        ran = loop.ran
        ran.took_s, ran.cpu_s = now() - begun_s, process_cpu() - begun_cpu_s
        loop.give_up()
        at_end()
        loop.ran = Ran()  # of what comes now nothing counts
        until_s = now() + REST_S
        while loop.waiting and (left_s := until_s - now()) > 0:
            for client in loop.answers(left_s):
                loop.leave(client)
        return ran


def due(address: tuple[str, int], message: bytes, *, count: int, every_s: float, until_s: float) -> Ran:
    """So many messages, one each `every_s`, each on a new connection; waits for answers until then."""
    with Loop(address) as loop:
        begun_s = now()
        sent = 0
        while now() < until_s and (sent < count or loop.waiting):
            next_s = begun_s + sent * every_s if sent < count else until_s
            if sent < count and now() >= next_s:
                loop.dial(message, next_s, 1)
                sent += 1
                continue
            for client in loop.answers(min(next_s, until_s) - now()):
                loop.leave(client)
        loop.give_up()
        loop.ran.took_s = now() - begun_s
        return loop.ran
