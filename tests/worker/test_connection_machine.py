"""Workers and their peers, who may do whatever Hypothesis chooses: send how much, read, end, reset, and when.

The workers pass connections to each other meanwhile, come, leave, and are held up in calls.  At every step what a peer
has received is a beginning of what is its due: one greeting, a reply for each whole line that it has sent, in order and
numbered, and between them what was sent to it beside and a word from each worker to which it has come, in order, too.
In the end whoever is still there has it all, and each connection has ended once, where it was last.

`SecurePeers` is the same with peers inside TLS, whose records are sent in pieces that are cut anywhere.
"""

import select
import socket

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from leftovers import eventually
from staffbed import PLAIN, Handler, Staff, Told
from workerbed import reset, tcp_pair

pytestmark = pytest.mark.usefixtures("nothing_left")
LONG = 40_000
PIECES = 3
MOST_UNSENT = 300
SHARES = st.floats(0, 1)
SOMEBODY = st.integers(0, 2)
TIMES = {"write_timeout": 1000.0, "message_timeout": 1000.0}


def replies_to(line: bytes, number: int) -> list[bytes]:
    """`l…`: a reply larger than the buffers of a socket; `p…`: an iterable."""
    reply = b"r%d %s" % (number, line)
    if line.startswith(b"l"):
        return [reply + b"." * LONG]
    if line.startswith(b"p"):
        return [b"%s %d" % (reply, piece) for piece in range(PIECES)]
    return [reply]


def answer(line: bytes, number: int) -> object:
    replies = replies_to(line, number)
    return replies[0] if len(replies) == 1 else iter(replies)


class Client:
    """A peer, and what is its due."""

    is_bound = False
    """Its connection can move no more."""

    def __init__(self, stream: socket.socket) -> None:
        stream.settimeout(10)
        self.stream = stream
        self.name = "{}:{}".format(*stream.getsockname())
        self.said = b""
        self.unsent = bytearray()
        """As it goes over the wire."""
        self.carried = 0
        self.unfinished = b""
        """What it has sent of its next line."""
        self.lines = 0
        self.due: list[bytes] = []
        self.pushed: list[bytes] = []
        """What `send` has taken."""
        self.surely_pushed = 0
        """How many of these before its end."""
        self.number: int | None = None
        """Where it is in the book, as it was greeted."""
        self.torn = b""
        self.replies = self.pushes = self.arrivals = 0
        self.heard = 0
        self.is_half_closed = False
        """It sends no more."""
        self.is_over = False
        """It has gone."""
        self.is_ended = False
        """End-of-file has come."""

    @property
    def may_say(self) -> bool:
        return not self.is_half_closed and not self.is_over and len(self.unsent) < MOST_UNSENT

    @property
    def is_owed_all(self) -> bool:
        """It was understood, to its end."""
        return True

    @property
    def may_be_cut(self) -> bool:
        return False

    # What it sends

    def say(self, plain: bytes) -> None:
        """To be sent."""
        self.said += plain
        self.unsent += plain

    def carry(self, most: int = 10**6) -> None:
        """Send so much of it, if there is room."""
        if self.is_half_closed or self.is_over or not self.unsent:
            return
        self.stream.setblocking(False)
        try:
            sent = self.stream.send(self.unsent[:most])
        except BlockingIOError:
            return  # it does not read, so it is not read from
        except ConnectionError:
            assert self.may_be_cut
            return
        finally:
            self.stream.settimeout(10)
        piece = bytes(self.unsent[:sent])
        del self.unsent[:sent]
        self.carried += sent
        self._on_carried(piece)

    def _on_carried(self, piece: bytes) -> None:
        self.on_sent(piece)

    def on_sent(self, plain: bytes) -> None:
        """The other end can have it."""
        *lines, self.unfinished = (self.unfinished + plain).split(b"\n")
        for line in lines:
            self.lines += 1
            self.due += replies_to(line, self.lines)

    def half_close(self) -> None:
        if not self.is_half_closed and not self.is_over:
            self.is_half_closed = True
            self.surely_pushed = len(self.pushed)
            self.unsent.clear()
            try:
                self.stream.shutdown(socket.SHUT_WR)
            except OSError:
                assert self.may_be_cut

    def leave(self, *, by_reset: bool) -> None:
        if not self.is_over:
            self.is_over = True
            if by_reset:
                reset(self.stream)
            self.stream.close()

    def finish(self) -> None:
        """Say what is left to say, and the end."""
        self.carry()
        if not self.unsent:
            self.half_close()

    # What it receives

    def read(self, most: int = 10**7) -> None:
        """What has arrived."""
        while most > 0 and not self.is_over and not self.is_ended and select.select([self.stream], [], [], 0)[0]:
            try:
                piece = self.stream.recv(min(most, 65536))
            except ConnectionResetError:
                assert self.may_be_cut
                piece = b""
            self.is_ended = not piece
            most -= len(piece)
            self.heard += len(piece)
            *lines, self.torn = (self.torn + self.opened(piece)).split(b"\n")
            for line in lines:
                self._take(line)
            assert not self.torn or any(line.startswith(self.torn) for line in self._next()), "torn by something else"
        assert not self.is_ended or self.is_half_closed or self.may_be_cut, "nobody has ended it"

    def opened(self, piece: bytes) -> bytes:
        return piece

    def _next(self) -> list[bytes]:
        """What may come now."""
        if self.number is None:
            return [self.torn if self.torn[:1] == b"h" else b"h"]
        arrival = b"a%d" % self.arrivals
        return [arrival, *self.due[self.replies :][:1], *self.pushed[self.pushes :][:1]]

    def _take(self, line: bytes) -> None:
        kind = line[:1]
        if self.number is None:
            assert kind == b"h", "it is greeted first"
            self.number = int(line[1:])
            return
        assert line in self._next(), f"{line[:100]!r} is not its due, or not yet"
        self.replies += kind == b"r"
        self.pushes += kind == b"b"
        self.arrivals += kind == b"a"

    def check_all(self, staff: Staff) -> None:
        """At its end."""
        if not self.is_owed_all:
            return
        assert self.number is not None
        assert (self.replies, self.torn) == (len(self.due), b"")
        assert self.surely_pushed <= self.pushes <= len(self.pushed)
        assert self.arrivals == staff.book.arrivals(self.number)


