"""Peers that break off, say nothing, say nonsense, do not read: each costs itself its connection, and nobody else.

After each of these the server is as before (calm.py): the same workers, the same descriptors, at rest; and nothing is
in its log but what is said of such peers, none of it a warning or an error.

A test prints its seed; PACELINE_SEED repeats it.  PACELINE_LONG=1 makes it many times more.
"""

import os
import random
import re
import resource
import select
import shutil
import socket
import statistics
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress

import pytest

from calm import Calm
from leftovers import end_processes, eventually, is_alive
from paceline.clock import now
from paceline.ctl.finding import find, open_board
from peer import Peer
from testbed import KEPT_ROOT, Server, running

IS_LONG = os.environ.get("PACELINE_LONG", "") not in ("", "0")
MANY = 20 if IS_LONG else 1

APP = {
    "app.py": '''
    import os
    import time
    import paceline

    def shout(message):
        return bytes(message).upper()

    def pieces(line):
        """A reply in many pieces."""
        for number in range(200):
            yield b"piece %d of " % number + line

    def last(line):
        return paceline.Close(line)

    def wait(line):
        """At a gate, until it is opened."""
        print("waits at the gate")
        with open("gate") as gate:
            gate.read()
        return line

    def fork():
        """A process that has all that we have, and that is nobody's child."""
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            if not os.fork():
                os.write(writer, b"%d" % os.getpid())
                time.sleep(600)
            os._exit(0)
        os.waitpid(child, 0)
        pid = os.read(reader, 20)
        os.close(reader)
        os.close(writer)
        return pid

    def fork_on(line):
        return paceline.Close(fork()) if line == b"close" else fork()

    @paceline.connection
    def fork_for(connection):
        if connection.recv(4096):
            connection.sendall(fork() + b"\\n")
    '''
}
WORKERS = ("--workers", "2")
LINES = ("--framing", "line", *WORKERS)

FRAMINGS: dict[str, Callable[[bytes], bytes]] = {
    "raw": lambda text: text,
    "line": lambda text: text + b"\n",
    "length:4": lambda text: len(text).to_bytes(4, "big") + text,
    "delimiter:|": lambda text: text + b"|",
    "fixed:8": lambda text: text,
    "netstring": lambda text: b"%d:%s," % (len(text), text),
}


@pytest.fixture
def chance() -> random.Random:
    seed = int(os.environ.get("PACELINE_SEED", random.randrange(2**32)))
    print(f"PACELINE_SEED={seed}")
    return random.Random(seed)


def said_besides(server: Server) -> list[str]:
    """What the log holds that is no ordinary event: neither of a server's life nor of a peer that broke off."""
    ordinary = re.compile(r" info (supervisor: |worker \d: .+ is disconnected)|^waits at the gate$")
    return [line for line in server.log.splitlines() if not ordinary.search(line) and KEPT_ROOT not in line]


@contextmanager
def calm_after(target: str, *options: str) -> Iterator[Server]:
    """A server that must be calm at the end of the `with`, serve, and have nothing to say but of peers."""
    with running(target, *options, files=APP) as server:
        calm = Calm(server)
        yield server
        calm.wait()
        for _ in calm.workers:
            with server.connect() as last:
                last.half_close()
                assert last.receive() == b""
    assert said_besides(server) == []


def round_of(peer: Peer, text: bytes = b"hello") -> float:
    """Send a line, receive the same in capital letters; how long that took, in seconds."""
    begun = now()
    peer.send(text + b"\n")
    assert peer.line() == text.upper() + b"\n"
    return now() - begun


# Ends


def test_half_closed_peers_get_all_replies() -> None:
    with calm_after("app.py:shout", *LINES) as server:
        for _ in range(10 * MANY):
            peers = [server.connect() for _ in range(20)]
            for number, peer in enumerate(peers):
                peer.send(b"hello\n" * number + b"hal"[: number % 4])
                peer.half_close()
            for number, peer in enumerate(peers):
                assert peer.receive_all() == b"HELLO\n" * number


def test_a_half_closed_peer_gets_a_reply_in_pieces() -> None:
    with calm_after("app.py:pieces", *LINES) as server, server.connect() as peer:
        peer.send(b"it\n" * 20)
        peer.half_close()
        assert peer.receive_all().count(b"\n") == 20 * 200


