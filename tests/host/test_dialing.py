"""host/dialing.py: connecting, and what is said when it fails."""

import errno
import os
import resource
import signal
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from paceline.addresses import Address, parse_address
from paceline.errors import ConnectFailed, Refused, TimedOut, UsageError
from paceline.host.dialing import dial, reached

DEADLINE_S = 5.0
_IP_LOCAL_PORT_RANGE = 51
"""ip(7): the lowest and the highest port to call from, for one socket; since Linux 6.3, no name in Python yet."""
_UNKNOWN_FAMILY = 45
"""One that no kernel knows: as AF_INET6 where IPv6 is switched off."""


@contextmanager
def listening(
    family: int = socket.AF_INET, place: object = ("127.0.0.1", 0), backlog: int = 8
) -> Iterator[socket.socket]:
    with socket.socket(family) as listener:
        listener.bind(place)  # type: ignore[arg-type]
        listener.listen(backlog)
        yield listener


def tcp(listener: socket.socket) -> Address:
    host, port = listener.getsockname()[:2]
    return Address("tcp", host, port)


def test_it_connects_and_sends_at_once() -> None:
    with listening() as listener, dial(tcp(listener), DEADLINE_S) as made:
        assert made.gettimeout() is None
        assert not made.get_inheritable()
        assert made.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        accepted, _ = listener.accept()
        with accepted:
            made.sendall(b"hello")
            assert accepted.recv(5) == b"hello"


def test_no_host_means_this_machine() -> None:
    with listening() as listener:
        address = parse_address(f":{listener.getsockname()[1]}")
        assert reached(address) == f"127.0.0.1:{address.port}"
        dial(address, DEADLINE_S).close()


def test_a_socket_file(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with listening(socket.AF_UNIX, path), dial(Address("unix", path=path), DEADLINE_S) as made:
        assert made.gettimeout() is None
        assert made.getsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, 16) == bytes(16)


@pytest.fixture
def found_at(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Address]:
    """A host that the resolver finds at these places."""

    def find(*places: tuple[str, int], family: int = socket.AF_INET) -> Address:
        found = [(family if host == "nowhere" else socket.AF_INET, 1, 0, "", (host, port)) for host, port in places]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
        return Address("tcp", "host", 1)

    return find


NO_FAMILY = ("nowhere", 1)


def test_the_first_address_of_a_host_that_answers(found_at: Callable[..., Address]) -> None:
    with listening() as silent:
        refused = silent.getsockname()
    with listening() as listener:
        dial(found_at(refused, listener.getsockname()), DEADLINE_S).close()
        # As where a name has an address of IPv6 and the kernel has no IPv6 at all.
        dial(found_at(NO_FAMILY, listener.getsockname(), family=_UNKNOWN_FAMILY), DEADLINE_S).close()


def test_a_refusal_says_more_than_that_there_is_no_way(found_at: Callable[..., Address]) -> None:
    with listening() as silent:
        refused = silent.getsockname()
    with pytest.raises(Refused, match="nobody listens on host:1"):
        dial(found_at(refused, NO_FAMILY, family=_UNKNOWN_FAMILY), DEADLINE_S)
    with pytest.raises(ConnectFailed, match="cannot connect to host:1: address family not supported by protocol"):
        dial(found_at(NO_FAMILY, family=_UNKNOWN_FAMILY), DEADLINE_S)


def test_an_address_that_swallows_everything_leaves_time_for_the_next(found_at: Callable[..., Address]) -> None:
    with listening(backlog=0) as full, listening() as listener, socket.socket() as first:
        first.connect(full.getsockname())
        dial(found_at(full.getsockname(), listener.getsockname()), 0.4).close()


