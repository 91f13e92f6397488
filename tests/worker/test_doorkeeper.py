"""worker/doorkeeper.py in a worker with real listeners: who is refused, and that nothing of it stays behind."""

import os
import re
import socket
import threading
from pathlib import Path
from typing import Any, cast

import pytest

from doorbed import cells, counted, is_served, is_served_by_unix, may, needs_ipv6, place
from paceline.host import streams
from paceline.host.output import Log
from paceline.networks import IPV4
from paceline.settings import Settings
from paceline.worker.doorkeeper import Doorkeeper
from takerbed import FRESH, taker
from workerbed import Gate, RecordingLog, bed

pytestmark = pytest.mark.usefixtures("nothing_left")


def echo(message: bytes) -> bytes:
    return message


# Networks


@pytest.mark.parametrize(
    ("settings", "served", "refused"),
    # the last of 127.0.0.*
    [
        ({"deny": ("127.0.0.2",)}, [1, 3], [2]),
        ({"allow": ("127.0.0.2/31",)}, [2, 3], [1, 4]),
        ({"allow": ("127.0.0.0/8",), "deny": ("127.0.0.4/30",)}, [3, 8], [4, 7]),
        ({"allow": ("::/0", "unix")}, [], [1]),
        ({"deny": ("::/0", "unix")}, [1], []),
    ],
)
def test_who_may_not_connect_is_reset_and_others_are_served(
    settings: dict[str, Any], served: list[int], refused: list[int]
) -> None:
    with bed(echo, listen=True, **settings) as worker:
        assert not any(may(worker, f"127.0.0.{last}") for last in refused)
        assert all(may(worker, f"127.0.0.{last}") for last in served)
        assert worker.cell("accepted") == len(served) + len(refused)
        assert worker.cell("refused") == worker.cell("refused_network") == len(refused)
        assert worker.cell("connections") == len(served)
        assert len(worker.log.find("peer-refused")) == len(refused)
        assert worker.cell("threads_max") <= 1


@needs_ipv6
@pytest.mark.parametrize("deny", ["127.0.0.2", "::ffff:127.0.0.2", "127.0.0.2/31"])
def test_of_a_listener_for_both_ipv4_peers_count_as_ipv4(deny: str) -> None:
    with bed(echo, listen=":0", deny=(deny,)) as worker:
        assert not may(worker, "127.0.0.2", to="127.0.0.1")
        assert may(worker, "127.0.0.1", to="127.0.0.1")
        assert may(worker, to="::1")
        (said,) = worker.log.find("peer-refused")
        assert str(said["peer"]).startswith("127.0.0.2:")


@needs_ipv6
def test_ipv6_peers_have_networks_too() -> None:
    with bed(echo, listen=":0", allow=("::1",)) as worker:
        assert may(worker, to="::1")
        assert not may(worker, to="127.0.0.1")
    with bed(echo, listen=":0", deny=("::/0",)) as worker:
        assert not may(worker, to="::1")
        assert may(worker, to="127.0.0.1")


@pytest.mark.parametrize(
    ("settings", "served"),
    [
        ({"deny": ("unix",)}, False),
        ({"allow": ("127.0.0.1",)}, False),
        ({"allow": ("127.0.0.1", "unix")}, True),
        ({"deny": ("0.0.0.0/0", "::/0")}, True),
        ({"max_connections_per_address": 1}, True),
    ],
)
def test_unix_sockets_are_a_network_of_their_own(settings: dict[str, Any], served: bool, tmp_path: Path) -> None:
    with bed(echo, listen=f"unix:{tmp_path}/s", **settings) as worker:
        assert [is_served_by_unix(worker.call_in()) for _ in range(2)] == [served] * 2
        if not served:
            assert worker.log.find("peer-refused")[0]["peer"] == f"unix pid {os.getpid()} uid {os.getuid()}"


def test_what_is_refused_is_said_with_the_reason() -> None:
    with bed(echo, listen=True, deny=("127.0.0.2",)) as worker:
        assert not may(worker, "127.0.0.2")
        (said,) = worker.log.find("peer-refused")
        assert re.fullmatch(r"127\.0\.0\.2:[0-9]+", str(said["peer"]))
        assert said["why"] == "the network is one of those of --deny"


class Host:
    def __init__(self) -> None:
        self.seen: list[str] = []

    def connected(self, _connection: object) -> None:
        self.seen.append("connected")

    def disconnected(self, _connection: object) -> None:
        self.seen.append("disconnected")

    def __call__(self, message: bytes) -> bytes:
        return b" ".join(word.encode() for word in self.seen) + b"|" + message


