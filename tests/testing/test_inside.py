"""A server in the process of the test leaves that process as it was."""

import faulthandler
import os
import signal
import socket
import stat
import sys
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest

import paceline
from paceline.errors import HostError, TargetError
from paceline.testing import Server, running

pytestmark = pytest.mark.usefixtures("nothing_left")


def connect(server: Server) -> socket.socket:
    return socket.create_connection((server.host, server.port), 5)


def test_signals_are_the_tests() -> None:
    def handlers() -> list[object]:
        return [signal.getsignal(number) for number in sorted(signal.valid_signals())]

    before, mask = handlers(), signal.pthread_sigmask(signal.SIG_BLOCK, ())
    with running(lambda m: m) as server:
        assert handlers() == before
        assert signal.set_wakeup_fd(-1) == -1
        assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == mask
        with connect(server) as client:
            client.sendall(b"x")
            assert client.recv(1) == b"x"
    assert handlers() == before


def test_no_timer_would_end_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    armed: list[object] = []
    monkeypatch.setattr(faulthandler, "dump_traceback_later", lambda *given, **_named: armed.append(given))
    with running(lambda m: m) as server:
        parts = server._parts  # type: ignore[attr-defined]
        parts.watcher.alarm.wake()  # it looks, and at everything
        assert server.stop() == 0
    assert armed == []


def test_the_switch_interval_is_put_back_with_the_last_server() -> None:
    before = sys.getswitchinterval()
    with ExitStack() as first, ExitStack() as second:
        first.enter_context(running(lambda m: m, switch_interval="2ms"))
        assert sys.getswitchinterval() == pytest.approx(0.002)
        second.enter_context(running(lambda m: m, switch_interval="3ms"))
        assert sys.getswitchinterval() == pytest.approx(0.003)
        first.close()
        assert sys.getswitchinterval() == pytest.approx(0.003)
    assert sys.getswitchinterval() == pytest.approx(before)


class Hooked:
    """Notes which of its hooks are called."""

    def __init__(self, failing: str = "") -> None:
        self.called: list[str] = []
        self.failing = failing

    def _note(self, hook: str) -> None:
        self.called.append(hook)
        if hook == self.failing:
            raise ValueError("mine")

    def start(self) -> None:
        self._note("start")

    def stop(self) -> None:
        self._note("stop")

    def thread_start(self) -> None:
        self._note("thread_start")

    def thread_stop(self) -> None:
        self._note("thread_stop")

    def connected(self, connection: object) -> bytes:
        self._note("connected")
        return b"hello"

    def disconnected(self, connection: object) -> None:
        self._note("disconnected")

    def __call__(self, message: bytes) -> bytes:
        self._note("call")
        return message


def test_hooks_are_called_as_in_a_process() -> None:
    handler = Hooked()
    with running(handler, threads=1) as server, connect(server) as client:
        assert client.recv(5) == b"hello"
        client.sendall(b"x")
        assert client.recv(1) == b"x"
    assert handler.called == ["start", "thread_start", "connected", "call", "disconnected", "thread_stop", "stop"]


def test_a_peer_that_stays_is_said_farewell() -> None:
    handler = Hooked()
    with socket.socket() as client:
        with running(handler, threads=1) as server:
            client.settimeout(5)
            client.connect((server.host, server.port))
            assert client.recv(5) == b"hello"
            assert server.stop() == 0
        assert client.recv(1) == b""
    assert handler.called.count("disconnected") == 1


@pytest.mark.parametrize(
    ("hook", "said"),
    [("start", "raised ValueError when it was made or started: mine"), ("thread_start", r"thread_start\(\) raised")],
)
def test_a_hook_that_fails_at_the_start(hook: str, said: str) -> None:
    with pytest.raises(TargetError, match=said), running(Hooked(failing=hook)):
        pass


def test_a_handler_that_fails_is_logged_and_the_others_are_served() -> None:
    with running(Hooked(failing="call")) as server:
        with connect(server) as client:
            client.sendall(b"x")
            assert client.recv(5) == b"hello"
            assert client.recv(1) == b""
        server.wait_for_log("the handler raised ValueError")
        assert 'raise ValueError("mine")' in server.log
        with connect(server) as client:
            assert client.recv(5) == b"hello"


def test_a_connection_handler_sees_the_end() -> None:
    seen: list[bytes] = []

    @paceline.connection
    def hear(conn: socket.socket) -> None:
        conn.sendall(b"?")
        seen.append(conn.recv(1))

    with running(hear) as server, connect(server) as client:
        assert client.recv(1) == b"?"
        assert server.stop() == 0
    assert seen == [b""]