@pytest.mark.parametrize("target", ["app.py:shout", "app.py:pieces", "app.py:last"])
def test_resets_at_every_stage(target: str, chance: random.Random) -> None:
    """After each number of bytes sent, and with none, some or all of the replies received."""
    text = b"hello world\n" * 3
    with calm_after(target, *LINES) as server:
        for _ in range(4 * MANY):
            for cut in range(len(text) + 1):
                with Peer(server.places[0]) as peer:
                    peer.send(text[:cut])
                    if cut > 12 and chance.random() < 0.5:
                        peer.receive()
                    if chance.random() < 0.2:
                        with suppress(OSError):  # the server may have ended it already
                            peer.half_close()
                    peer.reset()


def test_resets_while_the_handler_runs() -> None:
    with calm_after("app.py:wait", *LINES) as server, gate_of(server):
        peers = [server.connect() for _ in range(20)]
        for peer in peers:
            peer.send(b"it\n" * 3)
        eventually(lambda: server.log.count("waits at the gate") >= len(peers))
        for peer in peers:
            peer.reset()


@contextmanager
def gate_of(server: Server) -> Iterator[None]:
    """Where `wait` waits, until the end of the `with`, when it is opened for all and for good."""
    gate = server.folder / "gate"
    os.mkfifo(gate)
    fd = os.open(gate, os.O_RDWR | os.O_CLOEXEC)  # whoever opens it to read finds a writer, and waits
    try:
        yield
    finally:
        door = server.folder / "door"
        door.touch()
        door.rename(gate)  # who comes from now on reads an empty file
        os.close(fd)  # who is there reads end-of-file


def test_connect_and_reset() -> None:
    with calm_after("app.py:shout", *LINES) as server:
        address = server.address
        with server.connect() as other:
            for _ in range(1_000 * MANY):
                with socket.create_connection(address) as each:
                    each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            round_of(other)


@pytest.mark.skipif(shutil.which("ss") is None, reason="there is no ss(8) to kill connections with")
def test_connections_that_the_kernel_kills() -> None:
    """As TCP keepalive or an administrator would."""
    with calm_after("app.py:shout", *LINES) as server:
        peers = [server.connect() for _ in range(50)]
        for number, peer in enumerate(peers):
            round_of(peer)
            peer.send(b"hal"[: number % 3])
        filter_ = ("sport", "=", f":{server.address[1]}")
        killed = subprocess.run(("ss", "-K", "-t", "state", "established", *filter_), capture_output=True, check=False)
        if b"Operation not permitted" in killed.stderr or b"not supported" in killed.stderr:
            pytest.skip("this machine does not let us kill sockets (CAP_NET_ADMIN, CONFIG_INET_DIAG_DESTROY)")
        for peer in peers:
            assert peer.ended()
        for peer in peers:
            peer.close()


# Bytes


@pytest.mark.parametrize("framing", FRAMINGS)
def test_single_bytes(framing: str) -> None:
    frame = FRAMINGS[framing]
    with calm_after("app.py:shout", "--framing", framing, *WORKERS) as server, server.connect() as peer:
        peer.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        text = frame(b"a letter") * 10
        peer.send(*(text[at : at + 1] for at in range(len(text))))
        peer.half_close()
        assert peer.receive_all() == frame(b"A LETTER") * 10


@pytest.mark.parametrize("framing", FRAMINGS)
def test_garbage(framing: str, chance: random.Random) -> None:
    """Nobody but its sender notices it, however it ends."""
    options = ("--framing", framing, "--max-message", "4KiB", *WORKERS)
    frame = FRAMINGS[framing]
    with calm_after("app.py:shout", *options) as server, server.connect() as other:
        for number in range(60 * MANY):
            with Peer(server.places[0]) as peer, suppress(ConnectionError):
                for _ in range(chance.randrange(1, 5)):
                    peer.send(chance.randbytes(chance.choice((1, 7, 300, 20_000))))
                if number % 3 == 0:
                    peer.half_close()
                    peer.receive_all()
                elif number % 3 == 1:
                    peer.reset()
            other.send(frame(b"a letter"))
            assert other.receive(len(frame(b"A LETTER"))) == frame(b"A LETTER")


# Silence


def narrow(server: Server) -> socket.socket:
    """A client with room for little.  Set later, its kernel would drop what it has allowed, and both wait for long."""
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    made.connect(server.address)
    made.setblocking(False)
    return made


