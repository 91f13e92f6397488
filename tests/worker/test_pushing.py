"""worker/pushing.py: `connection.send` from any thread, in order, between replies, bounded, and never into nowhere."""

import re
import threading
from collections.abc import Iterator
from typing import Any, ClassVar, cast

import pytest

import paceline
from leftovers import eventually
from paceline import Close
from paceline.worker.connection import Connection, WayIn
from workerbed import Bed, Gate, bed, receive_all, receive_exactly, reset


class Room:
    """Keeps its connections, as a chat would."""

    def __init__(self) -> None:
        self.members: dict[str, Connection] = {}

    def connected(self, connection: Connection) -> None:
        self.members[connection.peer] = connection

    def disconnected(self, connection: Connection) -> None:
        del self.members[connection.peer]

    def __call__(self, message: bytes, connection: Connection) -> bytes | None:
        if message.startswith(b"all "):
            for member in list(self.members.values()):
                member.send(message)
            return None
        return b"reply " + message


def joined(worker: Bed, room: Room, count: int) -> list[Any]:
    clients = [worker.connect_tcp() for _ in range(count)]
    eventually(lambda: len(room.members) == count)
    return clients


def test_a_message_goes_to_all_who_are_there() -> None:
    room = Room()
    with bed(room, framing="line") as worker:
        clients = joined(worker, room, 5)
        for number in range(20):
            clients[number % 5].sendall(b"all %d\n" % number)
            for client in clients:
                assert receive_exactly(client, len(b"all %d\n" % number)) == b"all %d\n" % number
        for client in clients:
            client.close()
        worker.wait_closed(5)
        assert not worker.log.said


def test_from_a_thread_of_its_own_while_nobody_says_a_word() -> None:
    room = Room()
    with bed(room, framing="line") as worker:
        (client,) = joined(worker, room, 1)
        (member,) = room.members.values()

        def count() -> None:
            for number in range(1000):
                member.send(b"%d" % number)

        thread = threading.Thread(target=count)
        thread.start()
        expected = b"".join(b"%d\n" % number for number in range(1000))
        assert receive_exactly(client, len(expected)) == expected
        thread.join()
        assert worker.worker.crew.roles.members == 1
        client.close()
        worker.wait_closed(1)


def test_many_threads_at_once_lose_nothing_and_each_keeps_its_order() -> None:
    room = Room()
    with bed(room, framing="line", max_buffer=1 << 20) as worker:
        (client,) = joined(worker, room, 1)
        (member,) = room.members.values()

        def send(name: int) -> None:
            for number in range(300):
                member.send(b"%d %d" % (name, number))

        threads = [threading.Thread(target=send, args=(name,)) for name in range(4)]
        for thread in threads:
            thread.start()
        client.sendall(b"x\n" * 50)
        lines = [line.split() for line in _lines(client, 4 * 300 + 50)]
        for thread in threads:
            thread.join()
        for name in range(4):
            mine = [int(number) for who, number in (line for line in lines if line[0] == b"%d" % name)]
            assert mine == list(range(300))
        assert lines.count([b"reply", b"x"]) == 50
        client.close()
        worker.wait_closed(1)


def _lines(client: Any, count: int) -> list[bytes]:
    received = b""
    while received.count(b"\n") < count:
        received += client.recv(65536)
    return received.splitlines()


def test_while_another_thread_has_the_connection_it_comes_after_its_reply() -> None:
    gate = Gate()
    seen: list[Connection] = []

    def handler(message: bytes, connection: Connection) -> bytes:
        seen.append(connection)
        gate.wait()
        return b"reply"

    with bed(handler, framing="line") as worker:
        client = worker.connect_tcp()
        client.sendall(b"x\n")
        gate.wait_entered()
        seen[0].send(b"pushed")
        gate.open()
        assert receive_exactly(client, 13) == b"reply\npushed\n"
        client.close()
        worker.wait_closed(1)


def test_never_inside_a_reply_in_pieces() -> None:
    class Slow:
        def __call__(self, _message: bytes, connection: Connection) -> Iterator[bytes]:
            for number in range(3):
                connection.send(b"beside %d" % number)
                yield b"piece %d" % number

    with bed(Slow(), framing="line") as worker:
        client = worker.connect_tcp()
        client.sendall(b"x\n")
        lines = _lines(client, 6)
        assert lines == [b"piece 0", b"piece 1", b"piece 2", b"beside 0", b"beside 1", b"beside 2"]
        client.close()
        worker.wait_closed(1)


