"""`running`, as a user's tests use it: what is served where, how it starts and ends, what is left."""

import os
import re
import signal
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NoReturn

import pytest

import paceline
import paceline.testing
from leftovers import wait_gone
from paceline.errors import HostError, UsageError
from paceline.testing import Server, running

pytestmark = pytest.mark.usefixtures("nothing_left")


def shout(line: bytes) -> bytes:
    return line.upper()


def who(_message: bytes) -> bytes:
    return b"%d" % os.getpid()


def stuck(_message: bytes) -> None:
    print("stuck")
    threading.Event().wait()


def talk(message: bytes) -> bytes:
    for number in range(20_000):
        print(f"line {number} {'x' * 100}")
    return message


@paceline.connection
def rev(conn: socket.socket) -> None:
    with conn.makefile("rb") as lines:
        for line in lines:
            conn.sendall(line.strip()[::-1] + b"\n")


class Counting:
    """Says how many messages this instance had."""

    def __init__(self, start: int = 0) -> None:
        self.count = start
        self.is_started = False

    def start(self) -> None:
        self.is_started = True

    def __call__(self, _message: bytes) -> bytes:
        self.count += 1
        return b"%d %d" % (self.count, self.is_started)


def ask(server: Server, *messages: bytes, address: str = "") -> bytes:
    """Send these, end the input, and return all that comes."""
    place = address or server.address
    if place.startswith("unix:"):
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(5)
        client.connect(place.removeprefix("unix:"))
    else:
        client = socket.create_connection((server.host, server.port), 5)
    with client:
        client.sendall(b"".join(messages))
        client.shutdown(socket.SHUT_WR)
        received = b""
        while piece := client.recv(65536):
            received += piece
    return received


def note_of(error: BaseException) -> str:
    """The log that the exception carries."""
    (note,) = [note for note in error.__notes__ if note.startswith("The server's log")]
    return note


# What is served where


def test_a_function_is_served_by_processes() -> None:
    with running(who) as server:
        assert re.fullmatch(r"127\.0\.0\.1:\d+", server.address)
        assert server.addresses == (server.address,)
        assert server.address == f"{server.host}:{server.port}"
        assert server.pid != os.getpid()
        assert int(ask(server, b"?")) not in (server.pid, os.getpid())
        assert "2 workers × up to 64 threads" in server.log
    assert " stopped after " in server.log


def test_settings_are_those_of_serve() -> None:
    with running(shout, framing="line", workers=1, threads=8, idle_timeout="2m", max_message="64k") as server:
        assert ask(server, b"a\nb", b"c\n") == b"A\nBC\n"
        assert "1 worker × up to 8 threads" in server.log


def test_a_connection_handler() -> None:
    with running(rev) as server:
        assert ask(server, b"abc\ndef\n") == b"cba\nfed\n"


def test_a_class_is_built_in_each_worker() -> None:
    with running(Counting, workers=1) as server:
        assert server.pid != os.getpid()
        assert ask(server, b"x") == b"1 1"
        assert ask(server, b"x") == b"2 1"


def test_the_text_of_a_built_in() -> None:
    with running("echo") as server:
        assert ask(server, b"x" * 100_000) == b"x" * 100_000


APP = "def twice(message):\n    return message * 2\n"


@pytest.mark.parametrize("text", ["app:twice", "app.py:twice", "{folder}/app.py:twice"])
def test_texts_are_looked_for_where_the_test_is(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "app.py").write_text(APP)
    monkeypatch.chdir(tmp_path)
    with running(text.format(folder=tmp_path)) as server:
        assert ask(server, b"ab") == b"abab"


def test_modules_are_found_where_the_test_finds_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "somewhere").mkdir()
    (tmp_path / "somewhere" / "app_of_the_path.py").write_text(APP)
    monkeypatch.syspath_prepend(tmp_path / "somewhere")
    with running("app_of_the_path:twice") as server:
        assert ask(server, b"ab") == b"abab"


