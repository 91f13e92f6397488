"""worker/held_secure.py: the socket of a whole-connection call inside TLS is used as a plain one."""

import errno
import io
import select
import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from certbed import Files, by_hand, issue, trusting
from leftovers import eventually
from paceline.worker.held_secure import SecureSocket
from workerbed import DEADLINE_S, Bed, Gate, bed, receive_exactly, unread_bytes

CONTENT = bytes(range(256)) * 1000


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return issue(tmp_path_factory.mktemp("certificates"), "localhost")


def secured(worker: Bed, **options: Any) -> ssl.SSLSocket:
    secure = trusting().wrap_socket(
        worker.connect_tcp(**options), server_hostname="localhost", suppress_ragged_eofs=False
    )
    worker.clients.append(secure)
    return secure


def serving(handler: Callable[[Any], None], files: Files, **settings: Any) -> Any:
    return bed(handler, as_="connection", **files.settings, **settings)


def test_the_classroom_function_works_unchanged(files: Files) -> None:
    def workon(conn: socket.socket) -> None:
        while True:
            data = conn.recv(1024)
            if not data:
                break
            conn.send(data)

    with serving(workon, files) as worker:
        client = secured(worker)
        for size in (1, 1024, 5000):
            client.sendall(CONTENT[:size])
            assert receive_exactly(client, size) == CONTENT[:size]
        client.unwrap().close()
        worker.wait_closed(1)
        assert not worker.log.said


@pytest.mark.parametrize("start", ["accept", "data"])
def test_what_came_with_the_handshake_is_received_first(files: Files, start: str) -> None:
    def read(conn: socket.socket) -> None:
        with conn.makefile("rwb") as file:
            for line in file:
                file.write(line.upper())
                file.flush()

    with serving(read, files, start=start) as worker:
        raw = worker.connect_tcp()
        client, incoming, outgoing = by_hand(raw)
        client.write(b"one\ntwo\n")
        raw.sendall(outgoing.read())
        told = b""
        while told != b"ONE\nTWO\n":
            incoming.write(raw.recv(65536))
            with suppress(ssl.SSLWantReadError):
                while True:
                    told += client.read(100)
        assert told == b"ONE\nTWO\n"


def test_reading_and_writing_at_the_same_time(files: Files) -> None:
    """Two threads of the handler, each in one direction, as a relay has them."""
    finished = threading.Event()

    def relay(conn: socket.socket) -> None:
        def read() -> None:
            got = 0
            while got < 50 * len(CONTENT):
                got += len(conn.recv(65536))
            finished.set()

        reader = threading.Thread(target=read)
        reader.start()
        for _ in range(50):
            conn.sendall(CONTENT)
        reader.join()

    with serving(relay, files) as worker:
        client = secured(worker)
        for _ in range(50):  # in turns: the client is ssl's, which is not made for two threads
            client.sendall(CONTENT)
            assert receive_exactly(client, len(CONTENT)) == CONTENT
        assert finished.wait(DEADLINE_S)


def test_all_ways_to_receive(files: Files) -> None:
    seen: list[object] = []

    def read(conn: SecureSocket) -> None:
        seen.append(conn.recv(3, socket.MSG_PEEK))
        seen.append(conn.recv(3))
        seen.append(conn.pending())
        buffer = bytearray(10)
        seen.append((conn.recv_into(buffer, 3), bytes(buffer[:3])))
        seen.append(conn.recvfrom(1))
        seen.append((conn.recvfrom_into(buffer), bytes(buffer[:2])))
        seen.append(conn.recv(0))
        with pytest.raises(BlockingIOError):
            conn.recv(1, socket.MSG_DONTWAIT)
        conn.sendall(b"more")
        seen.append(conn.recv(6, socket.MSG_WAITALL))
        seen.append(conn.recvmsg(10)[0])
        conn.sendall(b"end")
        seen.append(conn.recv(1))
        with pytest.raises(ValueError, match="MSG_PEEK"):
            conn.recv(1, socket.MSG_OOB)
        with pytest.raises(ValueError, match="negative"):
            conn.recv(-1)

    with serving(read, files) as worker:
        client = secured(worker)
        client.sendall(b"abcdefghi")
        assert receive_exactly(client, 4) == b"more"
        for piece in (b"12", b"34", b"56xyz"):
            client.sendall(piece)
        assert receive_exactly(client, 3) == b"end"
        client.unwrap().close()
        worker.wait_closed(1)
        assert not worker.log.said
    expected = [b"abc", b"abc", 6, (3, b"def"), (b"g", None), ((2, None), b"hi"), b"", b"123456", b"xyz", b""]
    assert seen == expected


