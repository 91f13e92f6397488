"""Handing connections over: none is lost, none is doubled, whatever runs out."""

import array
import os
import resource
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from paceline.host import descriptors, memory, passing, streams
from paceline.host.descriptors import Spare

pytestmark = pytest.mark.usefixtures("nothing_left")


@pytest.fixture
def way() -> Iterator[tuple[socket.socket, socket.socket]]:
    reader, writer = passing.pair()
    yield reader, writer
    reader.close()
    writer.close()


@pytest.fixture
def spare() -> Iterator[Spare]:
    held = Spare()
    yield held
    held.close()


@pytest.fixture
def connection() -> Iterator[tuple[int, socket.socket]]:
    """(our descriptor, the client): the test gives the descriptor back."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        client = socket.create_connection(listening.getsockname(), timeout=5)
        yield streams.accept(listening), client
        client.close()


@contextmanager
def room_for(count: int) -> Iterator[None]:
    """At most so many further descriptors can be opened."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = [os.dup(0) for _ in range(count + 1)]
    for fd in free:
        os.close(fd)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free[-1], hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def send_anything(writer: socket.socket, record: bytes, *fds: int) -> None:
    """What `send_connection` never sends."""
    writer.sendmsg([record], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else [])


def test_a_connection_arrives_with_its_record(
    way: tuple[socket.socket, socket.socket], spare: Spare, connection: tuple[int, socket.socket]
) -> None:
    reader, writer = way
    fd, client = connection
    assert passing.receive_connection(reader, spare) is None
    assert passing.send_connection(writer, fd, b"the record")
    streams.let_go(fd)
    client.sendall(b"sent while in flight")
    arrived = passing.receive_connection(reader, spare)
    assert arrived is not None
    assert arrived[1] == b"the record"
    assert streams.receive(arrived[0], 100) == b"sent while in flight"
    assert not os.get_blocking(arrived[0])
    assert not os.get_inheritable(arrived[0])
    assert passing.receive_connection(reader, spare) is None
    streams.close(arrived[0])
    assert client.recv(1) == b""


def test_the_ends_neither_block_nor_are_inherited_by_exec(way: tuple[socket.socket, socket.socket]) -> None:
    for end in way:
        assert not end.get_inheritable()
        assert not os.get_blocking(end.fileno())


def test_a_connection_survives_in_flight_although_every_process_has_let_it_go(
    way: tuple[socket.socket, socket.socket], spare: Spare, connection: tuple[int, socket.socket]
) -> None:
    """It can be moved on, unread, from the way of one that has died to another's."""
    first, second = way, passing.pair()
    fd, client = connection
    assert passing.send_connection(first[1], fd, b"1")
    streams.let_go(fd)
    moved = passing.receive_connection(first[0], spare)
    assert moved is not None
    assert passing.send_connection(second[1], *moved)
    streams.let_go(moved[0])
    arrived = passing.receive_connection(second[0], spare)
    assert arrived is not None
    streams.send(arrived[0], b"here")
    assert client.recv(10) == b"here"
    streams.close(arrived[0])
    for end in second:
        end.close()


def test_another_process_sends(way: tuple[socket.socket, socket.socket], spare: Spare) -> None:
    reader, writer = way
    sending = (
        "import socket, sys\n"
        "from paceline.host import passing\n"
        "here, there = socket.socketpair()\n"
        "there.sendall(b'from a process that is gone')\n"
        "writer = socket.socket(fileno=int(sys.argv[1]))\n"
        "sys.exit(not passing.send_connection(writer, here.fileno(), b'r'))\n"
    )
    child = subprocess.run(
        [sys.executable, "-c", sending, str(writer.fileno())], pass_fds=[writer.fileno()], timeout=10
    )
    assert child.returncode == 0
    arrived = passing.receive_connection(reader, spare)
    assert arrived is not None
    assert os.read(arrived[0], 100) == b"from a process that is gone"
    os.close(arrived[0])


def test_they_arrive_in_order_and_full_is_said(
    way: tuple[socket.socket, socket.socket], spare: Spare, connection: tuple[int, socket.socket]
) -> None:
    reader, writer = way
    fd, _ = connection
    sent = 0
    while passing.send_connection(writer, fd, b"%d" % sent):
        sent += 1
    assert sent >= 100
    for number in range(sent):
        arrived = passing.receive_connection(reader, spare)
        assert arrived is not None
        assert arrived[1] == b"%d" % number
        os.close(arrived[0])
    assert passing.receive_connection(reader, spare) is None
    assert passing.send_connection(writer, fd, b"there is room again")
    streams.let_go(fd)


