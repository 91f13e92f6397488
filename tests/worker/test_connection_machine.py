"""Workers and their peers, who may do whatever Hypothesis chooses: send how much, read, end, reset, and when.

The workers pass connections to each other meanwhile, come, leave, and are held up in calls.  At every step what a peer
has received is a beginning of what is its due: one greeting, a reply for each whole line that it has sent, in order and
numbered, and between them what was sent to it beside and a word from each worker to which it has come, in order, too.
In the end whoever is still there has it all, and each connection has ended once, where it was last.

`SecurePeers` is the same with peers inside TLS, whose records are sent in pieces that are cut anywhere.
"""

import select
import socket
import ssl
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from math import ceil
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from certbed import issue, trusting
from leftovers import eventually
from staffbed import PLAIN, SECURED, Handler, Staff, Told
from workerbed import reset, tcp_pair

pytestmark = pytest.mark.usefixtures("nothing_left")
LONG = 40_000
PIECES = 3
MOST_UNSENT = 300
KINDS = st.sampled_from([b"x", b"x", b"l", b"p"])
SHARES = st.just(1.0) | st.floats(0, 1)
SOMEBODY = st.integers(0, 2)
TIMES: dict[str, Any] = dict.fromkeys(("write_timeout", "message_timeout", "handshake_timeout"), 1000.0)
"""Watchers who tick often must not take that for time."""


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
    def has_finished(self) -> bool:
        """It has said that it sends no more, and may have gone."""
        return self.is_half_closed or self.is_over

    @property
    def may_say(self) -> bool:
        return not self.has_finished and len(self.unsent) < MOST_UNSENT

    @property
    def is_quiet(self) -> bool:
        """Nothing has come from it, nor goes to it."""
        return not self.carried and not self.has_finished and not self.pushed

    @property
    def is_owed_all(self) -> bool:
        """It was understood, to its end."""
        return True

    @property
    def may_be_cut(self) -> bool:
        """It made no sense."""
        return False

    # What it sends

    def say(self, plain: bytes) -> None:
        """To be sent."""
        self.said += plain
        self.unsent += plain

    def carry(self, share: float = 1.0) -> None:
        """Send so much of it, if there is room."""
        if self.is_half_closed or self.is_over or not self.unsent:
            return
        self.stream.setblocking(False)
        try:
            sent = self.stream.send(self.unsent[: ceil(share * len(self.unsent))])
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
        assert not self.is_ended or self.has_finished or self.may_be_cut, "nobody has ended it"

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
    options: dict[str, Any] = TIMES

    def __init__(self) -> None:
        super().__init__()
        self.all: list[Client] = []
        self.numbers = iter(range(10**6))
        self.staff: Staff | None = None

    @initialize(are_told=st.booleans(), threads=st.integers(1, 2))
    def open(self, are_told: bool, threads: int) -> None:
        self.are_told = are_told
        self.staff = Staff(Told if are_told else Handler, answer, threads=threads, **self.options)

    # What peers do

    @rule(target=clients, whom=SOMEBODY, is_passed=st.booleans())
    def connect(self, whom: int, is_passed: bool) -> Client:
        return self.admit(Client, PLAIN, whom, is_passed)

    def admit(self, kind: Callable[[socket.socket], Client], way: int, whom: int, is_passed: bool) -> Client:
        stream, theirs = tcp_pair(receive_buffer=4096)
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        client = kind(stream)
        self.all.append(client)
        staying = [post for post in self.staff.posts if not post.is_leaving]
        self.staff.admit(staying[whom % len(staying)], theirs, way, passed=is_passed)
        return client

    @rule(client=clients, kind=KINDS, cut=SHARES, share=SHARES)
    def send(self, client: Client, kind: bytes, cut: float, share: float) -> None:
        """A line, or a part of one; the rest of the one before comes first."""
        if client.may_say and len(client.said) - client.said.rfind(b"\n") < 100:
            line = b"" if client.said and not client.said.endswith(b"\n") else kind
            line += b"%d\n" % next(self.numbers)
            client.say(line[: ceil(cut * len(line)) or 1])
        client.carry(share)

    @rule(client=clients, count=st.integers(2, 12))
    def send_at_once(self, client: Client, count: int) -> None:
        if client.may_say:
            client.say(b"".join(b"\nx%d\n" % next(self.numbers) for _ in range(count)))
        client.carry()

    @rule(client=clients, most=st.sampled_from([1, 100, 10_000, 10**6]))
    def read(self, client: Client, most: int) -> None:
        client.read(most)

    @rule(client=clients, how=st.sampled_from(["half", "whole", "reset"]))
    def end(self, client: Client, how: str) -> None:
        if how == "half":
            client.half_close()
        else:
            client.leave(by_reset=how == "reset")

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
            assert client.has_finished or client.may_be_cut, "it is there"
        else:
            client.pushed.append(message)
            client.surely_pushed += not client.has_finished

    @rule(client=clients, is_taken=st.booleans())
    def give(self, client: Client, is_taken: bool) -> None:
        found = self.staff.find(client.name)
        if found is not None:
            post, connection = found
            is_given = self.staff.give(post, connection)
            assert is_given is not True or not client.is_bound, "it moved"
            assert is_given is not False or not client.is_quiet, "it cannot move"
            if is_given:
                with pytest.raises(BrokenPipeError):
                    connection.send(b"nowhere")
        if is_taken:
            self.staff.take_in()

    @rule(client=clients, kind=KINDS, cut=SHARES, share=SHARES, is_taken=st.booleans())
    def send_and_give(self, client: Client, kind: bytes, cut: float, share: float, is_taken: bool) -> None:
        """Before, while or after what has come is served."""
        self.send(client, kind, cut, share)
        self.give(client, is_taken)

    @rule(who=SOMEBODY, times=st.integers(0, 60))
    def watch(self, who: int, times: int) -> None:
        post = self.staff[who]
        post.watcher.take_in()
        self.staff.tick(post, times)

    @rule(who=SOMEBODY, is_held=st.booleans())
    def hold_up(self, who: int, is_held: bool) -> None:
        """Its calls wait, from now on, or no longer."""
        door = self.staff[who].handler.door
        (door.clear if is_held else door.set)()

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


