"""The rig of the tests of examples/kv.py: the store, served, and what speaks to it.

with two_workers() as server:
    peer = server.connect()
    assert ask(peer, b"INCR", b"visits") == b":1"
"""

import csv
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest

from leftovers import eventually
from peer import Peer
from testbed import Server, running

EXAMPLE = (Path(__file__).parents[1] / "examples" / "kv.py").read_text()
CLIENT_S = 20.0
needs_redis = pytest.mark.skipif(
    shutil.which("redis-cli") is None or shutil.which("redis-benchmark") is None,
    reason="needs redis-cli and redis-benchmark (Debian package redis-tools)",
)


PID = """
COMMANDS[b"PID"] = (lambda _store: number(os.getpid()), 0, 0)
"""
"""A command for tests: who serves this connection."""


@contextmanager
def store(workers: int = 2, text: str = EXAMPLE, **env: str) -> Iterator[Server]:
    with running("kv.py:store", "--workers", str(workers), files={"kv.py": text}, env=env) as server:
        yield server


@contextmanager
def two_workers(more: str = "") -> Iterator[Server]:
    """Both are ready, and there is the command PID; `more` is code at the end of the example."""
    with store(2, EXAMPLE + PID + more) as server:
        with one_of_each(server):
            pass
        yield server


@contextmanager
def one_of_each(server: Server) -> Iterator[list[Peer]]:
    """A connection to each of two workers, once both have taken one."""
    with ExitStack() as probes:

        def both_serve() -> bool:
            probe = server.connect()
            probes.callback(probe.close)
            seen[pid_of(probe)] = probe
            return len(seen) == 2

        seen: dict[int, Peer] = {}
        eventually(both_serve)
        yield list(seen.values())


def encoded(*words: bytes) -> bytes:
    return b"*%d\r\n" % len(words) + b"".join([b"$%d\r\n%b\r\n" % (len(word), word) for word in words])


def reply_of(peer: Peer) -> bytes | None:
    """The next reply: a line as it is, a bulk as its bytes, None when there is none.  A list: its first line."""
    line = peer.line()
    if line[:1] != b"$":
        return line.removesuffix(b"\r\n")
    size = int(line[1:])
    return None if size < 0 else peer.receive(size + 2).removesuffix(b"\r\n")


def ask(peer: Peer, *words: bytes) -> bytes | None:
    peer.send(encoded(*words))
    return reply_of(peer)


def pid_of(peer: Peer) -> int:
    return int((ask(peer, b"PID") or b"").removeprefix(b":"))


def kept_in(server: Server, name: str = "kv.sqlite") -> dict[bytes, bytes]:
    """What is in the file, seen by another program."""
    with closing(sqlite3.connect(server.folder / name)) as connection:
        return dict(connection.execute("SELECT key, value FROM pairs"))


def redis_benchmark(server: Server, tests: str, *options: str) -> dict[str, float]:
    """Requests per second, by test."""
    host, port = server.address
    command = ["redis-benchmark", "-h", host, "-p", str(port), "-t", tests, "--csv", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=CLIENT_S, check=True)
    assert "ERR" not in done.stdout + done.stderr
    assert "WARNING" not in done.stdout + done.stderr, "CONFIG was answered"
    return {row["test"]: float(row["rps"]) for row in csv.DictReader(done.stdout.splitlines())}
