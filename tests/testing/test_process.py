"""A server in processes: what they inherit, what clients are to speak, and that no process is left."""

import os
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import paceline
from leftovers import children_of, wait_gone
from paceline.errors import HostError, UsageError
from paceline.testing import Server, running
from paceline.testing import process as under_test

pytestmark = pytest.mark.usefixtures("nothing_left")


@paceline.message(framing="netstring")
def marked(message: bytes) -> bytes:
    return message


@paceline.message(framing=paceline.Lines(limit=9))
class MarkedClass:
    def __call__(self, message: bytes) -> bytes:
        return message


class Quotes:
    """A framing of the user's."""

    def cut(self, rest: object, data: bytes) -> tuple[list[bytes], object]:
        return [data], None

    def join(self, replies: list[bytes]) -> bytes:
        return b"".join(replies)


class WithFraming:
    framing = Quotes()

    def __call__(self, message: bytes) -> bytes:
        return message


class WithMadeFraming:
    def __init__(self) -> None:
        self.framing = "length:2"

    def __call__(self, message: bytes) -> bytes:
        return message


@paceline.connection
def held(conn: socket.socket) -> None:
    conn.sendall(b"x")


def variable(message: bytes) -> bytes:
    return os.environ.get(message.decode(), "none").encode()


def plain(message: bytes) -> bytes:
    return message


def ask(server: Server, message: bytes) -> bytes:
    with socket.create_connection((server.host, server.port), 5) as client:
        client.sendall(message)
        return client.recv(1000)


@pytest.mark.parametrize(
    ("handler", "framing"),
    [(plain, "raw"), (marked, "netstring"), (held, "raw"), (WithMadeFraming, "length:2"), ("echo", "raw")],
)
def test_clients_speak_the_framing_of_the_handler(handler: object, framing: str) -> None:
    with running(handler, workers=1) as server:
        assert server._framing() == framing


def test_clients_speak_what_was_asked_for() -> None:
    with running(marked, framing="line", workers=1) as server:
        assert server._framing() == "line"


def test_clients_speak_the_framing_object_of_a_class() -> None:
    with running(MarkedClass, workers=1) as server:
        assert isinstance(server._framing(), paceline.Lines)
    with running(WithFraming, workers=1) as server:
        assert isinstance(server._framing(), Quotes)


def test_the_server_is_asked_what_a_text_speaks(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(
        "import paceline\n\n"
        "@paceline.message(framing='delimiter:\\\\r\\\\n')\ndef known(message):\n    return message\n\n"
        "class Own:\n    def cut(self, rest, data):\n        return [data], None\n\n"
        "    def join(self, replies):\n        return b''.join(replies)\n\n"
        "@paceline.message(framing=Own())\ndef unknown(message):\n    return message\n"
    )
    with running(f"{tmp_path}/app.py:known", workers=1) as server:
        assert server._framing() == r"delimiter:\r\n"
    with (
        running(f"{tmp_path}/app.py:unknown", workers=1) as server,
        pytest.raises(UsageError, match=r"is known to the server only \(app\.Own\); give it: server\.client\(framing="),
    ):
        server._framing()


def test_the_environment_is_the_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PACELINE_THREADS", "5")
    monkeypatch.setenv("PACELINE_OF_SOMEBODY_ELSE", "1")
    monkeypatch.setenv("OF_THE_TEST", "2")
    with running(variable) as server:
        assert ask(server, b"PACELINE_THREADS") == b"none"
        assert ask(server, b"OF_THE_TEST") == b"2"


def test_a_socket_that_the_test_has_opened() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        with running("echo", bind=f"fd://{listening.fileno()}") as server:
            assert (server.host, server.port) == listening.getsockname()
            assert ask(server, b"x") == b"x"
        assert listening.getsockname()[1] == server.port


def test_a_thread_may_start_it_and_another_use_it() -> None:
    with ThreadPoolExecutor(1) as pool:
        entered = running("echo", workers=1)
        server = pool.submit(entered.__enter__).result()
    # The thread that started it has ended: the server has not.
    assert ask(server, b"x") == b"x"
    entered.__exit__(None, None, None)
    assert server.stop() == 0


def test_its_workers_are_gone_with_it_however_it_ends() -> None:
    with running("echo", workers=2) as server:
        workers = children_of(server.pid)
        assert len(workers) == 2
        os.kill(server.pid, signal.SIGKILL)
        assert server.stop() == -signal.SIGKILL
        wait_gone(workers)


def test_ctrl_c_in_the_terminal_does_not_reach_it() -> None:
    with running("echo") as server:
        assert os.getpgid(server.pid) == server.pid != os.getpgid(0)


def test_somebody_else_may_have_reaped_it() -> None:
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps by itself
    try:
        with running("echo") as server:
            assert ask(server, b"x") == b"x"
        assert "stopped after" in server.log
    finally:
        signal.signal(signal.SIGCHLD, before)


def test_no_process_can_be_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    with pytest.raises(HostError, match="no process can be made for the server: No such file"), running("echo"):
        pass


def test_a_server_that_ends_before_it_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(under_test, "_BOOT", "import os\nos.kill(os.getpid(), 9)")
    with pytest.raises(HostError, match=r"the server could not start \(it was killed by signal 9\)"), running("echo"):
        pass


def test_a_bug_is_called_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(under_test, "_BOOT", "raise SystemExit('mine')")
    with pytest.raises(paceline.PacelineError, match=r"could not start \(exit code 1\)") as raised, running("echo"):
        pass
    assert raised.value.__notes__ == ["The server's log:\n    mine\n"]


def test_an_interrupt_while_it_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(under_test.ProcessServer, "_wait_until_it_listens", _interrupt)
    with pytest.raises(KeyboardInterrupt), running("echo"):
        pass


def test_an_interrupt_while_it_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    with running("echo") as server:
        monkeypatch.setattr(server, "_wait_until_over", _interrupt)
        with pytest.raises(KeyboardInterrupt):
            server.stop()
        assert server.stop() == -signal.SIGKILL


def _interrupt(*_given: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_many_places(log_format: str) -> None:
    with running("echo", bind=["127.0.0.1:0"] * 50, log_format=log_format) as server:
        assert len(set(server.addresses)) == 50


def test_more_places_than_a_line_has_room_for() -> None:
    with pytest.raises(HostError, match="log does not tell where it listens"), running("echo", bind=["[::1]:0"] * 300):
        pass
    with running("echo", bind=["[::1]:0"] * 300, log_format="json") as server:
        assert len(set(server.addresses)) == 300


def test_a_test_that_a_handler_starts_is_no_import_of_it() -> None:
    """A server under test may run tests itself, even such as are about the same handler."""
    with running(runs_a_test, workers=1) as server:
        assert ask(server, b"run it") == b"b'nested'"


def runs_a_test(message: bytes) -> bytes:
    if message == b"?":
        return b"nested"
    script = f"""if True:
        import socket, sys
        sys.path[:] = {sys.path!r}
        from paceline.testing import running
        with running({__file__ + ":runs_a_test"!r}, workers=1) as server:
            with socket.create_connection((server.host, server.port), 5) as client:
                client.sendall(b"?")
                print(client.recv(100))
        """
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=20, check=False)
    return done.stdout.strip() or done.stderr
