"""One handler, and small servers that serve it: each is how a textbook does it, and no more.

`python peers.py NAME FD [PROCESSES THREADS]` serves on the listening socket FD until it is killed.  Paceline serves the
same handler by `paceline serve peers.py:answer`.  So that what is measured is the server, and its memory its own, this
file imports nothing but the standard library, and of that little; sleeping is done by select(), which needs no clock.

A message is a line, and so is the answer.
"""

import os
import select
import selectors
import signal
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import suppress

BACKLOG = 1024


def answer(message: bytes) -> bytes:
    """The handler: `quick`, `wait MICROSECONDS`, `compute LOOPS`, `both LOOPS MICROSECONDS`, `crash`.

    The answer is the number of the process in which it ran.
    """
    kind, *amounts = message.split()
    if kind == b"crash":
        crash()
    if kind in (b"compute", b"both"):
        compute(int(amounts[0]))
    if kind in (b"wait", b"both"):
        select.select([], [], [], int(amounts[-1]) / 1e6)
    return b"%d" % os.getpid()


def compute(loops: int) -> int:
    """Plain Python, which holds the GIL all the time."""
    total = 0
    for number in range(loops):
        total += number & 7
    return total


def crash() -> None:
    """Read what lies at address 0, where nothing lies: the processor refuses, the kernel sends SIGSEGV."""
    import ctypes

    ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)  # PR_SET_DUMPABLE: who collects core dumps would be measured, too
    ctypes.string_at(0)


def converse(connection: socket.socket) -> None:
    """Answer one client until it leaves."""
    with suppress(ConnectionError), connection, connection.makefile("rb") as lines:
        for line in lines:
            connection.sendall(answer(line) + b"\n")


# Five lessons


def one_at_a_time(listener: socket.socket) -> None:
    while True:
        connection, _ = listener.accept()
        converse(connection)  # the next client waits until this one leaves


def thread_per_connection(listener: socket.socket) -> None:
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=converse, args=(connection,), daemon=True).start()


def process_per_connection(listener: socket.socket) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody asks how they ended
    while True:
        connection, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            converse(connection)
            os._exit(0)
        connection.close()


def pool(listener: socket.socket, processes: int, threads: int) -> None:
    """Processes × threads, all made before anybody comes; each thread accepts, and serves one client at a time."""
    in_processes([listener] * processes, lambda shared: in_threads(one_at_a_time, shared, threads))


def in_threads(serve: Callable[[socket.socket], None], listener: socket.socket, threads: int) -> None:
    for _ in range(threads):
        threading.Thread(target=serve, args=(listener,), daemon=True).start()
    threading.Event().wait()


def in_processes(listeners: list[socket.socket], serve: Callable[[socket.socket], None]) -> None:
    for listener in listeners:
        if os.fork() == 0:
            try:
                serve(listener)
            finally:
                os._exit(1)  # what comes here has failed
    for _ in listeners:
        os.wait()


# Three ways to accept, in processes that have so many threads for calls


def shared_listener(listener: socket.socket, processes: int, threads: int) -> None:
    """All processes wait for the same socket, and whoever is first accepts."""
    in_processes([listener] * processes, lambda shared: poll_and_accept(shared, threads))


def own_listeners(listener: socket.socket, processes: int, threads: int) -> None:
    """A socket for each process (SO_REUSEPORT): the kernel chooses one by a hash of the addresses."""
    address = listener.getsockname()
    others = [socket.create_server(address, backlog=BACKLOG, reuse_port=True) for _ in range(processes - 1)]
    in_processes([listener, *others], lambda own: poll_and_accept(own, threads))


def accept_always(listener: socket.socket, processes: int, threads: int) -> None:
    """In each process one thread accepts all that come, and puts them in a queue for the others."""
    in_processes([listener] * processes, lambda shared: accept_and_queue(shared, threads))


def poll_and_accept(listener: socket.socket, threads: int) -> None:
    """A loop that accepts, also while all threads are in calls, and gives each line, which comes whole, to a thread."""
    from queue import SimpleQueue

    ready: SimpleQueue[socket.socket] = SimpleQueue()
    answered: SimpleQueue[socket.socket] = SimpleQueue()
    told, tell = socket.socketpair()

    def work() -> None:
        while True:
            connection = ready.get()
            with suppress(ConnectionError):
                if line := connection.recv(1024):
                    connection.sendall(answer(line) + b"\n")
                    answered.put(connection)
                    tell.send(b"!")
                    continue
            connection.close()

    for _ in range(threads):
        threading.Thread(target=work, daemon=True).start()
    listener.setblocking(False)
    with selectors.DefaultSelector() as selector:
        selector.register(listener, selectors.EVENT_READ)
        selector.register(told, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is listener:
                    with suppress(BlockingIOError):  # another process was first
                        selector.register(listener.accept()[0], selectors.EVENT_READ)
                elif key.fileobj is told:
                    for _ in told.recv(1024):
                        selector.register(answered.get(), selectors.EVENT_READ)
                else:
                    selector.unregister(key.fileobj)
                    assert isinstance(key.fileobj, socket.socket)
                    ready.put(key.fileobj)


def accept_and_queue(listener: socket.socket, threads: int) -> None:
    """One thread accepts at once whoever comes; the others take connections from the queue."""
    from queue import SimpleQueue

    waiting: SimpleQueue[socket.socket] = SimpleQueue()

    def work() -> None:
        while True:
            converse(waiting.get())

    for _ in range(threads):
        threading.Thread(target=work, daemon=True).start()
    while True:
        connection, _ = listener.accept()
        waiting.put(connection)


def main(name: str, fd: int, *sizes: int) -> None:
    serve: Callable[..., None] = globals()[name]
    serve(socket.socket(fileno=fd), *sizes)


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