def test_the_longest_record_and_one_more_byte(
    way: tuple[socket.socket, socket.socket], spare: Spare, connection: tuple[int, socket.socket]
) -> None:
    reader, writer = way
    fd, _ = connection
    record = os.urandom(passing.RECORD_BYTES)
    assert passing.send_connection(writer, fd, record)
    assert passing.send_connection(writer, fd, record), "two of them must fit"
    for _ in range(2):
        arrived = passing.receive_connection(reader, spare)
        assert arrived is not None
        assert arrived[1] == record
        os.close(arrived[0])
    for wrong in (b"", record + b"x"):
        with pytest.raises(ValueError, match="a record has"):
            passing.send_connection(writer, fd, wrong)
    streams.let_go(fd)


def test_without_a_descriptor_left_the_spare_one_is_used_and_the_next_connection_waits(
    way: tuple[socket.socket, socket.socket], spare: Spare, connection: tuple[int, socket.socket]
) -> None:
    reader, writer = way
    fd, client = connection
    assert passing.send_connection(writer, fd, b"first")
    assert passing.send_connection(writer, fd, b"second")
    with room_for(0):
        first = passing.receive_connection(reader, spare)
        assert first is not None
        assert first[1] == b"first"
        assert not spare.is_held
        for _ in range(3):
            with pytest.raises(OSError, match="Too many open files"):
                passing.receive_connection(reader, spare)
        os.close(first[0])
        second = passing.receive_connection(reader, spare)
        assert second is not None
        assert second[1] == b"second"
        assert passing.receive_connection(reader, spare) is None
    streams.let_go(fd)
    streams.send(second[0], b"not lost")
    assert client.recv(100) == b"not lost"
    os.close(second[0])


def test_a_thread_that_takes_the_room_of_the_spare_one_costs_no_connection(
    way: tuple[socket.socket, socket.socket], connection: tuple[int, socket.socket]
) -> None:
    reader, writer = way
    fd, _ = connection
    thief: list[int] = []

    class Stolen(Spare):
        """Between giving the descriptor back and receiving, somebody else opens a file, the first time."""

        def give(self) -> bool:
            given = super().give()
            if given and not thief:
                thief.append(os.dup(0))
            return given

    spare = Stolen()
    assert passing.send_connection(writer, fd, b"record")
    with room_for(0):
        with pytest.raises(OSError, match="Too many open files"):
            passing.receive_connection(reader, spare)
        os.close(thief[0])
        arrived = passing.receive_connection(reader, spare)
    assert arrived is not None
    assert arrived[1] == b"record"
    os.close(arrived[0])
    streams.let_go(fd)
    spare.close()


@pytest.mark.parametrize(
    "shape",
    ["no descriptor", "two sockets", "a socket and a pipe", "five descriptors", "no socket", "too long", "nothing"],
)
def test_what_has_another_shape_is_dropped_and_its_descriptors_are_closed(
    way: tuple[socket.socket, socket.socket], spare: Spare, connection: tuple[int, socket.socket], shape: str
) -> None:
    reader, writer = way
    fd, _ = connection
    reading, writing = os.pipe()
    before = descriptors.open_count()
    match shape:
        case "no descriptor":
            send_anything(writer, b"record")
        case "two sockets":
            send_anything(writer, b"record", fd, fd)
        case "a socket and a pipe":
            send_anything(writer, b"record", fd, reading)
        case "five descriptors":
            send_anything(writer, b"record", *[fd] * 5)
        case "no socket":
            send_anything(writer, b"record", reading)
        case "too long":
            send_anything(writer, bytes(passing.RECORD_BYTES + 1), fd)
        case _:
            send_anything(writer, b"", fd)
    assert passing.send_connection(writer, fd, b"the next")
    with pytest.raises(passing.NotAConnection, match="dropped"):
        passing.receive_connection(reader, spare)
    assert descriptors.open_count() == before
    arrived = passing.receive_connection(reader, spare)
    assert arrived is not None
    assert arrived[1] == b"the next"
    for each in (arrived[0], fd, reading, writing):
        os.close(each)


def test_the_end_of_all_writers_and_of_the_reader(
    way: tuple[socket.socket, socket.socket], spare: Spare, connection: tuple[int, socket.socket]
) -> None:
    reader, writer = way
    fd, _ = connection
    other = passing.pair()
    other[0].close()
    with pytest.raises(BrokenPipeError):
        passing.send_connection(other[1], fd, b"record")
    other[1].close()
    assert passing.send_connection(writer, fd, b"last")
    writer.close()
    arrived = passing.receive_connection(reader, spare)
    assert arrived is not None
    with pytest.raises(EOFError):
        passing.receive_connection(reader, spare)
    os.close(arrived[0])
    os.close(fd)


# With memory beside it


def memory_of(content: bytes) -> int:
    fd = memory.create_growing("beside")
    os.write(fd, content)
    return fd


