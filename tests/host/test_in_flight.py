"""What is in flight in a way is known exactly, whoever sent it and however long it waits."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from paceline.host import in_flight, passing
from paceline.host.descriptors import Spare

pytestmark = pytest.mark.usefixtures("nothing_left")

RECORD = b'{"listener": 0}'


@pytest.fixture
def way() -> Iterator[tuple[socket.socket, socket.socket]]:
    reader, writer = passing.pair()
    yield reader, writer
    reader.close()
    writer.close()


def count(writer: socket.socket) -> int:
    return in_flight.charged_bytes(writer) // in_flight.charge_of(RECORD)


def send(writer: socket.socket, record: bytes = RECORD) -> bool:
    with open(os.devnull, "rb") as something:
        return passing.send_connection(writer, something.fileno(), record)


def test_nothing_is_in_flight_at_first(way: tuple[socket.socket, socket.socket]) -> None:
    assert in_flight.charged_bytes(way[1]) == 0


def test_each_connection_counts_until_it_is_received(way: tuple[socket.socket, socket.socket]) -> None:
    reader, writer = way
    spare = Spare()
    sent = 0
    while send(writer):
        sent += 1
        assert count(writer) == sent
    assert sent > 100  # all that there is room for
    for left in reversed(range(sent)):
        with pytest.raises(passing.NotAConnection):  # it is no socket, and it is taken out all the same
            passing.receive_connection(reader, spare)
        assert count(writer) == left
    spare.close()


def test_a_look_does_not_take_it_out(way: tuple[socket.socket, socket.socket]) -> None:
    reader, writer = way
    send(writer)
    reader.recv(1, socket.MSG_PEEK)
    assert count(writer) == 1


@pytest.mark.parametrize("record", [b'{"listener": 7}', b'{"listener": 123}', b"x" * 64])
def test_small_records_count_the_same(way: tuple[socket.socket, socket.socket], record: bytes) -> None:
    for sent in range(1, 6):
        send(way[1], record)
        assert count(way[1]) == sent


def test_a_long_record_counts_for_several(way: tuple[socket.socket, socket.socket]) -> None:
    send(way[1], b"x" * 10_000)
    assert count(way[1]) > 1


SENDER = """if True:
    import socket, sys
    from paceline.host import passing
    writer = socket.socket(fileno=int(sys.argv[1]))
    assert passing.send_connection(writer, 0, b'{"listener": 0}')"""


def test_what_another_process_sent_counts(way: tuple[socket.socket, socket.socket]) -> None:
    writer = way[1]
    send(writer)
    subprocess.run([sys.executable, "-c", SENDER, str(writer.fileno())], pass_fds=[writer.fileno()], check=True)
    assert count(writer) == 2  # though its sender has ended


def test_where_the_kernel_does_not_tell_nothing_is_in_flight() -> None:
    with open(os.devnull, "rb") as no_socket:
        assert in_flight.charged_bytes(no_socket) == 0  # type: ignore[arg-type]  # ENOTTY