def test_the_handler_hears_nothing_of_who_is_refused() -> None:
    with bed(Host, listen=True, deny=("127.0.0.2",)) as worker:
        assert not may(worker, "127.0.0.2")
        client = worker.call_in()
        client.sendall(b"x")
        assert client.recv(100) == b"connected|x"


def test_a_whole_connection_call_gets_no_thread_for_who_is_refused() -> None:
    held = Gate()

    def handler(conn: socket.socket) -> None:
        held.wait()

    with bed(handler, as_="connection", listen=True, deny=("127.0.0.2",), threads=2) as worker:
        for _ in range(5):
            assert not may(worker, "127.0.0.2")
        client = worker.call_in()
        held.wait_entered()
        assert worker.thread_total("calls") == 1
        held.open()
        client.close()
        worker.wait_closed(1)


# From one address


def limited(**settings: Any) -> Any:
    return bed(echo, listen=True, max_connections_per_address=2, **settings)


def test_one_address_has_so_many_and_the_others_are_not_touched() -> None:
    with limited() as worker:
        first, second = worker.call_in("127.0.0.2"), worker.call_in("127.0.0.2")
        assert is_served(first)
        assert is_served(second)
        assert not may(worker, "127.0.0.2")
        assert may(worker, "127.0.0.3")
        assert is_served(first)  # what is open stays
        assert cells(worker) == {"accepted": 4, "refused": 1, "refused_crowd": 1}
        assert counted(worker) == 2
        (said,) = worker.log.find("peer-refused")
        assert str(said["peer"]).startswith("127.0.0.2:")
        assert said["why"] == "2 from 127.0.0.2 are open here, the limit of --max-connections-per-address"


def test_both_limits_are_told_apart() -> None:
    with limited(deny=("127.0.0.9",)) as worker:
        assert not may(worker, "127.0.0.9")
        for _ in range(2):
            assert may(worker, "127.0.0.2")
        assert not may(worker, "127.0.0.2")
        assert cells(worker) == {"accepted": 4, "refused": 2, "refused_network": 1, "refused_crowd": 1}


@needs_ipv6
def test_of_a_listener_for_both_the_address_is_that_of_ipv4() -> None:
    with bed(echo, listen=":0", max_connections_per_address=1) as worker:
        assert may(worker, "127.0.0.2", to="127.0.0.1")
        assert not may(worker, "127.0.0.2", to="127.0.0.1")
        assert may(worker, "127.0.0.3", to="127.0.0.1")
        assert may(worker, to="::1")
        assert not may(worker, to="::1")
        assert worker.log.find("peer-refused")[1]["why"] == (
            "1 from ::/64 are open here, the limit of --max-connections-per-address"
        )


def test_threads_that_come_and_go_lose_no_count() -> None:
    """Counting up and down from several threads at once, as the leader and those who close do."""
    keeper = Doorkeeper(
        Settings(max_connections_per_address=1000), cast("Log", RecordingLog()), lambda _cell: None, 0.0
    )

    def come_and_go(first: int) -> None:
        for _ in range(300):
            for fd in range(first, first + 10):
                assert keeper.takes(fd, ("192.0.2.7", 5))
            for fd in range(first, first + 10):
                keeper.left(fd)

    threads = [threading.Thread(target=come_and_go, args=(100 * n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert keeper.census is not None
    assert len(keeper.census) == 0


# Nobody who asks


def test_without_such_a_setting_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(*_: object) -> None:
        raise AssertionError("nobody should ask")

    for verb in ("accept_from", "peer_address", "number_of"):
        monkeypatch.setattr(streams, verb, nobody)
    with bed(echo, listen=True) as worker:
        assert worker.worker.doorkeeper is None
        assert worker.worker.tables.on_left is None
        assert may(worker)
    with taker() as there:
        there.post(FRESH)
        assert len(there.take_in()) == 1


@pytest.mark.parametrize(
    ("settings", "counts"),
    [
        ({"allow": ("unix",)}, False),
        ({"deny": ("unix",)}, False),
        ({"max_connection_rate": 1.0}, False),
        ({"max_connections_per_address": 1}, True),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_each_setting_alone_has_one_and_only_one_of_them_counts(settings: dict[str, Any], counts: bool) -> None:
    with bed(echo, run=False, **settings) as worker:
        assert worker.worker.doorkeeper is not None
        assert worker.worker.doorkeeper.counts_places is counts
        assert (worker.worker.tables.on_left is not None) is counts


def test_an_address_of_nobody_is_no_place() -> None:
    keeper = Doorkeeper(Settings(max_connections_per_address=1), cast("Log", RecordingLog()), lambda _cell: None, 0.0)
    assert all(keeper.takes(fd, None) for fd in range(5))
    assert keeper.census is not None
    assert len(keeper.census) == 0
    assert place("192.0.2.7") == IPV4 | 0xC0000207