def test_peers_that_never_read() -> None:
    """Their replies fill all there is; the others are as quick as before; then they are cut off.

    The server says how many it has cut off: with a window of zero, a client may hear of a reset much later.
    """
    options = ("--write-timeout", "1s", "--max-buffer", "64KiB", "--threads", "4")
    with (
        calm_after("app.py:shout", *LINES, *options) as server,
        closing(open_board(find(None, server.pid, os.environ))) as board,
    ):
        sick = [narrow(server) for _ in range(40 * min(MANY, 5))]
        block = b"x" * 999 + b"\n"
        with server.connect() as other:
            calm_s = statistics.median(round_of(other) for _ in range(100))
            begun = now()
            slowest: list[float] = []
            while (cut_off := board.snapshot().total("closed_timeout")) < len(sick):
                slowest.append(round_of(other))
                for peer in sick:
                    with suppress(BlockingIOError, ConnectionError):
                        while peer.send(block * 64):
                            pass
                assert now() - begun < 20, f"{cut_off} of {len(sick)} are cut off"
            print(f"calm {calm_s:.6f}, median {statistics.median(slowest):.6f}, worst {max(slowest):.6f} s")
            assert statistics.median(slowest) < max(0.1, 10 * calm_s)
        for peer in sick:
            peer.close()
        eventually(lambda: server.log.count("is disconnected") >= 1)


def test_lines_that_come_too_slowly() -> None:
    options = ("--message-timeout", "1s")
    with calm_after("app.py:shout", *LINES, *options) as server, server.connect() as other:
        slow = [server.connect() for _ in range(200 * min(MANY, 10))]
        left = dict.fromkeys(slow, now())
        slowest: list[float] = []
        poll = select.poll()
        sockets = {peer.socket.fileno(): peer for peer in slow}
        for fd in sockets:
            poll.register(fd, select.POLLIN)
        ends: list[float] = []
        next_at = now()
        while left:
            if now() >= next_at:
                next_at = now() + 0.2
                for peer in left:
                    with suppress(ConnectionError):
                        peer.send(b"x")
            slowest.append(round_of(other))
            for fd, _ in poll.poll(10):
                poll.unregister(fd)
                assert sockets[fd].ended()
                ends.append(now() - left.pop(sockets[fd]))
            assert not ends or max(ends) < 15
            assert now() < next(iter(left.values()), now()) + 15, f"{len(left)} of {len(slow)} are not cut off"
        assert min(ends) >= 0.9
        print(f"cut after {min(ends):.2f} to {max(ends):.2f} s; worst of the others {max(slowest):.6f} s")
        assert statistics.median(slowest) < 0.1
        for peer in slow:
            peer.close()


def test_silent_connections() -> None:
    """They take no thread, no processor time, and no turn of the others."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    count = min(2_000, hard - 500)
    if count < 500:
        pytest.skip(f"this process may have only {hard} descriptors open")
    with calm_after("app.py:shout", *LINES, "--max-connections", "10000") as server, server.connect() as other:
        calm_s = statistics.median(round_of(other) for _ in range(100))
        silent = [server.connect() for _ in range(count)]
        eventually(lambda: sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in server.pids()) > count)
        median_s = statistics.median(round_of(other) for _ in range(100))
        print(f"calm {calm_s:.6f}, with {count} silent ones {median_s:.6f} s")
        assert median_s < max(0.05, 10 * calm_s)
        for peer in silent:
            peer.close()


# A process that a handler made keeps the socket


@pytest.mark.parametrize("word", ["close", "stay", "slow"])
def test_a_forked_process_does_not_keep_the_connection(word: str) -> None:
    """The peer sees the end that we make: after Close, after its own, and after a deadline."""
    with (
        calm_after("app.py:fork_on", *LINES, "--message-timeout", "500ms") as server,
        server.connect() as peer,
        forked(peer, word.encode()),
    ):
        if word == "stay":
            peer.half_close()
        elif word == "slow":
            peer.send(b"half a li")
        assert peer.ended()


def test_a_forked_process_does_not_keep_the_connection_of_a_whole_call() -> None:
    with calm_after("app.py:fork_for", *WORKERS) as server, server.connect() as peer, forked(peer, b"go"):
        assert peer.ended()


@contextmanager
def forked(peer: Peer, word: bytes) -> Iterator[None]:
    """Let the handler fork, and kill that process at the end; it is our child, as orphans are here (testbed.py)."""
    peer.send(word + b"\n")
    pid = int(peer.line())
    try:
        yield
        assert is_alive(pid)
    finally:
        end_processes([pid])
