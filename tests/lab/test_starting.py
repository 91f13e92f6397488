"""lab/starting.py: each server answers several clients, one after the other, and is gone afterwards."""

import os
import socket
from contextlib import ExitStack

import pytest

from paceline.errors import HostError
from paceline.lab.starting import Serving, ask, paceline, peer, receive_line, serving

pytestmark = pytest.mark.usefixtures("nothing_left")

WAYS = {
    "one_at_a_time": peer("one_at_a_time"),
    "thread_per_connection": peer("thread_per_connection"),
    "process_per_connection": peer("process_per_connection"),
    "pool": peer("pool", 2, 2),
    "shared_listener": peer("shared_listener", 2, 2),
    "own_listeners": peer("own_listeners", 2, 2),
    "accept_always": peer("accept_always", 2, 2),
    "paceline": paceline(2, 4),
}


def is_there(pid: int) -> bool:
    """Who has ended and waits for somebody to ask how is not."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b") ")[2][:1] not in b"ZX"
    except OSError:
        return False


@pytest.mark.parametrize("name", WAYS)
def test_it_answers_and_is_gone_afterwards(name: str) -> None:
    with serving(WAYS[name]) as server:
        for _ in range(3):
            with server.connect() as connection:
                for message in (b"quick", b"wait 1000", b"compute 100", b"both 100 1000"):
                    by = ask(connection, message)
                    assert by is not None
        pids = server.pids()
        assert server.pid in pids
        assert server.threads() >= 1
        assert server.pss_bytes() >= 0
        assert os.getpgid(server.pid) == os.getpgid(0)
    assert not any(map(is_there, pids))


def test_it_is_gone_after_an_interrupt() -> None:
    seen: list[int] = []

    def interrupted() -> None:
        with ExitStack() as stack:
            servers: list[Serving] = [stack.enter_context(serving(WAYS[name])) for name in ("pool", "paceline")]
            seen.extend(pid for server in servers for pid in server.pids())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert len(seen) == 6
    assert not any(map(is_there, seen))


def test_one_that_cannot_start_says_why() -> None:
    with pytest.raises(HostError, match=r"(?s)a server .*KeyError.*juggler"), serving(peer("juggler")):
        pass


def test_who_crashes_ends_its_connection() -> None:
    with serving(peer("process_per_connection")) as server:
        with server.connect() as connection:
            assert ask(connection, b"crash") is None
        with server.connect() as connection:
            assert ask(connection, b"quick") is not None


def test_a_line_is_put_together_however_its_bytes_come() -> None:
    one, other = socket.socketpair()
    with one:
        with other:
            other.sendall(b"12")
            other.sendall(b"3\n")
            assert receive_line(one) == b"123"
        assert receive_line(one) == b""
