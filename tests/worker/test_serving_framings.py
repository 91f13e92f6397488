"""worker/serving.py: peers that break a framing, replies that cannot be written, framings of the user's that fail."""

import socket
from collections.abc import Sequence
from typing import Any

import pytest

from paceline.errors import BadFrame
from paceline.wire import BadReply, Broken
from workerbed import Bed, ByteByByte, bed, receive_all, receive_exactly


def echo(message: bytes) -> bytes:
    return message


def check_others(worker: Bed, client: socket.socket, message: bytes) -> None:
    """One was closed; another is served, by the same thread."""
    client.close()
    worker.wait_closed(1)
    other = worker.connect()
    other.sendall(message)
    assert receive_exactly(other, len(message)) == message
    assert len(worker.worker.crew.members) == 1


# Broken peers

BROKEN = {
    "length:1": (b"\x02ok", b"\x65" + b"x" * 101),
    "length:4": (b"\0\0\0\x02ok", b"\0\0\0\x65"),
    "netstring": (b"2:ok,", b"02:no,"),
    "line": (b"ok\n", b"x" * 101 + b"\n"),
    "delimiter:--": (b"ok--", b"x" * 200),
}


@pytest.mark.parametrize("framing", BROKEN)
@pytest.mark.parametrize("good", [0, 1, 2, 1000])
@pytest.mark.parametrize("after", [b"", b"more"], ids=["", "more after it"])
def test_what_came_before_a_broken_message_is_answered(framing: str, good: int, after: bytes) -> None:
    whole, broken = BROKEN[framing]
    calls: list[bytes] = []

    def handler(message: bytes) -> bytes:
        calls.append(message)
        return message

    with bed(handler, framing=framing, max_message=100) as worker:
        client = worker.connect_tcp()
        client.sendall(whole * good + broken + after * 1000)
        assert receive_all(client) == whole * good
        assert calls == [b"ok"] * good
        (said,) = worker.log.find("peer-broke")
        assert said["message"] == good
        check_others(worker, client, whole)
        assert worker.cell("closed_broken") == 1
        assert len(worker.log.find("peer-broke")) == 1


def test_a_broken_message_in_single_bytes() -> None:
    with bed(echo, framing="netstring") as worker:
        client, other = worker.connect_tcp(), worker.connect()
        for byte in (b"2", b":", b"o", b"k", b",", b"0", b"2"):
            client.sendall(byte)
            other.sendall(b"1:.,")
            receive_exactly(other, 4)
        assert receive_all(client) == b"2:ok,"
        assert len(worker.log.find("peer-broke")) == 1


# Replies that cannot be written


@pytest.mark.parametrize("at", [0, 1, 5])
@pytest.mark.parametrize("way", ["fast", "measured"])
def test_the_replies_before_a_bad_one_are_sent(at: int, way: str) -> None:
    def handler(message: bytes) -> bytes:
        return b"too long" if message == b"!" else message

    with bed(handler, framing="fixed:1") as worker:
        worker.worker.sample_due = way == "measured"
        client = worker.connect_tcp()
        client.sendall(b"." * at + b"!" + b"." * 5)
        assert receive_all(client) == b"." * at
        assert "cannot send" in str(worker.log.wait_for("reply-refused")["got"])
        check_others(worker, client, b".")
        assert worker.cell("closed_error") == 1


@pytest.mark.parametrize("index", [-1, 0, 2, 3, 1000, None, "1"])
def test_a_framing_that_blames_the_wrong_reply_costs_one_connection(index: Any) -> None:
    class Miscounting(ByteByByte):
        def join(self, replies: Sequence[bytes]) -> bytes:
            if b"!" in replies:
                raise BadReply("it does not like this one", index)
            return b"".join(replies)

    with bed(echo, framing=Miscounting()) as worker:
        client = worker.connect_tcp()
        client.sendall(b".!.")
        assert receive_all(client) in (b"", b".", b"..")
        assert worker.log.wait_for("reply-refused")
        check_others(worker, client, b".")


# Framings that fail


class Failing(ByteByByte):
    """`!` makes `cut` do something wrong, `?` makes `join` do so."""

    def __init__(self, cut_result: Any = None, join_result: Any = None) -> None:
        self.cut_result = cut_result
        self.join_result = join_result

    def cut(self, _rest: object, data: bytes) -> Any:
        if b"!" in data:
            if isinstance(self.cut_result, BaseException):
                raise self.cut_result
            return self.cut_result
        return super().cut(None, data)

    def join(self, replies: Sequence[bytes]) -> Any:
        if b"?" in replies:
            if isinstance(self.join_result, BaseException):
                raise self.join_result
            return self.join_result
        return b"".join(replies)