def test_what_is_too_long_for_a_record_travels_beside_it(
    way: tuple[socket.socket, socket.socket], connection: tuple[int, socket.socket]
) -> None:
    reader, writer = way
    fd, client = connection
    spare = Spare(passing.MOST_DESCRIPTORS)
    long = os.urandom(1 << 20)
    beside = memory_of(long)
    assert passing.send_connection(writer, fd, b"the record", beside)
    streams.let_go(fd)
    memory.close(beside)
    arrived = passing.receive_connection(reader, spare)
    assert arrived is not None
    assert arrived.record == b"the record"
    assert memory.read(arrived.memory, 0, memory.size_of(arrived.memory)) == long
    assert not os.get_inheritable(arrived.memory)
    streams.send(arrived.fd, b"here")
    assert client.recv(10) == b"here"
    arrived.close()
    assert client.recv(1) == b""
    spare.close()


@pytest.mark.parametrize("room", [0, 1])
def test_two_descriptors_need_two_spare_ones(
    way: tuple[socket.socket, socket.socket], connection: tuple[int, socket.socket], room: int
) -> None:
    """Without room for both nothing is taken, and nothing is lost."""
    reader, writer = way
    fd, _ = connection
    beside = memory_of(b"beside")
    spare = Spare(passing.MOST_DESCRIPTORS)
    few = Spare(1 - room)
    before = descriptors.open_count()
    assert passing.send_connection(writer, fd, b"first", beside)
    with room_for(room):
        for _ in range(3):
            with pytest.raises(OSError, match="Too many open files"):
                passing.receive_connection(reader, few)
    few.close()
    before = descriptors.open_count()
    with room_for(room):
        arrived = passing.receive_connection(reader, spare)
    assert arrived is not None
    assert (arrived.record, memory.read(arrived.memory, 0, 10)) == (b"first", b"beside")
    assert descriptors.open_count() == before + room
    arrived.close()
    os.close(fd)
    memory.close(beside)
    spare.close()


@pytest.mark.parametrize("most", [1, passing.MOST_DESCRIPTORS])
def test_none_is_lost_while_descriptors_run_out_again_and_again(
    way: tuple[socket.socket, socket.socket], connection: tuple[int, socket.socket], most: int
) -> None:
    """With one descriptor each, and with two of which the second is there two times in three."""
    reader, writer = way
    fd, _ = connection
    beside = memory_of(b"beside")
    spare = Spare(most)
    memories = [passing.NO_MEMORY, beside, beside] if most > 1 else [passing.NO_MEMORY]
    sent = 0
    received: list[int] = []
    held: list[passing.Arrived] = []
    with room_for(3):
        while len(received) < 100:
            while sent < 100 and passing.send_connection(writer, fd, b"%d" % sent, memories[sent % len(memories)]):
                sent += 1
            try:
                arrived = passing.receive_connection(reader, spare)
            except OSError:
                while held:
                    held.pop().close()
                continue
            assert arrived is not None
            assert (arrived.memory >= 0) is (memories[len(received) % len(memories)] == beside)
            held.append(arrived)
            received.append(int(arrived.record))
    assert received == list(range(100))
    for one in held:
        one.close()
    for each in (fd, beside):
        os.close(each)
    spare.close()


def test_looked_at_it_stays_until_it_is_taken_out(
    way: tuple[socket.socket, socket.socket], spare: Spare, connection: tuple[int, socket.socket]
) -> None:
    reader, writer = way
    fd, _ = connection
    assert passing.look(reader, spare) is None
    assert passing.send_connection(writer, fd, b"first")
    assert passing.send_connection(writer, fd, b"second")
    for _ in range(3):
        seen = passing.look(reader, spare)
        assert seen is not None
        assert seen.record == b"first"
        seen.close()
    passing.take_out(reader)
    second = passing.receive_connection(reader, spare)
    assert second is not None
    assert second.record == b"second"
    second.close()
    os.close(fd)


FLOOD = """
import os, resource, socket
from paceline.host import passing
try:
    os.setresuid(*[20_000 + os.getpid() % 40_000] * 3)
    least = 10
except PermissionError:
    least = 0
resource.setrlimit(resource.RLIMIT_NOFILE, (20, 20))
reader, writer = passing.pair()
here, there = socket.socketpair()
sent = 0
while passing.send_connection(writer, here.fileno(), b"x"):
    sent += 1
print(least, sent)
"""


def test_too_many_descriptors_in_flight_is_full() -> None:
    """ETOOMANYREFS: more than RLIMIT_NOFILE in flight for a user without privileges (unix(7)).

    All processes of a user count together, other tests' servers as well: root becomes a user that nobody else is.
    Anybody else may find that others have as many in flight already.
    """
    flood = subprocess.run([sys.executable, "-c", FLOOD], capture_output=True, text=True, timeout=10)
    assert flood.returncode == 0, flood.stderr
    least, sent = map(int, flood.stdout.split())
    assert least <= sent <= 40
