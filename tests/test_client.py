"""client.py: its messages, framings and arguments.  The other side does what is asked of it, byte by byte."""

import select
import socket
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import pytest

import paceline
from clientbed import DEADLINE_S, SOON_S, Other, beside, connected
from paceline.client import UNREAD_BYTES, Client
from paceline.errors import (
    BadFrame,
    ConnectionClosed,
    MessageTooLarge,
    SettingError,
    TimedOut,
    Truncated,
    UsageError,
)
from paceline.wire import Rest
from splits import splits
from testbed import running


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


def arriving(client: Client, other: Other, pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The replies, where each piece arrives alone and is looked at before the next one is sent."""
    for piece in pieces:
        other.socket.sendall(piece)
        assert select.select([client.socket], [], [], DEADLINE_S)[0]
        with suppress(TimedOut):
            while True:
                yield client.receive(timeout=0)


STREAMS: list[tuple[str, bytes, list[bytes]]] = [
    ("line", b"one\ntwo\r\n\nthree\n", [b"one", b"two", b"", b"three"]),
    ("length:2", b"\0\3one\0\0\0\4four", [b"one", b"", b"four"]),
    ("length:4:little", b"\1\0\0\0a\2\0\0\0bc", [b"a", b"bc"]),
    (r"delimiter:\r\n", b"one\r\n\r\nt\rw\no\r\n", [b"one", b"", b"t\rw\no"]),
    ("fixed:3", b"onetwosix", [b"one", b"two", b"six"]),
    ("netstring", b"3:one,0:,2:ab,", [b"one", b"", b"ab"]),
]


@pytest.mark.parametrize(("framing", "stream", "replies"), STREAMS, ids=[framing for framing, _, _ in STREAMS])
def test_replies_do_not_depend_on_how_they_arrive(framing: str, stream: bytes, replies: list[bytes]) -> None:
    with connected(framing) as (client, other):
        for pieces in splits(stream):
            assert list(arriving(client, other, pieces)) == replies, pieces


def test_many_replies_in_one_piece() -> None:
    lines = [b"%d" % number for number in range(20_000)]
    with connected() as (client, other), beside(lambda: other.socket.sendall(b"\n".join(lines) + b"\n")):
        assert [client.receive() for _ in lines] == lines


def test_a_large_reply_in_linear_time() -> None:
    size = 32 * 1024 * 1024
    with (
        connected("length:4", max_message="32m") as (client, other),
        beside(lambda: other.socket.sendall(size.to_bytes(4, "big") + bytes(size))),
    ):
        assert client.receive() == bytes(size)


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


def test_a_reply_over_the_limit() -> None:
    with connected(max_message="8") as (client, other):
        other.socket.sendall(b"short\n" + b"x" * 20 + b"\n")
        assert client.receive() == b"short"
        for _ in range(2):
            with pytest.raises(
                MessageTooLarge, match=r"larger than this client takes.*give Client a larger max_message"
            ):
                client.receive()


def test_whose_limit_it_is() -> None:
    with connected(paceline.Lines(limit=8)) as (client, other):
        other.socket.sendall(b"x" * 20 + b"\n")
        with pytest.raises(MessageTooLarge, match="make the framing with a larger limit"):
            client.receive()


class OnlyWhatIsRight(paceline.Lines):
    def cut(self, rest: Rest, data: bytes, /) -> tuple[Sequence[bytes], Rest]:
        assert not isinstance(rest, paceline.Broken)
        return super().cut(rest, data)


def test_nothing_is_cut_behind_what_is_wrong() -> None:
    """However much of it was taken in while we sent."""
    with connected(OnlyWhatIsRight(limit=8)) as (client, other):
        other.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1024 * 1024)
        other.socket.sendall(b"good\n" + b"x" * 20 + b"\n" + b"later\n" * 65536)
        with pytest.raises(TimedOut):
            client.send(b"x" * 64 * UNREAD_BYTES, timeout=SOON_S)
        assert client.receive() == b"good"
        for _ in range(3):
            with pytest.raises(MessageTooLarge):
                client.receive()


def test_a_reply_that_does_not_follow_the_framing() -> None:
    with connected("netstring") as (client, other):
        other.socket.sendall(b"HTTP/1.1 400 Bad Request\r\n")
        with pytest.raises(BadFrame, match=r"does not follow the framing netstring: .*; which one does it"):
            client.receive()


class OfTheUser:
    """A framing that has faults."""

    def cut(self, rest: bytes | None, data: bytes) -> tuple[list[bytes], bytes | None]:
        raise ZeroDivisionError

    def join(self, replies: list[bytes]) -> str:
        return f"{len(replies)} replies"


def test_a_framing_that_has_faults() -> None:
    with connected(OfTheUser()) as (client, other):  # type: ignore[arg-type]
        with pytest.raises(UsageError, match=r"join of the framing .*OfTheUser returned str, not bytes"):
            client.send(b"x")
        other.socket.sendall(b"x")
        with pytest.raises(ZeroDivisionError):
            client.receive()
        for _ in range(2):
            with pytest.raises(UsageError, match=r"cut of the framing .*OfTheUser raised ZeroDivisionError: where the"):
                client.receive()


def test_what_is_no_message() -> None:
    with connected("fixed:3") as (client, other):
        with pytest.raises(UsageError, match="message 2 is of type str, where bytes are wanted; encode it"):
            client.send(b"abc", "def")  # type: ignore[arg-type]
        with pytest.raises(UsageError, match="message 2 cannot be sent"):
            client.send(b"abc", b"four")
        with pytest.raises(UsageError, match=r"of type int, where bytes are wanted$"):
            client.send(3)  # type: ignore[arg-type]
        with pytest.raises(UsageError, match=r"of type list, where bytes are wanted; .* send\(\*messages\)"):
            client.send([b"abc"])  # type: ignore[arg-type]
        client.send(bytearray(b"abc"), memoryview(b"def"))  # type: ignore[arg-type]
        assert other.receive(6) == b"abcdef"
    with connected("raw") as (client, _other):
        client.send(b"")
        client.send()
        with pytest.raises(UsageError, match="an empty message is nothing at all in the framing raw"):
            client.call(b"")


@pytest.mark.parametrize(
    ("framing", "message"),
    [("fixed:3", b""), ("length:1", bytes(256)), (r"delimiter:\n", b"a\nb"), ("fixed:2", b"abc")],
)
def test_what_cannot_be_sent_is_said_in_a_clients_words(framing: str, message: bytes) -> None:
    with connected(framing) as (client, _other):
        with pytest.raises(UsageError, match="message 1 cannot be sent: it is a message of") as caught:
            client.send(message)
        assert not {"handler", "reply", "replies", "returned"} & set(str(caught.value).replace(",", " ").split())


def test_wrong_arguments() -> None:
    for keywords, said in (
        ({"timeout": 0}, "timeout=0 must be a time"),
        ({"timeout": "soon"}, "timeout='soon' must be a time"),
        ({"connect_timeout": -1}, "connect_timeout=-1 must be a time"),
        ({"max_message": "0"}, "max_message='0' must be a size"),
        ({"framing": "lines"}, "line"),
        ({"address": "nowhere"}, "the address 'nowhere' must be"),
        ({"address": ":0"}, ":0 means any free port"),
        ({"address": ("127.0.0.1", 1)}, "address=.* must be a text such as '127.0.0.1:8888'"),
        ({"address": "fd://3"}, "a socket that a server inherits"),
    ):
        with pytest.raises(UsageError, match=said):
            Client(**keywords)
    with connected() as (client, _other), pytest.raises(SettingError, match="timeout=-1 must be a time from 0s to 1d"):
        client.receive(timeout=-1)


def test_a_socket_file(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        with Client(f"unix:{tmp_path}/s", framing="line", timeout=DEADLINE_S) as client:
            assert client.peer == f"unix:{tmp_path}/s"
            accepted, _ = listener.accept()
            with accepted:
                accepted.sendall(b"hello\nwor")
                assert client.receive() == b"hello"
            with pytest.raises(Truncated):
                client.receive()
            with pytest.raises(ConnectionClosed):
                client.send(b"x")