def test_a_call_that_does_not_end_is_cut_off_and_shown() -> None:
    entered, gate = threading.Event(), threading.Event()

    def wait(_message: bytes) -> bytes:
        entered.set()
        gate.wait(20)
        return b"late"

    def call() -> None:
        with running(wait, drain_timeout=0.1) as server:
            client.connect((server.host, server.port))
            client.sendall(b"x")
            assert entered.wait(5)

    with socket.socket() as client:
        client.settimeout(5)
        with pytest.raises(HostError, match="Threads cannot be killed; this is where those calls still are") as raised:
            call()
        assert client.recv(1) == b""  # cut, although the call goes on
    assert "gate.wait(20)" in str(raised.value)
    assert "1 call was cut by the drain time-out (0.1 s)" in raised.value.__notes__[-1]
    let_go(gate)


def let_go(gate: threading.Event) -> None:
    """What is stuck there ends, and all that it held is given back."""
    gate.set()
    for thread in threading.enumerate():
        if thread.name.startswith("paceline-"):
            thread.join(5)


def test_a_server_that_does_not_stop_in_time_is_told_with_its_stacks() -> None:
    entered, gate = threading.Event(), threading.Event()

    def wait(_message: bytes) -> None:
        entered.set()
        gate.wait(20)

    def call() -> None:
        with running(wait, stop_timeout=0.1) as server, connect(server) as client:
            client.sendall(b"x")
            assert entered.wait(5)

    with pytest.raises(HostError, match=r"did not stop within 0\.1 s \(stop_timeout\), and threads cannot") as raised:
        call()
    assert "gate.wait(20)" in str(raised.value)
    let_go(gate)


def test_a_stop_hook_that_does_not_end_is_shown() -> None:
    gate = threading.Event()

    class Slow:
        def stop(self) -> None:
            gate.wait(20)

        def __call__(self, message: bytes) -> bytes:
            return message

    with pytest.raises(HostError, match="did not stop within") as raised, running(Slow(), stop_timeout=0.3):
        pass
    assert "Thread paceline-watcher" in str(raised.value)
    assert "gate.wait(20)" in str(raised.value)
    let_go(gate)


def test_after_a_cut_nothing_is_left_but_what_the_call_holds(tmp_path: Path) -> None:
    entered, gate = threading.Event(), threading.Event()

    def wait(_message: bytes) -> None:
        entered.set()
        gate.wait(20)

    place, before = tmp_path / "x.sock", sys.getswitchinterval()
    with (
        socket.socket(socket.AF_UNIX) as client,
        running(wait, bind=f"unix:{place}", drain_timeout=0.1, switch_interval="2ms") as server,
    ):
        client.connect(str(place))
        client.sendall(b"x")
        assert entered.wait(5)
        assert server.stop() == 4
        assert not place.exists()
        assert sys.getswitchinterval() == pytest.approx(before)
    let_go(gate)


def test_a_start_that_does_not_end_is_told_with_its_stack() -> None:
    gate = threading.Event()

    class Slow:
        def start(self) -> None:
            gate.wait(20)

        def __call__(self, message: bytes) -> bytes:
            return message

    with (
        pytest.raises(HostError, match=r"was not ready within 0\.1 s \(start_timeout\)") as raised,
        running(Slow(), start_timeout=0.1),
    ):
        pass
    assert "gate.wait(20)" in str(raised.value)
    let_go(gate)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_process_that_the_test_forks_holds_nothing_of_the_server() -> None:
    ours, childs = socket.socketpair()
    with ours, childs, socket.socket() as client:
        with running(lambda m: m) as server:
            address = server.host, server.port
            child = os.fork()
            if child == 0:
                ours.close()
                childs.sendall(b"!")
                childs.recv(1)
                os._exit(0)
            assert ours.recv(1) == b"!"
        try:
            with pytest.raises(ConnectionRefusedError):
                client.connect(address)
        finally:
            childs.close()
            ours.close()
            os.waitpid(child, 0)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_process_that_the_test_forks_keeps_no_connection() -> None:
    ours, childs = socket.socketpair()
    with ours, childs, running(lambda m: m) as server, connect(server) as client:
        client.sendall(b"x")
        assert client.recv(1) == b"x"
        accepted = list(server._parts.worker.tables.open)  # type: ignore[attr-defined]
        child = os.fork()
        if child == 0:
            left = [fd for fd in accepted if stat.S_ISSOCK(os.fstat(fd).st_mode)]
            childs.sendall(b"%d of %d" % (len(left), len(accepted)))
            os._exit(0)
        assert ours.recv(100) == b"0 of 1"
        os.waitpid(child, 0)
        client.sendall(b"y")
        assert client.recv(1) == b"y"


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_server_of_a_process_of_its_own_is_not_the_forked_childs() -> None:
    """The child leaves the `with`, too."""
    with running("echo") as server:
        child = os.fork()
        if child == 0:
            server.close()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        with connect(server) as client:
            client.sendall(b"x")
            assert client.recv(1) == b"x"
