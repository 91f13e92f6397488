"""Peers that break TLS off, or in pieces, or never begin it: each costs itself its connection, and nobody else.

After each of these the server is as before (calm.py), and has nothing to say above INFO.  A test prints its seed;
PACELINE_SEED repeats it.  PACELINE_LONG=1 makes it many times more.
"""

import os
import random
import re
import resource
import select
import signal
import socket
import ssl
import statistics
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress

import pytest

from calm import Calm
from leftovers import eventually
from paceline.clock import now
from paceline.ctl.finding import find, open_board
from paceline.scoreboard.board import Board
from peer import Peer
from proxybed import place
from recordbed import ALERT, CLOSE_NOTIFY, UPDATE_NOT_REQUESTED, UPDATE_REQUESTED, RecordPeer
from securepeer import TLS, SecurePeer, client_context, pem
from testbed import Server, running

IS_LONG = os.environ.get("PACELINE_LONG", "") not in ("", "0")
pytestmark = pytest.mark.timeout(1200 if IS_LONG else 60)

APP = {
    "app.py": """
    import os
    import paceline

    def shout(message):
        return bytes(message).upper()

    def hold(conn):
        while data := conn.recv(65536):
            conn.sendall(data.upper())

    def count(message):
        "Each message is noted."
        with open("got", "ab") as got:
            got.write(b"%s\\n" % bytes(message))
        return message

    def take(line):
        pass

    def wait(line):
        if line == b"wait":
            print("waits at the gate")
            with open("gate") as gate:
                gate.read()
        return line.upper()

    def large(message):
        return b"x" * 500_000

    def for_ever(message):
        while True:
            yield bytes(10_000)

    def file(message):
        return paceline.File("large.bin")

    def fill(conn):
        conn.recv(1)
        try:
            while True:
                conn.sendall(bytes(100_000))
        finally:
            print("it is over")
    """
}
LINES = ("--framing", "line", "--workers", "1")
VERSIONS = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)
SAID_BESIDES = re.compile(
    r" run as root | can be read by every user | the only thread is inside a call| overloaded: "
    r"|^it is over|^waits at the gate"
)


@pytest.fixture
def chance() -> random.Random:
    seed = int(os.environ.get("PACELINE_SEED", random.randrange(2**32)))
    print(f"PACELINE_SEED={seed}")
    return random.Random(seed)


@contextmanager
def tortured(target: str, *options: str, plain: bool = False, last: bool = True) -> Iterator[tuple[Server, Board]]:
    """A server that must be calm at the end of the `with`, serve (`last`: once more), and not be loud."""
    tls = () if plain else TLS
    with running(f"app.py:{target}", *options, *tls, files={**APP, **pem()}) as server:
        calm = Calm(server)
        with closing(open_board(find(None, server.pid, os.environ))) as board:
            yield server, board
            calm.wait()
            for _ in calm.workers * last:
                with server.connect() if plain else SecurePeer(server) as peer:
                    peer.half_close()
                    assert peer.receive() == b""
    loud = [line for line in server.log.splitlines() if " info " not in line and not SAID_BESIDES.search(line)]
    assert loud == []


def total(board: Board, name: str) -> int:
    return board.snapshot().total(name)


def answers(peer: Peer, text: bytes = b"hello") -> float:
    """A line there and back, in seconds."""
    begun = now()
    peer.send(text + b"\n")
    assert peer.line() == text.upper() + b"\n"
    return now() - begun


def end(peer: Peer, how: str) -> None:
    plain = peer.socket.plain if isinstance(peer, SecurePeer) else peer.socket
    if how == "RST":
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    plain.close()


# Who speaks something else


@pytest.mark.parametrize(
    ("begins", "shown"),
    [
        (b"hello\n", r"b'hello\n'"),
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", r"b'GET / HTTP/1.1\r\n'"),
        (b"\x16\x01", r"b'\x16\x01'"),
    ],
    ids=["plain text", "HTTP", "nearly"],
)
@pytest.mark.parametrize("target", ["shout", "hold"])
def test_plain_text_where_tls_is_spoken(target: str, begins: bytes, shown: str) -> None:
    handler = LINES if target == "shout" else ("--as", "connection", "--workers", "1")
    with tortured(target, *handler) as (server, board):
        for _ in range(1000):
            with server.connect() as peer:
                peer.send(begins)
                assert peer.ended()
        server.wait_for_log(
            f"is disconnected: it sent no TLS, but {shown}, and {place(server)} speaks TLS (--tls-cert)"
        )
        eventually(lambda: total(board, "handshakes_failed") >= 1000)
        assert total(board, "handshakes_failed") == 1000
        assert total(board, "threads_max") <= 2
        assert server.log.count("it sent no TLS") < 500, "not each of them is said"


