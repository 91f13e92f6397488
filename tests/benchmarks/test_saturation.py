"""Row 7's load: its arithmetic, what it refuses, and the real thing with a server that has a thread for one call."""

import contextlib
import math
import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from benchmarks import saturation
from benchmarks.handlers import gated
from benchmarks.measure import Pace, measure, usable_cores
from benchmarks.rows import ROWS
from benchmarks.saturation import NotSaturated, Quick, Saturated, main, percentile, read_command_line, result_of, run
from benchmarks.terms import Load, Trial

SIZE = 32


@contextlib.contextmanager
def serving(handler: Callable[[bytes], bytes]) -> Iterator[int]:
    """A thread for each connection; the port."""
    threads: list[threading.Thread] = []

    def converse(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            while data := connection.recv(SIZE):
                connection.sendall(handler(data))

    def accept_all() -> None:
        with contextlib.suppress(OSError):
            while True:
                threads.append(threading.Thread(target=converse, args=(listener.accept()[0],)))
                threads[-1].start()

    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        accepting = threading.Thread(target=accept_all)
        accepting.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            accepting.join(5)
            for thread in threads:
                thread.join(5)


def options(port: int, *words: str) -> list[str]:
    return ["--port", str(port), "--size", str(SIZE), "--rate", "200", "--connections", "10", "--threads", "2", *words]


def test_percentiles_are_values_that_occurred() -> None:
    values = [float(number) for number in range(1, 101)]
    assert [percentile(values, share) for share in (0.5, 0.99, 0.999, 1.0)] == [50, 99, 100, 100]
    assert percentile([7.0], 0.01) == 7
    assert math.isnan(percentile([], 0.5))


def test_the_result_counts_who_waited() -> None:
    quick = Quick(
        1, SIZE, 100, [None] * 4, latencies_s={0: 0.001, 1: 0.05, 2: 0.051}, lost=1, wrong=2, under_way={9: 3}
    )
    found = result_of(quick, 2.0, 1, 0.5)
    assert found["quick_late"] == 1
    assert (found["messages"], found["lost"], found["wrong"], found["unanswered"]) == (3, 1, 3, 1)
    assert found["quick_max_us"] == pytest.approx(51_000)


def test_the_command_line_is_what_a_load_writes() -> None:
    load = next(trial.load for trial in ROWS[7].trials)
    found = read_command_line(["--port", "9", *load.options()])
    assert (found.connections, found.rate, found.connects, found.size) == (1000, 500, "when due", 64)


@pytest.mark.parametrize("words", [["--rate", "0"], ["--size", "3"], ["--connects", "never"], ["--in-flight", "2"]])
def test_wrong_options_are_refused(words: list[str]) -> None:
    with pytest.raises(SystemExit):
        read_command_line(["--port", "9", *words])


@pytest.mark.parametrize("connects", ["before", "when due"])
def test_quick_messages_are_answered_while_slow_ones_are_held(
    connects: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(saturation, "STRAGGLERS_S", 0.2)
    with serving(gated) as port:
        found = run(read_command_line(options(port, "--connects", connects)))
    assert capsys.readouterr().out == "begin\nend\n"
    assert (found["messages"], found["lost"], found["wrong"], found["unanswered"]) == (10, 0, 0, 0)


def test_a_message_that_is_held_with_the_slow_ones_is_late(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saturation, "STRAGGLERS_S", 0.2)
    lock = threading.Lock()

    def one_at_a_time(message: bytes) -> bytes:
        with lock:
            return gated(message)

    with serving(one_at_a_time) as port:
        found = run(read_command_line([*options(port), "--threads", "1"]))
    assert found["messages"] == found["quick_late"] == 10


def test_a_server_that_lets_slow_calls_go_is_found_out() -> None:
    def hasty(message: bytes) -> bytes:
        if message.startswith(b"s"):
            socket.create_connection(("127.0.0.1", int(message.split()[1]))).close()
            return message
        return gated(message)

    with serving(hasty) as port, Saturated(port, 1, SIZE) as saturated:
        saturated.held[0].recv(1, socket.MSG_PEEK)  # its reply has come
        with pytest.raises(NotSaturated, match="1 slow calls had ended before the gate was opened"):
            saturated.check()


def test_a_server_that_spreads_its_connections_too_thinly_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bytes] = []

    def everybody_else(message: bytes) -> bytes:
        asked.append(message)
        return str(len(asked)).encode().ljust(SIZE)

    monkeypatch.setattr(saturation, "TRIES", 2)
    with serving(everybody_else) as port, pytest.raises(NotSaturated, match="of 4 connections the processes have 1, 1"):
        Saturated(port, 2, SIZE).__enter__()


def test_wrong_replies_are_counted_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saturation, "STRAGGLERS_S", 0.2)
    with serving(lambda message: gated(message) if message[:1] in b"ws" else b"?" * SIZE) as port:
        assert run(read_command_line(options(port)))["wrong"] == 10


def test_the_wrong_handler_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with serving(bytes) as port:
        assert main(options(port)) == 3
    assert "the handler must be benchmarks.handlers:gated" in capsys.readouterr().err


def test_nobody_there(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert main(options(port)) == 3
    assert "saturation:" in capsys.readouterr().err


def test_a_repetition_of_row_7() -> None:
    load = Load(connections=20, rate=200, connects="when due")
    trial = Trial("two", ("peer", "selector_executor", "gated", "raw", "2"), load, "saturated", cores="shared")
    found = measure(trial, Pace(0, 0), usable_cores())
    assert found["messages"] == 20
    assert 0 <= found["quick_late"] <= 20
    assert found["threads_max"] >= 65, "the saturated worker's"
    assert found["own_kib"] > 0