def test_a_relative_place_of_the_path_means_the_same_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "app_in_lib.py").write_text(APP)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend("lib")
    with running("app_in_lib:twice", chdir="elsewhere", bind=["127.0.0.1:0", "unix:x.sock"]) as server:
        assert ask(server, b"ab") == b"abab"
        assert server.addresses[1] == f"unix:{tmp_path}/elsewhere/x.sock"
        assert ask(server, b"cd", address=server.addresses[1]) == b"cdcd"


def test_a_closure_sees_the_variables_of_the_test() -> None:
    seen: list[bytes] = []

    def note(message: bytes) -> bytes:
        seen.append(message)
        return b"%d" % os.getpid()

    with running(note, framing="line") as server:
        assert ask(server, b"a\nb\n").split() == [b"%d" % os.getpid()] * 2
        assert "1 worker × up to 64 threads in this process" in server.log
        with pytest.raises(UsageError, match="is served in the process of the test"):
            _ = server.pid
    assert seen == [b"a", b"b"]
    assert server.stop() == 0


OBJECTS: dict[str, Callable[[], object]] = {
    "a lambda": lambda: lambda _message: b"1 1",
    "an instance": Counting,
    "a bound method": lambda: _started().__call__,
    "a class of a function": lambda: type("Local", (Counting,), {}),
}


def _started() -> Counting:
    made = Counting()
    made.start()
    return made


@pytest.mark.parametrize("what", OBJECTS)
def test_what_has_no_name_is_served_here(what: str) -> None:
    with running(OBJECTS[what]()) as server:
        assert ask(server, b"x") == b"1 1"
        assert "in this process" in server.log


def test_a_framing_object_is_served_here() -> None:
    with running(shout, framing=paceline.Lines(limit=10)) as server:
        assert ask(server, b"hello\n") == b"HELLO\n"
        assert ask(server, b"hello world\n") == b""
        assert "in this process" in server.log
        assert "over the limit of 10 bytes" in server.log


@pytest.mark.parametrize("handler", [shout, lambda line: line.upper()], ids=["processes", "here"])
def test_several_places(handler: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    binds = ["unix:a, b.sock", "127.0.0.1:0", "127.0.0.1:0"]
    with running(handler, framing="line", bind=binds) as server:
        assert len(server.addresses) == 3
        assert server.address == f"unix:{tmp_path}/a, b.sock"
        assert server.addresses[1] == f"{server.host}:{server.port}"
        assert ask(server, b"x\n") == ask(server, b"x\n", address=server.addresses[1]) == b"X\n"
    assert os.listdir(tmp_path) == []


def test_a_unix_socket_has_no_port(tmp_path: Path) -> None:
    with running("echo", bind=f"unix:{tmp_path}/x.sock") as server:
        assert ask(server, b"x") == b"x"
        with pytest.raises(UsageError, match=r"has no host and no port; use server\.address"):
            _ = server.port


def test_ipv6() -> None:
    with running(lambda m: m, bind="[::1]:0") as server:
        assert server.host == "::1"
        assert server.address == f"[::1]:{server.port}"
        assert ask(server, b"x") == b"x"


def test_the_log_may_be_json() -> None:
    with running("echo", log_format="json") as server:
        assert ask(server, b"x") == b"x"
        assert '"event": "listening"' in server.wait_for_log("listening")


def test_neither_files_nor_variables_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "paceline.toml").write_text("no such = file\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PACELINE_THREADS", "none")
    monkeypatch.setenv("PACELINE_CONFIG", "nowhere.toml")
    with running("echo") as server:
        assert "up to 64 threads" in server.log


def test_servers_side_by_side() -> None:
    handlers = [shout, "echo", lambda m: m, shout, "echo", lambda m: m]
    together = threading.Barrier(len(handlers), timeout=20)

    def serve(handler: object) -> str:
        with running(handler, workers=1) as server:
            together.wait()  # all of them serve now
            assert ask(server, b"X") == b"X"
            return server.address

    with ThreadPoolExecutor(len(handlers)) as pool:
        assert len(set(pool.map(serve, handlers))) == len(handlers)


# The log