@pytest.mark.parametrize("target", ["shout", "hold"])
def test_tls_where_plain_text_is_spoken(target: str) -> None:
    handler = ("--workers", "1") if target == "shout" else ("--as", "connection", "--workers", "1")
    with tortured(target, *handler, plain=True) as (server, _):
        for _ in range(1000):
            with pytest.raises((ssl.SSLError, ConnectionError)):
                SecurePeer(server)
        server.wait_for_log(f"begins as TLS does, and {place(server)} speaks plain text")
        assert server.log.count("begins as TLS does") < 500, "not each of them is said"


# Handshakes


def first_flight(server: Server, version: ssl.TLSVersion) -> tuple[SecurePeer, bytes]:
    peer = SecurePeer(server, context=client_context(version=version), shakes=False)
    hello = peer.socket.step()
    assert hello is not None
    return peer, hello


def second_flight(peer: SecurePeer) -> bytes:
    """What the client has to say to the server's first answer."""
    while True:
        said = peer.socket.step(peer.socket.plain.recv(65536))
        if said is None:  # 1.3: done, and its Finished goes with what is said next
            return peer.socket.seal(b"half a line")
        if said:
            return said


@pytest.mark.parametrize("how", ["FIN", "RST"])
@pytest.mark.parametrize("version", VERSIONS, ids=["1.2", "1.3"])
def test_handshakes_cut_at_every_byte(version: ssl.TLSVersion, how: str) -> None:
    step = 1 if IS_LONG else 5
    with tortured("shout", *LINES) as (server, board):
        peer, hello = first_flight(server, version)
        peer.close()
        begun = 1
        for at in range(0, len(hello), step):
            peer, hello = first_flight(server, version)
            peer.socket.plain.sendall(hello[:at])
            end(peer, how)
            begun += 1
        length, at = step, 0
        while at < length:
            peer, hello = first_flight(server, version)
            peer.socket.plain.sendall(hello)
            flight = second_flight(peer)
            length = len(flight)
            peer.socket.plain.sendall(flight[:at])
            end(peer, how)
            at += step
            begun += 1
        eventually(lambda: total(board, "handshakes") + total(board, "handshakes_failed") == begun)
        assert total(board, "accepted") == begun
        assert total(board, "messages") == 0
        assert total(board, "threads_max") <= 2


