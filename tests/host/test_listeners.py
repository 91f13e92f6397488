"""Listening: what is opened, what accepted sockets inherit, and what each refusal says."""

import errno
import os
import resource
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from paceline.addresses import Address, parse_address
from paceline.errors import HostError
from paceline.host import listeners, streams
from paceline.host.listeners import Listener, close_listener, open_listener
from testbed import UNPRIVILEGED

pytestmark = pytest.mark.usefixtures("nothing_left")

needs_ipv6 = pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this machine has no IPv6")


@contextmanager
def opened(text: str, keepalive_s: float | None = 60.0, backlog: int = 16) -> Iterator[Listener]:
    listener = open_listener(parse_address(text), 0, backlog, keepalive_s)
    try:
        yield listener
    finally:
        close_listener(listener)


def refusal(text: str) -> str:
    """What is said when it cannot be; one paragraph that names what was tried."""
    with pytest.raises(HostError) as caught:
        open_listener(parse_address(text), 0, 16, None)
    words = str(caught.value)
    assert words.startswith(f"cannot listen on {text}: ")
    assert "\n" not in words
    assert "; " in words, "there is a remedy"
    return words


def answers(listener: Listener, host: str) -> bool:
    """Whether a client of this host is accepted."""
    port = listener.socket.getsockname()[1]
    with socket.create_connection((host, port), timeout=5) as client:
        fd = streams.accept(listener.socket)
        streams.send(fd, b"x")
        streams.close(fd)
        return client.recv(1) == b"x"


# what is opened


def test_a_free_port_is_resolved_in_the_text() -> None:
    with opened("127.0.0.1:0") as listener:
        port = listener.socket.getsockname()[1]
        assert port > 0
        assert listener.text == f"127.0.0.1:{port}"
        assert (listener.kind, listener.index) == ("tcp", 0)
        assert listener.fileno() == listener.socket.fileno()
        assert answers(listener, "127.0.0.1")


@needs_ipv6
def test_an_ipv6_address() -> None:
    with opened("[::1]:0") as listener:
        assert listener.text == f"[::1]:{listener.socket.getsockname()[1]}"
        assert answers(listener, "::1")


@needs_ipv6
def test_all_interfaces_is_one_socket_for_both() -> None:
    with opened(":0") as listener:
        assert listener.text == f"[::]:{listener.socket.getsockname()[1]}"
        assert answers(listener, "127.0.0.1")
        assert answers(listener, "::1")


def test_all_interfaces_without_ipv6(monkeypatch: pytest.MonkeyPatch) -> None:
    class WithoutIpv6(socket.socket):
        def __init__(self, family: int = -1, kind: int = -1, proto: int = -1, fileno: int | None = None) -> None:
            if family == socket.AF_INET6:
                raise OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT))
            super().__init__(family, kind, proto, fileno)

    monkeypatch.setattr(socket, "socket", WithoutIpv6)
    with opened(":0") as listener:
        monkeypatch.undo()
        assert listener.text == f"0.0.0.0:{listener.socket.getsockname()[1]}"
        assert answers(listener, "127.0.0.1")


@needs_ipv6
def test_all_of_ipv6_leaves_ipv4_to_another() -> None:
    with socket.socket() as reserved:  # a port that is free for both
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        reserved.bind(("0.0.0.0", 0))
        port = reserved.getsockname()[1]
        with opened(f"[::]:{port}") as listener, opened(f"0.0.0.0:{port}") as other:
            assert answers(listener, "::1")
            assert answers(other, "127.0.0.1")


def test_a_name_is_opened_at_its_ipv4_address_first() -> None:
    with opened("localhost:0") as listener:
        assert listener.text == f"127.0.0.1:{listener.socket.getsockname()[1]}"


def test_a_name_is_opened_at_the_first_address_that_this_machine_has(monkeypatch: pytest.MonkeyPatch) -> None:
    places = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, 0)) for host in ("192.0.2.1", "127.0.0.1")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: places)
    with opened("two-addresses:0") as listener:
        assert listener.text.startswith("127.0.0.1:")


def test_it_never_blocks_and_no_child_inherits_it_whatever_the_users_default(tmp_path: Path) -> None:
    socket.setdefaulttimeout(10)
    try:
        for text in ("127.0.0.1:0", f"unix:{tmp_path}/s"):
            with opened(text) as listener:
                assert not os.get_blocking(listener.fileno())
                assert listener.socket.gettimeout() == 0
                assert not listener.socket.get_inheritable()
                with pytest.raises(BlockingIOError):
                    streams.accept(listener.socket)
    finally:
        socket.setdefaulttimeout(None)


