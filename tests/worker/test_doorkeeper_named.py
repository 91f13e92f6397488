"""worker/doorkeeper.py, behind proxies: they are let in and not counted; for whom they connect is judged, too."""

import socket
from typing import Any

import pytest

from doorbed import cells, counted, is_served
from paceline.worker.connection import Connection
from paceline.worker.record import Record, encode
from takerbed import taker
from workerbed import Bed, bed

pytestmark = pytest.mark.usefixtures("nothing_left")
PROXY: dict[str, Any] = {"proxy_protocol": ("127.0.0.1",)}
OTHER = "127.0.0.2"


def echo(message: bytes, _connection: Connection) -> bytes:
    return message


def of(source: str) -> bytes:
    kind = "TCP6" if ":" in source else "TCP4"
    target = "::1" if ":" in source else "198.51.100.1"
    return f"PROXY {kind} {source} {target} 50312 443\r\n".encode()


def named(worker: Bed, source: str) -> socket.socket:
    client = worker.call_in()
    client.sendall(of(source))
    return client


def test_denied_is_who_the_proxy_names() -> None:
    with bed(echo, listen=True, deny=("192.0.2.0/24", "127.0.0.1"), **PROXY) as worker:
        assert not is_served(named(worker, "192.0.2.7"))
        assert is_served(named(worker, "198.51.100.7"))
        local = worker.call_in()
        local.sendall(b"PROXY UNKNOWN\r\n")
        assert is_served(local), "the proxy itself"
        (said,) = worker.log.find("peer-refused")
        assert "192.0.2.7:50312" in str(said)
        assert cells(worker) == {"accepted": 3, "refused": 1, "refused_network": 1, "closed": 1}
        assert worker.cell("closed_refused") == 1


def test_allowed_is_who_the_proxy_names_or_who_comes_by_himself() -> None:
    with bed(echo, listen=True, allow=("192.0.2.0/24", OTHER), **PROXY) as worker:
        assert is_served(named(worker, "192.0.2.7"))
        assert not is_served(named(worker, "198.51.100.7"))
        assert is_served(worker.call_in(OTHER))


@pytest.mark.parametrize(
    ("first", "other"), [("192.0.2.7", "192.0.2.8"), ("2001:db8::7", "2001:db8:0:1::7")], ids=["IPv4", "IPv6"]
)
def test_each_is_counted_for_himself_and_the_proxy_is_not(first: str, other: str) -> None:
    with bed(echo, listen=True, max_connections_per_address=1, **PROXY) as worker:
        kept, another = named(worker, first), named(worker, other)
        assert is_served(kept)
        assert is_served(another)
        assert not is_served(named(worker, first))
        assert counted(worker) == 2
        kept.close()
        worker.wait_closed(2)
        assert is_served(named(worker, first))
        another.close()
        worker.wait_closed(3)
        assert counted(worker) == 1


def test_who_was_named_is_counted_where_it_moves_to() -> None:
    moves = {"192.0.2.7:1": 1, "192.0.2.8:1": 2, "192.0.2.7:2": 2, "": 2, "unix pid 1 uid 0": 2, "127.0.0.1:5": 3}
    with taker(echo, max_connections_per_address=1, proxy_protocol=("unix",)) as there:
        for peer, count in moves.items():
            there.post(encode(Record(listener=0, messages=1, peer=peer)))
            there.take_in()
            assert counted(there.bed) == count, peer
