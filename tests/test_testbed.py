"""The rig is trusted by all integration tests, so it is tested itself, with small scripts in the server's place."""

import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator

import pytest

from leftovers import Belongings, belongings, children_of, eventually, is_alive, wait_gone
from peer import Peer
from testbed import run_to_end, running

pytestmark = pytest.mark.usefixtures("nothing_left")

SERVER = """
import os, signal, socket, sys
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
FIRST
listening = socket.create_server(("127.0.0.1", 0))
print("starting", file=sys.stderr)
host, port = listening.getsockname()
print(f"12:00 info supervisor: listening on {host}:{port}, unix:x.sock · 1 worker · pid {os.getpid()}", file=sys.stderr)
print("out", flush=True)
while True:
    stream, _ = listening.accept()
    while data := stream.recv(100):
        stream.sendall(data)
    stream.close()
"""


def script(text: str) -> tuple[str, ...]:
    return (sys.executable, "-c", text)


def server_that(does_first: str = "") -> tuple[str, ...]:
    """An echo server for one client at a time, which does this before it listens."""
    return script(SERVER.replace("FIRST", does_first))


def test_a_server_is_started_asked_and_stopped() -> None:
    with running(command=server_that()) as server:
        assert server.places == [f"127.0.0.1:{server.address[1]}", "unix:x.sock"]
        assert server.wait_for_log("starting") == "starting"
        peer = server.connect()
        peer.send(b"one\n", b"two\n", b"three")
        assert peer.lines(2) == [b"one\n", b"two\n"]
        assert peer.receive(3) == b"thr"
        peer.half_close()
        assert peer.receive_all() == b"ee"
        assert server.pids() == []
    assert server.output == "out"
    assert server.process.returncode == 0


NOISY = SERVER.replace(
    "stream.sendall(data)", "print(*range(200), data.decode(), sep='\\n', file=sys.stderr); stream.sendall(data)"
)


def test_the_log_is_what_was_written_before_it_is_looked_at() -> None:
    """Whoever has heard of it from the server finds it in the log; nobody needs to wait."""
    with running(command=script(NOISY.replace("FIRST", ""))) as server, server.connect() as peer:
        for number in range(200):
            peer.send(b"%d.\n" % number)
            peer.line()
            since = server.log_length()
            assert f"\n{number}." in server.log
            assert since == server.log_length()


def test_what_it_was_started_with() -> None:
    show = (
        "import os, sys; print(sys.argv[1:], os.getcwd() == os.environ['PWD'], open('a/b').read(), os.environ.get('X'))"
    )
    ended = run_to_end("serve", "x", files={"a/b": "  text"}, env={"X": "y"}, command=(sys.executable, "-c", show))
    assert (ended.code, ended.output, ended.log) == (0, "['serve', 'x'] True text y\n", "")


def test_a_failing_test_carries_the_log_and_leaves_nothing() -> None:
    with pytest.raises(ZeroDivisionError) as caught, running(command=server_that()):
        raise ZeroDivisionError
    assert "listening on" in "".join(caught.value.__notes__)
    assert children_of(os.getpid()) == []


def test_a_wrong_exit_code_is_a_failure() -> None:
    ends_with_three = "signal.signal(signal.SIGTERM, lambda *_: os._exit(3))"
    with pytest.raises(AssertionError, match="ended with 3"), running(command=server_that(ends_with_three)):
        pass
    with running(command=server_that(ends_with_three), exit_code=3):
        pass


def test_a_server_that_ends_before_it_listens() -> None:
    with (
        pytest.raises(AssertionError, match="the log has ended"),
        running(command=script("import sys; print('no', file=sys.stderr)")),
    ):
        pytest.fail("it does not get here")


FORKS = """
if os.fork() == 0:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.pause()
"""


def test_a_process_left_by_a_clean_stop_is_found_and_ended() -> None:
    with (
        pytest.raises(AssertionError, match=r"child .* is left"),
        running(command=server_that(FORKS)) as server,
    ):
        [worker] = server.pids()
    assert not is_alive(worker)
    assert children_of(os.getpid()) == []


