"""worker/held.py: how the socket of a whole-connection call is closed, copied, taken away and given back."""

import os
import socket
import ssl
import struct
import threading
from collections.abc import Iterator

import pytest

from heldcall import PEER, Open, open_calls
from leftovers import eventually
from paceline.host import streams
from paceline.worker.held import HeldSocket, HeldTable, take_back
from workerbed import Gate, bed, receive_all, receive_exactly, reset

pytestmark = pytest.mark.usefixtures("nothing_left")


@pytest.fixture
def open_call() -> Iterator[Open]:
    with open_calls() as make:
        yield make


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


def test_whose_process_the_peer_is(open_call: Open) -> None:
    call = open_call()
    who = streams.Credentials(os.getpid(), os.geteuid(), os.getegid())
    assert call.held.credentials == who
    call.peer.close()
    call.held.close()
    assert call.held.credentials == who, "until the call is over"
    assert open_call(tcp=True).held.credentials is None


def test_after_the_descriptor_was_taken_away_there_is_nobody(open_call: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    call, other = open_call(), open_call()
    taken = socket.socket(fileno=call.held.detach())
    assert call.held.credentials is None
    assert call.held.peer == "a peer that is gone"
    taken.close()
    asked = streams.peer_credentials

    def slowly(fd: int) -> streams.Credentials | None:
        taken.__init__(fileno=other.held.detach())  # type: ignore[misc]
        return asked(fd)

    monkeypatch.setattr(streams, "peer_credentials", slowly)
    assert other.held.credentials is None, "it was taken away meanwhile, and its number may be another's"
    taken.close()


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
        eventually(lambda: worker.worker.held.taken == 0)
        if numbers[0] == numbers[1]:  # as the kernel usually does
            assert list(worker.worker.tables.open) == [numbers[1]]
        worker.worker.held.end_input()
        assert second.recv(100) == b"", "the second call is still known, and sees end-of-file in a drain"
