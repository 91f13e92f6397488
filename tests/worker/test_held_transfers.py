"""worker/held.py: receiving and sending in a whole-connection call, the limits of time, a peer that is gone."""

import errno
import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from heldcall import CALLING, LARGE, PEER, RECEIVE, SEND, SEND_ALL, Call, Open, open_calls
from leftovers import eventually
from paceline.worker.held import HeldSocket
from workerbed import receive_exactly, reset

pytestmark = pytest.mark.usefixtures("nothing_left")


@pytest.fixture
def open_call() -> Iterator[Open]:
    with open_calls() as make:
        yield make


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
