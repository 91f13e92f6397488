"""The verbs for bare descriptors, each on real sockets."""

import os
import resource
import select
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import NoReturn

import pytest

from leftovers import eventually
from paceline import clock
from paceline.host import streams
from paceline.networks import text_of

pytestmark = pytest.mark.usefixtures("nothing_left")

CLOCK_S = 0.02
"""The coarsest step of the kernel's clock, twice."""

Pair = tuple[int, socket.socket]
"""(our descriptor, the client's socket)"""


def listening_socket(kind: str, folder: str) -> socket.socket:
    if kind == "unix":
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(f"{folder}/x.sock")
        listening.listen()
    elif kind == "mapped":
        listening = socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
    else:
        family = socket.AF_INET6 if kind == "ipv6" else socket.AF_INET
        listening = socket.create_server(("::1" if kind == "ipv6" else "127.0.0.1", 0), family=family)
    listening.setblocking(False)
    return listening


def connected_client(kind: str, listening: socket.socket) -> socket.socket:
    name = listening.getsockname()
    if kind == "unix":
        client = socket.socket(socket.AF_UNIX)
        client.connect(name)
        client.settimeout(5)
        return client
    return socket.create_connection(("::1" if kind == "ipv6" else "127.0.0.1", name[1]), timeout=5)


@pytest.fixture(params=["ipv4", "ipv6", "mapped", "unix"])
def kind(request: pytest.FixtureRequest) -> str:
    if request.param in ("ipv6", "mapped") and not socket.has_dualstack_ipv6():
        pytest.skip("this machine has no IPv6")
    return str(request.param)


