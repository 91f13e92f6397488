"""bench/dialling.py: what looks like a connection and is none.  The rest is in test_engine.py and test_run.py."""

import socket

import pytest

from paceline.bench.dialling import Dialler
from paceline.bench.link import Link, State
from paceline.bench.troubles import Kind

pytestmark = pytest.mark.usefixtures("nothing_left")


def test_a_connection_to_itself_was_refused() -> None:
    failed: list[Kind] = []
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    sock.connect(sock.getsockname())  # as the kernel does by chance, where nobody listens on a port it may choose
    dialler = Dialler(
        (socket.AF_INET, sock.getsockname()),
        is_slow=False,
        on_up=lambda _link: failed.clear(),
        on_failed=lambda _link, kind: failed.append(kind),
        on_time=lambda _link, _now_ns: None,
    )
    link = Link(0)
    link.sock, link.fd, link.state = sock, sock.fileno(), State.DIALLING
    dialler.by_fd[link.fd] = link
    dialler.pending = 1
    dialler.on_event(link)
    assert failed == [Kind.REFUSED]
    assert dialler.pending == 0
    assert not dialler.by_fd
    dialler.close()
