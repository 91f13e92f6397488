"""The servers Paceline is compared with, each as a program: `python -m benchmarks.peers.NAME HANDLER`.

Each serves a handler of benchmarks/handlers.py on a free port of 127.0.0.1, says `listening on 127.0.0.1:PORT` on
standard error when it can be connected to, and serves until a signal ends it (SIGALRM after `LIFE_S` at the latest).
Each is written the way its fastest users would: `echo` calls no function, and nothing is logged, limited or timed.
"""

import signal
import socket
import sys
from collections.abc import Callable

from benchmarks import handlers

LIFE_S = 900
BACKLOG = 2048
RECEIVE_BYTES = 64 * 1024

Handler = Callable[[bytes], bytes]


def handler_from_command_line() -> Handler | None:
    """The handler that was asked for; None for `echo`, which needs none."""
    name = sys.argv[1] if len(sys.argv) > 1 else "echo"
    return None if name == "echo" else getattr(handlers, name)


def listen() -> socket.socket:
    """A blocking listener on a free port; the sockets it accepts send at once (TCP_NODELAY is inherited)."""
    live_briefly()
    listener = socket.socket()
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listener.bind(("127.0.0.1", 0))
    listener.listen(BACKLOG)
    return listener


def live_briefly() -> None:
    """No peer outlives its benchmark for long: SIGALRM, unhandled, ends the process.  A fork does not inherit it."""
    signal.alarm(LIFE_S)


def say_listening(listener: socket.socket) -> None:
    print(f"listening on 127.0.0.1:{listener.getsockname()[1]}", file=sys.stderr, flush=True)
