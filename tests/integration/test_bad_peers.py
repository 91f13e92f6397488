"""A peer that breaks the rules or goes away, and a handler that is wrong: said in one paragraph, and the others go on.

Each costs its own connection and no other: while it happens others are connected, and they are served before and after
it by the same process.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from paragraphs import paragraphs_of
from peer import Peer
from testbed import Server, running


def echoed(peer: Peer, line: bytes) -> bool:
    peer.send(line + b"\n")
    return peer.line() == line + b"\n"


@contextmanager
def one_wrong_among_others(*options: str, files: dict[str, str] | None = None) -> Iterator[tuple[Server, Peer]]:
    """A server and the client that is going to be wrong; others are connected all the time and must not notice."""
    with running(*options, "--workers", "1", files=files) as server:
        others = [server.connect() for _ in range(3)]
        wrong = server.connect()
        pids = server.pids()
        assert all(echoed(peer, b"before") for peer in others)
        yield server, wrong
        assert all(echoed(peer, b"after") for peer in others)
        assert echoed(server.connect(), b"a new one")
        assert server.pids() == pids


def said_of(server: Server, name: str) -> str:
    """The paragraph of the log that names this peer."""
    server.wait_for_log(name)
    (paragraph,) = [paragraph for paragraph in paragraphs_of(server.log) if name in paragraph]
    return paragraph


@pytest.mark.parametrize(
    ("framing", "good", "bad", "said"),
    [
        ("line", b"good\n", b"x" * 66, "the peer sent a line over the limit of 64 bytes (--max-message"),
        ("delimiter:\\n", b"good\n", b"x" * 66, "the peer sent a message over the limit of 64 bytes (--max-message"),
        (
            "length:2",
            b"\0\4good",
            b"\0\x41",
            "the peer announced a message of 65 bytes (its prefix is b'\\x00A'), over",
        ),
        (
            "netstring",
            b"4:good,",
            b"65:",
            "the peer announced a netstring whose length begins b'65', over the limit of",
        ),
    ],
)
def test_a_framing_that_is_exceeded_or_broken(framing: str, good: bytes, bad: bytes, said: str) -> None:
    with running("echo", "--framing", framing, "--max-message", "64", "--workers", "1") as server:
        other, wrong = server.connect(), server.connect()
        other.send(good)
        assert other.receive(len(good)) == good
        wrong.send(good + good + bad)
        assert wrong.receive_all() == good + good, "the messages before are answered"
        (line,) = said_of(server, wrong.name).splitlines()
        assert f"{wrong.name} is disconnected after message 2: the peer " in line
        assert said in line
        other.send(good)
        assert other.receive(len(good)) == good


def test_raw_bytes_over_the_limit_are_cut() -> None:
    app = {"app.py": "def f(m): return m + b'|'\n"}
    with running("app:f", "--max-message", "64", "--workers", "1", files=app) as server:
        peer = server.connect()
        peer.send(b"x" * 64 + b"y")
        assert peer.receive(67) == b"x" * 64 + b"|y|"


@pytest.mark.parametrize(("framing", "part"), [("line", b"hel"), ("fixed:8", b"hel"), ("length:4", b"\0\0\0\5hel")])
def test_a_peer_that_ends_inside_a_message(framing: str, part: bytes) -> None:
    app = "def f(m):\n    print('called with', m)\n    return m\n"
    with running("app:f", "--framing", framing, "--workers", "1", files={"app.py": app}) as server:
        peer = server.connect()
        peer.send(part)
        peer.half_close()
        assert peer.receive_all() == b""
        (line,) = said_of(server, peer.name).splitlines()
        assert f"the peer ended the connection inside a message, after {len(part)} bytes of it; that part was" in line
        assert "called with" not in server.log


LINES = ("app:f", "--framing", "line")
ECHO = {"app.py": "def f(line): return line * 1000 if line == b'long' else line\n"}


def test_a_peer_that_half_closes_gets_all_its_replies() -> None:
    with one_wrong_among_others(*LINES, files=ECHO) as (server, peer):
        lines = b"".join(b"line %d\n" % n for n in range(5000))
        peer.send(lines)
        peer.half_close()
        assert peer.receive_all() == lines
    assert peer_is_unnamed(server)


def test_peers_that_reset() -> None:
    with one_wrong_among_others(*LINES, files=ECHO) as (server, peer):
        for sent in (b"", b"part", b"line\n", b"long\n" * 5000):
            with server.connect() as leaving:
                leaving.send(sent)
                leaving.reset()
        assert echoed(peer, b"and is served")
    assert peer_is_unnamed(server)


def peer_is_unnamed(server: Server) -> bool:
    """Nothing was said but what every server says."""
    said = [line for line in server.log.splitlines() if " supervisor: " not in line]
    return said == []


# Handlers that are wrong

WRONG = """
    def pieces():
        yield b"first"
        yield "second"

    def breaks():
        yield b"first"
        raise LookupError("in the middle")

    def coroutine():
        async def later(): pass
        return later()

    def f(line):
        match line:
            case b"raise": raise ValueError("a colon: and more")
            case b"exit": raise SystemExit(7)
            case b"interrupt": raise KeyboardInterrupt
            case b"text": return "a text"
            case b"number": return 5
            case b"dict": return {}
            case b"coroutine": return coroutine()
            case b"pieces": return pieces()
            case b"breaks": return breaks()
            case b"large": return b"x" * 2_000_000
        return line