class SecureClient(Client):
    """One inside TLS."""

    def __init__(self, stream: socket.socket, context: ssl.SSLContext) -> None:
        super().__init__(stream)
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname="localhost")
        self.is_shaken = False
        self.is_shaken_at = 0
        """So much must have been carried for the handshake."""
        self.said_goodbye = self.told_goodbye = self.is_spoilt = False
        self.records: deque[tuple[int, bytes]] = deque()
        """(where its end is on the wire, what is in it) of those that were not carried yet."""
        self._shake()

    @property
    def is_bound(self) -> bool:  # type: ignore[override]
        return self.heard > 0

    @property
    def has_finished(self) -> bool:
        return super().has_finished or self.said_goodbye

    @property
    def may_say(self) -> bool:
        return super().may_say and self.is_shaken and not self.is_spoilt

    @property
    def is_owed_all(self) -> bool:
        return self.is_shaken and self.carried >= self.is_shaken_at and not self.is_spoilt

    @property
    def may_be_cut(self) -> bool:
        return self.is_spoilt

    def _shake(self) -> None:
        try:
            self.tls.do_handshake()
            self.is_shaken = True
        except ssl.SSLWantReadError:
            pass
        if sealed := self._outgoing.read():
            self.is_shaken_at = self.carried + len(self.unsent) + len(sealed)
            self.lay(sealed)

    def lay(self, sealed: bytes, plain: bytes = b"") -> None:
        """To be sent, if it still can be; it is understood when all of it has come."""
        if not self.is_half_closed and not self.is_spoilt:
            self.unsent += sealed
            self.records.append((self.carried + len(self.unsent), plain))

    def has_shaken(self) -> bool:
        """Whether it is done; everything has been done for it."""
        self.carry()
        self.read()
        return self.is_shaken

    def say(self, plain: bytes) -> None:
        self.said += plain
        self.tls.write(plain)
        self.lay(self._outgoing.read(), plain)

    def say_goodbye(self) -> None:
        """close_notify."""
        if self.may_say:
            self.said_goodbye = True
            with suppress(ssl.SSLWantReadError):  # for the other one's
                self.tls.unwrap()
            self.lay(self._outgoing.read())

    def spoil(self, where: float) -> None:
        """Some of what is to be sent is damaged; or no TLS is spoken at all."""
        if self.is_half_closed or self.is_over or self.is_spoilt:
            return
        if not self.carried:
            self.unsent[:] = b"GET / HTTP/1.1\r\n\r\n"
            self.records.clear()
        elif self.unsent and self.is_shaken:
            place = int(where * (len(self.unsent) - 1))
            self.unsent[place] ^= 1
            while self.records and self.records[-1][0] > self.carried + place:
                self.records.pop()
        else:
            return
        self.is_spoilt = True

    def _on_carried(self, piece: bytes) -> None:
        while self.records and self.records[0][0] <= self.carried:
            self.on_sent(self.records.popleft()[1])

    def opened(self, piece: bytes) -> bytes:
        self._incoming.write(piece)
        plain = bytearray()
        try:
            if not self.is_shaken:
                self._shake()
            while self.is_shaken and not self.told_goodbye:
                read = self.tls.read(65536)
                plain += read
                self.told_goodbye = not read  # ssl.SSLZeroReturnError, before ours is said
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self.told_goodbye = True
        except ssl.SSLError:
            assert self.is_spoilt, "it was damaged on its way"
        assert not self.is_ended or self.told_goodbye or not self.is_owed_all, "it ended without close_notify"
        return bytes(plain)

    def finish(self) -> None:
        """Politely, where that can be; then it is for the worker to end the connection."""
        if self.is_shaken and not self.is_spoilt and not self.is_half_closed:
            self.say_goodbye()
            self.carry()
        else:
            self.half_close()


