"""A stand-in for the supervisor's end of the control socket: a thread that answers what the test tells it to.

    with answering(greeting(), line(text="done")) as server:
        ...
    assert server.heard == [{"do": "ping"}, {"do": "reload"}]

To each line that comes it sends the next piece, whatever that is; after the last one it hangs up, or with `stays` it
waits until the client does.  A client that leaves without a word is not counted.
"""

import json
import shutil
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import IO, Any

DEADLINE_S = 20.0


@dataclass
class Answering:
    path: str
    heard: list[Any] = field(default_factory=list)
    is_over: bool = False
    """The test is."""


def line(*, ok: bool = True, is_last: bool = True, text: str = "", detail: str = "", **more: object) -> bytes:
    record = {"version": 1, "ok": ok, "is_last": is_last, "text": text, "detail": detail, **more}
    return json.dumps(record).encode() + b"\n"


def greeting(pid: int = 0) -> bytes:
    return line(text="here", pid=pid, paceline="1.0")


@contextmanager
def short_folder() -> Iterator[str]:
    """Pytest's own may be too long for the path of a socket."""
    folder = tempfile.mkdtemp(prefix="pl-")
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@contextmanager
def answering(*pieces: bytes, stays: bool = False) -> Iterator[Answering]:
    """A server for one client that asks."""
    with short_folder() as folder, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        server = Answering(f"{folder}/s")
        listener.bind(server.path)
        listener.listen()
        listener.settimeout(DEADLINE_S)
        thread = threading.Thread(target=_answer, args=(listener, server, pieces, stays))
        thread.start()
        try:
            yield server
        finally:
            server.is_over = True
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as last:  # ends an accept that still waits
                last.connect(server.path)
            thread.join()


def _answer(listener: socket.socket, server: Answering, pieces: tuple[bytes, ...], stays: bool) -> None:
    while not server.is_over and not server.heard:
        connection = listener.accept()[0]
        with connection, connection.makefile("rb") as lines:
            connection.settimeout(DEADLINE_S)
            with suppress(ConnectionError):
                _talk(connection, lines, server, pieces, stays)


def _talk(
    connection: socket.socket, lines: IO[bytes], server: Answering, pieces: tuple[bytes, ...], stays: bool
) -> None:
    for piece in pieces:
        request = lines.readline()
        if not request:
            return
        server.heard.append(json.loads(request))
        for at in range(0, len(piece), 7):  # an answer may come in pieces
            connection.sendall(piece[at : at + 7])
    if stays:
        lines.read()
