"""worker/calls.py: replies in pieces, and what is measured.  Plain replies and exceptions are in test_loop.py."""

import socket
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import pytest

from paceline import clock
from paceline.handlers import Close
from paceline.worker import calls
from workerbed import Bed, Gate, bed, receive_all, receive_exactly, reset


class Pieces:
    """An iterator of bytes with a `close`, and what was done with it."""

    def __init__(self, *pieces: Any) -> None:
        self.pieces = list(pieces)
        self.closed = 0

    def __iter__(self) -> "Pieces":
        return self

    def __next__(self) -> Any:
        if not self.pieces:
            raise StopIteration
        piece = self.pieces.pop(0)
        if isinstance(piece, BaseException):
            raise piece
        return piece() if callable(piece) else piece

    def close(self) -> None:
        self.closed += 1


class Finished:
    """How often the `finally` of a generator ran."""

    def __init__(self) -> None:
        self.closed = 0

    def of(self, *pieces: Any) -> Iterator[Any]:
        try:
            for piece in pieces:
                if isinstance(piece, BaseException):
                    raise piece
                yield piece() if callable(piece) else piece
        finally:
            self.closed += 1


class Made:
    """A handler whose reply to `?` is made of these pieces, by a generator or by an iterator of the user's."""

    def __init__(self, kind: str, *pieces: Any) -> None:
        self.made: Pieces | Finished
        if kind == "generator":
            finished = Finished()
            self.made, self.reply = finished, finished.of(*pieces)
        else:
            iterator = Pieces(*pieces)
            self.made, self.reply = iterator, iter(iterator)

    def __call__(self, message: bytes) -> object:
        if message == b"?":
            return self.reply
        return Close(self.reply) if message == b"close" else message


def ask(worker: Bed, sent: bytes = b"?\n") -> socket.socket:
    client = worker.connect_tcp(send_buffer=4096, receive_buffer=4096)
    client.sendall(sent)
    return client


def wait_and_make(gate: Gate, piece: bytes) -> Callable[[], bytes]:
    def make() -> bytes:
        gate.wait()
        return piece

    return make


both = pytest.mark.parametrize("kind", ["generator", "iterator"])


@both
def test_pieces_are_sent_in_order_between_other_replies(kind: str) -> None:
    handler = Made(kind, b"one", b"", bytearray(b"two"), memoryview(b"three"))
    with bed(handler, framing="line") as worker:
        client = ask(worker, b"before\n?\nafter\n")
        assert receive_exactly(client, 28) == b"before\none\n\ntwo\nthree\nafter\n"
        assert handler.made.closed == 1


@both
def test_pieces_are_made_as_the_peer_takes_them(kind: str) -> None:
    """A slow reader stops its own generator, and nobody else."""
    made = 0

    def make() -> bytes:
        nonlocal made
        made += 1
        return b"%05d" % made * 2000

    handler = Made(kind, *[make] * 500)
    with bed(handler, framing="line") as worker:
        client, other = ask(worker), worker.connect()
        worker.wait_stuck()
        other.sendall(b"other\n")
        assert receive_exactly(other, 6) == b"other\n"
        assert made < 250
        assert receive_exactly(client, 500 * 10_001) == b"".join(b"%05d" % n * 2000 + b"\n" for n in range(1, 501))
        worker.wait_parked()
        assert handler.made.closed == 1


def test_each_piece_is_sent_before_the_next_is_made() -> None:
    gate = Gate()
    handler = Made("generator", b"first", wait_and_make(gate, b"second"))
    with bed(handler, framing="line") as worker:
        client = ask(worker)
        assert receive_exactly(client, 6) == b"first\n"
        gate.wait_entered()
        gate.open()
        assert receive_exactly(client, 7) == b"second\n"


