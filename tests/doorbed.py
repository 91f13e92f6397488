"""Who is served and who is refused, for tests of the doorkeeper; for workers of workerbed.py."""

import contextlib
import socket
from typing import Any, cast

import pytest

from paceline.host import streams
from paceline.networks import site_of
from workerbed import DEADLINE_S, Bed

needs_ipv6 = pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this machine has no IPv6")


def is_served(client: socket.socket, message: bytes = b"hello") -> bool:
    """It gets an answer; else it was reset: no end-of-file, no silence."""
    client.settimeout(DEADLINE_S)
    try:
        client.sendall(message)
        answer = client.recv(len(message))
    except (ConnectionResetError, BrokenPipeError):
        return False
    assert answer == message
    return True


def may(worker: Bed, source: str = "", to: str = "") -> bool:
    """A new client is served; the reset of one that is refused may come while it still connects."""
    try:
        client = worker.call_in(source, to)
    except ConnectionResetError:
        return False
    return is_served(client)


def is_served_by_unix(client: socket.socket) -> bool:
    """A Unix socket knows no reset: who is refused sees end-of-file, or nobody who reads."""
    with contextlib.suppress(BrokenPipeError):
        client.sendall(b"hello")
    with contextlib.suppress(ConnectionResetError):
        return client.recv(5) == b"hello"
    return False


def place(text: str) -> int:
    return site_of(streams.number_of((text, 0)))


def counted(worker: Bed) -> int:
    """Places that the census knows."""
    keeper = worker.worker.doorkeeper
    assert keeper is not None
    assert keeper.census is not None
    return len(keeper.census)


def cells(worker: Bed) -> dict[str, int]:
    names = ("accepted", "refused", "refused_network", "refused_crowd", "closed")
    return {name: worker.cell(name) for name in names if worker.cell(name)}


def accept_all(worker: Bed) -> None:
    """As whoever leads would."""
    worker.parts.accepting.accept(worker.plan.listeners[0].fileno(), cast("Any", None))
