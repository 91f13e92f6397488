"""A client, and its other side by hand: a server of a few lines that does what is asked of it, byte by byte."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import paceline
from paceline.client import Client

DEADLINE_S = 5.0
SOON_S = 0.05
"""A time-out that is to pass."""


class Other:
    """The other side of a client, by hand."""

    def __init__(self, accepted: socket.socket) -> None:
        self.socket = accepted
        accepted.settimeout(DEADLINE_S)

    def receive(self, count: int) -> bytes:
        received = b""
        while len(received) < count:
            piece = self.socket.recv(count - len(received))
            assert piece, f"end-of-file after {received!r}"
            received += piece
        return received


@contextmanager
def connected(framing: str | paceline.Framing = "line", **keywords: object) -> Iterator[tuple[Client, Other]]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = "{}:{}".format(*listener.getsockname())
        with Client(address, framing=framing, **{"timeout": DEADLINE_S, **keywords}) as client:  # type: ignore[arg-type]
            accepted, _ = listener.accept()
            with accepted:
                yield client, Other(accepted)


@contextmanager
def beside(work: Callable[[], object]) -> Iterator[None]:
    """`work` runs on another thread meanwhile, and must succeed."""
    failures: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - raised again below
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        thread.join(DEADLINE_S)
    assert not thread.is_alive()
    if failures:
        raise failures[0]


@contextmanager
def flooding(other: Other, piece: bytes) -> Iterator[None]:
    """The other side sends this meanwhile, over and over."""
    stop = threading.Event()

    def send() -> None:
        other.socket.settimeout(SOON_S)
        while not stop.is_set():
            with suppress(TimeoutError):
                other.socket.send(piece)

    with beside(send):
        try:
            yield
        finally:
            stop.set()