class Unreadable(Sequence[bytes]):
    """Looks like one message until somebody looks at it."""

    def __repr__(self) -> str:
        return "Unreadable()"

    def __len__(self) -> int:
        return 1

    def __getitem__(self, at: Any) -> Any:
        raise ValueError(at)


WRONG_CUTS: list[object] = [
    ValueError("no"), SystemExit(1), KeyboardInterrupt(), None, 5, (), (None, None), (5, None), ([b"a"],),
    (Unreadable(), None),
]  # fmt: skip
WRONG_JOINS: list[object] = [ValueError("no"), SystemExit(1), KeyboardInterrupt(), None, 5, "text", [b"a"]]

WAYS = ["fast", "careful"]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("wrong", WRONG_CUTS, ids=repr)
def test_a_cut_that_fails_costs_one_connection(wrong: object, way: str) -> None:
    with bed(echo, framing=Failing(cut_result=wrong)) as worker:
        worker.worker.sample_due = way == "careful"
        client = worker.connect_tcp()
        client.sendall(b"!")
        assert receive_all(client) == b""
        assert worker.log.wait_for("hook-failed")["hook"] == "the framing's cut"
        check_others(worker, client, b".")
        assert worker.cell("closed_error") == 1


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("wrong", WRONG_JOINS, ids=repr)
def test_a_join_that_fails_costs_one_connection(wrong: object, way: str) -> None:
    with bed(echo, framing=Failing(join_result=wrong)) as worker:
        worker.worker.sample_due = way == "careful"
        client = worker.connect_tcp()
        client.sendall(b"?")
        assert receive_all(client) == b""
        assert worker.log.wait_for("hook-failed")["hook"] == "the framing's join"
        check_others(worker, client, b".")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_a_join_may_return_a_buffer_that_it_uses_again(kind: Any, way: str) -> None:
    buffer = bytearray(100_000)

    class Reusing(ByteByByte):
        def join(self, replies: Sequence[bytes]) -> Any:
            whole = b"".join(replies)
            buffer[:] = whole
            return kind(buffer)

    with bed(lambda message: message * 100_000, framing=Reusing()) as worker:
        worker.worker.sample_due = way == "careful"
        slow, other = worker.connect(send_buffer=4096), worker.connect()
        slow.sendall(b"s")
        worker.wait_stuck()
        other.sendall(b"o")
        assert receive_exactly(other, 100_000) == b"o" * 100_000
        assert receive_exactly(slow, 100_000) == b"s" * 100_000


@pytest.mark.parametrize("way", ["fast", "careful"])
@pytest.mark.parametrize("kind", [list, tuple])
def test_a_cut_may_return_any_sequence(kind: Any, way: str) -> None:
    class Odd(ByteByByte):
        def cut(self, _rest: object, data: bytes) -> Any:
            return kind(super().cut(None, data)[0]), None

    with bed(echo, framing=Odd()) as worker:
        worker.worker.sample_due = way == "careful"
        client = worker.connect()
        client.sendall(b"abc" * 20)
        assert receive_exactly(client, 60) == b"abc" * 20


def test_the_messages_of_a_large_receive_are_cut_in_parts() -> None:
    """64 KiB of empty lines would be a megabyte of messages; they are made and answered a part at a time."""
    most = 0

    class Measuring(ByteByByte):
        def cut(self, _rest: object, data: bytes) -> Any:
            nonlocal most
            most = max(most, len(data))
            return super().cut(None, data)

    with bed(echo, framing=Measuring()) as worker:
        client = worker.connect()
        client.sendall(b"x" * 65536)
        assert receive_exactly(client, 65536) == b"x" * 65536
        assert most <= 8192


def test_a_rest_that_is_broken_ends_what_was_received_with_it() -> None:
    class Breaking(ByteByByte):
        def cut(self, _rest: object, data: bytes) -> Any:
            at = data.find(b"!")
            if at < 0:
                return super().cut(None, data)
            return super().cut(None, data[:at])[0], Broken(BadFrame("an exclamation mark"))

    with bed(echo, framing=Breaking()) as worker:
        client = worker.connect_tcp()
        client.sendall(b"x" * 10_000 + b"!" + b"y" * 40_000)
        assert receive_all(client) == b"x" * 10_000
        assert worker.log.wait_for("peer-broke")["error"] == "an exclamation mark"
        check_others(worker, client, b".")
