"""host/listeners.py: which families a listener serves is said in words, and is so."""

import errno
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from paceline.addresses import parse_address
from paceline.host import listeners, streams
from paceline.host.listeners import Listener, close_listener, open_listener

pytestmark = pytest.mark.usefixtures("nothing_left")

needs_ipv6 = pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this machine has no IPv6")


@contextmanager
def opened(text: str) -> Iterator[Listener]:
    listener = open_listener(parse_address(text), 0, 16, None)
    try:
        yield listener
    finally:
        close_listener(listener)


def served(listener: Listener) -> set[str]:
    """The families whose clients are accepted."""
    found = set()
    port = listener.socket.getsockname()[1]
    for host, family in (("127.0.0.1", "IPv4"), ("::1", "IPv6")):
        try:
            with socket.create_connection((host, port), timeout=5):
                streams.close(streams.accept(listener.socket))
                found.add(family)
        except ConnectionRefusedError:
            pass
    return found


@needs_ipv6
@pytest.mark.parametrize(
    ("text", "words", "families"),
    [
        (":0", "IPv4 and IPv6", {"IPv4", "IPv6"}),
        ("[::]:0", "IPv6 only", {"IPv6"}),
        ("0.0.0.0:0", "IPv4 only", {"IPv4"}),
        ("127.0.0.1:0", "", {"IPv4"}),
        ("[::1]:0", "", {"IPv6"}),
        ("localhost:0", "", {"IPv4"}),
    ],
)
def test_what_is_said_is_what_is_served(text: str, words: str, families: set[str]) -> None:
    with opened(text) as listener:
        assert listener.words == words
        assert listener.spoken() == (f"{listener.text} ({words})" if words else listener.text)
        assert listener.spoken(is_encrypted=True) == f"{listener.text} ({words + '; ' if words else ''}TLS)"
        assert "(" not in listener.text, "handlers and programs read that"
        assert served(listener) == families


def test_a_unix_socket_needs_no_words(tmp_path: Path) -> None:
    with opened(f"unix:{tmp_path}/s") as listener:
        assert (listener.words, listener.spoken(is_encrypted=True)) == ("", f"unix:{tmp_path}/s")


@needs_ipv6
@pytest.mark.parametrize(("is_dual", "words"), [(True, "IPv4 and IPv6"), (False, "IPv6 only")])
def test_an_inherited_one_is_asked(is_dual: bool, words: str) -> None:
    made = socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=is_dual)
    with opened(f"fd://{made.detach()}") as listener:
        assert listener.words == words
        assert served(listener) == ({"IPv4", "IPv6"} if is_dual else {"IPv6"})
    with opened(f"fd://{socket.create_server(('', 0)).detach()}") as listener:
        assert listener.words == "IPv4 only"


@pytest.mark.parametrize("number", [errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL])
def test_where_there_is_no_ipv6_it_says_so(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """The kernel knows the family or not; in the second case no interface may have such an address."""

    class WithoutIpv6(socket.socket):
        def __init__(self, family: int = -1, kind: int = -1, proto: int = -1, fileno: int | None = None) -> None:
            if family == socket.AF_INET6:
                raise OSError(number, os.strerror(number))
            super().__init__(family, kind, proto, fileno)

    monkeypatch.setattr(socket, "socket", WithoutIpv6)
    with opened(":0") as listener:
        monkeypatch.undo()
        assert listener.words == "IPv4 only: this machine has no IPv6"
        assert served(listener) == {"IPv4"}


@needs_ipv6
@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("00000000000000000000000000000001 01 80 10 80       lo\n", "IPv4 and IPv6"),
        ("", "IPv4 and IPv6: this machine has no IPv6 address now"),
        (None, "IPv4 and IPv6: this machine has no IPv6 address now"),
    ],
)
def test_where_ipv6_is_turned_off_it_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, table: str | None, words: str
) -> None:
    if table is not None:
        (tmp_path / "if_inet6").write_text(table)
    monkeypatch.setattr(listeners, "_IPV6_ADDRESSES", str(tmp_path / "if_inet6"))
    with opened(":0") as listener:
        assert listener.words == words


def test_what_nobody_knows_is_not_denied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listeners, "_IPV6_ADDRESSES", str(tmp_path))  # it cannot be read
    assert listeners._has_ipv6_address()


SAY = """
from paceline.addresses import parse_address
from paceline.host.listeners import close_listener, open_listener
listener = open_listener(parse_address(":0"), 0, 16, None)
print(listener.words)
close_listener(listener)
"""


@needs_ipv6
@pytest.mark.skipif(os.geteuid() != 0, reason="only root may make a network namespace")
def test_a_container_without_an_interface() -> None:
    done = subprocess.run(
        ["unshare", "--net", sys.executable, "-c", SAY], capture_output=True, text=True, timeout=20, check=False
    )
    if done.returncode and "unshare" in done.stderr:
        pytest.skip("this machine makes no network namespaces")
    assert done.stdout == "IPv4 and IPv6: this machine has no IPv6 address now\n", done.stderr
