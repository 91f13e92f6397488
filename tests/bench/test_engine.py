"""bench/engine.py, traffic.py, fast.py and dialling.py in this process, against a server of a few lines in a thread.

The server is told by the test what to do with each piece, so that both ways through the loop are taken on purpose.
"""

import os
import select
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from paceline.bench.engine import Engine
from paceline.bench.pacing import SECOND, Schedule
from paceline.bench.replies import Replies
from paceline.bench.troubles import Kind
from paceline.clock import now_ns
from paceline.wire import Lines

pytestmark = pytest.mark.usefixtures("nothing_left")
Answer = Callable[[socket.socket, bytes], None]


@contextmanager
def serving(answer: Answer) -> Iterator[tuple[int, Any]]:
    """(family, address) of a server that calls `answer` for each piece that arrives, in one thread."""
    listener = socket.create_server(("127.0.0.1", 0))
    stop, told = socket.socketpair()
    thread = threading.Thread(target=_serve, args=(listener, told, answer))
    thread.start()
    try:
        yield socket.AF_INET, listener.getsockname()
    finally:
        stop.close()
        thread.join()
        told.close()
        listener.close()


def _serve(listener: socket.socket, told: socket.socket, answer: Answer) -> None:
    peers: dict[int, socket.socket] = {}
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    poll.register(told, select.POLLIN)
    while True:
        for fd, _ in poll.poll():
            if fd == told.fileno():
                for peer in peers.values():
                    peer.close()
                return
            if fd == listener.fileno():
                peer = listener.accept()[0]
                peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                peers[peer.fileno()] = peer
                poll.register(peer, select.POLLIN)
                continue
            piece = b""
            try:
                piece = peers[fd].recv(65536)
                if piece:
                    answer(peers[fd], piece)
            except OSError:
                piece = b""
            if not piece or peers[fd].fileno() < 0:
                poll.unregister(fd)
                peers.pop(fd).close()


def echo(peer: socket.socket, piece: bytes) -> None:
    peer.sendall(piece)


def in_two(peer: socket.socket, piece: bytes) -> None:
    peer.sendall(piece[:1])
    peer.sendall(piece[1:])


@contextmanager
def engine(place: tuple[int, Any], check: bool = False, **changed: Any) -> Iterator[Engine]:
    framing = Lines(limit=1000)
    wires = [b"hello\n"]
    settings: dict[str, Any] = {
        "connections": 3, "first": 0, "in_flight": 1, "timeout_s": 5.0, "new_connection": False, "slow_bytes_s": None,
        "on_tick": lambda _engine: None,
    }  # fmt: skip
    replies = Replies(framing, [b"hello"], wires, check=check, raw_size=None)
    made = Engine(place, replies, wires, **{**settings, **changed})
    try:
        yield made
    finally:
        made.dialler.close()


@pytest.mark.parametrize("in_flight", [1, 4])
@pytest.mark.parametrize("answer", [echo, in_two])
def test_the_fast_way_and_the_general_way_count_the_same(
    answer: Answer, in_flight: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[int] = []
    settle = Engine.settle

    def noted(self: Engine, done: int) -> None:
        ran.append(done)
        settle(self, done)

    monkeypatch.setattr(Engine, "settle", noted)
    with serving(answer) as place, engine(place, in_flight=in_flight) as made:
        assert made.connect() is None
        assert made.tally.connections == 3
        made.run(None, 2000, None)
    tally = made.tally
    assert (tally.sent, tally.answered, tally.in_time, tally.latencies.total) == (2000, 2000, 2000, 2000)
    assert tally.sent_bytes == tally.received_bytes == 2000 * 6
    assert not tally.errors
    if answer is echo:
        assert sum(ran) > 1000  # nearly all went the fast way


def test_a_backlog_is_sent_after_the_end_or_dropped() -> None:
    for drops, unanswered in ((True, 3), (False, 500)):
        with serving(lambda _peer, _piece: None) as place, engine(place, timeout_s=0.1) as made:
            made.connect()
            begin = now_ns()
            made.run(begin + SECOND // 20, None, Schedule(500, begin - SECOND, begin), drops_backlog=drops)
        assert made.tally.errors.total() == unanswered  # with three connections, no more than three were sent at once


def test_phases_begin_with_nothing_under_way_and_counts_of_their_own() -> None:
    with serving(echo) as place, engine(place, check=True) as made:
        made.connect()
        for count in (100, 7, 300):
            made.run(None, count, None)
            assert (made.tally.sent, made.tally.answered) == (count, count)
            assert all(link.under_way == 0 for link in made.links)


def test_a_stop_from_outside_ends_it_with_what_there_is() -> None:
    def stop(made: Engine) -> None:
        made.stop = made.tally.answered > 0

    with serving(echo) as place, engine(place, on_tick=stop) as made:
        made.connect()
        begin = now_ns()
        made.run(begin + 60 * SECOND, None, None)
        assert now_ns() - begin < 10 * SECOND
    assert made.stop
    assert made.tally.sent == made.tally.answered > 0


def test_a_stopped_open_loop_does_not_count_what_was_due_later() -> None:
    def stop(made: Engine) -> None:
        made.stop = made.tally.answered > 0

    with serving(echo) as place, engine(place, on_tick=stop) as made:
        made.connect()
        begin = now_ns()
        made.run(begin + 60 * SECOND, None, Schedule(1000, begin, begin + 60 * SECOND))
    assert not made.tally.errors
    assert 0 < made.tally.sent < 10_000


def test_a_connection_that_is_closed_in_the_middle_is_made_again_both_ways() -> None:
    counts = [0]

    def seldom(peer: socket.socket, piece: bytes) -> None:
        counts[0] += 1
        if counts[0] % 50 == 0:
            peer.close()
        else:
            peer.sendall(piece)

    with serving(seldom) as place, engine(place) as made:
        made.connect()
        made.run(None, 1000, None)
    assert made.tally.errors[Kind.CLOSED] + made.tally.errors[Kind.RESET] == 20
    assert made.tally.errors[Kind.UNANSWERED] == 20
    assert made.tally.answered == 980


def test_a_reply_cut_off_in_the_middle_is_named() -> None:
    def cut(peer: socket.socket, piece: bytes) -> None:
        peer.sendall(piece[:3])
        peer.close()

    with serving(cut) as place, engine(place, connections=1) as made:
        made.connect()
        made.run(None, 2, None)
    assert made.tally.errors == {Kind.TRUNCATED: 2, Kind.UNANSWERED: 2}


def test_no_reply_is_a_time_out_for_each_message() -> None:
    with serving(lambda _peer, _piece: None) as place, engine(place, timeout_s=0.2, in_flight=2) as made:
        made.connect()
        made.run(now_ns() + SECOND // 10, None, None)
    assert made.tally.errors[Kind.TIMEOUT] + made.tally.errors[Kind.UNANSWERED] == made.tally.sent == 6
    assert made.tally.answered == 0


def test_nobody_there() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        with engine((socket.AF_INET, sock.getsockname())) as made:
            assert made.connect() is Kind.REFUSED


def test_a_full_socket_is_written_on_when_there_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the fast loop, too: of each message only a part is taken at first."""
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, content: real(fd, content[: max(1, len(content) // 2)]))
    with serving(echo) as place, engine(place, in_flight=3) as made:
        made.connect()
        made.run(None, 300, None)
    assert made.tally.answered == 300
    assert not made.tally.errors
