"""What blocks, or takes long inside one call: for experiments that ask what other threads do meanwhile.

Peers are processes of their own, so that they do not need the GIL of whoever asks them.  All is ended with the block.
"""

import os
import socket
import sqlite3
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from select import select

from paceline.clock import now, sleep
from paceline.lab.children import Children
from paceline.lab.computing import amount_for

Do = Callable[[], object]

PAGE = bytes(4096)
FILE_BYTES, BUFFER_BYTES = 1 << 23, 1 << 26

ROWS = 2_000
_QUERY = "SELECT count(*) FROM names a CROSS JOIN names b WHERE a.number <= ? AND b.name LIKE '%77%'"


def ask(peer: socket.socket) -> None:
    """Send a byte, and wait for the answer."""
    peer.send(b"?")
    if not peer.recv(1):
        raise ConnectionError("the peer has gone")


@contextmanager
def peers(count: int, answer_after_s: float) -> Iterator[list[socket.socket]]:
    """So many sockets; at their other ends is a process that answers each byte after that time.

    For the main thread, before it has others: it forks.
    """
    with ExitStack() as stack:
        pairs = [socket.socketpair() for _ in range(count)]
        ours, theirs = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
        for one in (*ours, *theirs):
            stack.enter_context(one)
        stack.enter_context(Children([partial(_answer, theirs, answer_after_s)]))
        for one in theirs:
            one.close()  # now its process alone has it
        yield ours


def _answer(asked: Sequence[socket.socket], after_s: float) -> None:
    """Each byte, when its time has come; until this process is killed."""
    due: deque[tuple[float, socket.socket]] = deque()
    while True:
        wait_s = max(0.0, due[0][0] - now()) if due else None
        for peer in select(asked, [], [], wait_s)[0]:
            peer.recv(1)
            due.append((now() + after_s, peer))
        while due and due[0][0] <= now():
            due.popleft()[1].send(b"!")


@contextmanager
def apart() -> Iterator[set[int]]:
    """Keep this thread to a core of its own while the block runs; gives the cores for the others, if there are more.

    Else the kernel may leave two threads on one core for some time while another core is idle, which is not the GIL.
    """
    cores = os.sched_getaffinity(0)
    mine = min(cores)
    try:
        os.sched_setaffinity(0, {mine})
        yield cores - {mine} or cores
    finally:
        os.sched_setaffinity(0, cores)


@contextmanager
def work(folder: str, slow: Sequence[socket.socket], wait_s: float) -> Iterator[dict[str, list[Do]]]:
    """For each kind, what one thread after the other is to do; each has its own socket, file, database."""
    with ExitStack() as stack:
        files, bases = [], []
        for number in range(len(slow)):
            files.append(os.open(os.path.join(folder, f"file-{number}"), os.O_RDWR | os.O_CREAT, 0o600))
            stack.callback(os.close, files[-1])
            bases.append(stack.enter_context(closing(base_of_names())))
        times = amount_for(partial(query, bases[0]), wait_s)
        yield {
            "sleep": [partial(sleep, wait_s)] * len(slow),
            "socket": [partial(ask, peer) for peer in slow],
            "file": [partial(write_through, file) for file in files],
            "SQLite": [partial(query, base, times) for base in bases],
        }


def write_through(file: int) -> None:
    """A page, to the disk: what the file system takes for it."""
    os.pwrite(file, PAGE, 0)
    os.fsync(file)


def file_system_of(folder: str) -> str:
    """The kind of file system in which it lies, `ext4`; `tmpfs` has no disk to wait for (proc_pid_mounts(5))."""
    best, kind = "", "?"
    with open("/proc/self/mounts", encoding="utf-8", errors="replace") as file:
        for line in file:
            _, point, its, *_ = line.split(" ")
            if len(point) >= len(best) and f"{os.path.realpath(folder)}/".startswith(point.rstrip("/") + "/"):
                best, kind = point, its
    return kind


def base_of_names() -> sqlite3.Connection:
    """In memory: nothing is read from a disk."""
    base = sqlite3.connect(":memory:", check_same_thread=False)  # each is used by one thread at a time
    base.execute("CREATE TABLE names (number INTEGER PRIMARY KEY, name TEXT)")
    base.executemany("INSERT INTO names (name) VALUES (?)", [(f"name {number}",) for number in range(ROWS)])
    base.commit()
    return base


def query(base: sqlite3.Connection, times: int) -> None:
    """SQLite looks through all names so many times, for one answer."""
    base.execute(_QUERY, (times,)).fetchone()


@contextmanager
def calls(folder: str, call_s: float) -> Iterator[dict[str, Do]]:
    """Calls that take about so long, by the name of what is called."""
    import hashlib
    import zlib

    buffer = memoryview(bytes(BUFFER_BYTES))  # slices of it cost nothing, and zeros take no memory
    large = bytearray(FILE_BYTES)
    with ExitStack() as stack:
        here, there = socket.socketpair()
        stack.enter_context(here)
        stack.enter_context(there)
        here.settimeout(call_s)
        base = stack.enter_context(closing(base_of_names()))
        file = os.open(os.path.join(folder, "large"), os.O_RDWR | os.O_CREAT, 0o600)
        stack.callback(os.close, file)
        os.pwrite(file, large, 0)

        def receive() -> None:
            try:
                here.recv(1)  # nothing comes
            except TimeoutError:
                return

        def read_again(times: int) -> None:
            for _ in range(times):
                os.preadv(file, [large], 0)

        measured: dict[str, Callable[[int], object]] = {
            "in read": read_again,
            "in SQLite": partial(query, base),
            "in sha256": lambda kib: hashlib.sha256(buffer[: kib << 10]).digest(),
            "in zlib": lambda kib: zlib.compress(buffer[: kib << 10]),
            "in Python": loop,
        }
        sized = {name: partial(call, amount_for(call, call_s)) for name, call in measured.items()}
        numbers = range(amount_for(lambda count: sum(range(count)), call_s))
        # nothing of Python's around sum, which would look whether somebody else wants the GIL
        yield {"in sleep": partial(sleep, call_s), "in recv": receive, **sized, "in sum": partial(sum, numbers)}


def loop(count: int) -> int:
    """Pure Python, which looks at the end of each turn whether somebody else wants the GIL."""
    total = 0
    for number in range(count):
        total += number
    return total
