"""Telling the service manager: who that is, and that nothing waits for it."""

import os
import socket
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from paceline.host import notify
from paceline.host.notify import ServiceManager

pytestmark = pytest.mark.usefixtures("nothing_left")

PID = 4711


@pytest.fixture(params=["path", "abstract"])
def systemd(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, socket.socket]]:
    """(NOTIFY_SOCKET, the manager's end)."""
    name = f"@paceline-test-{os.getpid()}-{threading.get_ident()}" if request.param == "abstract" else f"{tmp_path}/n"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(name.replace("@", "\0", 1) if request.param == "abstract" else name)
        listening.settimeout(5)
        yield name, listening


def test_what_is_sent_arrives(systemd: tuple[str, socket.socket]) -> None:
    name, listening = systemd
    environment = {"NOTIFY_SOCKET": name, "A": "b"}
    manager = notify.take(environment, PID)
    assert environment == {"A": "b"}
    assert manager.variables == {"NOTIFY_SOCKET": name}
    assert manager.watchdog_s is None
    assert manager.send("READY=1\nSTATUS=bücher")
    assert manager.send("WATCHDOG=1")
    assert listening.recv(4096).decode() == "READY=1\nSTATUS=bücher"
    assert listening.recv(4096) == b"WATCHDOG=1"
    manager.close()
    manager.close()


def test_what_it_has_open_is_known_so_that_a_fork_can_close_it(systemd: tuple[str, socket.socket]) -> None:
    name, _ = systemd
    manager = notify.take({"NOTIFY_SOCKET": name}, PID)
    assert manager.fds() == []
    assert manager.send("READY=1")
    (fd,) = manager.fds()
    assert stat.S_ISSOCK(os.fstat(fd).st_mode)
    manager.close()
    assert manager.fds() == []


def test_a_manager_that_does_not_read_makes_nobody_wait(systemd: tuple[str, socket.socket]) -> None:
    name, listening = systemd
    manager = notify.take({"NOTIFY_SOCKET": name}, PID)
    sent = 0
    while manager.send("X=1"):
        sent += 1
        assert sent < 100_000
    assert sent > 0
    listening.recv(64)
    assert manager.send("X=2")
    manager.close()


def test_a_manager_that_is_gone_and_comes_back(tmp_path: Path) -> None:
    manager = notify.take({"NOTIFY_SOCKET": f"{tmp_path}/n"}, PID)
    assert not manager.send("READY=1")
    for _ in range(2):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
            listening.bind(f"{tmp_path}/n")
            assert manager.send("READY=1")
            assert listening.recv(64) == b"READY=1"
        assert not manager.send("READY=1")
        os.unlink(f"{tmp_path}/n")
    manager.close()


def test_no_child_inherits_the_socket(systemd: tuple[str, socket.socket]) -> None:
    manager = notify.take({"NOTIFY_SOCKET": systemd[0]}, PID)
    manager.send("X=1")
    assert manager._socket is not None
    assert not manager._socket.get_inheritable()
    manager.close()


def test_without_a_manager_there_is_nothing_to_do() -> None:
    manager = notify.take({}, PID)
    assert manager == ServiceManager()
    assert manager.send("READY=1")
    assert manager._socket is None


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("vsock:2:1234", "NOTIFY_SOCKET='vsock:2:1234' is of a virtual machine's host, which is not supported"),
        ("vsock-stream:2:1234", "is of a virtual machine's host"),
        ("run/notify", "NOTIFY_SOCKET='run/notify' is neither an absolute path nor an abstract name"),
        ("/", "is neither"),
        ("@", "is neither"),
        ("/" + 107 * "x", "NOTIFY_SOCKET has 108 bytes, and a Unix socket's path at most 107"),
    ],
)
def test_an_address_that_cannot_be_used(address: str, why: str) -> None:
    environment = {"NOTIFY_SOCKET": address}
    manager = notify.take(environment, PID)
    assert why in manager.refused
    assert environment == {}
    assert manager.send("READY=1"), "nobody is there to be told"


@pytest.mark.parametrize(
    ("usec", "pid", "watchdog_s", "is_refused"),
    [
        ("30000000", None, 30.0, False),
        ("500000", str(PID), 0.5, False),
        ("500000", "1", None, False),
        ("0", None, None, True),
        ("often", None, None, True),
        ("-5", None, None, True),
        ("9" * 30, None, None, True),
    ],
)
def test_the_watchdog_is_for_us_or_for_somebody_else(
    usec: str, pid: str | None, watchdog_s: float | None, is_refused: bool
) -> None:
    environment = {"NOTIFY_SOCKET": "/n", "WATCHDOG_USEC": usec, **({"WATCHDOG_PID": pid} if pid else {})}
    manager = notify.take(environment, PID)
    assert (manager.watchdog_s, environment) == (watchdog_s, {})
    assert ("so no sign of life is given" in manager.refused) is is_refused
    assert manager.address == "/n"
