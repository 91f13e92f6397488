"""Shared memory as the kernel gives it: sparse, sealed, mapped by whoever has the descriptor."""

import errno
import fcntl
import mmap
import os
import resource
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from paceline.errors import HostError
from paceline.host import memory

PAGE = mmap.PAGESIZE

pytestmark = pytest.mark.usefixtures("nothing_left")


@pytest.fixture
def cleanup() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def fixed(cleanup: ExitStack) -> int:
    fd = memory.create_fixed("fixed", 16 * PAGE)
    cleanup.callback(memory.close, fd)
    return fd


@pytest.fixture
def growing(cleanup: ExitStack) -> int:
    fd = memory.create_growing("growing")
    cleanup.callback(memory.close, fd)
    return fd


def mapped(cleanup: ExitStack, fd: int, size_bytes: int) -> mmap.mmap:
    return cleanup.enter_context(memory.attach(fd, size_bytes))


def open_to_read(cleanup: ExitStack, fd: int) -> int:
    reader = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC)
    cleanup.callback(os.close, reader)
    return reader


# Fixed memory


def test_new_memory_is_zero_sparse_and_close_on_exec(fixed: int) -> None:
    assert memory.size_of(fixed) == 16 * PAGE
    assert memory.used_by(fixed) == 0
    assert not os.get_inheritable(fixed)
    assert memory.read(fixed, 0, 16 * PAGE) == bytes(16 * PAGE)
    assert memory.used_by(fixed) == 0, "reading filled the holes"


@pytest.mark.parametrize("size", [0, PAGE, 17 * PAGE])
def test_the_size_of_fixed_memory_cannot_change(fixed: int, size: int) -> None:
    assert memory.is_fixed(fixed)
    with pytest.raises(PermissionError):
        os.ftruncate(fixed, size)
    with pytest.raises(PermissionError):
        fcntl.fcntl(fixed, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)


def test_what_one_mapping_stores_another_and_a_read_see(cleanup: ExitStack, fixed: int) -> None:
    one, other = mapped(cleanup, fixed, 16 * PAGE), mapped(cleanup, fixed, 16 * PAGE)
    one[3 * PAGE] = 42
    assert other[3 * PAGE] == 42
    assert memory.read(fixed, 3 * PAGE, 3 * PAGE + 2) == b"\x2a\0"


def test_memory_costs_the_pages_that_were_written(cleanup: ExitStack, fixed: int) -> None:
    view = mapped(cleanup, fixed, 16 * PAGE)
    assert memory.used_by(fixed) == 0
    view[0] = view[5 * PAGE + 7] = 1
    assert memory.used_by(fixed) == 2 * PAGE


def test_a_descriptor_open_for_reading_maps_for_reading(cleanup: ExitStack, fixed: int) -> None:
    writer = mapped(cleanup, fixed, 16 * PAGE)
    reader = mapped(cleanup, open_to_read(cleanup, fixed), 16 * PAGE)
    writer[1] = 9
    assert reader[1] == 9
    with pytest.raises(TypeError):
        reader[1] = 1


def test_more_than_there_is_cannot_be_mapped(fixed: int) -> None:
    with pytest.raises(HostError, match=f"{17 * PAGE} bytes.*there are {16 * PAGE}"):
        memory.attach(fixed, 17 * PAGE)


def test_a_refused_mapping_names_size_and_remedy(monkeypatch: pytest.MonkeyPatch, fixed: int) -> None:
    def refuse(*arguments: object) -> mmap.mmap:
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    monkeypatch.setattr(mmap, "mmap", refuse)
    with pytest.raises(HostError, match=r"cannot map 4096 bytes.*ulimit -v"):
        memory.attach(fixed, 4096)


def test_a_kernel_without_huge_pages_maps_as_well(monkeypatch: pytest.MonkeyPatch, fixed: int) -> None:
    class Mapping:
        def madvise(self, advice: int) -> None:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr(mmap, "mmap", lambda *arguments: Mapping())
    assert isinstance(memory.attach(fixed, PAGE), Mapping)