def test_nobody_is_connected_to_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever calls a port that nobody listens on, from that same port, is answered by the kernel."""

    class Itself(socket.socket):
        def connect(self, place: Any) -> None:
            self.bind(place)
            super().connect(place)

    with listening() as listener:
        address = tcp(listener)
    monkeypatch.setattr(socket, "socket", Itself)
    with pytest.raises(Refused, match="nobody listens on"):
        dial(address, DEADLINE_S)


def test_nobody_listens() -> None:
    with listening() as listener:
        address = tcp(listener)
    with pytest.raises(Refused, match=f"nobody listens on {address.text}; start the server"):
        dial(address, DEADLINE_S)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (socket.EAI_NONAME, r"the host 'somewhere\.invalid' is not known; is it spelled right\?$"),
        (socket.EAI_AGAIN, r"the host 'somewhere\.invalid' could not be looked up \(.*\); try again, or look whether"),
    ],
)
def test_an_unknown_host(code: int, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def look_up(*_: object, **__: object) -> None:
        raise socket.gaierror(code, "the resolver's words")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    with pytest.raises(ConnectFailed, match=f"cannot connect to somewhere.invalid:1: {said}"):
        dial(Address("tcp", "somewhere.invalid", 1), DEADLINE_S)


@pytest.mark.parametrize("host", ["a..b", f"{'x' * 64}.example", "nul\0", "fe80::1%no-such-interface"])
def test_what_cannot_be_a_host(host: str) -> None:
    with pytest.raises(ConnectFailed, match=r"cannot connect to .*: the host .* is not known; is it spelled right\?$"):
        dial(Address("tcp", host, 1), DEADLINE_S)


def test_a_full_queue_is_waited_for_so_long_and_no_longer() -> None:
    with listening(backlog=0) as listener, socket.socket() as first:
        first.connect(listener.getsockname())  # the one that a queue of 0 holds (listen(2))
        with pytest.raises(TimedOut, match=r"did not answer within 0\.2 s"):
            dial(tcp(listener), 0.2)


def test_a_full_queue_of_a_socket_file(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with listening(socket.AF_UNIX, path, backlog=0), socket.socket(socket.AF_UNIX) as first:
        first.connect(path)
        with pytest.raises(TimedOut, match=r"did not answer within 0\.2 s"):
            dial(Address("unix", path=path), 0.2)


def test_a_signal_does_not_end_the_wait_for_a_socket_file(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    arrived = []
    with (
        listening(socket.AF_UNIX, path, backlog=0) as listener,
        socket.socket(socket.AF_UNIX) as first,
    ):
        first.connect(path)

        def make_room(*_: object) -> None:
            arrived.append(True)
            if len(arrived) == 3:
                listener.accept()[0].close()

        before = signal.signal(signal.SIGALRM, make_room)
        signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)
        try:
            with dial(Address("unix", path=path), DEADLINE_S) as made:
                signal.setitimer(signal.ITIMER_REAL, 0)
                assert len(arrived) >= 3
                assert made.getpeername() == path
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)


def test_no_socket_file(tmp_path: Path) -> None:
    with pytest.raises(ConnectFailed, match="there is no socket file"):
        dial(Address("unix", path=str(tmp_path / "s")), DEADLINE_S)


def test_a_socket_file_that_nobody_holds(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with listening(socket.AF_UNIX, path):
        pass
    with pytest.raises(Refused, match="nobody listens on unix:"):
        dial(Address("unix", path=path), DEADLINE_S)


def test_a_datagram_socket_file(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as datagrams:
        datagrams.bind(path)
        with pytest.raises(ConnectFailed, match="is a socket of another kind; a client needs a stream socket"):
            dial(Address("unix", path=path), DEADLINE_S)


def test_what_only_a_server_can_have() -> None:
    with pytest.raises(UsageError, match="fd://3 is a socket that a server inherits"):
        dial(Address("fd", fd=3), DEADLINE_S)
    with pytest.raises(UsageError, match=r"127\.0\.0\.1:0 means any free port, which only a server can choose"):
        dial(Address("tcp", "127.0.0.1", 0), DEADLINE_S)


def test_no_descriptors_left() -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    with listening() as listener:
        lowest_free = os.dup(listener.fileno())
        os.close(lowest_free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, limits[1]))
        try:
            with pytest.raises(
                ConnectFailed, match=r"no descriptors are left \(.* of .* are open\); close some, or raise"
            ):
                dial(tcp(listener), DEADLINE_S)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_no_local_port_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel has one port to call from, and that is taken."""

    class FromOnePort(socket.socket):
        def connect(self, place: Any) -> None:
            try:
                self.setsockopt(socket.IPPROTO_IP, _IP_LOCAL_PORT_RANGE, struct.pack("@I", port << 16 | port))
            except OSError:  # before Linux 6.3
                raise OSError(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL)) from None
            super().connect(place)

    with listening() as listener, dial(tcp(listener), DEADLINE_S) as first:
        port = first.getsockname()[1]
        monkeypatch.setattr(socket, "socket", FromOnePort)
        with pytest.raises(ConnectFailed, match=r"no local port is free \(\d+ to \d+\); .* or widen net\.ipv4"):
            dial(tcp(listener), DEADLINE_S)


@pytest.mark.parametrize(
    ("number", "said", "host"),
    [
        (errno.EADDRNOTAVAIL, "this machine has no IPv6 address to call from, or no local port is free", "::1"),
        (errno.ENETUNREACH, "network is unreachable", "127.0.0.1"),
        (errno.EHOSTUNREACH, "no route to host", "127.0.0.1"),
        (errno.EPERM, "operation not permitted: a firewall or a sandbox of this machine forbids it", "127.0.0.1"),
        (errno.ENFILE, "all processes of this machine together have no descriptors left", "127.0.0.1"),
    ],
)
def test_what_the_machine_says(number: int, said: str, host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Failing(socket.socket):
        def connect(self, _place: object) -> None:
            raise OSError(number, os.strerror(number))

    monkeypatch.setattr(socket, "socket", Failing)
    with pytest.raises(ConnectFailed, match=f"cannot connect to .*:1: {said}"):
        dial(Address("tcp", host, 1), DEADLINE_S)


def test_a_socket_file_of_somebody_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As root, who runs tests in containers, may write to any: so the kernel's word is made up."""

    class Failing(socket.socket):
        def connect(self, _place: object) -> None:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(socket, "socket", Failing)
    with pytest.raises(ConnectFailed, match=r"this user may not write to .*/s; ask its owner"):
        dial(Address("unix", path=str(tmp_path / "s")), DEADLINE_S)
