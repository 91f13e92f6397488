"""The servers Paceline is compared with, each as a program: `python -m benchmarks.peers.NAME HANDLER`.

Each serves a handler of benchmarks/handlers.py on a free port of 127.0.0.1, says `listening on 127.0.0.1:PORT` on
standard error when it can be connected to, and serves until a signal ends it (SIGALRM after `LIFE_S` at the latest).
Each is written the way its fastest users would: `echo` calls no function, and nothing is logged, limited or timed.
Those with a second argument, the way, are told `raw` (what was received at once is a message) or `lines`.
Those that speak TLS are told a certificate and its key, two files.
"""

import os
import signal
import socket
import sys
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING

from benchmarks import handlers

if TYPE_CHECKING:
    import ssl

LIFE_S = 900
BACKLOG = 2048
RECEIVE_BYTES = 64 * 1024
THREADS = 64
"""Of those with a pool: as many as Paceline's workers may have when nothing is configured."""

Handler = Callable[[bytes], bytes]


def handler_from_command_line() -> Handler | None:
    """The handler that was asked for; None for `echo`, which needs none."""
    name = sys.argv[1] if len(sys.argv) > 1 else "echo"
    return None if name == "echo" else getattr(handlers, name)


def way_from_command_line(*known: str) -> str:
    """The second argument, which is one of `known`; the first of these when there is none."""
    way = sys.argv[2] if len(sys.argv) > 2 else known[0]
    if way not in known:
        sys.exit(f"{way}: the way is one of {', '.join(known)}")
    return way


def tls_from_command_line() -> "ssl.SSLContext":
    """TLS as Paceline has it; the certificate and its key are the last words of the command line."""
    import ssl  # not at the top, because row 8 times how fast the others start

    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.minimum_version = ssl.TLSVersion.TLSv1_2
    tls.set_ciphers("ECDHE+AESGCM:ECDHE+CHACHA20")
    tls.load_cert_chain(*sys.argv[-2:])
    return tls


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
