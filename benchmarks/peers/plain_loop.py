"""One thread, one epoll, the handler called in the loop: what one Python thread can do if nothing else is asked of it.

    python -m benchmarks.peers.plain_loop HANDLER [PROCESSES SHARE]

The yardstick of row 5.  A handler that blocks stops everybody.  With PROCESSES it is several such loops, each of which
takes SHARE connections and no more: what the machine gives to processes that have nothing to do with each other.
"""

import os
import select
import signal
import socket
import sys
from types import FrameType

from benchmarks.peers import RECEIVE_BYTES, Handler, handler_from_command_line, listen, live_briefly, say_listening


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


def fork_others(count: int) -> bool:
    """Fork so many more processes, which end when the first one is told to; whether this is the first one."""
    others: list[int] = []
    for _ in range(count):
        pid = os.fork()
        if pid == 0:
            live_briefly()
            return False
        others.append(pid)

    def end(_number: int, _frame: FrameType | None) -> None:
        for pid in others:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        os._exit(0)

    if others:
        signal.signal(signal.SIGTERM, end)
    return True


def main() -> None:
    processes, share = (int(sys.argv[2]), int(sys.argv[3])) if len(sys.argv) > 3 else (1, None)
    handler = handler_from_command_line()
    listener = listen()
    listener.setblocking(False)
    if fork_others(processes - 1):
        say_listening(listener)
    loop(listener, handler, share)


main()
