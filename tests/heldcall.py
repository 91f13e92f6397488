"""Whole-connection calls for tests of worker/held.py, and every way to receive and to send in them."""

import array
import io
import os
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from paceline.scoreboard.fields import ThreadState
from paceline.worker.crew import Member
from paceline.worker.held import HeldSocket, take_back

CALLING, PEER = int(ThreadState.CALLING), int(ThreadState.PEER)


@dataclass
class Call:
    """A whole-connection call from outside: the handler's socket, the peer's, and the thread's row."""

    held: HeldSocket
    peer: socket.socket
    me: Member
    fd: int

    @property
    def state(self) -> int:
        return int(self.me.words[self.me.state])

    def total(self, cell: str) -> int:
        return int(self.me.words[getattr(self.me, cell)])


@contextmanager
def open_calls() -> Iterator["Open"]:
    """Gives what makes a call, over a socket pair or TCP; all are closed at the end."""
    calls: list[Call] = []

    def make(receive_s: float | None = None, send_s: float | None = 10.0, *, tcp: bool = False) -> Call:
        if tcp:
            with socket.create_server(("127.0.0.1", 0)) as server:
                peer = socket.create_connection(server.getsockname(), 10)
                ours, _ = server.accept()
        else:
            peer, ours = socket.socketpair()
            peer.settimeout(10)
        ours.setblocking(False)
        fd = ours.detach()
        me = Member(0, memoryview(array.array("Q", [0] * 64)), 0, 32)
        me.words[me.state] = CALLING
        calls.append(Call(HeldSocket(fd, me, "127.0.0.1:8888", receive_s, send_s), peer, me, fd))
        return calls[-1]

    try:
        yield make
    finally:
        for call in calls:
            call.peer.close()
            if take_back(call.held) >= 0:
                os.close(call.fd)


Open = Callable[..., Call]


def into(verb: str, held: HeldSocket, size: int) -> bytes:
    buffer = bytearray(size)
    n = getattr(held, verb)(buffer)
    return bytes(buffer[: n[0] if isinstance(n, tuple) else n])


RECEIVE: dict[str, Callable[[HeldSocket], bytes]] = {
    "recv": lambda held: held.recv(100),
    "recv_into": lambda held: into("recv_into", held, 100),
    "recvfrom": lambda held: held.recvfrom(100)[0],
    "recvfrom_into": lambda held: into("recvfrom_into", held, 100),
    "recvmsg": lambda held: bytes(held.recvmsg(100)[0]),
    "recvmsg_into": lambda held: receive_message_into(held),
    "makefile": lambda held: held.makefile("rb").readline(),
    "makefile unbuffered": lambda held: held.makefile("rb", buffering=0).readline(),
    "makefile text": lambda held: held.makefile("r").readline().encode(),
}


def receive_message_into(held: HeldSocket) -> bytes:
    first, second = bytearray(3), bytearray(100)
    n = held.recvmsg_into([first, second])[0]
    return bytes(first + second)[:n]


def send_by_file(held: HeldSocket, data: bytes) -> None:
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.seek(0)
        assert held.sendfile(file) == len(data)


def send_by_makefile(held: HeldSocket, data: bytes) -> None:
    with held.makefile("wb") as file:
        file.write(data)


SEND: dict[str, Callable[[HeldSocket, bytes], Any]] = {
    "send": lambda held, data: held.send(data),
    "sendall": lambda held, data: held.sendall(data),
    "sendall of an array": lambda held, data: held.sendall(array.array("H", data)),
    "sendto": lambda held, data: held.sendto(data, held.getpeername()),
    "sendto with flags": lambda held, data: held.sendto(data, socket.MSG_NOSIGNAL, held.getpeername()),
    "sendmsg": lambda held, data: held.sendmsg([data[:3], data[3:]]),
    "sendmsg with flags": lambda held, data: held.sendmsg([data], [], socket.MSG_NOSIGNAL),
    "sendfile": send_by_file,
    "sendfile of no file": lambda held, data: held.sendfile(io.BytesIO(data)),
    "makefile": send_by_makefile,
}


SEND_ALL = [way for way in SEND if way in ("sendall", "makefile") or "file" in way or "array" in way]
"""Those that go on until all is sent."""

LARGE = b"l" * 5_000_000
"""More than any buffer takes."""
