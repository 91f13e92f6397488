"""A thread for every connection, made by hand: what socketserver_threads.py does, without socketserver's overhead."""

import contextlib
import socket
import threading

from benchmarks.peers import RECEIVE_BYTES, Handler, handler_from_command_line, listen, say_listening


def converse(connection: socket.socket, handler: Handler | None) -> None:
    with connection, contextlib.suppress(ConnectionError):
        while data := connection.recv(RECEIVE_BYTES):
            connection.sendall(handler(data) if handler else data)


def main() -> None:
    handler = handler_from_command_line()
    listener = listen()
    say_listening(listener)
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=converse, args=(connection, handler), daemon=True).start()


main()
