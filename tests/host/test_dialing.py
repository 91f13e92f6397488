"""host/dialing.py: connecting, and what is said when it fails."""

import errno
import os
import resource
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from paceline.addresses import Address, parse_address
from paceline.errors import ConnectFailed, Refused, TimedOut, UsageError
from paceline.host.dialing import dial, reached

DEADLINE_S = 5.0


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


def test_the_first_address_of_a_host_that_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    with listening() as silent:
        refused = silent.getsockname()
    with listening() as listener:
        found = [(socket.AF_INET, socket.SOCK_STREAM, 0, "", place) for place in (refused, listener.getsockname())]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
        dial(Address("tcp", "host", 1), DEADLINE_S).close()


def test_nobody_listens() -> None:
    with listening() as listener:
        address = tcp(listener)
    with pytest.raises(Refused, match=f"nobody listens on {address.text}; start the server"):
        dial(address, DEADLINE_S)


def test_an_unknown_host() -> None:
    with pytest.raises(ConnectFailed, match=r"the host 'no-such-host\.invalid' is not known"):
        dial(Address("tcp", "no-such-host.invalid", 1), DEADLINE_S)


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
        with pytest.raises(ConnectFailed, match="is no socket that is spoken to like this"):
            dial(Address("unix", path=path), DEADLINE_S)


def test_what_only_a_server_can_have() -> None:
    with pytest.raises(UsageError, match="fd://3 is a socket that a server inherits"):
        dial(Address("fd", fd=3), DEADLINE_S)


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


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.EADDRNOTAVAIL, r"no local port is free \(\d+ to \d+\)"),
        (errno.ENETUNREACH, "network is unreachable"),
        (errno.EHOSTUNREACH, "no route to host"),
        (errno.EPERM, "operation not permitted; a firewall forbids it"),
    ],
)
def test_what_the_machine_says(number: int, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Failing(socket.socket):
        def connect(self, _place: object) -> None:
            raise OSError(number, os.strerror(number))

    monkeypatch.setattr(socket, "socket", Failing)
    with pytest.raises(ConnectFailed, match=f"cannot connect to 127.0.0.1:1: {said}"):
        dial(Address("tcp", "127.0.0.1", 1), DEADLINE_S)