def test_a_piece_that_blocks_does_not_stop_the_others() -> None:
    gate = Gate()
    handler = Made("generator", b"first", wait_and_make(gate, b"second"))
    with bed(handler, framing="line") as worker:
        client, other = ask(worker), worker.connect()
        gate.wait_entered()
        worker.tick_until_led()
        other.sendall(b"other\n")
        assert receive_exactly(other, 6) == b"other\n"
        gate.open()
        assert receive_exactly(client, 13) == b"first\nsecond\n"


# `finally` runs once, however it ends

LARGE = b"l" * 500_000
ENDS: dict[str, tuple[tuple[Any, ...], bytes]] = {
    "exhausted": ((b"a",), b"a\n"),
    "empty": ((), b""),
    "raises at first": ((ValueError("no"),), b""),
    "raises in the middle": ((b"a", ValueError("no"), b"b"), b"a\n"),
    "SystemExit": ((b"a", SystemExit(1)), b"a\n"),
    "GeneratorExit": ((b"a", GeneratorExit()), b"a\n"),
    "a wrong piece": ((b"a", "text", b"b"), b"a\n"),
    "None as a piece": ((b"a", None), b"a\n"),
    "a piece over the limit": ((b"a", b"x" * 2_000_000), b"a\n"),
}


@both
@pytest.mark.parametrize("end", ENDS)
def test_a_reply_in_pieces_is_closed_once(kind: str, end: str) -> None:
    pieces, sent = ENDS[end]
    handler = Made(kind, *pieces)
    with bed(handler, framing="line") as worker:
        client, other = ask(worker, b"?\n.\n"), worker.connect()
        is_good = end in ("exhausted", "empty")
        if is_good:
            client.shutdown(socket.SHUT_WR)
        assert receive_all(client) == sent + (b".\n" if is_good else b"")
        client.close()
        worker.wait_closed(1)
        assert handler.made.closed == 1
        logged = [event for event, _ in worker.log.said]
        assert logged == (
            []
            if is_good
            else [
                "handler-failed"
                if "raises" in end or "Exit" in end
                else "reply-too-large"
                if "limit" in end
                else "reply-refused"
            ]
        )
        other.sendall(b"other\n")
        assert receive_exactly(other, 6) == b"other\n"


@both
@pytest.mark.parametrize("end", ["reset", "write timeout", "closed by the peer", "Close with pieces"])
def test_a_reply_in_pieces_is_closed_once_when_the_peer_ends_it(kind: str, end: str) -> None:
    handler = Made(kind, *[LARGE] * 20)
    with bed(handler, framing="line") as worker:
        client = ask(worker, b"close\n" if end == "Close with pieces" else b"?\n")
        worker.wait_stuck()
        assert handler.made.closed == 0
        match end:
            case "reset":
                reset(client)
            case "write timeout":
                worker.look()
                worker.look(11)
            case "closed by the peer":
                client.close()  # with unread input: the next piece meets a reset
            case "Close with pieces":
                assert receive_all(client) == (LARGE + b"\n") * 20
                client.close()
        worker.wait_closed(1)
        assert handler.made.closed == 1


def test_a_close_that_raises_is_logged_and_costs_nothing_more() -> None:
    class Stubborn(Pieces):
        def close(self) -> None:
            super().close()
            raise RuntimeError("will not close")

    stubborn = Stubborn(b"a")
    with bed(lambda message: stubborn if message == b"?" else message, framing="line") as worker:
        client = ask(worker, b"?\nafter\n")
        assert receive_exactly(client, 8) == b"a\nafter\n"
        assert worker.log.wait_for("hook-failed")["hook"] == "the reply's close()"
        assert stubborn.closed == 1


def test_a_list_of_the_user_is_not_closed() -> None:
    class Listed(list[bytes]):
        closed = 0

        def close(self) -> None:
            self.closed += 1

    reply = Listed([b"a", b"b"])
    with bed(lambda _message: reply, framing="line") as worker:
        client = ask(worker)
        assert receive_exactly(client, 4) == b"a\nb\n"
        assert reply.closed == 0


