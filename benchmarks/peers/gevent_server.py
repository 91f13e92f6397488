"""gevent's StreamServer, a greenlet for every connection: `python -m benchmarks.peers.gevent_server HANDLER [WAY]`.

As its users start it, with everything patched: a handler's `time.sleep` lets the other greenlets run.  What blocks in
C, as many database drivers do, would stop them all; no row shows that.  The way is `raw` or `lines`.
"""

from gevent import monkey  # type: ignore[import-untyped]

monkey.patch_all()  # before anything else is imported that could keep an unpatched name

import contextlib  # noqa: E402
import socket  # noqa: E402

from gevent.server import StreamServer  # type: ignore[import-untyped]  # noqa: E402

from benchmarks.peers import (  # noqa: E402
    RECEIVE_BYTES,
    handler_from_command_line,
    listen,
    say_listening,
    way_from_command_line,
)

HANDLER = handler_from_command_line()


def answer(connection: socket.socket, _address: object) -> None:
    with contextlib.suppress(ConnectionError):
        while data := connection.recv(RECEIVE_BYTES):
            connection.sendall(HANDLER(data) if HANDLER else data)


def answer_lines(connection: socket.socket, _address: object) -> None:
    assert HANDLER is not None
    with contextlib.suppress(ConnectionError), connection.makefile("rb") as lines:
        for line in lines:
            connection.sendall(HANDLER(line[:-1]) + b"\n")


WAYS = {"raw": answer, "lines": answer_lines}


def main() -> None:
    way = way_from_command_line(*WAYS)
    listener = listen()
    say_listening(listener)
    StreamServer(listener, WAYS[way]).serve_forever()


main()
