"""worker/probe.py: a worker says that it is ready when its handler has answered, and says why when it has not."""

import socket
from typing import Any

import pytest

from crewbed import Workers, crew
from paceline.handlers import Close
from paceline.worker.probe import Probe
from workerbed import Bed, bed

pytestmark = pytest.mark.usefixtures("nothing_left")


def ask(worker: Bed, question: bytes = b"ping\n", wanted: bytes = b"", within_s: float = 10.0) -> str:
    """Why the answer is none; empty: it is one."""
    failed = Probe(worker.parts, "app.py:handler", question, wanted, within_s).ask()
    return "" if failed is None else failed.why


@pytest.mark.parametrize("wanted", [b"", b"p", b"ping", b"ping\n"])
def test_an_answer_that_begins_as_it_should(wanted: bytes) -> None:
    with bed(lambda line: line, framing="line") as worker:
        assert ask(worker, wanted=wanted) == ""


def test_nothing_of_it_is_left() -> None:
    with bed(lambda line: line, framing="line", idle_timeout=10.0) as worker:
        assert ask(worker) == ""
        tables = worker.worker.tables
        for book in (tables.open, tables.parked, tables.timed, tables.pending):
            assert not book
        assert worker.cell("connections") == 0
        assert worker.cell("accepted") == worker.cell("closed") == 1
        assert type(worker.worker.log).__name__ == "RecordingLog"


ASKED = r"the probe b'ping\n' (--probe)"


@pytest.mark.parametrize(
    ("reply", "shown"),
    [(b"pong", r"b'pong\n'"), (Close(b""), r"b'\n'"), (Close([b"pin"]), r"b'pin\n'")],
    ids=["another", "an empty line", "the beginning of it"],
)
def test_another_answer(reply: object, shown: str) -> None:
    with bed(lambda _line: reply, framing="line") as worker:
        said = ask(worker, wanted=b"ping\n")
        assert said == rf"app.py:handler answered {ASKED} with {shown} instead of b'ping\n' (--probe-reply)"
        worker.wait_closed(1)


def test_no_answer_but_the_end() -> None:
    with bed(lambda _line: Close(), framing="line") as worker:
        assert ask(worker) == f"app.py:handler did not answer {ASKED} but closed the connection"


def test_the_beginning_of_an_answer_and_then_the_end() -> None:
    with bed(lambda _message: Close(b"pi")) as worker:
        said = ask(worker, wanted=b"ping\n")
        assert (
            said == "app.py:handler did not answer the probe b'ping\\n' (--probe) with b'pi', and closed the connection"
        )


def test_no_answer_in_time() -> None:
    with bed(lambda _line: None, framing="line") as worker:
        said = ask(worker, within_s=0.05)
        assert said == f"app.py:handler did not answer {ASKED} within 0.05 s"
        worker.wait_closed(1)


def test_what_it_raised_is_told() -> None:
    def handler(line: bytes) -> bytes:
        raise LookupError("no such table")

    with bed(handler, framing="line") as worker:
        failed = Probe(worker.parts, "app.py:handler", b"ping\n", b"", 10.0).ask()
        assert failed is not None
        assert failed.why == f"app.py:handler did not answer {ASKED} but closed the connection"
        assert failed.traceback.rstrip().endswith("LookupError: no such table")
        assert failed.exit_code == 3
        assert worker.log.find("handler-failed")


class Greeter:
    """`connected` greets, at length; `seen` is what happened."""

    def __init__(self, greeting: object) -> None:
        self.greeting = greeting
        self.seen: list[str] = []

    def connected(self, _connection: Any) -> Any:
        self.seen.append("connected")
        return self.greeting

    def disconnected(self, _connection: Any) -> None:
        self.seen.append("disconnected")

    def __call__(self, line: bytes) -> bytes:
        self.seen.append("called")
        return line


@pytest.mark.parametrize("greeting", [None, b"hello", [b"hello " * 100] * 5000], ids=["none", "short", "long"])
def test_a_greeting_is_no_answer(greeting: object) -> None:
    handler = Greeter(greeting)
    with bed(handler, framing="line") as worker:
        assert ask(worker, wanted=b"ping\n") == ""
        assert handler.seen == ["connected", "called", "disconnected"]


def test_a_greeting_that_ends_the_connection_is_none_either() -> None:
    with bed(Greeter(Close(b"no")), framing="line") as worker:
        assert "did not answer the probe" in ask(worker)


@pytest.mark.parametrize("start", ["accept", "data"])
def test_connection_handlers_are_asked_in_the_same_way(start: str) -> None:
    def handler(conn: socket.socket) -> None:
        while data := conn.recv(100):
            conn.sendall(data)

    with bed(handler, as_="connection", start=start) as worker:
        assert ask(worker, wanted=b"ping\n") == ""
        assert not worker.worker.tables.open


# In a process of its own

GOOD = """
def handler(line):
    return line[::-1]
"""


def start(workers: Workers) -> int:
    return workers.start(probe=True, standby=True, wait=False)


def test_a_worker_is_ready_when_it_has_answered() -> None:
    with crew(GOOD, framing="line", probe=r"abc\n", probe_reply=r"cba\n") as workers:
        seat = start(workers)
        assert workers.wait_said(seat, "ready")
        assert workers.cells(seat)["connections"] == 0


def test_a_worker_that_has_not_says_why_and_ends() -> None:
    with crew(GOOD, framing="line", probe=r"abc\n", probe_reply="abc") as workers:
        seat = start(workers)
        said = workers.wait_said(seat, "failed")
        assert said["why"].endswith(r"with b'cba\n' instead of b'abc' (--probe-reply)")
        assert workers.wait_ended(seat)["code"] == 3


def test_a_worker_whose_handler_hangs_says_so_before_the_boot_time_is_over() -> None:
    source = "import time\ndef handler(line):\n    time.sleep(60)\n"
    with crew(source, framing="line", probe=r"abc\n", boot_timeout=0.5) as workers:
        seat = start(workers)
        assert "did not answer the probe" in workers.wait_said(seat, "failed")["why"]
        assert workers.wait_ended(seat)["code"] == 3


def test_without_a_probe_to_ask_it_is_not_asked() -> None:
    with crew("def handler(line):\n    raise SystemExit\n", framing="line") as workers:
        assert workers.wait_said(start(workers), "ready")
