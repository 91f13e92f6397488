"""A thread for every connection, inside TLS: `python -m benchmarks.peers.threads_tls HANDLER CERTIFICATE KEY`.

The handshake is the thread's too, so that one client which takes its time does not stop the others.
"""

import contextlib
import socket
import ssl
import threading

from benchmarks.peers import (
    RECEIVE_BYTES,
    Handler,
    handler_from_command_line,
    listen,
    say_listening,
    tls_from_command_line,
)


def converse(connection: socket.socket, tls: ssl.SSLContext, handler: Handler | None) -> None:
    with (
        connection,
        contextlib.suppress(ConnectionError, ssl.SSLError),
        tls.wrap_socket(connection, server_side=True) as secured,
    ):
        while data := secured.recv(RECEIVE_BYTES):
            secured.sendall(handler(data) if handler else data)


def main() -> None:
    handler, tls = handler_from_command_line(), tls_from_command_line()
    listener = listen()
    say_listening(listener)
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=converse, args=(connection, tls, handler), daemon=True).start()


main()
