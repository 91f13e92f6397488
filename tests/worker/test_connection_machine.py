"""A worker and its peers, who may do whatever Hypothesis chooses: send how much, read, end, reset, and when.

At every step what a peer has received is a beginning of what is its due: a reply for each whole line that it has sent,
in order, and between them what was sent to it beside, in order, too.  In the end whoever is still there has it all.
"""

import select
import socket
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from leftovers import eventually
from paceline.worker.connection import Connection
from workerbed import bed, reset

pytestmark = pytest.mark.usefixtures("nothing_left")
LONG = 40_000
PIECES = 3


class Answers:
    """`long`: a reply larger than the buffers of a socket; `pieces`: an iterable; `bye`: the last one."""

    def __init__(self) -> None:
        self.connections: set[Connection] = set()

    def connected(self, connection: Connection) -> None:
        self.connections.add(connection)

    def disconnected(self, connection: Connection) -> None:
        self.connections.remove(connection)

    def __call__(self, line: bytes) -> object:
        replies = replies_to(line)
        return replies[0] if len(replies) == 1 else iter(replies)


def replies_to(line: bytes) -> list[bytes]:
    if line.startswith(b"l"):
        return [b"r" + line + b"." * LONG]
    if line.startswith(b"p"):
        return [b"r%d " % number + line for number in range(PIECES)]
    return [b"r" + line]


@dataclass
class Client:
    stream: socket.socket
    connection: Connection
    """The other end."""
    sent: bytes = b""
    received: bytearray = field(default_factory=bytearray)
    pushed: list[bytes] = field(default_factory=list)
    """What `send` has taken."""
    is_half_closed: bool = False
    is_over: bool = False

    def due(self) -> list[bytes]:
        whole = self.sent.split(b"\n")[:-1]
        return [reply for line in whole for reply in replies_to(line)]

    def check(self, *, is_all: bool = False) -> None:
        *lines, torn = bytes(self.received).split(b"\n")
        pushed = [line for line in lines if line.startswith(b"b")]
        replies = [line for line in lines if not line.startswith(b"b")]
        due = self.due()
        assert replies == due[: len(replies)], "a reply that is not its due, or out of order"
        assert pushed == self.pushed[: len(pushed)]
        follows = [*due[len(replies) : len(replies) + 1], *self.pushed[len(pushed) : len(pushed) + 1]]
        assert not torn or any(line.startswith(torn) for line in follows), "torn by something else"
        if is_all:
            assert (len(replies), torn) == (len(due), b"")
            assert len(pushed) == len(self.pushed)

    def read(self, most: int) -> bool:
        """What has arrived.  False: end-of-file."""
        while most > 0 and select.select([self.stream], [], [], 0)[0]:
            piece = self.stream.recv(min(most, 65536))
            if not piece:
                return False
            self.received += piece
            most -= len(piece)
        return True


class Peers(RuleBasedStateMachine):
    clients = Bundle("clients")

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        self.handler = Answers()
        self.worker = self.stack.enter_context(bed(self.handler, framing="line", write_timeout=60.0))
        self.all: list[Client] = []
        self.numbers = iter(range(10**6))

    @rule(target=clients)
    def connect(self) -> Client:
        stream = self.worker.connect_tcp(send_buffer=4096, receive_buffer=4096)
        known = {client.connection for client in self.all}
        eventually(lambda: self.handler.connections - known)
        (new,) = self.handler.connections - known
        client = Client(stream, new)
        self.all.append(client)
        return client

    @rule(client=clients, kind=st.sampled_from([b"x", b"x", b"l", b"p"]), cut=st.floats(0, 1))
    def send(self, client: Client, kind: bytes, cut: float) -> None:
        """A line, or a part of one; the rest of the one before comes first."""
        if client.is_half_closed or client.is_over or len(client.sent) - client.sent.rfind(b"\n") > 100:
            return
        line = b"" if client.sent and not client.sent.endswith(b"\n") else kind
        line += b"%d\n" % next(self.numbers)
        self._send(client, line[: max(1, round(cut * len(line)))])

    @rule(client=clients, count=st.integers(2, 12))
    def send_at_once(self, client: Client, count: int) -> None:
        if not client.is_half_closed and not client.is_over:
            self._send(client, b"".join(b"\nx%d\n" % next(self.numbers) for _ in range(count)))

    def _send(self, client: Client, data: bytes) -> None:
        client.stream.setblocking(False)
        try:
            client.sent += data[: client.stream.send(data)]
        except BlockingIOError:
            pass  # it does not read, so it is not read from
        finally:
            client.stream.settimeout(10)

    @rule(client=clients)
    def push(self, client: Client) -> None:
        message = b"b%d" % next(self.numbers)
        try:
            client.connection.send(message)
        except BrokenPipeError:
            assert client.is_half_closed or client.is_over, "it is there"
        else:
            assert not client.is_over
            client.pushed.append(message)

    @rule(client=clients, most=st.sampled_from([1, 100, 10_000, 10**6]))
    def read(self, client: Client, most: int) -> None:
        if not client.is_over:
            assert client.read(most) or client.is_half_closed

    @rule(client=clients)
    def half_close(self, client: Client) -> None:
        if not client.is_over and not client.is_half_closed:
            client.is_half_closed = True
            client.stream.shutdown(socket.SHUT_WR)

    @rule(client=clients, by_reset=st.booleans())
    def leave(self, client: Client, by_reset: bool) -> None:
        if not client.is_over:
            client.is_over = True
            if by_reset:
                reset(client.stream)
            client.stream.close()
            eventually(lambda: client.connection not in self.handler.connections)

    @invariant()
    def each_has_what_is_its_due(self) -> None:
        for client in self.all:
            client.check()
        assert not self.worker.log.find("bug")

    def teardown(self) -> None:
        with self.stack:
            for client in self.all:
                if not client.is_over:
                    if not client.is_half_closed:  # what was pushed is on its way before the end is seen
                        eventually(partial(_has_its_pushes, client))
                        self.half_close(client)
                    while piece := client.stream.recv(65536):
                        client.received += piece
                    client.check(is_all=True)
                    client.stream.close()
            eventually(lambda: not self.handler.connections)


def _has_its_pushes(client: Client) -> bool:
    assert client.read(10**7), "nobody has ended it"
    return bytes(b"\n" + client.received).count(b"\nb") >= len(client.pushed)


TestPeers = Peers.TestCase
TestPeers.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
