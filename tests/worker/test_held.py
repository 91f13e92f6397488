"""worker/held.py: the socket of a whole-connection call, by itself."""

import array
import errno
import io
import os
import socket
import ssl
import struct
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from leftovers import eventually
from paceline.host import streams
from paceline.scoreboard.fields import ThreadState
from paceline.worker.crew import Member
from paceline.worker.held import HeldSocket, HeldTable, take_back
from workerbed import Gate, bed, receive_all, receive_exactly, reset

pytestmark = pytest.mark.usefixtures("nothing_left")

CALLING, PEER = int(ThreadState.CALLING), int(ThreadState.PEER)


@dataclass
class Call:
    """A whole-connection call from outside: the handler's socket, the peer's, and the thread's row."""

    held: HeldSocket
    peer: socket.socket
    me: Member
    fd: int

    @property
    def state(self) -> int:
        return int(self.me.words[self.me.state])

    def total(self, cell: str) -> int:
        return int(self.me.words[getattr(self.me, cell)])


@pytest.fixture
def open_call() -> Iterator[Callable[..., Call]]:
    calls: list[Call] = []

    def make(receive_s: float | None = None, send_s: float | None = 10.0, *, tcp: bool = False) -> Call:
        if tcp:
            with socket.create_server(("127.0.0.1", 0)) as server:
                peer = socket.create_connection(server.getsockname(), 10)
                ours, _ = server.accept()
        else:
            peer, ours = socket.socketpair()
            peer.settimeout(10)
        ours.setblocking(False)
        fd = ours.detach()
        me = Member(0, memoryview(array.array("Q", [0] * 64)), 0, 32)
        me.words[me.state] = CALLING
        calls.append(Call(HeldSocket(fd, me, "127.0.0.1:8888", receive_s, send_s), peer, me, fd))
        return calls[-1]

    yield make
    for call in calls:
        call.peer.close()
        if take_back(call.held) >= 0:
            os.close(call.fd)


Open = Callable[..., Call]


# Every way to receive and to send


def into(verb: str, held: HeldSocket, size: int) -> bytes:
    buffer = bytearray(size)
    n = getattr(held, verb)(buffer)
    return bytes(buffer[: n[0] if isinstance(n, tuple) else n])


RECEIVE: dict[str, Callable[[HeldSocket], bytes]] = {
    "recv": lambda held: held.recv(100),
    "recv_into": lambda held: into("recv_into", held, 100),
    "recvfrom": lambda held: held.recvfrom(100)[0],
    "recvfrom_into": lambda held: into("recvfrom_into", held, 100),
    "recvmsg": lambda held: bytes(held.recvmsg(100)[0]),
    "recvmsg_into": lambda held: receive_message_into(held),
    "makefile": lambda held: held.makefile("rb").readline(),
    "makefile unbuffered": lambda held: held.makefile("rb", buffering=0).readline(),
    "makefile text": lambda held: held.makefile("r").readline().encode(),
}


def receive_message_into(held: HeldSocket) -> bytes:
    first, second = bytearray(3), bytearray(100)
    n = held.recvmsg_into([first, second])[0]
    return bytes(first + second)[:n]


def send_by_file(held: HeldSocket, data: bytes) -> None:
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.seek(0)
        assert held.sendfile(file) == len(data)


def send_by_makefile(held: HeldSocket, data: bytes) -> None:
    with held.makefile("wb") as file:
        file.write(data)


SEND: dict[str, Callable[[HeldSocket, bytes], Any]] = {
    "send": lambda held, data: held.send(data),
    "sendall": lambda held, data: held.sendall(data),
    "sendall of an array": lambda held, data: held.sendall(array.array("H", data)),
    "sendto": lambda held, data: held.sendto(data, held.getpeername()),
    "sendto with flags": lambda held, data: held.sendto(data, socket.MSG_NOSIGNAL, held.getpeername()),
    "sendmsg": lambda held, data: held.sendmsg([data[:3], data[3:]]),
    "sendmsg with flags": lambda held, data: held.sendmsg([data], [], socket.MSG_NOSIGNAL),
    "sendfile": send_by_file,
    "sendfile of no file": lambda held, data: held.sendfile(io.BytesIO(data)),
    "makefile": send_by_makefile,
}


SEND_ALL = [way for way in SEND if way in ("sendall", "makefile") or "file" in way or "array" in way]
"""Those that go on until all is sent."""


