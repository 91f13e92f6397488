"""Handlers of whole connections inside TLS: their socket is used as a plain one is."""

import re
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from leftovers import eventually
from securepeer import TLS, SecurePeer, client_context, pem
from testbed import Server, running

APP = {
    "app.py": '''
    import errno
    import select
    import socket
    import threading
    import time

    import paceline

    def echo(conn):
        while data := conn.recv(65536):
            conn.sendall(data)

    def file_echo(conn):
        with conn.makefile("rwb") as file:
            for line in file:
                file.write(line)
                file.flush()

    def text_echo(conn):
        with conn.makefile("r", newline="\\n") as lines, conn.makefile("w", newline="\\n") as out:
            for line in lines:
                print(line.rstrip().upper(), file=out, flush=True)

    def both(conn):
        """One thread writes numbers, another one reads, until the reader is told to stop."""
        stop = threading.Event()
        sent = 0

        def write():
            nonlocal sent
            while not stop.is_set():
                conn.sendall(b"%7d\\n" % sent)
                sent += 1

        writing = threading.Thread(target=write)
        writing.start()
        got = 0
        while got < 1_000_000:
            got += len(conn.recv(65536))
        stop.set()
        writing.join()
        conn.sendall(b"got %d sent %d\\n" % (got, sent))

    def sends_file(conn):
        with open("large.bin", "rb") as file:
            command = conn.recv(100)
            if command == b"all":
                assert conn.sendfile(file) == 5_242_880
            elif command == b"part":
                assert conn.sendfile(file, 1000, 70_000) == 70_000
            elif command == b"end":
                assert conn.sendfile(file, 5_242_000, 70_000) == 880

    def peeks(conn):
        seen = conn.recv(3, socket.MSG_PEEK)
        whole = conn.recv(10, socket.MSG_WAITALL)
        conn.sendall(seen + b"|" + whole)
        room = bytearray(4)
        assert conn.recv_into(room, 2, socket.MSG_WAITALL) == 2
        conn.sendall(b"|" + room)
        try:
            conn.recv(1, socket.MSG_DONTWAIT)
        except BlockingIOError:
            conn.sendall(b"|nothing")
        assert conn.recv(0) == b""

    def ends(conn):
        """Says how the peer has ended it."""
        try:
            while data := conn.recv(100):
                print("received", len(data))
            print("ended well")
        except OSError as error:
            print("ended by", type(error).__name__, errno.errorcode.get(error.errno))
            raise

    def half(conn):
        conn.sendall(b"the end of it")
        conn.shutdown(socket.SHUT_WR)
        got = b""
        while data := conn.recv(100):
            got += data
        print("got", got)
        try:
            conn.sendall(b"more")
        except BrokenPipeError:
            print("it is really over")

    def tail(conn):
        """The end comes while all room is taken."""
        how = conn.recv(100)
        conn.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        conn.setblocking(False)
        sent = 0
        while select.select([], [conn], [], 0.3)[1]:
            try:
                sent += conn.send(bytes(100_000))
            except BlockingIOError:
                pass
        print("sent", sent)
        conn.setblocking(True)
        match how:
            case b"close":
                conn.close()
            case b"shutdown":
                conn.shutdown(socket.SHUT_WR)
                assert conn.recv(1) == b""

    def wakes(conn):
        """Another thread ends it, for one that waits."""
        conn.sendall(b"waiting")
        timer = threading.Timer(0.2, conn.shutdown, (socket.SHUT_RDWR,))
        timer.start()
        print("woke up with", conn.recv(100))
        timer.join()

    def wakes_writer(conn):
        sent = before = 0

        def write():
            nonlocal sent
            try:
                while True:
                    conn.sendall(bytes(100_000))
                    sent += 1
            except OSError as error:
                print("the writer woke up with", type(error).__name__)

        writing = threading.Thread(target=write)
        writing.start()
        while not sent or before != sent:
            before = sent
            time.sleep(0.3)
        print("the writer waits")
        conn.shutdown(socket.SHUT_RDWR)
        writing.join()

    def limits(conn):
        conn.settimeout(0.2)
        try:
            conn.recv(100)
        except TimeoutError:
            print("late")
        conn.setblocking(False)
        try:
            conn.recv(100)
        except BlockingIOError:
            conn.sendall(b"late")
        assert select.select([conn], [], [], 5)[0]
        while True:
            try:
                conn.sendall(conn.recv(100))
                break
            except BlockingIOError:
                select.select([conn], [], [], 5)

    def refuses(conn):
        said = []
        for what, arguments in ((conn.dup, ()), (conn.detach, ()), (conn.recvmsg_into, ([bytearray(9)],)),
                                (conn.sendmsg, ([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, b"")])),
                                (conn.recv, (1, socket.MSG_OOB)), (conn.send, (b"x", socket.MSG_OOB))):
            try:
                what(*arguments)
            except (OSError, ValueError) as error:
                said.append(type(error).__name__)
        conn.sendall(" ".join(said).encode())

    def as_ssl(conn):
        conn.recv(1)
        said = (conn.version(), conn.cipher()[0], conn.selected_alpn_protocol(), conn.getpeercert())
        conn.sendall(" ".join(map(str, said)).encode())

    def begun(conn):
        print("begun")
        echo(conn)
    '''
}
HELD = ("--as", "connection", "--workers", "1")
LARGE = bytes(range(256)) * 20_480
"""5 MiB."""