def test_no_descriptor_is_left_when_the_size_is_refused() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = os.listdir("/proc/self/fd")
    resource.setrlimit(resource.RLIMIT_FSIZE, (PAGE, hard))
    try:
        with pytest.raises(HostError, match=r"bytes of shared memory for board: .*ulimit -f"):
            memory.create_fixed("board", 2 * PAGE)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert os.listdir("/proc/self/fd") == before


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.EMFILE, "ulimit -n"),
        (errno.ENFILE, "fs.file-max"),
        (errno.ENOSYS, "Linux 4.14"),
    ],
    ids=errno.errorcode.get,
)
@pytest.mark.parametrize("create", [lambda: memory.create_fixed("it", PAGE), lambda: memory.create_growing("it")])
def test_a_machine_that_gives_no_memory_is_named_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch, create: Callable[[], int], number: int, remedy: str
) -> None:
    def refuse(name: str, flags: int) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "memfd_create", refuse)
    with pytest.raises(HostError, match=rf"cannot make shared memory for it: {os.strerror(number)}; .*{remedy}"):
        create()


def test_memory_is_never_executable_where_the_kernel_can_promise_it(monkeypatch: pytest.MonkeyPatch) -> None:
    real, asked = os.memfd_create, []

    def old_kernel(name: str, flags: int) -> int:
        asked.append(flags)
        if flags & 0x0008:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return real(name, flags)

    monkeypatch.setattr(os, "memfd_create", old_kernel)
    memory.close(memory.create_fixed("it", PAGE))
    assert [bool(flags & 0x0008) for flags in asked] == [True, False]


# What is no memory of ours


def test_a_file_a_pipe_and_growing_memory_are_not_fixed(cleanup: ExitStack, growing: int) -> None:
    receive, send = os.pipe()
    cleanup.callback(os.close, receive)
    cleanup.callback(os.close, send)
    ordinary = os.open(__file__, os.O_RDONLY)
    cleanup.callback(os.close, ordinary)
    assert not memory.is_fixed(receive)
    assert not memory.is_fixed(ordinary)
    assert not memory.is_fixed(growing)


def test_a_closed_descriptor_is_an_error(fixed: int) -> None:
    duplicate = os.dup(fixed)
    memory.close(duplicate)
    with pytest.raises(OSError, match="Bad file descriptor"):
        memory.is_fixed(duplicate)


# Growing memory


def test_growing_memory_takes_every_write_at_its_end(growing: int) -> None:
    other = os.dup(growing)
    try:
        os.write(growing, b"one ")
        os.write(other, b"two ")
        os.lseek(growing, 0, os.SEEK_SET)
        os.write(growing, b"three")
    finally:
        os.close(other)
    assert memory.read(growing, 0, 100) == b"one two three"
    assert not os.get_inheritable(growing)


def test_emptied_memory_begins_at_zero_for_a_writer_that_wrote_before(growing: int) -> None:
    os.write(growing, b"x" * 100)
    memory.empty(growing)
    assert memory.size_of(growing) == 0
    os.write(growing, b"new")
    assert memory.read(growing, 0, 100) == b"new"


# Holes


def test_an_untouched_memory_has_no_parts(fixed: int) -> None:
    assert list(memory.touched(fixed, 0, 16 * PAGE)) == []


def test_touched_parts_are_whole_pages_in_order_and_within_the_asked_range(cleanup: ExitStack, fixed: int) -> None:
    view = mapped(cleanup, fixed, 16 * PAGE)
    view[2 * PAGE + 5] = view[3 * PAGE] = view[9 * PAGE - 1] = view[15 * PAGE] = 1
    assert list(memory.touched(fixed, 0, 16 * PAGE)) == [
        (2 * PAGE, 4 * PAGE),
        (8 * PAGE, 9 * PAGE),
        (15 * PAGE, 16 * PAGE),
    ]
    assert list(memory.touched(fixed, 2 * PAGE + 64, 9 * PAGE - 64)) == [
        (2 * PAGE + 64, 4 * PAGE),
        (8 * PAGE, 9 * PAGE - 64),
    ]
    assert list(memory.touched(fixed, 4 * PAGE, 8 * PAGE)) == []
    assert list(memory.touched(fixed, 9 * PAGE, 15 * PAGE)) == []


def test_asking_for_the_touched_parts_fills_no_hole(cleanup: ExitStack, fixed: int) -> None:
    mapped(cleanup, fixed, 16 * PAGE)[8 * PAGE] = 1
    for start, end in memory.touched(fixed, 0, 16 * PAGE):
        memory.read(fixed, start, end)
    assert memory.used_by(fixed) == PAGE


def test_a_descriptor_without_holes_to_look_for_is_an_error(cleanup: ExitStack) -> None:
    receive, send = os.pipe()
    cleanup.callback(os.close, receive)
    cleanup.callback(os.close, send)
    with pytest.raises(OSError, match="Illegal seek"):
        list(memory.touched(receive, 0, PAGE))