@pytest.mark.parametrize("way", RECEIVE)
def test_receiving(open_call: Open, way: str) -> None:
    call = open_call()
    call.peer.sendall(b"hello\n")
    assert RECEIVE[way](call.held) == b"hello\n"
    assert call.total("bytes_in") == 6
    assert call.state == CALLING


@pytest.mark.parametrize("way", SEND)
def test_sending(open_call: Open, way: str) -> None:
    call = open_call(tcp="sendto" in way)
    SEND[way](call.held, b"hello!")
    assert receive_exactly(call.peer, 6) == b"hello!"
    assert call.total("bytes_out") == 6
    assert call.state == CALLING


@pytest.mark.parametrize("way", RECEIVE)
def test_the_end_is_received(open_call: Open, way: str) -> None:
    call = open_call()
    call.peer.close()
    assert RECEIVE[way](call.held) == b""


@pytest.mark.parametrize("way", RECEIVE)
def test_while_it_waits_for_the_peer_the_thread_says_so(open_call: Open, way: str) -> None:
    call = open_call()
    received: list[bytes] = []
    thread = threading.Thread(target=lambda: received.append(RECEIVE[way](call.held)))
    thread.start()
    eventually(lambda: call.state == PEER)
    call.peer.sendall(b"hello\n")
    thread.join(10)
    assert received == [b"hello\n"]
    assert call.state == CALLING


LARGE = b"l" * 5_000_000


@pytest.mark.parametrize("way", SEND_ALL)
def test_while_the_peer_takes_nothing_the_thread_says_so(open_call: Open, way: str) -> None:
    call = open_call()
    thread = threading.Thread(target=SEND[way], args=(call.held, LARGE))
    thread.start()
    eventually(lambda: call.state == PEER)
    assert receive_exactly(call.peer, len(LARGE)) == LARGE
    thread.join(10)
    assert not thread.is_alive()
    assert call.total("bytes_out") == len(LARGE)


# Limits


@pytest.mark.parametrize("way", RECEIVE)
def test_a_silent_peer_is_a_time_out(open_call: Open, way: str) -> None:
    call = open_call(receive_s=0.05)
    with pytest.raises(TimeoutError, match=r"it sent nothing \(--idle-timeout\) for 0.05 s"):
        RECEIVE[way](call.held)
    assert call.held.ended_by == "timeout"
    assert call.state == CALLING


@pytest.mark.parametrize("way", SEND_ALL)
def test_a_peer_that_takes_nothing_is_a_time_out(open_call: Open, way: str) -> None:
    call = open_call(send_s=0.05)
    with pytest.raises(TimeoutError, match=r"it took nothing \(--write-timeout\) for 0.05 s"):
        SEND[way](call.held, LARGE)
    assert call.held.ended_by == "timeout"
    assert call.held.gettimeout() is None
    receive_some = call.peer.recv(10)
    assert receive_some == LARGE[:10]


def test_the_limit_is_for_each_wait_and_not_for_all(open_call: Open) -> None:
    """A peer that takes a little each time is slow, and may go on."""
    call = open_call(send_s=0.5)
    thread = threading.Thread(target=call.held.sendall, args=(LARGE,))
    thread.start()
    pause = threading.Event()
    received = 0
    while received < len(LARGE):
        received += len(call.peer.recv(200_000))
        pause.wait(0.04)  # in all, more than the limit
    thread.join(10)
    assert call.total("bytes_out") == len(LARGE)


def test_a_time_out_of_the_handlers_replaces_ours(open_call: Open) -> None:
    call = open_call(receive_s=0.01, send_s=0.01)
    call.held.settimeout(0.05)
    with pytest.raises(TimeoutError, match="timed out"):
        call.held.recv(100)
    assert call.held.ended_by == "", "it is the handler's own matter"
    with pytest.raises(TimeoutError, match="timed out"):
        call.held.sendall(LARGE)
    call.held.settimeout(None)
    with pytest.raises(TimeoutError, match="--idle-timeout"):
        call.held.recv(100)


