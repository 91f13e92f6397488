"""What `bind` means when sockets were passed."""

import os
from typing import Any

import pytest

from paceline.cli.sockets import tell_of_sockets, with_sockets
from paceline.errors import HostError
from paceline.host.activation import NONE, Passed
from paceline.settings import Settings

TWO = Passed({3: "web", 4: "metrics"})


@pytest.mark.parametrize(
    ("bind", "passed", "bound"),
    [
        (None, TWO, ("fd://3", "fd://4")),
        (None, NONE, ("127.0.0.1:8888",)),
        (None, Passed(of_pid=1), ("127.0.0.1:8888",)),
        (("fd://web",), TWO, ("fd://3",)),
        ((":80", "fd://metrics", "fd://3"), TWO, (":80", "fd://4", "fd://3")),
        (("fd://a",), Passed({3: "a", 4: "a"}), ("fd://3", "fd://4")),
        (("fd://7",), TWO, ("fd://7",)),
        ((":80",), TWO, (":80",)),
        (("127.0.0.1:0", "127.0.0.1:0"), NONE, ("127.0.0.1:0", "127.0.0.1:0")),
    ],
)
def test_what_is_bound(bind: tuple[str, ...] | None, passed: Passed, bound: tuple[str, ...]) -> None:
    settings = Settings() if bind is None else Settings(bind=bind)
    assert with_sockets(settings, passed, is_bind_given=bind is not None).bind == bound


@pytest.mark.parametrize(
    ("bind", "words"),
    [
        (("fd://x",), "cannot listen on fd://x: no socket of that name was passed, but fd://web (descriptor 3), fd://"),
        (("fd://web", "fd://3"), "cannot listen on fd://web, fd://3: fd://3 is meant twice; leave one of them out"),
    ],
)
def test_what_cannot_be_bound(bind: tuple[str, ...], words: str) -> None:
    with pytest.raises(HostError) as caught:
        with_sockets(Settings(bind=bind), TWO, is_bind_given=True)
    assert str(caught.value).startswith(words)


def told(bind: tuple[str, ...], passed: Passed, *, is_bind_given: bool) -> list[tuple[str, dict[str, Any]]]:
    said: list[tuple[str, dict[str, Any]]] = []
    tell_of_sockets(
        Settings(bind=bind), passed, lambda event, **fields: said.append((event, fields)), is_bind_given=is_bind_given
    )
    return said


def test_what_is_told() -> None:
    listed = "fd://3 (web), fd://4 (metrics)"
    assert told(("fd://3", "fd://4"), TWO, is_bind_given=False) == [("sockets-passed", {"sockets": listed})]
    assert told(("fd://3", "fd://4"), TWO, is_bind_given=True) == []
    not_ours = {"of_pid": 1, "pid": os.getpid()}
    assert told((":80",), Passed(of_pid=1), is_bind_given=False) == [("sockets-not-ours", not_ours)]
    assert told((":80",), Passed(of_pid=1), is_bind_given=True) == []


def test_what_nobody_serves_is_told_of_and_closed() -> None:
    fd = os.dup(0)
    assert told((":80",), Passed({fd: "web"}), is_bind_given=True) == [
        ("sockets-unused", {"sockets": f"fd://{fd} (web)"})
    ]
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(fd)