def test_a_server_that_prints_much_never_waits() -> None:
    with running(talk, workers=1) as server:
        assert ask(server, b"x") == b"x"
        assert server.wait_for_log("line 19999 ").startswith("line 19999 ")
        assert len(server.log) > 2_000_000
    with pytest.raises(ZeroDivisionError) as raised:
        _fail_after_a_call(talk)
    note = note_of(raised.value)
    assert len(note) < 30_000
    assert note.rstrip().endswith("1 call served")


def _fail_after_a_call(handler: object) -> None:
    with running(handler, workers=1) as server:
        ask(server, b"x")
        raise ZeroDivisionError


@pytest.mark.parametrize("target", ["echo", lambda m: m], ids=["processes", "here"])
def test_waiting_for_a_line(target: object) -> None:
    with running(target) as server:
        assert " listening on " in server.wait_for_log(re.compile(r"listening on \S+:\d+"))
        began = len(server.log)
        with pytest.raises(AssertionError, match=r"0\.05 s have passed, and the log has no line with 'listening'"):
            server.wait_for_log("listening", 0.05, since=began)
        assert server.stop() == 0
        assert server.wait_for_log("stopped after", since=began).endswith("0 calls served")
        with pytest.raises(AssertionError, match="the server has ended, and the log has no line with 'nothing'"):
            server.wait_for_log("nothing")


# The end


@pytest.mark.parametrize("target", ["echo", lambda m: m], ids=["processes", "here"])
def test_stopping_is_the_same_any_number_of_times(target: object) -> None:
    with running(target) as server:
        assert server.stop() == 0
        assert server.stop() == 0
        with pytest.raises(ConnectionRefusedError):
            ask(server, b"x")
    assert server.stop() == 0
    assert "listening" in server.log


@pytest.mark.parametrize("target", ["echo", lambda m: m], ids=["processes", "here"])
@pytest.mark.parametrize("kind", [ZeroDivisionError, KeyboardInterrupt, SystemExit])
def test_whatever_leaves_the_block_tells_the_log(target: object, kind: type[BaseException]) -> None:
    def fail() -> NoReturn:
        raise kind("mine")

    with pytest.raises(kind, match="mine") as raised, running(target):
        fail()
    assert "listening on 127.0.0.1:" in note_of(raised.value)
    assert "stopped after" in note_of(raised.value)


def test_a_call_that_is_cut_is_told() -> None:
    with pytest.raises(HostError, match=r"had to cut calls that still ran 0\.1 s after it was asked to stop") as raised:
        _with_a_stuck_call(drain_timeout=0.1)
    assert "1 call was cut" in note_of(raised.value)


def test_who_stops_it_is_told_by_the_code() -> None:
    with running(stuck, drain_timeout=0.1) as server, socket.create_connection((server.host, server.port), 5) as client:
        client.sendall(b"x")
        server.wait_for_log("stuck")
        assert server.stop() == 4


def test_what_does_not_stop_is_killed_and_told() -> None:
    with pytest.raises(HostError, match=r"did not stop within 0\.2 s \(stop_timeout\) after SIGTERM, and was killed"):
        _with_a_stuck_call(stop_timeout=0.2)


def test_a_failed_test_stays_the_error_when_the_server_does_not_stop() -> None:
    with pytest.raises(ZeroDivisionError) as raised:
        _with_a_stuck_call(stop_timeout=0.2, then=lambda: 1 / 0)
    assert "Besides, the server (pid " in raised.value.__notes__[0]


def _with_a_stuck_call(then: Callable[[], object] = lambda: None, **times: float) -> None:
    pids: list[int] = []
    try:
        with running(stuck, workers=1, **times) as server:
            pids.append(server.pid)
            with socket.create_connection((server.host, server.port), 5) as client:
                client.sendall(b"x")
                server.wait_for_log("stuck")
                then()
    finally:
        wait_gone(pids)


def test_a_server_that_was_killed_is_told() -> None:
    with (
        pytest.raises(HostError, match=r"was killed by signal 9; if the test is about that, end it with server"),
        running("echo") as server,
    ):
        os.kill(server.pid, signal.SIGKILL)


def test_a_test_that_kills_it_looks_at_the_code() -> None:
    with running("echo") as server:
        os.kill(server.pid, signal.SIGKILL)
        assert server.stop() == -9
