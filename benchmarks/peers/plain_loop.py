"""One thread, one epoll, the handler called in the loop: what one Python thread can do if nothing else is asked of it.

    python -m benchmarks.peers.plain_loop HANDLER [PROCESSES SHARE]

The yardstick of row 5.  A handler that blocks stops everybody.  With PROCESSES it is several such loops, each of which
takes SHARE connections and no more: what the machine gives to processes that have nothing to do with each other.
"""

import select
import socket
import sys

from benchmarks.peers import RECEIVE_BYTES, Handler, fork_others, handler_from_command_line, listen, say_listening


def loop(listener: socket.socket, handler: Handler | None, share: int | None) -> None:
    listening_fd = listener.fileno()
    epoll = select.epoll()
    epoll.register(listening_fd, select.EPOLLIN)
    connections: dict[int, socket.socket] = {}
    while True:
        for fd, _ in epoll.poll():
            if fd == listening_fd:
                try:
                    connection, _ = listener.accept()
                except BlockingIOError:  # the other process was first
                    continue
                connection.setblocking(True)
                connections[connection.fileno()] = connection
                epoll.register(connection, select.EPOLLIN)
                if len(connections) == share:
                    epoll.unregister(listening_fd)
                continue
            connection = connections[fd]
            try:
                data = connection.recv(RECEIVE_BYTES)
                if data:
                    connection.sendall(handler(data) if handler else data)
                    continue
            except ConnectionError:
                pass
            del connections[fd]
            connection.close()


def main() -> None:
    processes, share = (int(sys.argv[2]), int(sys.argv[3])) if len(sys.argv) > 3 else (1, None)
    handler = handler_from_command_line()
    listener = listen()
    listener.setblocking(False)
    if fork_others(processes - 1):
        say_listening(listener)
    loop(listener, handler, share)


main()
