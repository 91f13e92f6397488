"""worker/telling.py: in order, without waiting, and nothing when nobody listens."""

import socket
from collections.abc import Iterator

import pytest

from paceline.worker import telling
from paceline.worker.messages import Dumped, Stuck, decode
from paceline.worker.telling import Telling

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    theirs.settimeout(5)
    yield ours, theirs
    ours.close()
    theirs.close()


def test_what_is_said_arrives(pair: Pair) -> None:
    Telling(pair[0]).say(Stuck(3, 31.0, 30.0, "192.0.2.7:1"))
    assert decode(pair[1].recv(65536)) == Stuck(3, 31.0, 30.0, "192.0.2.7:1")


def test_what_the_channel_does_not_take_is_kept_and_comes_in_order(pair: Pair) -> None:
    ours, theirs = pair
    told = Telling(ours)
    many = 100
    for number in range(many):
        told.say(Dumped(number, "x" * 30_000))
    heard: list[int] = []
    while len(heard) < many:
        message = decode(theirs.recv(65536))
        assert isinstance(message, Dumped)
        heard.append(message.asker)
        told.flush()
    assert heard == list(range(many))


def test_what_is_kept_is_bounded_and_the_oldest_goes(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telling, "MOST_KEPT", 2)
    told = Telling(pair[0])
    for number in range(100):
        told.say(Dumped(number, "x" * 30_000))
    pair[1].setblocking(False)
    heard: list[int] = []
    for _ in range(100):
        try:
            message = decode(pair[1].recv(65536))
        except BlockingIOError:
            told.flush()
            continue
        assert isinstance(message, Dumped)
        heard.append(message.asker)
    assert heard[-2:] == [98, 99]
    assert len(heard) < 100


def test_a_supervisor_that_is_gone_is_nothing(pair: Pair) -> None:
    told = Telling(pair[0])
    pair[1].close()
    told.say(Dumped(1, "x"))
    told.flush()