@pytest.fixture
def listening(kind: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[socket.socket]:
    with listening_socket(kind, str(tmp_path_factory.mktemp("s"))) as opened:
        yield opened


@pytest.fixture
def pair(kind: str, listening: socket.socket) -> Iterator[Pair]:
    """The test closes the descriptor or leaves it; it is closed at the end if it is still the same file."""
    with connected_client(kind, listening) as client:
        fd = streams.accept(listening)
        mine = os.fstat(fd).st_ino
        yield fd, client
        try:
            still_mine = os.fstat(fd).st_ino == mine
        except OSError:
            still_mine = False
        if still_mine:
            os.close(fd)


def wait_readable(fd: int) -> None:
    assert select.select([fd], [], [], 5)[0]


def receive_all(client: socket.socket) -> int:
    received = 0
    while piece := client.recv(1 << 20):
        received += len(piece)
    return received


def send_for_ever(fd: int) -> NoReturn:
    while True:
        streams.send(fd, bytes(1 << 20))


def is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


# accept


def test_an_accepted_descriptor_is_non_blocking_and_close_on_exec(pair: Pair) -> None:
    fd, client = pair
    assert not os.get_blocking(fd)
    assert not os.get_inheritable(fd)
    client.sendall(b"hello")
    wait_readable(fd)
    assert streams.receive(fd, streams.RECEIVE_BYTES) == b"hello"
    assert streams.send(fd, b"bye") == 3
    assert client.recv(10) == b"bye"


def test_accept_says_when_nobody_waits(listening: socket.socket) -> None:
    with pytest.raises(BlockingIOError):
        streams.accept(listening)


def test_a_client_that_is_gone_before_it_is_accepted_is_accepted(kind: str, listening: socket.socket) -> None:
    client = connected_client(kind, listening)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
    fd = streams.accept(listening)
    wait_readable(fd)
    assert streams.drop_input(fd, 100) == (0, True)
    assert streams.peer_text(fd)
    streams.close(fd)


def test_accept_raises_when_no_descriptor_is_left(kind: str, listening: socket.socket) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with connected_client(kind, listening):
        first_free = os.dup(0)
        os.close(first_free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (first_free, hard))
        try:
            with pytest.raises(OSError, match="Too many open files"):
                streams.accept(listening)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        streams.close(streams.accept(listening))  # it is still there


def test_a_default_timeout_of_the_users_changes_nothing(kind: str, listening: socket.socket) -> None:
    socket.setdefaulttimeout(30)
    try:
        with connected_client(kind, listening) as client:
            fd = streams.accept(listening)
            assert not os.get_blocking(fd)
            streams.end_output(fd)
            assert streams.peer_text(fd)
            assert not os.get_blocking(fd)
            streams.close(fd)
            assert client.recv(1) == b""
    finally:
        socket.setdefaulttimeout(None)


# receive and send


def test_receive_says_when_nothing_is_there_and_when_it_ends(pair: Pair) -> None:
    fd, client = pair
    with pytest.raises(BlockingIOError):
        streams.receive(fd, 10)
    client.sendall(b"last")
    client.shutdown(socket.SHUT_WR)
    wait_readable(fd)
    assert streams.receive(fd, 10) == b"last"
    wait_readable(fd)
    assert streams.receive(fd, 10) == b""
    assert streams.receive(fd, 10) == b""


def test_send_takes_what_fits_and_then_says_so(pair: Pair) -> None:
    fd, _client = pair
    sent = streams.send(fd, bytes(64 << 20))
    assert 0 < sent < 64 << 20
    with pytest.raises(BlockingIOError):
        send_for_ever(fd)


def test_sending_to_a_peer_that_is_gone_is_an_exception_and_no_signal(pair: Pair) -> None:
    fd, client = pair
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
    wait_readable(fd)
    with pytest.raises((ConnectionResetError, BrokenPipeError)):
        streams.send(fd, b"x")
    with pytest.raises(BrokenPipeError):
        streams.send(fd, b"x")


# ends


def test_end_output_reaches_the_peer_though_another_process_has_a_copy(pair: Pair) -> None:
    fd, client = pair
    copy = os.dup(fd)
    streams.end_output(fd)
    assert client.recv(1) == b""
    client.sendall(b"still heard")
    wait_readable(fd)
    assert streams.receive(fd, 100) == b"still heard"
    os.close(copy)


def test_end_input_ends_reading_after_what_has_arrived(pair: Pair) -> None:
    fd, client = pair
    client.sendall(b"arrived")
    wait_readable(fd)
    streams.end_input(fd)
    assert streams.receive(fd, 100) == b"arrived"
    assert streams.receive(fd, 100) == b""
    assert streams.send(fd, b"answer") == 6
    assert client.recv(100) == b"answer"


@pytest.mark.parametrize("end", [streams.end_output, streams.end_input])
def test_ending_a_connection_that_is_gone_is_no_error(pair: Pair, end: Callable[[int], None]) -> None:
    fd, client = pair
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
    wait_readable(fd)
    end(fd)
    end(fd)
    assert is_open(fd)


@pytest.mark.parametrize("end", [streams.end_output, streams.end_input])
def test_ending_what_is_no_connection_is_our_bug_and_raises(end: Callable[[int], None]) -> None:
    reading, writing = os.pipe()
    with pytest.raises(OSError, match="socket"):
        end(reading)
    os.close(reading)
    os.close(writing)
    with pytest.raises(OSError, match="Bad file"):
        end(reading)


def test_close_reaches_the_peer_though_another_process_has_a_copy(pair: Pair) -> None:
    fd, client = pair
    copy = os.dup(fd)
    streams.send(fd, b"last words")
    streams.close(fd)
    assert not is_open(fd)
    assert client.recv(100) == b"last words"
    assert client.recv(100) == b""
    os.close(copy)


def test_a_child_of_a_handler_does_not_keep_the_peer_waiting(pair: Pair) -> None:
    fd, client = pair
    os.set_inheritable(fd, True)
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, close_fds=False)
    streams.close(fd)
    assert client.recv(1) == b""
    assert child.poll() is None
    child.communicate(b"\n")


@pytest.mark.parametrize("end", [streams.close, streams.abort])
def test_ending_never_raises(pair: Pair, end: Callable[[int], None]) -> None:
    fd, client = pair
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
    wait_readable(fd)
    end(fd)
    assert not is_open(fd)
    end(fd)  # a bug of ours, but not one to die of


def test_abort_resets_and_drops_what_was_not_delivered(pair: Pair, kind: str) -> None:
    fd, client = pair
    streams.send(fd, bytes(64 << 20))
    streams.abort(fd)
    assert not is_open(fd)
    if kind == "unix":
        return  # there is no reset; what was written is in the peer's queue already
    with pytest.raises(ConnectionResetError):
        receive_all(client)


def test_abort_ends_the_connection_though_a_copy_is_open(pair: Pair, kind: str) -> None:
    """A process that a handler forked has one."""
    fd, client = pair
    elsewhere = os.dup(fd)
    streams.abort(fd)
    if kind == "unix":
        assert receive_all(client) == 0
    else:
        with pytest.raises(ConnectionResetError):
            receive_all(client)
    os.close(elsewhere)


def test_let_go_leaves_the_connection_alone(pair: Pair) -> None:
    fd, client = pair
    elsewhere = os.dup(fd)
    streams.let_go(fd)
    streams.send(elsewhere, b"go on")
    assert client.recv(100) == b"go on"
    os.close(elsewhere)