def test_all_ways_to_send(files: Files, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(CONTENT)

    def write(conn: SecureSocket) -> None:
        sent = conn.send(CONTENT)
        conn.sendall(CONTENT[sent:])
        conn.sendall(memoryview(CONTENT))
        assert conn.sendmsg([b"ab", bytearray(b"cd")]) == 4
        with (tmp_path / "file").open("rb") as file:
            assert conn.sendfile(file) == len(CONTENT)
            assert conn.sendfile(file, 256, 512) == 512
            with pytest.raises(ValueError, match="positive"):
                conn.sendfile(file, 0, 0)
        conn.sendall(b"")
        refusals: list[Callable[[], object]] = [
            lambda: conn.sendto(b"x", ("127.0.0.1", 1)),
            lambda: conn.sendmsg([b"x"], [(1, 2, b"")]),
            lambda: conn.recvmsg_into([bytearray(1)]),
            conn.dup,
            conn.detach,
        ]
        for refused in refusals:
            with pytest.raises(OSError, match=r"inside TLS|connected") as error:
                refused()
            assert error.value.errno in (errno.EOPNOTSUPP, errno.EISCONN)

    with serving(write, files) as worker:
        client = secured(worker)
        expected = CONTENT + CONTENT + b"abcd" + CONTENT + CONTENT[256:768]
        assert receive_exactly(client, len(expected)) == expected
        assert client.recv(1) == b""
        client.close()
        worker.wait_closed(1)


def test_what_was_agreed_as_ssl_tells_it(files: Files) -> None:
    seen: list[object] = []

    def look(conn: SecureSocket) -> None:
        seen.extend([conn.tls.version, conn.version(), conn.selected_alpn_protocol(), conn.getpeercert()])
        seen.extend([conn.getpeercert(binary_form=True), conn.tls.server_name])
        cipher = conn.cipher()
        assert cipher is not None
        seen.append(cipher[1])

    with serving(look, files) as worker:
        secured(worker)
        worker.wait_closed(0)
        eventually(lambda: len(seen) == 7)
    assert seen == ["TLSv1.3", "TLSv1.3", None, {}, None, "localhost", "TLSv1.3"]


def test_an_end_without_close_notify_is_an_error_that_names_it(files: Files) -> None:
    errors: list[Exception] = []

    def read(conn: socket.socket) -> None:
        try:
            while data := conn.recv(100):
                conn.sendall(data)
        except ConnectionResetError as error:
            errors.append(error)
            raise

    with serving(read, files) as worker:
        client = secured(worker)
        client.sendall(b"x")
        assert client.recv(1) == b"x"
        client.close()
        worker.wait_closed(1)
        assert "close_notify" in str(errors[0])
        assert [event for event, _ in worker.log.said] == ["peer-reset"], "and nothing worse"


def test_a_broken_record_is_an_error(files: Files) -> None:
    errors: list[Exception] = []

    def read(conn: socket.socket) -> None:
        try:
            conn.recv(100)
        except ConnectionAbortedError as error:
            errors.append(error)

    with serving(read, files) as worker:
        client = secured(worker)
        raw = socket.socket(fileno=client.detach())
        raw.sendall(b"\x17\x03\x03\x00\x20" + b"z" * 32)
        eventually(lambda: errors)
        raw.close()
        worker.wait_closed(1)
        assert "TLS" in str(errors[0])


def test_shutdown_and_close_say_it_inside_tls_and_nothing_is_sent_after(files: Files) -> None:
    errors: list[int | None] = []

    def end(conn: socket.socket) -> None:
        conn.sendall(b"last")
        conn.shutdown(socket.SHUT_WR)
        try:
            conn.sendall(b"more")
        except BrokenPipeError as error:
            errors.append(error.errno)
        assert conn.recv(100) == b"still heard"
        conn.close()

    with serving(end, files) as worker:
        client = secured(worker)
        assert receive_exactly(client, 4) == b"last"
        assert client.recv(1) == b""
        client.sendall(b"still heard")
        client.close()
        worker.wait_closed(1)
        assert errors == [errno.EPIPE]
        assert not [event for event, _ in worker.log.said if event != "peer-reset"]


def test_without_waiting_what_was_sealed_goes_with_the_next_call(files: Files) -> None:
    """A handler with a loop of its own: the peer gets every byte once."""
    total = 300 * 1024

    def push(conn: SecureSocket) -> None:
        conn.setblocking(False)
        left = memoryview(bytes(range(256)) * (total // 256))
        while left:
            try:
                left = left[conn.send(left) :]
            except BlockingIOError:
                select.select([], [conn], [], DEADLINE_S)

    with serving(push, files) as worker:
        client = secured(worker, send_buffer=4096, receive_buffer=4096)
        assert receive_exactly(client, total) == bytes(range(256)) * (total // 256)
        assert client.recv(1) == b"", "the worker has sent the rest, and the end"
        client.close()
        worker.wait_closed(1)


def test_a_peer_that_does_not_read_is_given_up_in_time(files: Files) -> None:
    def push(conn: socket.socket) -> None:
        while True:
            conn.sendall(CONTENT)

    with serving(push, files, write_timeout=0.2) as worker:
        client = secured(worker, send_buffer=4096, receive_buffer=4096)
        assert "--write-timeout" in str(worker.log.wait_for("peer-slow")["why"])
        client.close()
        worker.wait_closed(1)


def test_a_drain_is_an_end_of_file_and_no_error(files: Files) -> None:
    gate = Gate()

    def read(conn: socket.socket) -> None:
        gate.wait()
        assert conn.recv(10) == b"before"
        assert conn.recv(10) == b""
        conn.sendall(b"goodbye")

    with serving(read, files) as worker:
        client = secured(worker)
        client.sendall(b"before")
        gate.wait_entered()
        (held,) = worker.worker.tables.open
        eventually(lambda: unread_bytes(held))
        drained = worker.drain()
        gate.open()
        assert receive_exactly(client, 7) == b"goodbye"
        assert client.recv(1) == b""
        client.close()
        assert drained.wait() == 0
        assert not worker.log.find("connection-failed")


def test_a_handler_of_socketserver(files: Files) -> None:
    import socketserver

    class Shout(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            for line in self.rfile:
                self.wfile.write(line.upper())

    with bed(Shout, listen=True, **files.settings) as worker:
        client = secured(worker)
        client.sendall(b"one\ntwo\n")
        assert receive_exactly(client, 8) == b"ONE\nTWO\n"
        client.unwrap().close()
        worker.wait_closed(1)


def test_a_file_object_over_it_reads_to_the_end(files: Files) -> None:
    seen: list[bytes] = []

    def read(conn: socket.socket) -> None:
        with conn.makefile("rb") as file:
            assert isinstance(file, io.BufferedReader)
            seen.append(file.read())

    with serving(read, files) as worker:
        client = secured(worker)
        client.sendall(CONTENT)
        client.unwrap().close()
        worker.wait_closed(1)
        assert seen == [CONTENT]
