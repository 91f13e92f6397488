"""A handler that says who answered, and gates where it waits: for tests of who serves whom, and in which order.

    with running(*LINES, files=FILES) as server, Gate(server) as gate:
        slow.send(b"wait gate\\n")
        gate.wait_reached()
        ...                         # what is served now is served while `slow` is not
        gate.open()

Each line of the protocol is a command of APP; its reply is the process and a number that grows with each reply made
there, so that replies of one process show their order.
"""

import os
import re
import select
from pathlib import Path
from typing import Self

from leftovers import eventually
from peer import Peer
from testbed import Server

APP = '''
import ctypes
import itertools
import os
import signal
import threading

number = itertools.count(1)
library = ctypes.PyDLL(None)  # what is called through it keeps the GIL


def reply():
    """Who made it, and as which one there."""
    return b"%d %d" % (os.getpid(), next(number))


def wait_at(gate):
    print(f"waits at {gate}")
    with open(gate) as opened:
        opened.read()


def answer(line):
    verb, _, rest = line.decode().partition(" ")
    if verb == "wait":
        wait_at(rest)
    elif verb == "hold":  # the GIL
        fd = os.open(rest, os.O_RDONLY)
        print(f"waits at {rest}")
        library.read(fd, ctypes.create_string_buffer(1), 1)
        os.close(fd)
    elif verb == "die":
        signal.raise_signal(int(rest))
    elif verb == "exit":
        os._exit(int(rest))
    elif verb == "large":
        return b"x" * int(rest)
    elif verb == "threads":
        return b"%d %d" % (os.getpid(), threading.active_count() - 1)  # but for the watcher
    elif verb == "endless":
        return itertools.repeat(b"x" * 65536)
    return reply()


def whole(conn):
    lines = conn.makefile("rb")
    for line in lines:
        conn.sendall(answer(line.rstrip()) + b"\\n")
'''
FILES = {"app.py": APP}
LINES = ("app.py:answer", "--framing", "line")


class Gate:
    """Where handlers wait (`wait NAME`, `hold NAME`) until it is opened, for all and for good."""

    def __init__(self, server: Server, name: str = "gate") -> None:
        self.server = server
        self.name = name
        self.path = server.folder / name
        os.mkfifo(self.path)
        self.fd = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)  # whoever opens it to read finds a writer, and waits
        self.is_open = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.open()

    def wait_reached(self, count: int = 1) -> None:
        """Until so many calls are there."""
        eventually(lambda: self.server.log.count(f"waits at {self.name}") >= count)

    def open(self) -> None:
        if not self.is_open:
            self.is_open = True
            door = self.path.with_suffix(".open")
            door.touch()
            door.rename(self.path)  # who comes from now on reads an empty file
            os.close(self.fd)  # who is there reads end-of-file


def ask(peer: Peer, line: bytes = b"who") -> tuple[int, int]:
    """(the process that answered, as which one there)"""
    peer.send(line + b"\n")
    return answer(peer)


def answer(peer: Peer) -> tuple[int, int]:
    pid, number = peer.line().split()
    return int(pid), int(number)


def is_quiet(peer: Peer) -> bool:
    """Nothing has come for it."""
    return not select.select([peer.socket], [], [], 0)[0]


def peers_of_all(server: Server, workers: int) -> dict[int, Peer]:
    """A client of each worker, by its process; until then new ones are made, as fewer workers may be ready yet."""
    found: dict[int, Peer] = {}

    def look() -> bool:
        peer = server.connect()
        if found.setdefault(ask(peer)[0], peer) is not peer:
            spare.append(peer)
        return len(found) == workers

    spare: list[Peer] = []
    eventually(look)
    for peer in spare:
        peer.close()
    return found


def threads_that_serve(peer: Peer) -> int:
    """How many threads its worker has that call handlers or could."""
    return ask(peer, b"threads")[1]


def threads_that_exist(pid: int) -> int:
    """As the kernel counts, which can be asked when nobody answers: the watcher and a timer in C are among them."""
    return len(os.listdir(f"/proc/{pid}/task"))


def peak_memory_of(pid: int) -> int:
    """Bytes: the most that it ever had in memory."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


def block_all_threads(server: Server, pid: int, threads: int) -> list[Peer]:
    """So many clients of this worker, each of whom blocks a thread of it at the gate."""
    clients: list[Peer] = []
    while len(clients) < threads:
        peer = server.connect()
        if ask(peer)[0] == pid:
            clients.append(peer)
    for peer in clients:
        peer.send(b"wait gate\n")
    return clients


def wait_reset(peer: Peer) -> None:
    """Until the server has ended the connection, whatever there is to read."""
    poll = select.poll()
    poll.register(peer.socket, 0)  # what comes unasked: POLLHUP, POLLERR (poll(2))
    assert poll.poll(10_000), "the server did not end the connection"