# lingering


def test_input_is_dropped_until_there_is_none_or_it_ends(pair: Pair) -> None:
    fd, client = pair
    assert streams.drop_input(fd, 1000) == (0, False)
    client.sendall(bytes(300))
    wait_readable(fd)
    assert streams.drop_input(fd, 1000) == (300, False)
    client.sendall(bytes(70))
    client.shutdown(socket.SHUT_WR)
    dropped, at_end = 0, False
    while not at_end:
        wait_readable(fd)
        more, at_end = streams.drop_input(fd, 1000)
        dropped += more
    assert dropped == 70
    assert streams.drop_input(fd, 1000) == (0, True)


def test_no_more_than_the_limit_is_dropped(pair: Pair) -> None:
    fd, client = pair
    client.sendall(bytes(100) + b"kept")
    wait_readable(fd)
    assert streams.drop_input(fd, 0) == (0, False)
    assert streams.drop_input(fd, 100) == (100, False)
    assert streams.receive(fd, 100) == b"kept"


def test_a_reset_is_an_end(pair: Pair) -> None:
    fd, client = pair
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
    wait_readable(fd)
    assert streams.drop_input(fd, 100) == (0, True)


def test_dropped_input_does_not_reset_the_last_reply() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listening,
        socket.create_connection(listening.getsockname()) as client,
    ):
        client.settimeout(5)
        fd = streams.accept(listening)
        client.sendall(bytes(10_000))
        streams.send(fd, b"refused")
        streams.end_output(fd)
        dropped = 0
        while dropped < 10_000:
            wait_readable(fd)
            dropped += streams.drop_input(fd, 10_000 - dropped)[0]
        streams.close(fd)
        assert client.recv(100) == b"refused"
        assert client.recv(100) == b""


# who, and how many


def test_the_peers_name(pair: Pair, kind: str) -> None:
    fd, client = pair
    if kind == "unix":
        assert streams.peer_text(fd) == f"unix pid {os.getpid()} uid {os.getuid()}"
    else:
        port = client.getsockname()[1]
        assert streams.peer_text(fd) == (f"[::1]:{port}" if kind == "ipv6" else f"127.0.0.1:{port}")
    assert is_open(fd)


def test_whose_process_the_peer_is(pair: Pair, kind: str) -> None:
    fd, client = pair
    ours = streams.Credentials(os.getpid(), os.geteuid(), os.getegid())
    assert streams.peer_credentials(fd) == (ours if kind == "unix" else None)
    client.close()
    assert streams.peer_credentials(fd) == (ours if kind == "unix" else None), "it is known when it is gone, too"
    assert is_open(fd)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become somebody else")
def test_it_is_who_has_connected_and_not_who_has_the_socket_now() -> None:
    with socket.socket(socket.AF_UNIX) as listening, socket.socket(socket.AF_UNIX) as client:
        listening.bind("")  # any abstract name: no folder is in the way of others
        listening.listen()
        child = os.fork()
        if child == 0:
            os.setresgid(2**31 + 7, 4711, 0)
            os.setresuid(5, 2**32 - 2, 0)
            os._exit(client.connect_ex(listening.getsockname()))
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        fd = streams.accept(listening)
        assert streams.peer_credentials(fd) == streams.Credentials(child, 2**32 - 2, 4711)
        assert streams.peer_text(fd) == f"unix pid {child} uid {2**32 - 2}"
        streams.close(fd)


def test_no_descriptor_has_no_peer() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    for fd in (-1, reading, writing):
        assert streams.peer_credentials(fd) is None
        assert streams.peer_address(fd) is None
        assert streams.peer_text(fd) == "a peer that is gone"
    os.close(writing)


def test_the_name_of_a_peer_that_is_gone() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        client = socket.create_connection(listening.getsockname())
        fd = streams.accept(listening)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
        wait_readable(fd)
        assert streams.peer_text(fd) == "a peer that is gone"
        streams.close(fd)
        assert streams.peer_text(fd) == "a peer that is gone"
    reading, writing = os.pipe()
    assert streams.peer_text(reading) == "a peer that is gone"
    assert is_open(reading)
    os.close(reading)
    os.close(writing)


