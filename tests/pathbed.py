"""Files of Unix sockets for tests: listeners that go again, refusals, and what dead servers leave."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest

from paceline.addresses import Address
from paceline.errors import HostError
from paceline.host.listeners import Listener, close_listener, open_listener
from paceline.host.unix_paths import AS_MADE, FileRights


@contextmanager
def masked(umask: int) -> Iterator[None]:
    before = os.umask(umask)
    try:
        yield
    finally:
        os.umask(before)


@contextmanager
def opened(path: Path | str, rights: FileRights = AS_MADE) -> Iterator[Listener]:
    listener = open_listener(Address("unix", path=str(path)), 0, 16, 60.0, rights)
    try:
        yield listener
    finally:
        close_listener(listener)


def refusal(path: Path | str, rights: FileRights = AS_MADE) -> str:
    """What is said instead of listening there."""
    with pytest.raises(HostError) as caught, opened(path, rights):
        pytest.fail("it must not get here")
    words = str(caught.value)
    assert words.startswith(f"cannot listen on unix:{path}: ")
    assert "; " in words, "there is a remedy"
    return words


def dead_socket(path: Path, mode: int | None = None) -> None:
    """A socket's file that no process holds; without a mode, as the umask has it."""
    with masked(0o777 & ~mode) if mode is not None else nullcontext(), socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