def test_a_port_with_finished_connections_is_had_again_at_once_and_is_never_shared() -> None:
    with opened("127.0.0.1:0") as listener:
        assert answers(listener, "127.0.0.1")  # the server's side closes first: TIME_WAIT is its
        port = listener.socket.getsockname()[1]
        assert listener.socket.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT) == 0
    with opened(f"127.0.0.1:{port}") as listener:
        assert answers(listener, "127.0.0.1")


@pytest.mark.parametrize("host", ["127.0.0.1", pytest.param("::1", marks=needs_ipv6)])
@pytest.mark.parametrize(
    ("keepalive_s", "idle", "interval", "user_timeout_ms"),
    [(60.0, 60, 15, 120_000), (2, 2, 1, 4_000), (0.5, 1, 1, 1_000), (10**9, 32767, 8191, 2**31 - 1)],
)
def test_accepted_sockets_inherit_the_options(
    host: str, keepalive_s: float, idle: int, interval: int, user_timeout_ms: int
) -> None:
    with opened(f"[{host}]:0" if ":" in host else f"{host}:0", keepalive_s) as listener:
        client = socket.create_connection(listener.socket.getsockname()[:2], timeout=5)
        accepted = socket.socket(fileno=streams.accept(listener.socket))
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT) == 256 * 1024
        assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == idle
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL) == interval
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT) == 4
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == user_timeout_ms
        accepted.close()
        client.close()


def test_keepalive_is_off_when_it_is_off() -> None:
    with opened("127.0.0.1:0", None) as listener:
        client = socket.create_connection(listener.socket.getsockname(), timeout=5)
        accepted = socket.socket(fileno=streams.accept(listener.socket))
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert not accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 0
        accepted.close()
        client.close()


# what is refused


LISTEN = """
import socket, sys
listening = socket.create_server((sys.argv[1], 0))
print(listening.getsockname()[1], flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize(
    ("held", "wanted"),
    [
        *[(held, wanted) for held in ("127.0.0.1", "0.0.0.0") for wanted in ("127.0.0.1", "0.0.0.0", "")],
        *[pytest.param("::1", wanted, marks=needs_ipv6) for wanted in ("[::1]", "[::]", "")],
    ],
)
def test_a_busy_port_names_who_has_it(held: str, wanted: str) -> None:
    script = LISTEN.replace("1], 0)", "1], 0), family=socket.AF_INET6") if ":" in held else LISTEN
    with subprocess.Popen(
        [sys.executable, "-c", script, held], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        port = holder.stdout.readline().strip()
        words = refusal(f"{wanted}:{port}")
        holder.communicate("")
    assert f"(pid {holder.pid}) listens there; stop that one, or choose another port" in words


def test_two_of_our_own_that_collide() -> None:
    with opened("127.0.0.1:0") as listener:
        words = refusal(f"0.0.0.0:{listener.socket.getsockname()[1]}")
        assert "another of the addresses to be served covers it already" in words


def test_a_port_that_is_held_without_listening() -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        assert "held by a socket that is not listening" in refusal(f"127.0.0.1:{holder.getsockname()[1]}")


def test_an_address_that_no_interface_has() -> None:
    words = refusal("192.0.2.1:8888")  # TEST-NET-1 (RFC 5737)
    assert "no interface of this machine has the address 192.0.2.1" in words
    assert ":8888 for all interfaces" in words


@needs_ipv6
def test_a_link_local_address_without_its_interface() -> None:
    assert "write [fe80::1%eth0]:8888" in refusal("[fe80::1]:8888")


def test_a_name_that_nobody_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", nobody)
    words = refusal("example.invalid:8888")
    assert "the host name 'example.invalid' cannot be resolved (Name or service not known); check its spelling" in words


def test_a_name_that_cannot_be_one() -> None:
    assert "cannot be resolved (it is not a possible name)" in refusal("a" * 64 + ".example:8888")


def test_an_ipv6_address_without_ipv6(monkeypatch: pytest.MonkeyPatch) -> None:
    def without(*_: object, **__: object) -> None:
        raise OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT))

    monkeypatch.setattr(listeners, "_listen_at", without)
    assert "this machine has no IPv6; give an IPv4 address" in refusal("[::1]:8888")


def test_without_a_descriptor_left(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    first_free = os.dup(0)
    os.close(first_free)
    for text in ("127.0.0.1:0", f"unix:{tmp_path}/s"):
        resource.setrlimit(resource.RLIMIT_NOFILE, (first_free, hard))
        try:
            with pytest.raises(HostError) as caught:
                open_listener(parse_address(text), 0, 16, None)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert "Too many open files (EMFILE); raise the limit on open files (ulimit -n)" in str(caught.value)


OPEN = """
import sys
from paceline.addresses import parse_address
from paceline.errors import HostError
from paceline.host.listeners import open_listener
try:
    open_listener(parse_address(sys.argv[1]), 0, 16, None)