class SecurePeers(Peers):
    """Some of the peers speak TLS.  Their connections move as long as none of it was heard."""

    @rule(target=Peers.clients, whom=SOMEBODY, is_passed=st.booleans(), is_old=st.booleans())
    def connect_inside_tls(self, whom: int, is_passed: bool, is_old: bool) -> Client:
        context = trusting()
        if is_old:
            context.maximum_version = ssl.TLSVersion.TLSv1_2
        return self.admit(lambda stream: SecureClient(stream, context), SECURED, whom, is_passed)

    @rule(client=Peers.clients)
    def shake(self, client: Client) -> None:
        """The whole handshake, where nobody is held up."""
        if not isinstance(client, SecureClient) or client.has_finished or client.is_spoilt:
            return
        if all(post.handler.door.is_set() for post in self.staff.posts):
            self.staff.take_in()
            eventually(client.has_shaken)

    @rule(client=Peers.clients)
    def say_goodbye(self, client: Client) -> None:
        if isinstance(client, SecureClient):
            client.say_goodbye()

    @rule(client=Peers.clients, where=st.floats(0, 1))
    def spoil(self, client: Client, where: float) -> None:
        if isinstance(client, SecureClient):
            client.spoil(where)


@pytest.fixture(scope="module", autouse=True)
def _certificates(tmp_path_factory: pytest.TempPathFactory) -> None:
    SecurePeers.options = TIMES | issue(tmp_path_factory.mktemp("certificates"), "localhost").settings


TestPeers = Peers.TestCase
TestPeers.settings = settings(max_examples=60, stateful_step_count=80, deadline=None)
TestSecurePeers = SecurePeers.TestCase
TestSecurePeers.settings = TestPeers.settings
