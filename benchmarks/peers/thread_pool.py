"""One thread waits for all connections; a fixed pool of threads receives, calls and sends.

The classic design of servers with "threads" as a setting.  This is its fast form: a connection is armed for one event
(EPOLLONESHOT) and armed again by the thread that served it, so that the waiting thread does nothing but hand over.
"""

import queue
import select
import socket
import threading

from benchmarks.peers import RECEIVE_BYTES, THREADS, Handler, handler_from_command_line, listen, say_listening

ONCE = select.EPOLLIN | select.EPOLLONESHOT


class Pool:
    """The connections, the queue of those that are readable, and the threads that serve them."""

    def __init__(self, handler: Handler | None) -> None:
        self.handler = handler
        self.epoll = select.epoll()
        self.connections: dict[int, socket.socket] = {}
        self.readable: queue.SimpleQueue[socket.socket] = queue.SimpleQueue()
        for _ in range(THREADS):
            threading.Thread(target=self.serve, daemon=True).start()

    def serve(self) -> None:
        while True:
            connection = self.readable.get()
            try:
                data = connection.recv(RECEIVE_BYTES)
                if data:
                    connection.sendall(self.handler(data) if self.handler else data)
                    self.epoll.modify(connection, ONCE)
                    continue
            except ConnectionError:
                pass
            del self.connections[connection.fileno()]
            connection.close()

    def wait(self, listener: socket.socket) -> None:
        self.epoll.register(listener, select.EPOLLIN)
        while True:
            for fd, _ in self.epoll.poll():
                if fd == listener.fileno():
                    connection, _ = listener.accept()
                    self.connections[connection.fileno()] = connection
                    self.epoll.register(connection, ONCE)
                else:
                    self.readable.put(self.connections[fd])


def main() -> None:
    pool = Pool(handler_from_command_line())
    listener = listen()
    say_listening(listener)
    pool.wait(listener)


main()