def test_a_handler_may_not_want_to_wait(open_call: Open) -> None:
    for receive_s in (None, 10.0):
        call = open_call(receive_s=receive_s)
        with pytest.raises(BlockingIOError):
            call.held.recv(100, socket.MSG_DONTWAIT)
        with pytest.raises(BlockingIOError):
            call.held.recv_into(bytearray(64), 0, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        call.held.setblocking(False)
        with pytest.raises(BlockingIOError):
            call.held.recv(100)
        assert call.held.ended_by == ""


def test_the_default_time_out_of_sockets_does_not_matter(open_call: Open) -> None:
    socket.setdefaulttimeout(0.01)
    try:
        call = open_call()
        assert call.held.gettimeout() is None
    finally:
        socket.setdefaulttimeout(None)
    thread = threading.Thread(target=call.held.recv, args=(100,))
    thread.start()
    eventually(lambda: call.state == PEER)
    call.peer.sendall(b"x")
    thread.join(10)


# A peer that is gone


def call_after_reset(call: Call, verb: Callable[[HeldSocket], object]) -> OSError:
    reset(call.peer)
    for _ in range(2):  # the first send after a reset may still be taken
        try:
            verb(call.held)
        except OSError as error:
            return error
    raise AssertionError("it did not notice")


@pytest.mark.parametrize(
    "verb",
    [
        lambda held: held.recv(100),
        lambda held: held.sendall(b"x"),
        lambda held: held.makefile("rb").read(1),
        lambda held: held.shutdown(socket.SHUT_RDWR),
        lambda held: held.getpeername(),
    ],
    ids=["recv", "sendall", "makefile", "shutdown", "getpeername"],
)
def test_a_reset_is_noted(open_call: Open, verb: Callable[[HeldSocket], object]) -> None:
    call = open_call(tcp=True)
    error = call_after_reset(call, verb)
    assert error.errno in (errno.ECONNRESET, errno.EPIPE, errno.ENOTCONN)
    assert call.held.ended_by == "peer"


def test_a_mistake_of_the_handlers_is_not_taken_for_a_reset(open_call: Open) -> None:
    call = open_call()
    call.held.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        call.held.recv(100)
    assert call.held.ended_by == ""


# Closing


def test_close_sends_the_end_and_keeps_the_descriptor(open_call: Open) -> None:
    call = open_call()
    call.held.sendall(b"last")
    call.held.close()
    assert receive_all(call.peer) == b"last"
    os.fstat(call.fd)
    assert take_back(call.held) == call.fd
    os.close(call.fd)


def test_with_closes(open_call: Open) -> None:
    call = open_call()
    with call.held as same:
        assert same is call.held
        same.sendall(b"x")
    assert receive_all(call.peer) == b"x"


def test_a_file_keeps_it_open(open_call: Open) -> None:
    """As with any socket: it ends when the last of its files is closed, too."""
    call = open_call()
    file = call.held.makefile("rwb")
    call.held.close()
    file.write(b"from the file")
    file.flush()
    assert receive_exactly(call.peer, 13) == b"from the file"
    call.peer.sendall(b"to the file\n")
    assert file.readline() == b"to the file\n"
    file.close()
    assert receive_all(call.peer) == b""
    os.fstat(call.fd)


def test_shutdown_is_the_sockets_own(open_call: Open) -> None:
    call = open_call()
    call.held.shutdown(socket.SHUT_WR)
    assert receive_all(call.peer) == b""
    call.peer.sendall(b"still")
    assert call.held.recv(100) == b"still"


def test_a_copy_is_a_plain_socket(open_call: Open) -> None:
    call = open_call()
    with call.held.dup() as copy:
        assert type(copy) is socket.socket
        assert copy.gettimeout() is None
        copy.sendall(b"by the copy")
        assert receive_exactly(call.peer, 11) == b"by the copy"
    call.held.settimeout(3)
    with call.held.dup() as copy:
        assert copy.gettimeout() == 3
    call.held.sendall(b"and by the other")
    assert receive_exactly(call.peer, 16) == b"and by the other"


NO_LIMIT = struct.pack("@ll", 0, 0)


def limits_of(fd: int) -> tuple[bytes, bytes]:
    with socket.socket(fileno=os.dup(fd)) as stream:
        options = (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO)
        first, second = (stream.getsockopt(socket.SOL_SOCKET, option, 16) for option in options)
        return first, second


def test_detach_takes_it_away_without_our_limits(open_call: Open) -> None:
    call = open_call(receive_s=5, send_s=5)
    assert NO_LIMIT not in limits_of(call.fd)
    fd = call.held.detach()
    assert fd == call.fd
    assert limits_of(fd) == (NO_LIMIT, NO_LIMIT)
    assert take_back(call.held) == -1
    with socket.socket(fileno=fd) as own:
        own.sendall(b"mine now")
    assert receive_all(call.peer) == b"mine now"


def test_it_is_given_back_as_it_came(open_call: Open) -> None:
    call = open_call(receive_s=5, send_s=5)
    assert os.get_blocking(call.fd)
    assert take_back(call.held) == call.fd
    assert not os.get_blocking(call.fd)
    assert limits_of(call.fd) == (NO_LIMIT, NO_LIMIT)
    assert call.held.fileno() == -1
    os.close(call.fd)


def test_tls_takes_it_away(open_call: Open) -> None:
    """ssl.wrap_socket detaches the socket that it wraps."""
    call = open_call()
    wrapped = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).wrap_socket(
        call.held, server_side=True, do_handshake_on_connect=False
    )
    assert wrapped.fileno() == call.fd
    assert take_back(call.held) == -1
    wrapped.close()


