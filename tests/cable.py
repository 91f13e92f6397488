"""A cable is pulled: a program that is run in a network of its own (unshare -n), where loopback is the cable.

A server with a quick --keepalive has two peers, a quiet one and one to whom a reply is on its way.  Loopback goes down:
nobody says anything any more.  Both connections are gone soon; loopback comes up again, and the server serves.  It ends
with 0, or with a traceback.
"""

import socket
import subprocess

from calm import Calm, descriptors_of
from leftovers import eventually
from paceline.clock import now
from peer import Peer
from testbed import running

APP = {"app.py": "def f(line):\n    return bytes(line) * 100_000 if line == b'much' else line\n"}
OPTIONS = ("--framing", "line", "--workers", "1", "--keepalive", "1s", "--write-timeout", "10m")


def loopback(how: str) -> None:
    subprocess.run(("ip", "link", "set", "lo", how), check=True)


def unsent_to(peer: Peer) -> int:
    """How much the kernel has for it and cannot send (ss(8))."""
    shown = subprocess.run(
        ("ss", "-tnH", "dst", "127.0.0.1", "dport", "=", f":{peer.socket.getsockname()[1]}"),
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return int(shown.stdout.split()[2]) if shown.stdout else 0


def main() -> None:
    loopback("up")
    with running("app.py:f", *OPTIONS, files=APP) as server:
        calm = Calm(server)
        (worker,) = server.pids()
        before = descriptors_of(worker)
        quiet, slow = server.connect(), server.connect()
        slow.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        for peer in (quiet, slow):
            peer.send(b"hello\n")
            assert peer.line() == b"hello\n"
        slow.send(b"much\n")
        eventually(lambda: unsent_to(slow) > 0)
        loopback("down")
        begun = now()
        eventually(lambda: descriptors_of(worker) <= before, 30)
        print(f"both gone after {now() - begun:.1f} s")
        loopback("up")
        for peer in (quiet, slow):
            peer.close()
        with server.connect() as later:
            later.send(b"hello\n")
            assert later.line() == b"hello\n"
        calm.wait()


if __name__ == "__main__":
    main()
