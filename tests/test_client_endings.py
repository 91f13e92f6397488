"""client.py: time-outs, ends and resets, in both directions, and what is still possible after each."""

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from clientbed import DEADLINE_S, SOON_S, beside, connected, flooding
from paceline.addresses import Address
from paceline.client import UNREAD_BYTES, Client
from paceline.clock import now
from paceline.errors import (
    ConnectionClosed,
    ConnectionReset,
    Refused,
    TimedOut,
    Truncated,
    UsageError,
)
from paceline.host.streams import unread_bytes
from workerbed import reset


def test_a_time_out_keeps_what_has_arrived() -> None:
    with connected() as (client, other):
        other.socket.sendall(b"half a ")
        with pytest.raises(TimedOut, match=r"no reply from .* within 0\.05 s \(a part of it has") as caught:
            client.receive(timeout=SOON_S)
        assert isinstance(caught.value, TimeoutError)
        other.socket.sendall(b"line\nnext\n")
        assert client.receive() == b"half a line"
        assert client.receive() == b"next"


def test_the_time_out_is_for_the_whole_call() -> None:
    """A byte now and then does not begin it anew."""
    with connected() as (client, other):
        stop = threading.Event()

        def trickle() -> None:
            while not stop.wait(SOON_S / 5):
                other.socket.sendall(b"x")

        with beside(trickle):
            try:
                with pytest.raises(TimedOut, match="a part of it has arrived"):
                    client.receive(timeout=4 * SOON_S)
            finally:
                stop.set()


def test_a_stream_without_end_does_not_outlast_the_time() -> None:
    """There is always something to read, and never a reply."""
    with (
        connected(max_message="1g") as (client, other),
        flooding(other, b"x" * 65536),
        pytest.raises(TimedOut, match="a part of it has arrived"),
    ):
        client.receive(timeout=SOON_S)


def test_no_time_at_all_is_a_look() -> None:
    with connected() as (client, other):
        with pytest.raises(TimedOut):
            client.receive(timeout=0)
        other.socket.sendall(b"there\n")
        assert client.receive(timeout=None) == b"there"


def test_a_look_takes_all_that_has_arrived() -> None:
    """Also more than is received at once."""
    line = b"x" * 200_000 + b"\n"
    with connected() as (client, other):
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        other.socket.sendall(line)
        deadline = now() + DEADLINE_S
        while unread_bytes(client.socket.fileno()) < len(line):  # on its way: what the kernel holds is looked at
            assert now() < deadline
        assert client.receive(timeout=0) == line[:-1]


def test_the_server_ends_after_its_replies() -> None:
    with connected() as (client, other):
        other.socket.sendall(b"last\n")
        other.socket.close()
        assert client.receive() == b"last"
        for _ in range(2):
            with pytest.raises(ConnectionClosed, match=r"127\.0\.0\.1:\d+ ended the connection$") as caught:
                client.receive()
            assert isinstance(caught.value, ConnectionError)


def test_the_server_ends_inside_a_reply() -> None:
    with connected() as (client, other):
        other.socket.sendall(b"whole\nhal")
        other.socket.close()
        assert next(iter(client)) == b"whole"
        for _ in range(2):
            with pytest.raises(Truncated, match="ended the connection inside a reply, after 3 bytes of it"):
                client.receive()


def test_a_half_closed_server_still_reads() -> None:
    with connected() as (client, other):
        other.socket.shutdown(socket.SHUT_WR)
        with pytest.raises(ConnectionClosed):
            client.receive()
        client.send(b"still there")
        assert other.receive(12) == b"still there\n"


def test_a_reset() -> None:
    with connected() as (client, other):
        reset(other.socket)
        for _ in range(2):
            with pytest.raises(ConnectionReset, match="reset the connection; whether it saw"):
                client.receive()
        with pytest.raises(ConnectionReset):
            list(client)


def test_a_reset_inside_a_reply() -> None:
    with connected() as (client, other):
        other.socket.sendall(b"whole\nhal")
        assert client.receive() == b"whole"
        reset(other.socket)
        with pytest.raises(
            ConnectionReset, match=r"reset the connection.*; it was inside a reply, after 3 bytes of it"
        ):
            client.receive()


def test_what_arrived_before_a_reset_that_a_send_is_told_of() -> None:
    with connected() as (client, other):
        other.socket.sendall(b"one\ntwo\n")
        reset(other.socket)
        for _ in range(2):
            with pytest.raises(ConnectionReset, match="reset the connection"):
                client.send(b"x")
        assert client.receive() == b"one"
        assert client.receive() == b"two"
        for _ in range(2):
            with pytest.raises(ConnectionReset, match="reset the connection"):
                client.receive()


def test_sending_to_a_server_that_has_gone() -> None:
    with connected() as (client, other):
        other.socket.sendall(b"bye\n")
        other.socket.close()
        with pytest.raises(ConnectionClosed):
            client.send(*[b"x" * 65536] * 1024)


class Stand:
    """A socket but for what a test puts in its place."""

    def __init__(self, real: socket.socket, send: Callable[[memoryview, int], int]) -> None:
        self.real = real
        self.send = send

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    def fileno(self) -> int:
        return self.real.fileno()


def test_a_reset_while_we_wait_to_send() -> None:
    """The kernel says so once, to who reads first; whoever sends after that hears of a broken pipe."""
    with connected("raw") as (client, other):
        real = client.socket

        def send(waiting: memoryview, flags: int) -> int:
            if other.socket.fileno() >= 0:
                reset(other.socket)
                raise BlockingIOError
            return real.send(waiting, flags)

        client.socket = Stand(real, send)  # type: ignore[assignment]
        for attempt in (lambda: client.send(b"x"), client.receive, lambda: client.send(b"x")):
            with pytest.raises(ConnectionReset, match="reset the connection; whether it saw"):
                attempt()


