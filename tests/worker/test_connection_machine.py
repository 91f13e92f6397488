"""Workers and their peers, who may do whatever Hypothesis chooses: send how much, read, end, reset, and when.

The workers pass connections to each other meanwhile, come, leave, and are held up in calls.  At every step what a peer
has received is a beginning of what is its due: one greeting, a reply for each whole line that it has sent, in order and
numbered, and between them what was sent to it beside and a word from each worker to which it has come, in order, too.
In the end whoever is still there has it all, and each connection has ended once, where it was last.

`SecurePeers` is the same with peers inside TLS, whose records are sent in pieces that are cut anywhere.
"""

import socket
import ssl
from collections.abc import Callable
from math import ceil
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from certbed import issue, trusting
from duebed import Client, SecureClient, answer
from house import GENERATION
from leftovers import eventually
from paceline.worker.connection import Connection
from staffbed import PLAIN, SECURED, Handler, Post, Staff, Told
from workerbed import tcp_pair

pytestmark = pytest.mark.usefixtures("nothing_left")
KINDS = st.sampled_from([b"x", b"x", b"l", b"p"])
SHARES = st.just(1.0) | st.floats(0, 1)
SOMEBODY = st.integers(0, 2)
TIMES: dict[str, Any] = dict.fromkeys(("write_timeout", "message_timeout", "handshake_timeout"), 1000.0)
"""Watchers who tick often must not take that for time."""


class Peers(RuleBasedStateMachine):
    clients = Bundle("clients")
    options: dict[str, Any] = TIMES
    staff: Staff

    def __init__(self) -> None:
        super().__init__()
        self.all: list[Client] = []
        self.numbers = iter(range(10**6))

    @initialize(are_told=st.booleans(), are_mixed=st.booleans(), threads=st.integers(1, 2))
    def open(self, are_told: bool, are_mixed: bool, threads: int) -> None:
        self.are_told = are_told
        self.staff = Staff(Told if are_told else Handler, answer, threads=threads, **self.options)
        for generation in (GENERATION, GENERATION + are_mixed):
            self.staff.hire(generation)

    # What peers do

    @rule(target=clients, whom=SOMEBODY, is_passed=st.booleans())
    def connect(self, whom: int, is_passed: bool) -> Client:
        return self.admit(Client, PLAIN, whom, is_passed)

    def admit(self, kind: Callable[[socket.socket], Client], way: int, whom: int, is_passed: bool) -> Client:
        # From an address of its own: ports are used again while a worker still has the connection of one who has gone.
        stream, theirs = tcp_pair(receive_buffer=4096, source=f"127.1.0.{len(self.all) + 1}")
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

    @rule(client=clients, times=st.integers(1, 3), is_taken=st.booleans())
    def give(self, client: Client, times: int, is_taken: bool) -> None:
        """On and on, before or after those in between have looked at it."""
        for left in reversed(range(times)):
            found = self.staff.find(client.name)
            if found is not None:
                self._give(client, *found)
            if left or is_taken:
                self.staff.take_in()

    def _give(self, client: Client, post: Post, connection: Connection) -> None:
        is_given = self.staff.give(post, connection)
        assert is_given is not True or not client.is_bound, "it moved"
        assert is_given is not False or not client.is_quiet, "it cannot move"
        if is_given:
            with pytest.raises(BrokenPipeError):
                connection.send(b"nowhere")

    @rule(client=clients, kind=KINDS, cut=SHARES, share=SHARES, times=st.integers(1, 3))
    def send_and_give(self, client: Client, kind: bytes, cut: float, share: float, times: int) -> None:
        """Before, while or after what has come is served."""
        self.send(client, kind, cut, share)
        self.give(client, times, is_taken=True)

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
        if not hasattr(self, "staff"):  # it has not even begun
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


class SecurePeers(Peers):
    """Some of the peers speak TLS.  Their connections move as long as none of it was heard."""

    @rule(target=Peers.clients, whom=SOMEBODY, is_passed=st.booleans(), is_old=st.booleans(), shakes=st.booleans())
    def connect_inside_tls(self, whom: int, is_passed: bool, is_old: bool, shakes: bool) -> Client:
        context = trusting()
        if is_old:
            context.maximum_version = ssl.TLSVersion.TLSv1_2
        client = self.admit(lambda stream: SecureClient(stream, context), SECURED, whom, is_passed)
        if shakes:
            self.shake(client)
        return client

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
