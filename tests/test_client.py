"""client.py: against servers of a few lines that do what is asked of them, byte by byte; and against a real one."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

import paceline
from paceline.addresses import Address
from paceline.client import UNREAD_BYTES, Client
from paceline.errors import (
    BadFrame,
    ConnectionClosed,
    ConnectionReset,
    MessageTooLarge,
    Refused,
    SettingError,
    TimedOut,
    Truncated,
    UsageError,
)
from splits import splits
from testbed import running
from workerbed import reset

DEADLINE_S = 5.0
SOON_S = 0.05
"""A time-out that is to pass."""


class Other:
    """The other side of a client, by hand."""

    def __init__(self, accepted: socket.socket) -> None:
        self.socket = accepted
        accepted.settimeout(DEADLINE_S)

    def receive(self, count: int) -> bytes:
        received = b""
        while len(received) < count:
            piece = self.socket.recv(count - len(received))
            assert piece, f"end-of-file after {received!r}"
            received += piece
        return received


@contextmanager
def connected(framing: str | paceline.Framing = "line", **keywords: object) -> Iterator[tuple[Client, Other]]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = "{}:{}".format(*listener.getsockname())
        with Client(address, framing=framing, **{"timeout": DEADLINE_S, **keywords}) as client:  # type: ignore[arg-type]
            accepted, _ = listener.accept()
            with accepted:
                yield client, Other(accepted)


@contextmanager
def beside(work: Callable[[], object]) -> Iterator[None]:
    """`work` runs on another thread meanwhile, and must succeed."""
    failures: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - raised again below
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        thread.join(DEADLINE_S)
    assert not thread.is_alive()
    if failures:
        raise failures[0]


def test_a_real_server() -> None:
    files = {"app.py": "def shout(line):\n    return line.upper()\n"}
    with (
        running("app.py:shout", "--framing", "line", files=files) as server,
        paceline.Client(server.places[0], framing="line") as client,
    ):
        assert client.call(b"hello") == b"HELLO"
        client.send(b"a", b"b")
        client.end()
        assert list(client) == [b"A", b"B"]


def test_messages_go_out_in_one_piece_and_order() -> None:
    with connected() as (client, other):
        client.send(b"a", b"b", b"")
        assert other.receive(5) == b"a\nb\n\n"


@pytest.mark.parametrize("pieces", list(splits(b"one\ntwo\r\n\nthree\n")), ids=lambda pieces: f"{len(pieces)} pieces")
def test_replies_do_not_depend_on_how_they_arrive(pieces: list[bytes]) -> None:
    with connected() as (client, other):
        for piece in pieces:
            other.socket.sendall(piece)
        assert [client.receive() for _ in range(4)] == [b"one", b"two", b"", b"three"]


def test_raw_gives_what_has_arrived() -> None:
    with connected("raw") as (client, other):
        other.socket.sendall(b"some bytes")
        assert client.receive() == b"some bytes"


def test_a_framing_of_the_users() -> None:
    class Dots:
        def cut(self, rest: bytes | None, data: bytes) -> tuple[list[bytes], bytes | None]:
            *messages, last = ((rest or b"") + data).split(b".")
            return messages, last or None

        def join(self, replies: list[bytes]) -> bytes:
            return b"".join(reply + b"." for reply in replies)

    with connected(Dots()) as (client, other):  # type: ignore[arg-type]
        other.socket.sendall(b"a.b")
        assert client.receive() == b"a"
        client.send(b"x")
        assert other.receive(2) == b"x."


def test_a_time_out_keeps_what_has_arrived() -> None:
    with connected() as (client, other):
        other.socket.sendall(b"half a ")
        with pytest.raises(TimedOut, match=r"no reply from .* within the time-out") as caught:
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


def test_sending_to_a_server_that_has_gone() -> None:
    with connected() as (client, other):
        other.socket.sendall(b"bye\n")
        other.socket.close()
        with pytest.raises(ConnectionClosed):
            client.send(*[b"x" * 65536] * 1024)


def test_a_reply_over_the_limit() -> None:
    with connected(max_message="8") as (client, other):
        other.socket.sendall(b"short\n" + b"x" * 20 + b"\n")
        assert client.receive() == b"short"
        for _ in range(2):
            with pytest.raises(
                MessageTooLarge, match=r"larger than this client takes.*give Client a larger max_message"
            ):
                client.receive()


def test_a_reply_that_does_not_follow_the_framing() -> None:
    with connected("netstring") as (client, other):
        other.socket.sendall(b"HTTP/1.1 400 Bad Request\r\n")
        with pytest.raises(BadFrame, match="does not follow the framing Netstring"):
            client.receive()


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
    with connected("raw") as (client, other):
        stop = threading.Event()

        def write() -> None:
            other.socket.settimeout(SOON_S)
            while not stop.is_set():
                with suppress(TimeoutError):
                    other.socket.send(b"y" * 65536)

        with beside(write):
            try:
                with pytest.raises(TimedOut, match=r"its replies are not received, .* bytes of them wait here"):
                    client.send(b"x" * 64 * UNREAD_BYTES, timeout=1)
            finally:
                stop.set()


def test_a_server_that_does_not_read() -> None:
    with (
        connected() as (client, _other),
        pytest.raises(TimedOut, match=r"[\d,]+ bytes could not be sent to .*: it does not read"),
    ):
        client.send(b"x" * 64 * UNREAD_BYTES, timeout=SOON_S)


def test_a_call_is_one_time_out() -> None:
    with connected() as (client, _other), pytest.raises(TimedOut):
        client.call(b"hello", timeout="50ms")


@pytest.mark.parametrize("closed", ["send", "receive", "end"])
def test_a_closed_client(closed: str) -> None:
    with connected() as (client, other):
        client.close()
        client.close()
        with pytest.raises(UsageError, match="is closed; make another one"):
            getattr(client, closed)()
        assert other.socket.recv(1) == b""
        assert "closed" in repr(client)


def test_what_is_no_message() -> None:
    with connected("fixed:3") as (client, _other):
        with pytest.raises(UsageError, match="message 2 is of type str, where bytes are wanted; encode it"):
            client.send(b"abc", "def")  # type: ignore[arg-type]
        with pytest.raises(UsageError, match="message 2 cannot be sent"):
            client.send(b"abc", b"four")
        with pytest.raises(UsageError, match="of type int"):
            client.send(3)  # type: ignore[arg-type]


def test_wrong_arguments() -> None:
    for keywords, said in (
        ({"timeout": 0}, "timeout=0 must be a time"),
        ({"timeout": "soon"}, "timeout='soon' must be a time"),
        ({"connect_timeout": -1}, "connect_timeout=-1 must be a time"),
        ({"max_message": "0"}, "max_message='0' must be a size"),
        ({"framing": "lines"}, "line"),
        ({"address": "nowhere"}, "the address 'nowhere' must be"),
    ):
        with pytest.raises(SettingError, match=said):
            Client(**keywords)


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = Address("tcp", *listener.getsockname())
    with pytest.raises(Refused, match="nobody listens on"):
        Client(address)
