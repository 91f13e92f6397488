"""One client of the control socket, with a socket pair and a time that is the test's."""

import json
import socket
from collections.abc import Iterator
from contextlib import suppress

import pytest

from paceline.supervisor.clients import INSIDE_S, MOST_UNREAD_BYTES, STALLED_S, Client

pytestmark = pytest.mark.usefixtures("nothing_left")


class Scene:
    def __init__(self) -> None:
        ours, self.theirs = socket.socketpair()
        self.theirs.settimeout(5)
        self.client = Client(ours, "somebody", 0.0)

    def say(self, data: bytes, now: float = 0.0) -> list[bytes]:
        self.theirs.sendall(data)
        self.client.on_event(now)
        return list(self.client.requests)

    def close(self) -> None:
        self.client.close()
        self.theirs.close()


@pytest.fixture
def scene() -> Iterator[Scene]:
    made = Scene()
    yield made
    made.close()


def test_requests_arrive(scene: Scene) -> None:
    assert scene.say(b"one\ntwo\nthr") == [b"one", b"two"]
    assert scene.say(b"ee\n") == [b"one", b"two"], "no more is read before those are done"
    scene.client.requests.clear()
    scene.client.on_event(0.0)
    assert list(scene.client.requests) == [b"three"]


def test_it_is_not_read_while_a_request_runs(scene: Scene) -> None:
    scene.client.asker = 7
    assert scene.say(b"one\n") == []
    assert scene.client.mask == 0
    scene.client.asker = 0
    scene.client.on_event(0.0)
    assert list(scene.client.requests) == [b"one"]


def test_who_is_silent_in_the_middle_of_a_line_is_told_and_dropped(scene: Scene) -> None:
    assert scene.client.ends_at is None, "between two requests it may wait for ever"
    scene.say(b"hal", 1.0)
    assert scene.client.ends_at == 1.0 + INSIDE_S
    scene.say(b"f", 5.0)
    scene.client.on_time(5.0 + INSIDE_S - 0.1)
    assert scene.client.is_open
    scene.client.on_time(5.0 + INSIDE_S)
    assert not scene.client.is_open
    assert "in the middle of a line" in json.loads(scene.theirs.recv(1000))["text"]
    assert scene.theirs.recv(10) == b""


def test_who_reads_nothing_is_dropped(scene: Scene) -> None:
    while not scene.client.mask & 4:
        scene.client.send(b"x" * 50_000, 1.0)
    assert scene.client.ends_at == 1.0 + STALLED_S
    assert not scene.client.is_free
    scene.theirs.setblocking(False)
    with suppress(BlockingIOError):
        while scene.theirs.recv(65536):
            pass
    scene.client.send(b"x" * 500_000, 2.0)
    scene.client.on_event(3.0)
    assert scene.client.is_open
    assert scene.client.ends_at == 2.0 + STALLED_S, "something has moved"
    scene.client.on_time(2.0 + STALLED_S)
    assert not scene.client.is_open


def test_who_leaves_too_much_unread_is_dropped_at_once(scene: Scene) -> None:
    for _ in range(3 * MOST_UNREAD_BYTES // 50_000):
        scene.client.send(b"x" * 50_000, 0.0)
    assert not scene.client.is_open
    scene.client.send(b"more", 0.0)
    scene.client.on_event(0.0)
    scene.client.on_time(100.0)
    assert scene.client.ends_at is None


def test_what_is_sent_slowly_arrives_whole(scene: Scene) -> None:
    text = b"0123456789" * 70_000
    scene.client.send(text, 0.0)
    scene.client.end(0.0)
    found = b""
    while piece := scene.theirs.recv(65536):
        found += piece
        scene.client.on_event(0.0)
    assert found == text
    assert not scene.client.is_open


def test_too_long_a_line_is_the_end(scene: Scene) -> None:
    scene.say(b"x" * 70_000)
    scene.client.on_event(0.0)
    assert not scene.client.is_open
    assert json.loads(scene.theirs.recv(1000))["text"] == "a request may have at most 65536 bytes"


def test_who_says_no_more_is_still_answered(scene: Scene) -> None:
    scene.theirs.sendall(b"one\n")
    scene.theirs.shutdown(socket.SHUT_WR)
    scene.client.on_event(0.0)
    assert list(scene.client.requests) == [b"one"]
    assert not scene.client.at_end
    scene.client.requests.clear()
    scene.client.on_event(0.0)
    assert scene.client.at_end
    assert scene.client.mask == 0, "its end is not told again and again"
    assert scene.client.is_over
    scene.client.send(b"answer\n", 0.0)
    assert scene.theirs.recv(100) == b"answer\n"


def test_who_hangs_up_while_a_request_runs_is_forgotten(scene: Scene) -> None:
    scene.client.asker = 7
    scene.theirs.close()
    scene.client.on_event(0.0)
    assert not scene.client.is_open


def test_who_asks_and_hangs_up_has_asked(scene: Scene) -> None:
    scene.theirs.sendall(b"one\n")
    scene.theirs.close()
    scene.client.on_event(0.0)
    assert list(scene.client.requests) == [b"one"]
    scene.client.requests.clear()
    scene.client.send(b"answer\n", 0.0)
    assert not scene.client.is_open


def test_who_hangs_up_in_the_middle_of_a_line(scene: Scene) -> None:
    scene.theirs.sendall(b"hal")
    scene.theirs.close()
    scene.client.on_event(0.0)
    assert not scene.client.is_open
