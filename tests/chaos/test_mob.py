"""chaos/mob.py, attackers.py and attacks.py: what they do to a server that does little, and what they say of it."""

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from leftovers import children_of, eventually, is_alive
from paceline.chaos import mob as mob_module
from paceline.chaos.attackers import Order
from paceline.chaos.attacks import KINDS
from paceline.chaos.catalogue import ROWS
from paceline.chaos.mob import Mob
from paceline.errors import HostError

pytestmark = pytest.mark.usefixtures("nothing_left")

Serve = Callable[[socket.socket], None]


@contextmanager
def served(serve: Serve) -> Iterator[tuple[str, int]]:
    """Where each connection is given to `serve`, one after the other, and then closed."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as listener:

        def run() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection, suppress(OSError):  # it has broken off
                    serve(connection)

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield listener.getsockname()
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def attacked(kind: str, count: int, serve: Serve, *, until: str = "all_over", **changed: Any) -> dict[str, Any]:
    with served(serve) as (host, port):
        settings = {
            "kind": kind,
            "count": count,
            "first": 0,
            "host": host,
            "port": port,
            "net": 3,
            "seed": 7,
            "hold_s": 0.5,
        }
        with Mob(Order(**{**settings, **changed})) as mob:
            eventually(lambda: getattr(mob.look(), until))
            mob.tell_stop()
            eventually(lambda: mob.look().result)
            assert mob.result is not None
            return mob.result


def test_each_kind_is_a_fault_of_the_catalogue() -> None:
    abuses = {row.name for row in ROWS if row.attackers}
    assert KINDS.keys() | {"churn", "tear", "flood", "exhausted"} == abuses


def test_who_is_ended_is_told_with_the_time_that_it_had() -> None:
    result = attacked("mute", 5, lambda _connection: None)
    assert (result["connected"], len(result["lasted_s"]), result["left"]) == (5, 5, 0)
    assert all(0 <= lasted_s < 10 for lasted_s in result["lasted_s"])


def test_bytes_drop_one_by_one() -> None:
    got: list[bytes] = []
    attacked("drip", 1, lambda connection: got.extend((connection.recv(9), connection.recv(9))))
    assert got == [b"x", b"x"]


def test_a_reply_that_is_cut_short_is_found() -> None:
    result = attacked("early", 1, lambda connection: connection.sendall(b"x" * 100))
    assert result["wrongs"] == ["100 of 20,001 bytes of a reply came before the end"]


def test_a_wrong_byte_is_found() -> None:
    def serve(connection: socket.socket) -> None:
        line = connection.recv(1 << 16).rstrip(b"\n")
        connection.sendall(line[:-1] + b"? 1 1 1\n")

    with served(serve) as (host, port), Mob(Order("errors", 1, 0, host, port, 3, 7, 0.5)) as mob:
        eventually(lambda: mob.look().connected > 2)  # who is over has a successor
        mob.tell_stop()
        eventually(lambda: mob.look().result)
        assert mob.result is not None
        assert mob.result["wrong"] >= 1
        assert "reply 0 of attacker 0 was b'0.0.0" in mob.result["wrongs"][0]


@pytest.mark.parametrize("kind", ["churn", "tear"])
def test_who_breaks_off_at_once_is_through_at_once(kind: str) -> None:
    result = attacked(kind, 50, lambda _connection: None)
    assert result["connected"] == 50
    assert result["troubles"] == {}


def test_a_flood_lasts_and_says_how_many_were_refused() -> None:
    result = attacked("flood", 100, lambda _connection: None)
    assert 20 <= result["connected"] <= 50
    assert len(result["lasted_s"]) <= result["connected"]


def test_nobody_listens() -> None:
    result = attacked("mute", 3, lambda _connection: None, port=1)
    assert result["troubles"] == {"Connection refused": 3}


def test_more_than_one_process_can_have_are_several_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mob_module, "most_each", lambda: 2)
    with served(lambda _connection: None) as (host, port), Mob(Order("mute", 5, 0, host, port, 3, 7, 0.5)) as mob:
        assert len([pid for pid in children_of(os.getpid()) if is_alive(pid)]) == 3
        eventually(lambda: mob.look().all_over)
        mob.tell_stop()
        eventually(lambda: mob.look().result)
        assert mob.result is not None
        assert mob.result["connected"] == 5


def test_a_process_that_dies_is_named_with_how() -> None:
    with served(lambda _connection: None) as (host, port), Mob(Order("mute", 1, 0, host, port, 3, 7, 0.5)) as mob:
        (pid,) = [pid for pid in children_of(os.getpid()) if is_alive(pid)]
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(
            HostError, match=rf"a process of attackers \(pid {pid}\) was killed by SIGKILL before the end"
        ):
            eventually(lambda: mob.look() is None)
