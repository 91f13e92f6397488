"""ThreadingTCPServer as its users write it: `python -m benchmarks.peers.socketserver_threads HANDLER [WAY]`.

A request handler's class, made an instance and a thread for every connection.  The way is `raw` or `lines`; lines come
from the file that StreamRequestHandler makes of the connection.  Only the queue of the listener is longer than usual:
five would lose connections of the load.
"""

import contextlib
import socket
import socketserver

from benchmarks.peers import (
    BACKLOG,
    RECEIVE_BYTES,
    handler_from_command_line,
    live_briefly,
    say_listening,
    way_from_command_line,
)

HANDLER = handler_from_command_line()


class Answer(socketserver.BaseRequestHandler):
    """What was received at once is a message."""

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):
            while data := self.request.recv(RECEIVE_BYTES):
                self.request.sendall(HANDLER(data) if HANDLER else data)


class AnswerLines(socketserver.StreamRequestHandler):
    """Each line is a message."""

    def handle(self) -> None:
        assert HANDLER is not None
        with contextlib.suppress(ConnectionError):
            for line in self.rfile:
                self.wfile.write(HANDLER(line[:-1]) + b"\n")


class Server(socketserver.ThreadingTCPServer):
    """Threads that do not hold up the end of the process."""

    daemon_threads = True
    request_queue_size = BACKLOG


WAYS: dict[str, type[socketserver.BaseRequestHandler]] = {"raw": Answer, "lines": AnswerLines}


def main() -> None:
    live_briefly()
    with Server(("127.0.0.1", 0), WAYS[way_from_command_line(*WAYS)]) as server:
        server.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # connections inherit it
        say_listening(server.socket)
        server.serve_forever()


main()