def test_what_the_kernel_still_holds_falls_when_the_peer_reads(pair: Pair) -> None:
    fd, client = pair
    assert streams.unsent_bytes(fd) == 0
    streams.send(fd, b"taken")
    assert client.recv(100) == b"taken"
    eventually(lambda: streams.unsent_bytes(fd) == 0)
    with pytest.raises(BlockingIOError):
        send_for_ever(fd)
    full = streams.unsent_bytes(fd)
    assert full > 0
    read = 0

    def fell() -> bool:
        nonlocal read
        read += len(client.recv(65536))
        return streams.unsent_bytes(fd) < full

    eventually(fell)
    assert read > 0
    streams.end_output(fd)
    receive_all(client)
    client.close()
    eventually(lambda: streams.unsent_bytes(fd) == 0)
    streams.close(fd)
    assert streams.unsent_bytes(fd) == 0


def test_the_accept_queue_is_counted(kind: str, listening: socket.socket) -> None:
    assert streams.accept_queue(listening) == 0
    clients = [connected_client(kind, listening) for _ in range(3)]
    if kind == "unix":
        assert streams.accept_queue(listening) == 0  # the kernel does not tell by this way
    else:
        eventually(lambda: streams.accept_queue(listening) == 3)
    streams.close(streams.accept(listening))
    if kind != "unix":
        assert streams.accept_queue(listening) == 2
    for client in clients:
        client.close()
    for _ in range(2):
        streams.close(streams.accept(listening))


def test_the_queue_of_a_closed_listener_is_empty() -> None:
    listening = socket.create_server(("127.0.0.1", 0))
    listening.close()
    assert streams.accept_queue(listening) == 0


# From where


def test_accepting_says_from_where_it_comes(kind: str, listening: socket.socket) -> None:
    with connected_client(kind, listening) as client:
        fd, address = streams.accept_from(listening)
        assert not os.get_blocking(fd)
        assert not os.get_inheritable(fd)
        assert address == streams.peer_address(fd)
        if kind == "unix":
            assert address is None
            assert streams.text_of(address) == ""
        else:
            assert address is not None
            assert streams.text_of(address) == streams.peer_text(fd)
            assert address[1] == client.getsockname()[1]
            host = "::1" if kind == "ipv6" else "127.0.0.1"
            assert text_of(streams.number_of(address)) == host  # of a listener for both, too
        os.close(fd)


def test_of_a_peer_that_has_gone_there_is_no_address(kind: str, listening: socket.socket) -> None:
    with connected_client(kind, listening) as client:
        fd = streams.accept(listening)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    if kind != "unix":
        wait_readable(fd)
    assert streams.peer_address(fd) is None
    os.close(fd)
    assert streams.peer_address(fd) is None
    read_end, write_end = os.pipe()
    assert streams.peer_address(read_end) is None
    os.close(read_end)
    os.close(write_end)


@pytest.mark.parametrize(
    ("address", "text"),
    [
        (("192.0.2.7", 5), "192.0.2.7"),
        (("2001:db8::7", 5, 0, 0), "2001:db8::7"),
        (("::ffff:192.0.2.7", 5, 0, 0), "192.0.2.7"),
        (("fe80::7", 5, 0, 2), "fe80::7"),
        (("fe80::7%eth0", 5, 0, 2), "fe80::7"),
    ],
)
def test_an_address_is_a_number(address: tuple[str, int] | tuple[str, int, int, int], text: str) -> None:
    assert text_of(streams.number_of(address)) == text


def test_what_was_received_is_acknowledged_and_where_there_is_no_tcp_nothing_happens() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listening,
        socket.create_connection(listening.getsockname()) as client,
    ):
        ours, _ = listening.accept()
        with ours:
            client.sendall(b"x")
            assert ours.recv(1) == b"x"
            streams.acknowledge(ours.fileno())
            eventually(lambda: streams.unsent_bytes(client.fileno()) == 0)
    one, other = socket.socketpair()
    with one, other:
        streams.acknowledge(one.fileno())


# For how long


def test_how_long_nothing_has_come(kind: str, listening: socket.socket) -> None:
    """Of TCP the kernel knows, from the moment of the connection on; reading it changes nothing."""
    client = connected_client(kind, listening)
    begun = clock.now()
    fd = streams.accept(listening)
    if kind == "unix":
        assert streams.quiet_s(fd) is None
    else:
        eventually(lambda: (streams.quiet_s(fd) or 0.0) >= 0.05)
        assert (streams.quiet_s(fd) or 0.0) <= clock.now() - begun + CLOCK_S
        client.sendall(b"x")
        eventually(lambda: streams.unread_bytes(fd) == 1)
        eventually(lambda: (streams.quiet_s(fd) or 0.0) >= 0.05)
        assert streams.receive(fd, 9) == b"x"
        assert (streams.quiet_s(fd) or 0.0) >= 0.05
    client.close()
    streams.close(fd)
    assert streams.quiet_s(fd) is None