# What a wrong reply is called


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: "text", "return text.encode()"),
        (lambda: 7, "an int"),
        (lambda: {"a": 1}, "a dict"),
        (lambda: [b"a", "b"], "an iterable with a str"),
        (lambda: Close("bye"), "a str"),  # type: ignore[arg-type]
        (lambda: [Close(b"bye")], "an iterable with"),
    ],
    ids=["text", "number", "dict", "list", "Close", "Close in a list"],
)
@pytest.mark.parametrize("way", ["fast", "measured"])
def test_a_wrong_reply_is_named(make: Callable[[], object], said: str, way: str) -> None:
    with bed(lambda _message: make(), framing="line") as worker:
        worker.worker.sample_due = way == "measured"
        client = ask(worker)
        receive_all(client)
        assert said in str(worker.log.wait_for("reply-refused")["got"])
        client.close()
        worker.wait_closed(1)


def test_a_coroutine_is_named_and_does_not_warn() -> None:
    async def answer() -> bytes:
        return b"never"

    with bed(lambda _message: answer(), framing="line") as worker:
        receive_all(ask(worker))
        assert "async def" in str(worker.log.wait_for("reply-refused")["got"])


def test_an_exception_without_a_text_is_still_logged() -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no words")

    def handler(message: bytes) -> bytes:
        raise Mute

    with bed(handler, framing="line") as worker:
        receive_all(ask(worker))
        said = worker.log.wait_for("handler-failed")
        assert "Mute" in str(said["error"])
        assert "in handler" in str(said["detail"])


# What is measured


def test_pieces_that_block_count_as_blocking() -> None:
    """A handler that waits while it makes its pieces, and not before, is a blocking handler too."""
    gates = [Gate() for _ in range(40)]

    def handler(message: bytes) -> Iterator[bytes]:
        for gate in gates:
            gate.wait()
            yield b"x"

    with bed(handler, framing="line") as worker:
        client = ask(worker)
        for gate in gates:
            gate.wait_entered()
            worker.tick()
            gate.open()
            receive_exactly(client, 2)
        assert worker.thread_total("sampled") > 1


def test_a_clock_of_the_thread_that_is_ahead_makes_no_call_wait_for_less_than_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The clocks are read one after the other: what lies between them may be more than a short call waited."""
    ran, gave_way = count(step=10**12), count()
    with bed(lambda message: message, framing="line") as worker:
        client = worker.connect()
        monkeypatch.setattr(clock, "thread_cpu_ns", lambda: next(ran))
        monkeypatch.setattr(calls, "voluntary_switches", lambda: next(gave_way))
        worker.worker.sample_due = True
        client.sendall(b"x\n")
        receive_exactly(client, 2)
        monkeypatch.undo()
        worker.tick()
        assert worker.thread_total("sampled") >= 1
        assert worker.worker.estimate.mean_blocked_ns == 0


@pytest.mark.parametrize("hook", ["connected", "disconnected"])
def test_hooks_are_measured_too(hook: str) -> None:
    class Handler:
        def connected(self, _connection: object) -> None:
            pass

        def disconnected(self, _connection: object) -> None:
            pass

        def __call__(self, message: bytes) -> bytes:
            return message

    with bed(Handler(), framing="line") as worker:
        client = worker.connect()
        client.sendall(b"x\n")
        receive_exactly(client, 2)
        before = worker.thread_total("sampled")
        assert before >= 1
        if hook == "disconnected":
            client.close()
            worker.wait_closed(1)
            assert worker.thread_total("sampled") > before


def test_every_call_is_counted_once() -> None:
    with bed(lambda message: message, framing="line") as worker:
        client = worker.connect()
        for is_careful in (False, True, False):
            worker.worker.sample_due = is_careful
            client.sendall(b"x\n" * 100)
            receive_exactly(client, 200)
        client.close()
        worker.wait_closed(1)
        assert worker.thread_total("calls") == 300
        assert worker.thread_total("messages") == 300
        assert worker.thread_total("bytes_in") == 600
        assert worker.thread_total("bytes_out") == 600