class Peers(RuleBasedStateMachine):
    clients = Bundle("clients")
    settings: dict[str, object] = TIMES

    def __init__(self) -> None:
        super().__init__()
        self.all: list[Client] = []
        self.numbers = iter(range(10**6))
        self.staff: Staff | None = None

    @initialize(are_told=st.booleans())
    def open(self, are_told: bool) -> None:
        self.are_told = are_told
        self.staff = Staff(Told if are_told else Handler, answer, dict(self.settings))

    # What peers do

    @rule(target=clients, whom=SOMEBODY, is_passed=st.booleans())
    def connect(self, whom: int, is_passed: bool) -> Client:
        return self.admit(Client, PLAIN, whom, is_passed)

    def admit(self, kind: type[Client], way: int, whom: int, is_passed: bool) -> Client:
        stream, theirs = tcp_pair(receive_buffer=4096)
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        client = kind(stream)
        self.all.append(client)
        staying = [post for post in self.staff.posts if not post.is_leaving]
        self.staff.admit(staying[whom % len(staying)], theirs, way, passed=is_passed)
        return client

    @rule(client=clients, kind=st.sampled_from([b"x", b"x", b"l", b"p"]), cut=SHARES)
    def send(self, client: Client, kind: bytes, cut: float) -> None:
        """A line, or a part of one; the rest of the one before comes first."""
        if client.may_say and len(client.said) - client.said.rfind(b"\n") < 100:
            line = b"" if client.said and not client.said.endswith(b"\n") else kind
            line += b"%d\n" % next(self.numbers)
            client.say(line[: max(1, round(cut * len(line)))])
            client.carry()

    @rule(client=clients, count=st.integers(2, 12))
    def send_at_once(self, client: Client, count: int) -> None:
        if client.may_say:
            client.say(b"".join(b"\nx%d\n" % next(self.numbers) for _ in range(count)))
            client.carry()

    @rule(client=clients, most=st.sampled_from([1, 100, 10_000, 10**6]))
    def read(self, client: Client, most: int) -> None:
        client.read(most)

    @rule(client=clients)
    def half_close(self, client: Client) -> None:
        client.half_close()

    @rule(client=clients, by_reset=st.booleans())
    def leave(self, client: Client, by_reset: bool) -> None:
        client.leave(by_reset=by_reset)

    # What workers do

    @rule(client=clients)
    def push(self, client: Client) -> None:
        found = self.staff.find(client.name)
        if found is None or found[1].state is None:  # no handler knows it yet
            return
        message = b"b%d" % next(self.numbers)
        try:
            found[1].send(message)
        except BrokenPipeError:
            assert client.is_half_closed or client.is_over or client.may_be_cut, "it is there"
        else:
            client.pushed.append(message)
            client.surely_pushed += not client.is_half_closed

    @rule(client=clients)
    def give(self, client: Client) -> None:
        found = self.staff.find(client.name)
        if found is not None:
            post, connection = found
            is_given = self.staff.give(post, connection)
            assert not (is_given and client.is_bound), "it moved"
            if is_given:
                with pytest.raises(BrokenPipeError):
                    connection.send(b"nowhere")

    @rule(who=SOMEBODY)
    def take_in(self, who: int) -> None:
        self.staff[who].watcher.take_in()

    @rule(who=SOMEBODY, times=st.integers(1, 60))
    def tick(self, who: int, times: int) -> None:
        self.staff.tick(self.staff[who], times)

    @rule(who=SOMEBODY)
    def hold_up(self, who: int) -> None:
        self.staff[who].handler.door.clear()

    @rule(who=SOMEBODY)
    def let_go(self, who: int) -> None:
        self.staff[who].handler.door.set()

    @rule(who=SOMEBODY, is_newer=st.booleans())
    def hand_over(self, who: int, is_newer: bool) -> None:
        """A worker leaves; that goes on for as many ticks as it takes."""
        if not any(post.is_leaving for post in self.staff.posts):
            post = self.staff[who]
            self.staff.leave(post, post.bed.plan.generation + is_newer)

    @invariant()
    def nothing_is_amiss(self) -> None:
        for post in self.staff.posts:
            self.staff.check(post)

    def teardown(self) -> None:
        if self.staff is None:
            return
        try:
            eventually(self._have_ended)
            for client in self.all:
                if not client.is_over:
                    client.check_all(self.staff)
            eventually(self._has_closed)
            self.staff.book.check()
            if self.are_told:
                self.staff.book.check_places()
            self.nothing_is_amiss()
        finally:
            for client in self.all:
                client.stream.close()
            self.staff.close()

    def _have_ended(self) -> bool:
        self.staff.go_on()
        for client in self.all:
            client.read()
            client.finish()
        return all(client.is_ended or client.is_over for client in self.all)

    def _has_closed(self) -> bool:
        self.staff.go_on()
        ended = [told[-1][0] == "disconnected" for told in self.staff.book.told.values()]
        return all(ended) and not any(post.tables.open for post in self.staff.posts)


TestPeers = Peers.TestCase
TestPeers.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
