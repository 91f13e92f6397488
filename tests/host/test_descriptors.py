"""Counting descriptors, the one in reserve, and those that somebody left open."""

import os
import resource
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from paceline.host import descriptors
from paceline.host.descriptors import Spare

pytestmark = pytest.mark.usefixtures("nothing_left")


@pytest.fixture
def no_descriptor_left() -> Iterator[None]:
    """The limit is lowered to the first free number; descriptors that are given back can be opened again."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    first_free = os.dup(0)
    os.close(first_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (first_free, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_the_limit_is_the_soft_one() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (123, hard))
    try:
        assert descriptors.limit() == 123
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_without_a_limit_it_is_the_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert descriptors.limit() == 1 << 20


def test_processes_may_be_allowed_more_as_far_as_that_goes() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    count = "import resource; print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])"

    def allowed() -> int:
        return int(subprocess.run([sys.executable, "-c", count], capture_output=True, check=True).stdout)

    resource.setrlimit(resource.RLIMIT_NOFILE, (200, hard))
    try:
        with descriptors.allowed(300):
            assert allowed() == 300
        with descriptors.allowed(100):
            assert allowed() == 200, "never fewer"
        with descriptors.allowed(descriptors.most_allowed() + 1):
            assert allowed() == hard
        assert descriptors.limit() == 200
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_open_descriptors_are_counted() -> None:
    before = descriptors.open_count()
    assert before == len(os.listdir("/proc/self/fd")) - 1
    one, other = os.pipe()
    assert descriptors.open_count() == before + 2
    os.close(one)
    os.close(other)
    assert descriptors.open_count() == before


def test_open_descriptors_are_counted_on_an_older_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    newer = descriptors.open_count()
    monkeypatch.setattr(os, "stat", lambda _: os.stat_result([0] * 10))
    assert descriptors.open_count() == newer


def test_they_are_counted_without_one_to_spare_on_an_older_kernel(
    monkeypatch: pytest.MonkeyPatch, no_descriptor_left: None
) -> None:
    monkeypatch.setattr(os, "stat", lambda _: os.stat_result([0] * 10))
    assert descriptors.open_count() == descriptors.limit()


def test_the_spare_makes_room_for_one_and_takes_it_back() -> None:
    spare = Spare()
    assert spare.is_held
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    first_free = os.dup(0)
    os.close(first_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (first_free, hard))
    try:
        with pytest.raises(OSError, match="Too many open files"):
            socket.socket()
        assert spare.give()
        with socket.socket():
            assert not spare.take_back()
            assert not spare.is_held
        assert spare.take_back()
        assert spare.is_held
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    spare.close()


def test_the_spare_is_given_once() -> None:
    spare = Spare()
    given: list[bool] = []
    threads = [threading.Thread(target=lambda: given.append(spare.give())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(given) == [False, False, False, True]
    assert spare.take_back()
    assert spare.take_back()
    spare.close()
    spare.close()


def test_a_spare_that_cannot_be_had_is_had_later(no_descriptor_left: None) -> None:
    spare = Spare()
    assert not spare.is_held
    assert not spare.give()
    spare.close()


def test_several_can_be_kept_in_reserve() -> None:
    before = descriptors.open_count()
    spare = Spare(2)
    assert descriptors.open_count() == before + 2
    assert [spare.give() for _ in range(3)] == [True, True, False]
    assert descriptors.open_count() == before
    assert spare.take_back()
    assert spare.give()
    assert spare.is_held
    spare.close()
    assert descriptors.open_count() == before


def test_what_was_left_open_is_closed_and_nothing_else() -> None:
    script = """if True:
        import os, sys
        from paceline.host import descriptors
        ours = os.open("/dev/null", os.O_RDONLY)
        kept, *lost = map(int, sys.argv[1:])
        assert descriptors.close_inherited({kept}) == lost
        for fd in (0, 1, 2, kept, ours):
            os.fstat(fd)
        assert descriptors.close_inherited({kept}) == []
        """
    pairs = [os.pipe() for _ in range(2)]
    fds = sorted(fd for pair in pairs for fd in pair)
    try:
        command = [sys.executable, "-c", script, *map(str, fds)]
        subprocess.run(command, pass_fds=fds, check=True, stdin=subprocess.DEVNULL)
    finally:
        for fd in fds:
            os.close(fd)