"""
NO_REPLY = {
    b"raise": "the handler raised ValueError: a colon: and more for message 2 of PEER; that connection is closed, no",
    b"exit": "the handler raised SystemExit: 7 for message 2 of PEER; that connection is closed, no other is touched",
    b"interrupt": "the handler raised KeyboardInterrupt for message 2 of PEER; that connection is closed, no other is",
    b"breaks": "the handler raised LookupError: in the middle for message 2 of PEER; that connection is closed, no",
    b"text": "the handler returned a str ('a text'; return text.encode()) for message 2 of PEER; a reply is",
    b"number": "the handler returned an int (5) for message 2 of PEER; a reply is bytes, None, an iterable of bytes",
    b"dict": "the handler returned a dict ({}) for message 2 of PEER; a reply is bytes, None, an iterable of bytes",
    b"coroutine": "the handler returned a coroutine (something in it is written with `async def`; Paceline calls plain",
    b"pieces": "the handler returned an iterable with a str ('second'; return text.encode()) in it for message",
    b"large": "the handler returned 2,000,000 bytes for message 2 of PEER, more than the 1,048,576 of --max-buffer",
}


def test_a_handler_that_raises_or_returns_what_is_no_reply() -> None:
    with one_wrong_among_others(*LINES, files={"app.py": WRONG}) as (server, _):
        for line, said in NO_REPLY.items():
            peer = server.connect()
            name = peer.name
            peer.send(b"one\n" + line + b"\nthree\n")
            before = b"first\n" if line in (b"breaks", b"pieces") else b""
            assert peer.receive_all() == b"one\n" + before, "what came before is answered, what came after is not"
            first, *traceback = said_of(server, name).splitlines()
            assert f" error worker 0: {said.replace('PEER', name)}" in first
            assert bool(traceback) == ("raised" in said)
            assert not any("/paceline/" in shown for shown in traceback), "none of our frames"


def test_a_whole_connection_handler_that_raises() -> None:
    app = """
        def f(conn):
            for line in conn.makefile("rb"):
                if line == b"raise\\n":
                    raise ValueError("no")
                conn.sendall(line)
    """
    with one_wrong_among_others("app:f", "--as", "connection", files={"app.py": app}) as (server, peer):
        name = peer.name
        peer.send(b"one\nraise\n")
        assert peer.receive_all() == b"one\n"
        first, *traceback = said_of(server, name).splitlines()
        assert re.search(f"the handler raised ValueError: no .*{name}; that connection is closed, no other is", first)
        assert traceback[-1].strip() == "ValueError: no"


def test_hooks_of_a_connection_that_raise() -> None:
    app = """
        class F:
            def connected(self, connection):
                if late:
                    raise ValueError("no greeting")

            def disconnected(self, connection):
                raise ValueError("no farewell")

            def __call__(self, line):
                global late
                late = line == b"before"
                return line

        late = False
    """
    with running("app:F", "--framing", "line", "-w", "1", files={"app.py": app}) as server:
        other = server.connect()
        assert echoed(other, b"before")
        unwelcome = server.connect()
        assert unwelcome.ended()
        assert "connected raised ValueError: no greeting" in said_of(server, unwelcome.name)
        unwelcome.close()
        server.wait_for_log(" error worker 0: disconnected raised ValueError: no farewell for ")
        assert echoed(other, b"after")
        assert echoed(server.connect(), b"a new one")
