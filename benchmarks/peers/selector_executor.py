"""A selector and a ThreadPoolExecutor, in the shape of gunicorn's gthread worker.

    python -m benchmarks.peers.selector_executor HANDLER [raw|lines [PROCESSES]]

The main thread waits for all connections.  One that is readable is taken out of the selector and submitted to the
executor; the thread that has served it puts it back, under a lock, in the future's callback.  It accepts whether or not
a thread is free.  With PROCESSES it is several such workers with one listener, as gunicorn starts them.
"""

import selectors
import socket
import sys
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

from benchmarks.peers import (
    RECEIVE_BYTES,
    THREADS,
    Handler,
    fork_others,
    handler_from_command_line,
    listen,
    say_listening,
    way_from_command_line,
)


class Connection:
    """One socket, and the part of a line that has come."""

    def __init__(self, socket: socket.socket) -> None:
        self.socket = socket
        self.rest = b""


class Worker:
    """The selector, the executor, and what is done with a connection in each of them."""

    def __init__(self, listener: socket.socket, handler: Handler | None, way: str) -> None:
        self.listener = listener
        self.handler = handler
        self.serve = self.serve_lines if way == "lines" else self.serve_raw
        self.executor = ThreadPoolExecutor(THREADS)
        self.selector = selectors.DefaultSelector()  # changed under lock
        self.lock = threading.Lock()

    def run(self) -> None:
        self.selector.register(self.listener, selectors.EVENT_READ, self.accept)
        while True:
            for key, _ in self.selector.select(1.0):
                key.data()

    def accept(self) -> None:
        try:
            connection = Connection(self.listener.accept()[0])
        except BlockingIOError:  # another process was first
            return
        self.keep(connection)

    def keep(self, connection: Connection) -> None:
        with self.lock:
            self.selector.register(connection.socket, selectors.EVENT_READ, partial(self.on_readable, connection))

    def on_readable(self, connection: Connection) -> None:
        with self.lock:
            self.selector.unregister(connection.socket)
        self.executor.submit(self.serve, connection).add_done_callback(partial(self.on_served, connection))

    def on_served(self, connection: Connection, served: "Future[bool]") -> None:
        if served.exception() is None and served.result():
            self.keep(connection)
        else:
            connection.socket.close()

    def serve_raw(self, connection: Connection) -> bool:
        """Answers what has come; False when the connection is at its end."""
        data = connection.socket.recv(RECEIVE_BYTES)
        if data:
            connection.socket.sendall(self.handler(data) if self.handler else data)
        return bool(data)

    def serve_lines(self, connection: Connection) -> bool:
        """Answers the lines that have come, in one piece; False when the connection is at its end."""
        assert self.handler is not None
        data = connection.socket.recv(RECEIVE_BYTES)
        *lines, connection.rest = (connection.rest + data).split(b"\n")
        if lines:
            connection.socket.sendall(b"".join([self.handler(line) + b"\n" for line in lines]))
        return bool(data)


def main() -> None:
    handler, way = handler_from_command_line(), way_from_command_line("raw", "lines")
    processes = int(sys.argv[3]) if len(sys.argv) > 3 else 1
    listener = listen()
    listener.setblocking(False)
    if fork_others(processes - 1):
        say_listening(listener)
    Worker(listener, handler, way).run()


main()
