"""worker/files.py and what serving.py does with it: files as replies, whole, in parts, and to peers who read slowly."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from leftovers import eventually
from paceline import Close, File
from paceline.worker.files import FileError, Sending
from workerbed import bed, receive_all, receive_exactly, reset

LARGE = bytes(range(256)) * 40_000  # 10 MiB: more than any socket takes at once


@pytest.fixture
def large(tmp_path: Path) -> Path:
    path = tmp_path / "large.bin"
    path.write_bytes(LARGE)
    return path


def descriptors_of(path: Path) -> int:
    found = 0
    for name in os.listdir("/proc/self/fd"):
        try:
            found += os.readlink(f"/proc/self/fd/{name}") == str(path)
        except OSError:
            continue
    return found


# One that is being sent


def test_it_is_sent_piece_by_piece_and_its_parts_are_exact(large: Path) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        sending = Sending(File(large, offset=10, count=300))
        assert [sending.send(ours.fileno(), 200), sending.send(ours.fileno(), 200)] == [200, 100]
        assert (sending.left, sending.offset) == (0, 310)
        assert theirs.recv(1000) == LARGE[10:310]
        sending.close()
        sending.close()
        assert descriptors_of(large) == 0


@pytest.mark.parametrize(
    ("offset", "count", "left"),
    [(0, None, len(LARGE)), (len(LARGE), None, 0), (len(LARGE) + 5, None, 0), (0, 0, 0), (5, 7, 7)],
)
def test_how_much_there_is_to_send(offset: int, count: int | None, left: int, large: Path) -> None:
    sending = Sending(File(large, offset, count))
    assert sending.left == left
    sending.close()


def test_what_cannot_be_sent_is_refused_and_leaves_nothing_open(tmp_path: Path, large: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, said in ((tmp_path, "no regular file"), (tmp_path / "pipe", "no regular file")):
        with pytest.raises(FileError, match=said):
            Sending(File(path))
        assert descriptors_of(path) == 0
    with pytest.raises(FileError, match=r"has 10,240,000 bytes, and 7 from byte 10,239,995 on were to be sent"):
        Sending(File(large, offset=len(LARGE) - 5, count=7))
    with pytest.raises(FileNotFoundError):
        Sending(File(tmp_path / "missing"))
    assert descriptors_of(large) == 0


def test_one_that_has_become_shorter_is_not_taken_for_complete(large: Path) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        sending = Sending(File(large))
        os.truncate(large, 0)
        with pytest.raises(FileError, match=r"has become shorter while it was sent: 10,240,000 bytes are missing"):
            sending.send(ours.fileno(), 100)
        sending.close()


def test_a_peer_that_is_gone_or_takes_nothing_is_no_fault_of_the_file(large: Path) -> None:
    ours, theirs = socket.socketpair()
    with ours:
        ours.setblocking(False)
        sending = Sending(File(large))
        for _ in range(1000):
            try:
                sending.send(ours.fileno(), 1 << 20)
            except BlockingIOError:
                break
        assert 0 < sending.left < len(LARGE)
        theirs.close()
        with pytest.raises(BrokenPipeError):
            sending.send(ours.fileno(), 1 << 20)
        sending.close()


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ({"offset": -1}, ValueError, "offset is -1; it is 0 or more"),
        ({"count": -1}, ValueError, "count is -1; it is 0 or more"),
        ({"offset": 1.5}, TypeError, "offset is a whole number of bytes, and not a float"),
        ({"count": "7"}, TypeError, "count is a whole number of bytes, and not a str"),
        ({"offset": None}, TypeError, "offset is a whole number of bytes, and not None"),
    ],
)
def test_a_part_that_cannot_be_is_refused_where_it_is_written(
    arguments: dict[str, Any], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        File("a", **arguments)


# As replies


def test_a_file_is_a_reply_and_the_connection_goes_on(large: Path) -> None:
    def handler(message: bytes) -> File | bytes:
        return File(large) if message == b"file" else message.upper()

    with bed(handler) as worker:
        client = worker.connect_tcp()
        for _ in range(2):
            client.sendall(b"file")
            assert receive_exactly(client, len(LARGE)) == LARGE
            client.sendall(b"hello")
            assert receive_exactly(client, 5) == b"HELLO"
        eventually(lambda: worker.thread_total("bytes_out") == 2 * (len(LARGE) + 5))  # counted after it is sent
        client.close()
        worker.wait_closed(1)
        assert descriptors_of(large) == 0
        assert not worker.log.said


def test_it_may_be_a_piece_among_others(large: Path) -> None:
    def handler(_message: bytes) -> Iterator[bytes | File]:
        yield b"head "
        yield File(large, 0, 100)
        yield b" between "
        yield File(str(large).encode(), 100, 50)
        yield File(large, count=0)
        yield b" tail"

    expected = b"head " + LARGE[:100] + b" between " + LARGE[100:150] + b" tail"
    with bed(handler) as worker:
        client = worker.connect_tcp()
        for _ in range(2):
            client.sendall(b"x")
            assert receive_exactly(client, len(expected)) == expected
        client.close()
        worker.wait_closed(1)
        assert descriptors_of(large) == 0


def test_messages_that_wait_come_after_it(large: Path) -> None:
    with bed(lambda message: File(large, count=1000) if message == b"f" else message, framing="fixed:1") as worker:
        client = worker.connect_tcp()
        client.sendall(b"afb")
        expected = b"a" + LARGE[:1000] + b"b"
        assert receive_exactly(client, len(expected)) == expected
        client.close()
        worker.wait_closed(1)


def test_close_closes_after_it(large: Path) -> None:
    with bed(lambda _message: Close(File(large, count=100))) as worker:
        client = worker.connect_tcp()
        client.sendall(b"x")
        assert receive_all(client) == LARGE[:100]
        client.close()
        worker.wait_closed(1)
        assert descriptors_of(large) == 0


def test_a_peer_that_reads_slowly_holds_no_thread_and_no_memory(large: Path) -> None:
    with bed(lambda message: File(large) if message == b"file" else message) as worker:
        slow, quick = worker.connect_tcp(), worker.connect_tcp()
        slow.sendall(b"file")
        eventually(lambda: worker.thread_total("bytes_out") > 0)
        for _ in range(20):
            quick.sendall(b"hello")
            assert receive_exactly(quick, 5) == b"hello"
        (waiting,) = (c for c in worker.worker.tables.open.values() if c.source is not None)
        eventually(lambda: waiting.fd in worker.worker.tables.parked)
        assert waiting.out is not None
        assert len(waiting.out) == 0
        assert receive_exactly(slow, len(LARGE)) == LARGE
        slow.sendall(b"hello")
        assert receive_exactly(slow, 5) == b"hello"
        for client in (slow, quick):
            client.close()
        worker.wait_closed(2)
        assert descriptors_of(large) == 0


def test_a_peer_that_leaves_in_the_middle_leaves_nothing_open(large: Path) -> None:
    with bed(lambda _message: iter([File(large), b"never"])) as worker:
        client = worker.connect_tcp()
        client.sendall(b"x")
        receive_exactly(client, 1000)
        reset(client)
        worker.wait_closed(1)
        assert descriptors_of(large) == 0


def test_one_that_does_not_read_is_cut_off_at_its_deadline(large: Path) -> None:
    with bed(lambda _message: File(large), write_timeout=1.0) as worker:
        client = worker.connect_tcp()
        client.sendall(b"x")
        eventually(lambda: any(c.out is not None for c in worker.worker.tables.parked.copy().values()))
        timing = worker.parts.serving.ending.timing
        timing.look(1000.0)
        timing.look(1002.0)
        worker.wait_closed(1)
        assert worker.cell("closed_timeout") == 1
        assert descriptors_of(large) == 0
        client.close()


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (File("/nowhere/at/all"), "FileNotFoundError"),
        (File("/"), "is no regular file"),
        (File("/etc/passwd", count=1 << 40), "were to be sent"),
        ([b"a", File("/nowhere/at/all")], "FileNotFoundError"),
    ],
)
def test_one_that_cannot_be_sent_is_the_handlers_fault_and_costs_the_connection(reply: Any, said: str) -> None:
    with bed(lambda _message: reply) as worker:
        client = worker.connect_tcp()
        client.sendall(b"x")
        assert receive_all(client) == (b"a" if isinstance(reply, list) else b"")
        client.close()
        worker.wait_closed(1)
        assert any(said in str(line) for line in worker.log.said)


@pytest.mark.parametrize("framing", ["line", "length:4", "netstring"])
def test_a_framing_that_wraps_replies_refuses_it_by_name(framing: str, large: Path) -> None:
    said = {"line": b"x\n", "length:4": b"\0\0\0\1x", "netstring": b"1:x,"}[framing]
    with bed(lambda _message: File(large), framing=framing) as worker:
        client = worker.connect_tcp()
        client.sendall(said)
        assert receive_all(client) == b""
        client.close()
        worker.wait_closed(1)
        assert any(
            "a File, for which the framing must send replies as they are" in str(line) for line in worker.log.said
        )


@pytest.mark.parametrize("path", [None, 3, ["a"]])
def test_what_is_no_path_is_refused(path: Any) -> None:
    with pytest.raises(TypeError):
        File(path)