def test_both_sides_write_first() -> None:
    """Neither reads before it has written more than the kernel holds."""
    message = b"x" * (UNREAD_BYTES - 1)
    with connected(max_message=UNREAD_BYTES) as (client, other):

        def write_first() -> None:
            for _ in range(2):
                other.socket.sendall(message + b"\n")
            other.receive(8 * UNREAD_BYTES)

        with beside(write_first):
            client.send(*[message] * 8)
        assert client.receive() == client.receive() == message


def test_replies_that_nobody_receives_stop_the_sending() -> None:
    with (
        connected("raw") as (client, other),
        flooding(other, b"y" * 65536),
        pytest.raises(TimedOut, match=r"its replies are not received, 2,\d+,\d+ bytes of them wait here"),
    ):
        client.send(b"x" * 64 * UNREAD_BYTES, timeout=1)


def test_a_server_that_does_not_read() -> None:
    with connected() as (client, other):
        with pytest.raises(TimedOut, match=r"[\d,]+ of 67,108,865 bytes could not be sent to .*: it does not read"):
            client.send(b"x" * 64 * UNREAD_BYTES, timeout=SOON_S)
        with pytest.raises(
            UsageError, match=r"an earlier send broke off when [\d,]+ of 67,108,865 bytes were sent; make"
        ):
            client.send(b"y")
        other.socket.sendall(b"a reply\n")
        assert client.receive() == b"a reply"


def test_a_server_that_reads_for_ever_does_not_outlast_the_time() -> None:
    with connected("raw") as (client, other):

        def read() -> None:
            while other.socket.recv(1 << 20):
                pass

        def send_for_ever() -> None:  # one may be in time on a quick machine
            while True:
                client.send(bytes(64 * UNREAD_BYTES), timeout=0.01)

        with beside(read):
            with pytest.raises(TimedOut, match="bytes could not be sent"):
                send_for_ever()
            client.close()


def test_bytes_that_go_out_one_by_one_do_not_outlast_the_time() -> None:
    with connected("raw") as (client, other):
        real = client.socket
        client.socket = Stand(real, lambda waiting, flags: real.send(waiting[:1], flags))  # type: ignore[assignment]
        client.send(b"abc")
        assert other.receive(3) == b"abc"
        client.socket = Stand(real, lambda *_: 1)  # type: ignore[assignment]
        with pytest.raises(TimedOut, match="bytes could not be sent"):
            client.send(bytes(8 * UNREAD_BYTES), timeout=0.01)


def test_a_send_of_which_nothing_went_out_may_be_tried_again() -> None:
    with connected() as (client, other):
        filled = 0
        with suppress(BlockingIOError):
            while True:
                filled += client.socket.send(bytes(65536), socket.MSG_DONTWAIT)
        with pytest.raises(TimedOut, match="2 of 2 bytes could not be sent"):
            client.send(b"x", timeout=0)
        other.receive(filled)
        client.send(b"y")
        assert other.receive(2) == b"y\n"


def test_a_call_is_one_time_out() -> None:
    with connected() as (client, _other), pytest.raises(TimedOut):
        client.call(b"hello", timeout="50ms")


def test_a_late_reply_is_not_taken_for_that_of_the_next_call() -> None:
    with connected() as (client, other):
        with pytest.raises(TimedOut):
            client.call(b"first", timeout=SOON_S)
        with pytest.raises(UsageError, match=r"its reply would be taken for the one to this: receive\(\) it first"):
            client.call(b"second")
        other.socket.sendall(b"to first\nto second\n")
        assert client.receive() == b"to first"
        assert client.call(b"second") == b"to second"
        assert other.receive(13) == b"first\nsecond\n"


def test_a_call_after_one_that_ran_out_of_time_says_when_the_connection_has_ended() -> None:
    with connected() as (client, other):
        with pytest.raises(TimedOut):
            client.call(b"first", timeout=SOON_S)
        reset(other.socket)
        for _ in range(2):
            with pytest.raises(ConnectionReset):
                client.receive()
            with pytest.raises(ConnectionReset):
                client.call(b"second")


def test_no_more_is_sent_after_the_end() -> None:
    with connected() as (client, other):
        client.end()
        client.end()
        assert other.socket.recv(1) == b""
        with pytest.raises(UsageError, match=r"nothing more can be sent to .*: the sending was ended with end\(\)"):
            client.send(b"x")
        other.socket.sendall(b"still answers\n")
        assert client.receive() == b"still answers"
        reset(other.socket)
        client.end()


def test_a_client_that_is_dropped_warns_as_a_socket_does() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = Client("{}:{}".format(*listener.getsockname()))
        assert client.peer
        with pytest.warns(ResourceWarning, match="unclosed <socket"):
            del client


@pytest.mark.parametrize("closed", ["send", "receive", "end"])
def test_a_closed_client(closed: str) -> None:
    with connected() as (client, other):
        client.close()
        client.close()
        with pytest.raises(UsageError, match="is closed; make another one"):
            getattr(client, closed)()
        assert other.socket.recv(1) == b""
        assert "closed" in repr(client)


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = Address("tcp", *listener.getsockname())
    with pytest.raises(Refused, match="nobody listens on"):
        Client(address)


def test_a_server_that_does_not_accept() -> None:
    """Its queue is full; the time for connecting may be another one than that of a call."""
    with socket.socket() as listener, socket.socket() as first:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        first.connect(listener.getsockname())
        with pytest.raises(TimedOut, match=r"did not answer within 0\.05 s"):
            Client(Address("tcp", *listener.getsockname()), connect_timeout=SOON_S)
