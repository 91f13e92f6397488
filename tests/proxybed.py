"""A real haproxy in front of servers."""

import shutil
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from testbed import Server

HAPROXY = shutil.which("haproxy")
ADMIN = "admin"


@contextmanager
def haproxy(folder: Path, servers: Sequence[str]) -> Iterator[tuple[str, int]]:
    """Its front's address; it balances over these servers, and looks every 100 ms whether they accept."""
    assert HAPROXY is not None
    listener = socket.create_server(("127.0.0.1", 0))
    lines = "\n".join(f"    server s{number} {server}" for number, server in enumerate(servers))
    config = folder / "haproxy.cfg"
    config.write_text(
        f"global\n    stats socket {folder / ADMIN} level admin\n"
        "defaults\n    mode tcp\n    timeout connect 2s\n    timeout client 30s\n    timeout server 30s\n"
        "    retries 3\n    option redispatch 1\n    default-server inter 100ms fall 1 rise 1\n"
        f"listen front\n    bind fd@{listener.fileno()}\n    balance roundrobin\n{lines}\n"
    )
    process = subprocess.Popen(
        [HAPROXY, "-db", "-q", "-f", str(config)],
        pass_fds=[listener.fileno()],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield listener.getsockname()[:2]
    finally:
        process.kill()
        process.wait()
        listener.close()


def tell(folder: Path, command: str) -> str:
    """What haproxy answers to its administrator."""
    with socket.socket(socket.AF_UNIX) as admin:
        admin.settimeout(20)
        admin.connect(str(folder / ADMIN))
        admin.sendall(command.encode() + b"\n")
        with admin.makefile() as answer:
            return answer.read()


def sessions(folder: Path, server: str) -> int:
    """How many the proxy has with this server now."""
    (row,) = [row.split(",") for row in tell(folder, "show stat").splitlines() if row.startswith(f"front,{server},")]
    return int(row[4])


def place(server: Server) -> str:
    host, port = server.address
    return f"{host}:{port}"