def test_who_it_is(open_call: Open) -> None:
    call = open_call(tcp=True)
    host, port = call.peer.getsockname()
    assert call.held.peer == f"{host}:{port}"
    assert call.held.getpeername() == (host, port)
    assert call.held.listener == "127.0.0.1:8888"
    reset(call.peer)
    assert call.held.peer == f"{host}:{port}", "known is known"


# The table


def test_end_input_wakes_whoever_waits(open_call: Open) -> None:
    call, table = open_call(), HeldTable()
    table.add(call.fd)
    received: list[bytes] = []
    thread = threading.Thread(target=lambda: received.append(call.held.recv(100)))
    thread.start()
    eventually(lambda: call.state == PEER)
    table.end_input()
    thread.join(10)
    assert received == [b""]
    call.held.sendall(b"can still be answered")
    assert receive_exactly(call.peer, 21) == b"can still be answered"


def test_end_input_comes_after_what_has_arrived(open_call: Open) -> None:
    call, table = open_call(), HeldTable()
    table.add(call.fd)
    call.peer.sendall(b"before it")
    table.end_input()
    assert call.held.recv(100) == b"before it"
    assert call.held.recv(100) == b""


def test_end_input_spares_whoever_has_the_number_now(open_call: Open) -> None:
    """The handler took the descriptor away and closed it; a connection of somebody else got the number."""
    call, table = open_call(), HeldTable()
    table.add(call.fd)
    os.close(call.held.detach())
    table.end_input()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert ours.fileno() == call.fd
        table.end_input()
        theirs.sendall(b"not ended")
        assert ours.recv(100) == b"not ended"
    table.remove(call.fd)
    assert len(table) == 0


def test_end_input_spares_calls_that_are_over(open_call: Open) -> None:
    call, table = open_call(), HeldTable()
    table.add(call.fd)
    table.remove(call.fd)
    table.remove(call.fd)
    table.end_input()
    call.peer.sendall(b"goes on")
    assert call.held.recv(100) == b"goes on"


def test_its_peer_may_be_gone_already(open_call: Open) -> None:
    call, table = open_call(tcp=True), HeldTable()
    table.add(call.fd)
    reset(call.peer)
    with pytest.raises(ConnectionResetError):
        call.held.recv(100)
    table.end_input()
    call.held.close()
    assert streams.peer_text(call.fd) == "a peer that is gone"


def test_the_books_are_cleared_while_the_number_is_still_its_own() -> None:
    """A handler takes the descriptor away and closes it; the kernel gives the number to the next connection."""
    gate, taken = Gate(), threading.Event()
    numbers: list[int] = []

    def handler(conn: HeldSocket) -> None:
        if not numbers:
            numbers.append(conn.detach())
            os.close(numbers[0])
            taken.set()
            gate.wait()
        else:
            numbers.append(conn.fileno())
            conn.sendall(conn.recv(100))
            conn.recv(100)

    with bed(handler, as_="connection") as worker:
        worker.connect()
        assert taken.wait(10)
        second = worker.connect()
        second.sendall(b"hello")
        assert second.recv(100) == b"hello"
        gate.open()
        eventually(lambda: worker.worker.held.taken == 0, "the first call is over")
        if numbers[0] == numbers[1]:  # as the kernel usually does
            assert list(worker.worker.tables.open) == [numbers[1]]
        worker.worker.held.end_input()
        assert second.recv(100) == b"", "the second call is still known, and sees end-of-file in a drain"