def test_silence_ends_at_the_deadline_and_holds_no_thread() -> None:
    """Each has said another part of its handshake, or nothing."""
    count, limit_s = (1000 if IS_LONG else 200), 2.0
    with (
        tortured("shout", *LINES, "--handshake-timeout", f"{limit_s:g}s", "--threads", "4") as (server, board),
        ExitStack() as all_,
    ):
        took: list[float] = []
        poll = select.poll()
        silent: dict[int, tuple[SecurePeer, float]] = {}
        for number in range(count):
            peer, hello = first_flight(server, VERSIONS[number % 2])
            all_.enter_context(peer)
            said = hello[: number * len(hello) // count] if number % 4 else hello
            peer.socket.plain.sendall(said)
            silent[peer.socket.plain.fileno()] = peer, now()
            poll.register(peer.socket.plain.fileno(), select.POLLRDHUP)
        with SecurePeer(server) as other:
            slowest = 0.0
            while silent:
                slowest = max(slowest, answers(other))
                for fd, _ in poll.poll(10):
                    _, since = silent.pop(fd)
                    took.append(now() - since)
                    poll.unregister(fd)
                assert not took or max(took) < limit_s + 10
        print(f"ended after {min(took):.2f} to {max(took):.2f} s; the slowest answer meanwhile took {slowest:.3f} s")
        assert min(took) > limit_s - 1
        assert statistics.median(took) < limit_s + 1
        assert total(board, "threads_max") <= 2
        assert total(board, "handshakes_failed") == count
        server.wait_for_log("it did not finish its TLS handshake within 2 s (--handshake-timeout)")
    assert slowest < 2


def test_a_drip_is_ended_at_the_deadline() -> None:
    """A byte now and then prolongs nothing."""
    with tortured("shout", *LINES, "--handshake-timeout", "2s") as (server, _):
        peer, hello = first_flight(server, ssl.TLSVersion.TLSv1_3)
        with peer:
            begun = now()
            pause = select.poll()
            pause.register(peer.socket.plain.fileno(), select.POLLRDHUP)
            for at in range(len(hello)):
                peer.socket.plain.sendall(hello[at : at + 1])
                if pause.poll(100):
                    break
            took = now() - begun
        assert 1 < took < 10, took
        print(f"ended after {took:.2f} s")


def test_time_in_which_nobody_could_answer_is_not_the_peers() -> None:
    """The only thread is in a call for longer than a handshake may take."""
    options = ("--framing", "line", "--workers", "1", "--threads", "1", "--handshake-timeout", "1s")
    with tortured("wait", *options) as (server, _), ExitStack() as peers:
        os.mkfifo(server.folder / "gate")
        peer, caller, late = (peers.enter_context(SecurePeer(server, shakes=number == 1)) for number in range(3))
        answers(caller)
        caller.send(b"wait\n")
        server.wait_for_log("waits at the gate")
        silent = server.connect()
        begun = now()
        hello = peer.socket.step()
        assert hello is not None
        peer.socket.plain.sendall(hello)
        eventually(lambda: now() > begun + 3)
        with open(server.folder / "gate", "wb"):
            pass
        peer.socket.shake()
        assert caller.line() == b"WAIT\n"
        answers(peer)
        assert late.ended(), "who has said nothing then has no more time than others"
        assert silent.ended()


# Records


FRAMINGS: dict[str, Callable[[bytes], bytes]] = {
    "raw": lambda text: text,
    "line": lambda text: text + b"\n",
    "length:4": lambda text: len(text).to_bytes(4, "big") + text,
    "netstring": lambda text: b"%d:%s," % (len(text), text),
}


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("version", VERSIONS, ids=["1.2", "1.3"])
def test_records_cut_anywhere(version: ssl.TLSVersion, framing: str, chance: random.Random) -> None:
    """What was cut is no message, but for raw, where each record is one, whole or not at all."""
    frame = FRAMINGS[framing]
    rounds = 2000 if IS_LONG else 80
    context = client_context(version=version)
    with tortured("count", "--framing", framing, "--workers", "1") as (server, board):
        expected: list[bytes] = []
        possible: set[bytes] = set()
        for number in range(rounds):
            texts = [b"%06d.%d" % (number, part) for part in range(5)]
            with SecurePeer(server, context=context) as peer:
                sealed = b""
                ends = []
                for text in texts:
                    if framing == "raw" or chance.random() < 0.5:
                        sealed += peer.socket.seal(frame(text))
                    else:  # a message in two records
                        framed = frame(text)
                        at = chance.randrange(1, len(framed))
                        sealed += peer.socket.seal(framed[:at]) + peer.socket.seal(framed[at:])
                    ends.append(len(sealed))
                at = chance.randrange(len(sealed) + 1)
                how = chance.choice(("RST", "close", "FIN", "close_notify"))
                whole = [text for text, ending in zip(texts, ends, strict=True) if ending <= at]
                peer.socket.plain.sendall(sealed[:at])
                if how in ("RST", "close"):  # to close what has not been read is a reset, too
                    end(peer, how)
                    possible.update(whole)
                    continue
                expected += whole
                if how == "close_notify" and at == len(sealed):
                    peer.half_close()
                else:
                    peer.socket.plain.shutdown(socket.SHUT_WR)
                replies = b"".join(map(frame, whole))
                assert peer.receive_all() == replies
        eventually(lambda: total(board, "connections") == 0)

        def noted() -> list[bytes]:
            path = server.folder / "got"
            return path.read_bytes().split() if path.exists() else []

        got = noted()
        if framing == "raw":  # several records that come together are one message
            joined = re.findall(rb"\d{6}\.\d", b"".join(got))
            assert set(expected) <= set(joined) <= set(expected) | possible
        else:
            assert [text for text in got if text not in possible] == expected
            assert len(got) == len(set(got)) == total(board, "messages")
        assert total(board, "closed") == rounds == total(board, "handshakes")


def test_segments_of_one_byte() -> None:
    with tortured("shout", *LINES) as (server, _):
        for version in VERSIONS:
            peer, hello = first_flight(server, version)
            with peer:
                plain = peer.socket.plain
                plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

                def drip(content: bytes, plain: socket.socket = plain) -> None:
                    for at in range(len(content)):
                        plain.sendall(content[at : at + 1])

                drip(hello)
                flight = second_flight(peer)
                drip(flight)
                if version is VERSIONS[0]:  # in 1.3 the client is done before
                    while (more := peer.socket.step(plain.recv(65536))) is not None:
                        assert more == b""
                drip(peer.socket.seal(b"half a line" * (version is VERSIONS[0]) + b" and the rest\n"))
                assert peer.line() == b"HALF A LINE AND THE REST\n"
                for number in range(20):
                    drip(peer.socket.seal(b"line %d\n" % number))
                    assert peer.line() == b"LINE %d\n" % number


@pytest.mark.parametrize("asks", [UPDATE_NOT_REQUESTED, UPDATE_REQUESTED], ids=["not asking for ours", "asking"])
def test_a_flood_of_key_updates(asks: bytes) -> None:
    """Some are nothing; who says nothing else is disconnected, takes no thread away, and keeps nobody waiting."""
    with tortured("shout", *LINES, "--write-timeout", "2s", "--threads", "4") as (server, board):
        with SecurePeer(server) as other, RecordPeer(server) as peer:
            for _ in range(50):
                peer.send(b"".join(peer.key_update(asks) for _ in range(20)) + peer.record(b"hello\n"))
                assert peer.receive(100) == b"HELLO\n"
            slowest_s = answers(other)
            flood = b"".join(peer.key_update(asks) for _ in range(200_000 if IS_LONG else 20_000))
            with suppress(ConnectionError):
                peer.send(flood)
            slowest_s = max(slowest_s, answers(other))
            server.wait_for_log("bytes have come that said nothing")
        assert slowest_s < 3
        assert total(board, "threads_max") <= 2, "a flood takes no thread away"


def test_records_without_content() -> None:
    with tortured("shout", *LINES) as (server, _):
        with RecordPeer(server) as peer:
            for _ in range(50):
                peer.send(peer.record(b"") * 1 + peer.record(b"hel", padding=1000) + peer.record(b"lo\n"))
                assert peer.receive(100) == b"HELLO\n"
            peer.send(b"".join(peer.record(b"") for _ in range(100)))
            with pytest.raises(ssl.SSLError, match="alert"):
                peer.receive(100)
        with RecordPeer(server) as peer:
            peer.send(peer.record(b"last\n") + peer.record(CLOSE_NOTIFY, ALERT) + peer.record(b"behind the end\n"))
            assert peer.receive(100) == b"LAST\n"
            assert peer.receive(100) == b""
        with RecordPeer(server) as peer:  # a fatal alert: internal_error
            peer.send(peer.record(b"last\n") + peer.record(b"\2\x50", ALERT))
            with suppress(ConnectionError):
                assert peer.receive(100) in (b"LAST\n", b"")
        server.wait_for_log("is disconnected after message 1: TLS: tlsv1 alert internal error")


@pytest.mark.parametrize("target", ["for_ever", "file"])
def test_a_reply_without_end_ends_with_the_peer(target: str) -> None:
    """What breaks TLS comes together with the message: nothing can be said any more, and no send would fail."""
    with tortured(target, "--workers", "1") as (server, board):
        with open(server.folder / "large.bin", "wb") as file:
            file.truncate(1 << 40)
        with RecordPeer(server) as peer:
            peer.send(peer.record(b"go") + b"\x17\x03\x03\0\x20" + bytes(32))
            eventually(lambda: total(board, "connections") == 0)
            server.wait_for_log("is disconnected after message 1: TLS: ")


# Peers that do not read, and those that vanish


@pytest.mark.parametrize("target", ["large", "for_ever", "file"])
def test_a_peer_that_does_not_read(target: str) -> None:
    framing = "line" if target == "large" else "raw"
    with tortured(target, "--framing", framing, "--workers", "1", "--write-timeout", "1s") as (server, board):
        (server.folder / "large.bin").write_bytes(bytes(50_000_000))
        before = rss_bytes(server)
        with ExitStack() as all_:
            for _ in range(20):
                peer = all_.enter_context(SecurePeer(server))
                peer.socket.plain.settimeout(0)
                with suppress(BlockingIOError):
                    for _ in range(200):
                        peer.socket.sendall(b"more of it\n")
            eventually(lambda: total(board, "closed_timeout") == 20, 20)
            grown = rss_bytes(server) - before
            print(f"{grown / 20 / 1024:.0f} KiB each")
            assert grown < 100 << 20


def test_a_whole_connection_that_does_not_read() -> None:
    options = ("--as", "connection", "--workers", "1", "--write-timeout", "1s")
    with tortured("fill", *options, last=False) as (server, _), ExitStack() as all_:
        for _ in range(5):
            all_.enter_context(SecurePeer(server)).send(b"!")
        eventually(lambda: server.log.count("it is over") == 5, 20)


@pytest.mark.parametrize("version", VERSIONS, ids=["1.2", "1.3"])
def test_who_says_all_and_goes_without_having_read_loses_nothing(version: ssl.TLSVersion) -> None:
    """As what sends logs does: it reads nothing, and its close is an end-of-file, and no reset, if we sent nothing."""
    lines = (b"x" * 999 + b"\n") * 2000
    with tortured("take", *LINES) as (server, board):
        context = client_context(version=version)
        for _ in range(10):
            with socket.create_connection(server.address, 10) as plain:
                client = context.wrap_socket(plain, server_hostname="localhost")
                client.sendall(lines)
                client.close()
        eventually(lambda: total(board, "connections") == 0)
        assert total(board, "messages") == 20_000


@pytest.mark.parametrize("version", VERSIONS, ids=["1.2", "1.3"])
def test_the_first_message_does_not_wait_for_an_acknowledgement(version: ssl.TLSVersion) -> None:
    """By a client that has Nagle's algorithm, as is usual: 40 ms each would be eight seconds."""
    with tortured("shout", *LINES) as (server, _):
        times = []
        context = client_context(version=version)
        for _ in range(200):
            with SecurePeer(server, context=context) as peer:
                times.append(answers(peer))
        print(f"median {statistics.median(times):.5f}, worst {max(times):.5f} s")
        assert statistics.median(times) < 0.035


def test_resets_in_all_phases(chance: random.Random) -> None:
    count = 2000 if IS_LONG else 200
    with tortured("shout", *LINES) as (server, board), SecurePeer(server) as other:
        for number in range(count):
            version = VERSIONS[number % 2]
            peer, hello = first_flight(server, version)
            match number % 8:
                case 0:
                    pass
                case 1:
                    peer.socket.plain.sendall(hello[: chance.randrange(len(hello))])
                case 2:
                    peer.socket.plain.sendall(hello)
                case 3:
                    peer.socket.plain.sendall(hello)
                    flight = second_flight(peer)
                    peer.socket.plain.sendall(flight[: chance.randrange(len(flight))])
                case _:
                    peer.socket.plain.sendall(hello)
                    peer.socket.shake()
                    peer.socket.sendall((b"", b"half a", b"a line\n" * 1000, b"a line\n")[number % 8 - 4])
                    if number % 8 == 7:
                        peer.half_close()
            end(peer, "RST")
            if number % 20 == 0:
                answers(other)
        eventually(lambda: total(board, "connections") == 1)
        assert total(board, "closed") == count
        assert total(board, "handshakes") + total(board, "handshakes_failed") == count + 1


# Memory


def rss_bytes(server: Server) -> int:
    """What belongs to the workers alone."""
    found = 0
    for pid in server.pids():
        with open(f"/proc/{pid}/status") as status:
            found += next(int(line.split()[1]) for line in status if line.startswith("RssAnon:")) * 1024
    return found


def test_quiet_connections_cost_little() -> None:
    count = min(20_000, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 500) if IS_LONG else 1000
    options = ("--max-connections", f"{count + 100}", "--handshake-timeout", "60s")
    with tortured("shout", *LINES, *options) as (server, board):
        with SecurePeer(server) as first:
            answers(first)
        begun, before = now(), rss_bytes(server)
        quiet: list[socket.socket] = []
        try:
            for _ in range(count):
                peer = SecurePeer(server)
                quiet.append(peer.socket.plain)
                answers(peer)
            took, grown = now() - begun, rss_bytes(server) - before
            print(f"{count} connections in {took:.1f} s; {grown / count / 1024:.1f} KiB each")
            assert grown / count < 40 * 1024
            assert total(board, "threads") <= 2
            assert total(board, "threads_max") <= 2
        finally:
            for each in quiet:
                each.close()


def test_a_server_is_killed_in_the_middle() -> None:
    """Its worker's end is no end of TLS: nobody takes what it has received for the whole."""
    with running("app.py:shout", *LINES, *TLS, files={**APP, **pem()}) as server, SecurePeer(server) as peer:
        answers(peer)
        (worker,) = server.pids()
        os.kill(worker, signal.SIGKILL)
        with pytest.raises(ConnectionResetError):
            peer.receive()
        eventually(lambda: server.pids() not in ([], [worker]))
        with SecurePeer(server) as other:
            answers(other)