DIES_WITH_ITS_PARENT = """
reading, writing = os.pipe()
if os.fork() == 0:
    os.close(writing)
    os.read(reading, 1)
    os._exit(0)
"""


def test_the_processes_of_a_killed_server_may_take_a_moment() -> None:
    with running(command=server_that(DIES_WITH_ITS_PARENT)) as server:
        [worker] = server.pids()
        assert server.stop(signal.SIGKILL) == -signal.SIGKILL
        wait_gone([worker])
    assert children_of(os.getpid()) == []


def test_a_command_that_does_not_end_is_ended() -> None:
    with pytest.raises(AssertionError, match=r"did not end within 0\.2 s"):
        run_to_end("x", timeout=0.2, command=script("import signal; signal.pause()"))


def test_waiting_for_the_log_fails_with_the_log_in_the_message() -> None:
    with running(command=server_that()) as server:
        with pytest.raises(AssertionError, match="starting"):
            server.wait_for_log("never said", timeout=0.01)
        with pytest.raises(AssertionError):
            server.wait_for_log("starting", timeout=0.01, since=server.log_length())


@pytest.fixture
def peers() -> Iterator[tuple[Peer, socket.socket]]:
    listening = socket.create_server(("127.0.0.1", 0))
    peer = Peer(f"127.0.0.1:{listening.getsockname()[1]}", timeout=0.05)
    other, _ = listening.accept()
    listening.close()
    yield peer, other
    peer.close()
    other.close()


def test_a_peer_says_what_had_arrived(peers: tuple[Peer, socket.socket]) -> None:
    peer, other = peers
    other.sendall(b"part")
    with pytest.raises(AssertionError, match=r"in time.*part"):
        peer.line()
    other.shutdown(socket.SHUT_WR)
    with pytest.raises(AssertionError, match=r"ended.*part"):
        peer.line()
    assert peer.receive() == b"part"
    assert peer.ended()


def test_a_peer_that_resets(peers: tuple[Peer, socket.socket]) -> None:
    peer, other = peers
    assert peer.name == "{}:{}".format(*other.getpeername())
    peer.reset()
    with pytest.raises(ConnectionResetError):
        other.recv(1)


def test_leftovers_names_what_changed() -> None:
    before = belongings()
    release = threading.Event()
    thread = threading.Thread(target=release.wait, name="a thread")
    thread.start()
    fd = os.open("/dev/null", os.O_RDONLY)
    child = os.posix_spawn(sys.executable, [sys.executable, "-c", ""], os.environ)
    changes = belongings().beyond(before)
    release.set()
    thread.join()
    os.close(fd)
    wait_gone([child])
    assert os.waitpid(child, 0)[1] == 0
    assert [change.split()[0] for change in changes] == ["descriptor", "thread", "child"]
    assert "/dev/null" in changes[0]
    assert belongings().beyond(before) == []


def test_what_an_earlier_test_left_may_go_at_any_time() -> None:
    """It fails that test, and none after it."""
    release = threading.Event()
    thread = threading.Thread(target=release.wait, name="left by an earlier test")
    thread.start()
    fd = os.open("/dev/null", os.O_RDONLY)
    before = belongings()
    os.close(fd)
    release.set()
    thread.join()
    assert belongings().beyond(before) == []


def test_a_descriptor_of_the_test_runner_must_stay() -> None:
    before = belongings()
    assert Belongings({}, {}, {}).beyond(before), "all of them gone"


def test_the_timer_of_the_test_runner_is_nobodys() -> None:
    before = belongings()
    timer = threading.Timer(60, int)
    timer.name = "pytest_timeout tests/test_x.py::test_y"
    timer.start()
    assert belongings().beyond(before) == []
    timer.cancel()
    timer.join()


def test_eventually_has_a_deadline() -> None:
    eventually(lambda: True, timeout=0)
    with pytest.raises(AssertionError, match="not so within"):
        eventually(lambda: False, timeout=0.01)