except HostError as error:
    print(error)
"""


def unprivileged_refusal(text: str) -> str:
    return subprocess.run(
        [*UNPRIVILEGED, sys.executable, "-c", OPEN, text], capture_output=True, text=True, check=True, timeout=10
    ).stdout.strip()


def test_a_privileged_port() -> None:
    first_free = int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text())
    if first_free <= 1:
        pytest.skip("this machine has no privileged ports")
    words = unprivileged_refusal("127.0.0.1:1")
    assert words.startswith(
        f"cannot listen on 127.0.0.1:1: ports below {first_free} are privileged; choose a higher one"
    )
    assert "CAP_NET_BIND_SERVICE" in words
    assert "\n" not in words


def test_any_other_refusal_has_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(*_: object, **__: object) -> None:
        raise OSError(errno.ENOBUFS, os.strerror(errno.ENOBUFS))

    monkeypatch.setattr(listeners, "_listen_at", breaks)
    assert "No buffer space available (ENOBUFS); free some memory" in refusal("127.0.0.1:8888")


# what is inherited


@contextmanager
def inherited(given: socket.socket) -> Iterator[Listener]:
    fd = given.detach()
    listener = open_listener(Address("fd", fd=fd), 3, 16, 60.0)
    try:
        assert listener.fileno() == fd
        assert listener.index == 3
        assert not listener.socket.get_inheritable()
        assert not os.get_blocking(fd)
        yield listener
    finally:
        close_listener(listener)


def test_an_inherited_tcp_listener_is_used_and_gets_our_options() -> None:
    given = socket.create_server(("127.0.0.1", 0))
    given.set_inheritable(True)
    with inherited(given) as listener:
        assert listener.kind == "tcp"
        assert listener.text == "{}:{}".format(*listener.socket.getsockname())
        assert listener.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 60
        assert answers(listener, "127.0.0.1")


def test_an_inherited_socket_that_does_not_listen_yet_listens() -> None:
    given = socket.socket()
    given.bind(("127.0.0.1", 0))
    with inherited(given) as listener:
        assert answers(listener, "127.0.0.1")


def test_an_inherited_unix_listener_keeps_its_file(tmp_path: Path) -> None:
    given = socket.socket(socket.AF_UNIX)
    given.bind(f"{tmp_path}/s")
    with inherited(given) as listener:
        assert (listener.kind, listener.text) == ("unix", f"unix:{tmp_path}/s")
    assert (tmp_path / "s").exists()


def test_an_inherited_abstract_socket() -> None:
    given = socket.socket(socket.AF_UNIX)
    given.bind(f"\0paceline-test-{os.getpid()}-{threading.get_ident()}")
    with inherited(given) as listener:
        assert listener.text.startswith("unix:@paceline-test-")


def test_inherited_descriptors_that_cannot_serve_are_left_as_they_are(tmp_path: Path) -> None:
    here, there = socket.socketpair()
    file = (tmp_path / "f").open("w")
    reading, writing = os.pipe()
    datagrams, unbound, unbound_unix = (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
        socket.socket(),
        socket.socket(socket.AF_UNIX),
    )
    netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)
    eventfd = os.eventfd(0)
    cases = {
        here.fileno(): "is one connection, not a listening socket",
        file.fileno(): "is a file, not a socket",
        reading: "is a pipe, not a socket",
        eventfd: "is a descriptor of the kernel's own, not a socket",
        datagrams.fileno(): "is not a stream socket but one for datagrams",
        unbound.fileno(): "is a socket without an address",
        unbound_unix.fileno(): "is a socket without an address",
        netlink.fileno(): "is a socket of another family",
    }
    for fd, words in cases.items():
        assert words in refusal(f"fd://{fd}")
        os.fstat(fd)
    for end in (here, there, file, datagrams, unbound, unbound_unix, netlink):
        end.close()
    for fd in (reading, writing, eventfd):
        os.close(fd)


def test_an_inherited_descriptor_that_is_not_open() -> None:
    assert "descriptor 999 is not open" in refusal("fd://999")


def test_a_name_that_nobody_has_made_a_number() -> None:
    assert "no sockets were passed (LISTEN_FDS is not set)" in refusal("fd://web")


# closing


def test_a_closed_listener_refuses_and_may_be_closed_again() -> None:
    with opened("127.0.0.1:0") as listener:
        place = listener.socket.getsockname()
        close_listener(listener)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(place, timeout=5)