def test_a_peer_that_does_not_read_is_not_sent_more_than_its_buffer() -> None:
    room = Room()
    with bed(room, max_buffer=64 << 10) as worker:
        (client,) = joined(worker, room, 1)
        (member,) = room.members.values()
        sent = 0
        while member.out is None:  # until what the kernel takes is full
            member.send(bytes(8192))
            sent += 8192
            eventually(lambda: member.pushed is None or member.out is not None)
        refused = ""
        while not refused:
            try:
                member.send(bytes(8192))
                sent += 8192
            except BlockingIOError as error:
                refused = str(error)
        assert re.match(r"[\d,]+ bytes wait for 127\.0\.0\.1:\d+ already, which does not read them, and", refused)
        assert receive_exactly(client, sent) == bytes(sent)
        eventually(lambda: member.out is None)
        member.send(b"again")
        assert receive_exactly(client, 5) == b"again"
        client.close()
        worker.wait_closed(1)


@pytest.mark.parametrize("end", ["peer", "reset", "handler"])
def test_after_the_end_nothing_is_taken(end: str) -> None:
    class Keeper(Room):
        kept: ClassVar[list[Connection]] = []

        def __call__(self, message: bytes, connection: Connection) -> Any:
            self.kept.append(connection)
            return Close(b"bye")

    room = Keeper()
    with bed(room) as worker:
        (client,) = joined(worker, room, 1)
        (member,) = room.members.values()
        if end == "handler":
            client.sendall(b"x")
            assert receive_all(client) == b"bye"
        elif end == "reset":
            reset(client)
        client.close()
        worker.wait_closed(1)
        with pytest.raises(BrokenPipeError, match="is closed, or has moved to another worker"):
            member.send(b"x")


def test_who_has_its_socket_sends_for_itself() -> None:
    gate = Gate()
    kept: list[Connection] = []

    @paceline.connection
    class Talk:
        def __call__(self, conn: Any) -> None:
            gate.wait()
            conn.sendall(b"mine")

    with bed(Talk()) as worker:
        client = worker.connect_tcp()
        gate.wait_entered()
        kept.extend(worker.worker.tables.open.values())
        with pytest.raises(BrokenPipeError, match="a handler has the socket of this connection to itself"):
            kept[0].send(b"x")
        gate.open()
        assert receive_all(client) == b"mine"
        client.close()
        worker.wait_closed(1)


@pytest.mark.parametrize("message", ["text", None, 5, [b"x"]])
def test_only_bytes_are_taken(message: Any) -> None:
    connection = Connection(0, WayIn(0, "nowhere"))
    with pytest.raises(TypeError, match=r"connection\.send\(\) takes bytes, and not"):
        connection.send(message)
    with pytest.raises(BrokenPipeError, match="belongs to no worker"):
        connection.send(b"x")


def test_what_the_framing_cannot_send_costs_the_connection_and_is_said() -> None:
    room = Room()
    with bed(room, framing="delimiter:|") as worker:
        (client,) = joined(worker, room, 1)
        (member,) = room.members.values()
        member.send(b"two|messages")
        assert receive_all(client) == b""
        client.close()
        worker.wait_closed(1)
        assert worker.log.find("reply-refused")


def test_what_no_buffer_could_hold_is_refused_as_that() -> None:
    room = Room()
    with bed(room, max_buffer=4096) as worker:
        joined(worker, room, 1)
        (member,) = room.members.values()
        with pytest.raises(ValueError, match=r"was given 4,097 bytes, more than the 4,096 of --max-buffer"):
            member.send(bytes(4097))


def test_whoever_has_the_lock_may_come_again() -> None:
    """Python runs `__del__` and signal handlers in the middle of a push, and they may push."""
    room = Room()
    with bed(room, framing="line") as worker:
        (client,) = joined(worker, room, 1)
        (member,) = room.members.values()
        with worker.worker.pushing.lock:
            member.send(b"within")
        assert receive_exactly(client, 7) == b"within\n"


def test_a_forked_process_sends_nothing() -> None:
    room = Room()
    with bed(room, framing="line") as worker:
        joined(worker, room, 1)
        (member,) = room.members.values()
        worker.worker.pushing.forked = True  # as `on_forked_child` does there
        with pytest.raises(BrokenPipeError, match="was forked by a handler"):
            member.send(b"x")


def test_who_is_sent_to_is_not_idle() -> None:
    room = Room()
    with bed(room, run=False, framing="line", idle_timeout=60.0) as worker:
        worker.connect()
        (c,) = worker.connections()
        c.messages = 1
        before = c.progress
        c.sent += 7
        assert c.progress != before
        c.rest = b"half"
        before = c.progress
        c.sent += 7
        assert c.progress == before, "but that is no part of a message"


def test_pushed_to_while_it_is_left_unread_it_is_looked_at() -> None:
    """A handover: the note of the push lies in `pending` when the connection is parked."""
    with bed(Room(), run=False, framing="line") as worker:
        worker.connect()
        (c,) = worker.connections()
        tables, serving = worker.worker.tables, worker.parts.serving
        assert tables.parked.pop(c.fd) is c
        tables.ready.clear()
        tables.pending.add(c.fd)
        assert serving.leave_unread(c, cast("Any", None))
        assert c.fd not in worker.worker.unread
        assert [fd for fd, _ in tables.ready] == [c.fd]