@contextmanager
def holding(target: str, *options: str) -> Iterator[Server]:
    with running(f"app.py:{target}", *HELD, *options, *TLS, files={**APP, **pem("localhost")}) as server:
        yield server
        assert " error " not in server.log


@pytest.fixture(params=[ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
def context(request: pytest.FixtureRequest) -> ssl.SSLContext:
    return client_context(version=request.param)


def test_echo(context: ssl.SSLContext) -> None:
    with holding("echo") as server, SecurePeer(server, context=context) as peer:
        for size in (1, 100, 16_384, 16_385, 300_000):
            peer.send(LARGE[:size])
            assert peer.receive(size) == LARGE[:size]
        peer.half_close()
        assert peer.receive_all() == b""


@pytest.mark.parametrize("target", ["file_echo", "text_echo"])
def test_files_made_of_it(target: str) -> None:
    with holding(target) as server, SecurePeer(server) as peer:
        for size in (1, 8191, 8192, 20_000):
            peer.send(b"X" * size + b"\n")
            assert peer.line() == b"X" * size + b"\n"
        peer.send(b"".join(b"LINE %d\n" % number for number in range(2000)))
        assert peer.lines(2000) == [b"LINE %d\n" % number for number in range(2000)]
        peer.half_close()
        assert peer.receive_all() == b""


def test_one_thread_reads_while_another_writes(context: ssl.SSLContext) -> None:
    with holding("both") as server, SecurePeer(server, context=context) as peer:
        expected = 0
        for _ in range(100):
            peer.send(bytes(10_000))
            assert peer.line() == b"%7d\n" % expected
            expected += 1
        while (line := peer.line()).strip().isdigit():
            assert int(line) == expected
            expected += 1
        assert line == b"got 1000000 sent %d\n" % expected


def test_sendfile() -> None:
    with holding("sends_file") as server:
        (server.folder / "large.bin").write_bytes(LARGE)
        for command, expected in ((b"all", LARGE), (b"part", LARGE[1000:71_000]), (b"end", LARGE[5_242_000:])):
            with SecurePeer(server) as peer:
                peer.send(command)
                assert peer.receive_all(timeout=20) == expected


def test_ways_to_receive() -> None:
    with holding("peeks") as server, SecurePeer(server) as peer:
        peer.send(b"0123", b"456789", b"ab")
        assert peer.receive_all() == b"012|0123456789|ab\0\0|nothing"


def test_an_end_without_close_notify_is_an_error(context: ssl.SSLContext) -> None:
    with holding("ends") as server:
        with SecurePeer(server, context=context) as peer:
            peer.send(b"hello")
            peer.socket.plain.shutdown(socket.SHUT_WR)
            server.wait_for_log("received 5")
            server.wait_for_log("ended by ConnectionResetError ECONNRESET")
            assert peer.receive_all() == b"", "we end it well"
        assert "the handler raised" not in server.log, "it is the peer that is at fault"


def test_an_end_with_close_notify_is_an_end(context: ssl.SSLContext) -> None:
    with holding("ends") as server:
        with SecurePeer(server, context=context) as peer:
            peer.send(b"hello")
            peer.half_close()
            assert peer.receive_all() == b""
        server.wait_for_log("received 5")
        server.wait_for_log("ended well")


def test_an_end_in_a_record_is_no_end() -> None:
    with holding("ends") as server:
        with SecurePeer(server) as peer:
            peer.socket.plain.sendall(peer.socket.seal(b"hello")[:-1])
        server.wait_for_log("ended by ConnectionResetError ECONNRESET")
        assert "received" not in server.log


def test_a_record_that_was_changed_on_its_way() -> None:
    with holding("ends") as server:
        with SecurePeer(server) as peer:
            sealed = bytearray(peer.socket.seal(b"hello"))
            sealed[-1] ^= 1
            peer.socket.plain.sendall(sealed)
            with pytest.raises(ssl.SSLError, match="bad record mac"):
                peer.receive()
        server.wait_for_log("ended by ConnectionAbortedError")
        assert "received" not in server.log


def test_one_side_ends(context: ssl.SSLContext) -> None:
    with holding("half") as server:
        with SecurePeer(server, context=context) as peer:
            assert peer.receive_all() == b"the end of it"
            peer.send(b"still ", b"talking")
            peer.half_close()
        server.wait_for_log("got b'still talking'")
        server.wait_for_log("it is really over")


@pytest.mark.parametrize("how", [b"close", b"shutdown", b"return"])
def test_an_end_for_which_there_is_no_room_yet_is_said_later(how: bytes) -> None:
    with holding("tail") as server, SecurePeer(server) as peer:
        peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        peer.send(how)
        sent = int(server.wait_for_log(re.compile("^sent")).split()[1])
        assert sent > 0
        peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        assert len(peer.receive(sent)) == sent
        assert peer.receive() == b"", "without close_notify it would be ConnectionResetError"
        peer.half_close()


def test_shutdown_wakes_up_who_waits() -> None:
    with holding("wakes") as server, SecurePeer(server) as peer:
        assert peer.receive_all() == b"waiting"
        server.wait_for_log("woke up with b''")


def test_shutdown_wakes_up_who_cannot_send() -> None:
    with holding("wakes_writer", "--write-timeout", "1h") as server, SecurePeer(server):
        server.wait_for_log("the writer woke up with BrokenPipeError")


def test_time_limits_and_select() -> None:
    with holding("limits") as server, SecurePeer(server) as peer:
        assert peer.receive(4) == b"late"
        sealed = peer.socket.seal(b"in time")
        peer.socket.plain.sendall(sealed[:10])
        peer.socket.plain.sendall(sealed[10:])
        assert peer.receive(7) == b"in time"


def test_what_makes_no_sense_is_refused() -> None:
    with holding("refuses") as server, SecurePeer(server) as peer:
        assert peer.receive_all() == b"OSError OSError OSError OSError ValueError ValueError"


def test_it_answers_as_an_ssl_socket() -> None:
    context = client_context(alpn=("echo",))
    with holding("as_ssl", "--alpn", "echo") as server, SecurePeer(server, context=context) as peer:
        peer.send(b".")
        assert re.fullmatch(rb"TLSv1.3 TLS_AES_\w+ echo {}", peer.receive_all())


def test_the_thread_is_spent_when_data_has_come() -> None:
    with holding("begun", "--start", "data") as server:
        peers = [SecurePeer(server) for _ in range(5)]
        last = peers[-1]
        last.send(b"hello")
        assert last.receive(5) == b"hello"
        assert server.log.count("begun") == 1
        peers[0].half_close()
        assert peers[0].receive_all() == b"", "its end is to be seen, too"
        eventually(lambda: server.log.count("begun") == 2)
        for peer in peers:
            peer.close()


@pytest.mark.parametrize("start", ["accept", "data"])
def test_a_broken_record_comes_together_with_the_end_of_the_handshake(start: str) -> None:
    with holding("ends", "--start", start) as server, SecurePeer(server, shakes=False) as peer:
        finish(peer, b"\x17\x03\x03\x00\x20" + bytes(32))
        with pytest.raises(ssl.SSLError, match="bad record mac"):
            peer.receive()
        server.wait_for_log("ended by ConnectionAbortedError")


def finish(peer: SecurePeer, behind: bytes = b"", content: bytes = b"", *, ends: bool = False) -> None:
    """The client's whole handshake; its last part in one segment with this."""
    hello = peer.socket.step()
    assert hello is not None
    peer.socket.plain.sendall(hello)
    while (more := peer.socket.step(peer.socket.plain.recv(65536))) is not None:
        assert more == b""
    last = peer.socket.seal(content) if content else peer.socket.take_out()
    peer.socket.plain.sendall(last + (peer.socket.goodbye() if ends else b"") + behind)


def test_the_greeting_comes_together_with_the_end_of_the_handshake() -> None:
    """In TLS 1.3 a client may say something, and even end, in the same segment that finishes its handshake."""
    for start in ("accept", "data"):
        with holding("echo", "--start", start) as server:
            for ends in (False, True):
                with SecurePeer(server, shakes=False) as peer:
                    finish(peer, content=b"hello", ends=ends)
                    assert peer.receive(5) == b"hello"
                    if ends:
                        assert peer.receive_all() == b""
