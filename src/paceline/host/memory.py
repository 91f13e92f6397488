"""Anonymous memory with a descriptor (memfd_create(2)), and the mapping of it.  One verb per function, no policy.

Memory is sparse: a page costs nothing until it is written to, or read *through a mapping*; reading it with `read`
leaves a hole a hole.  Any thread may call these; a descriptor belongs to the caller.
"""

import contextlib
import errno
import fcntl
import mmap
import os
from collections.abc import Iterator

from paceline.errors import HostError

_NOEXEC_SEAL = 0x0008
"""MFD_NOEXEC_SEAL of linux/memfd.h: never executable.  A machine with vm.memfd_noexec=2 gives no other memory."""


def create_fixed(name: str, size_bytes: int) -> int:
    """New memory of a fixed size, all zeros; its descriptor is close-on-exec.

    The size is sealed (fcntl(2), F_ADD_SEALS), so that nobody who maps it can be killed by SIGBUS for its end moving.
    Raises HostError, naming the limit, when the machine refuses.
    """
    fd = _create(name, os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(fd, size_bytes)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
    except OSError as error:
        os.close(fd)
        raise HostError(_refusal(f"cannot get {size_bytes} bytes of shared memory for {name}", error)) from error
    return fd


def create_growing(name: str) -> int:
    """New memory that grows with what is written to it, always at its end; its descriptor is close-on-exec.

    O_APPEND, because `empty` does not move the offset of a descriptor that another process holds: the next write would
    leave a hole of zeros before it.
    """
    fd = _create(name, 0)
    fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) | os.O_APPEND)
    return fd


def empty(fd: int) -> None:
    """Drop all that was written to growing memory."""
    os.ftruncate(fd, 0)


def attach(fd: int, size_bytes: int) -> mmap.mmap:
    """Map the memory, shared with all others who do; writable when the descriptor is.

    The mapping keeps a duplicate of the descriptor, close-on-exec, until it is closed.  A forked child has the mapping
    too.  Raises HostError when there is less memory than that, or the machine refuses.
    """
    mode = fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE
    protection = mmap.PROT_READ if mode == os.O_RDONLY else mmap.PROT_READ | mmap.PROT_WRITE
    if (there := size_of(fd)) < size_bytes:
        raise HostError(f"cannot map {size_bytes} bytes of shared memory: there are {there}; it was not made by us")
    try:
        mapped = mmap.mmap(fd, size_bytes, mmap.MAP_SHARED, protection)
    except OSError as error:
        raise HostError(_refusal(f"cannot map {size_bytes} bytes of shared memory", error)) from error
    # Where the system gives huge pages to shared memory (shmem_enabled), one touched row would cost 2 MiB.
    with contextlib.suppress(OSError):  # EINVAL: a kernel without huge pages (madvise(2))
        mapped.madvise(mmap.MADV_NOHUGEPAGE)
    return mapped


def is_fixed(fd: int) -> bool:
    """Nobody can change its size any more: reading what is mapped of it cannot end in SIGBUS."""
    try:
        seals = fcntl.fcntl(fd, fcntl.F_GET_SEALS)
    except OSError as error:
        if error.errno == errno.EINVAL:  # an ordinary file, a pipe, a socket: nothing that can be sealed
            return False
        raise
    return bool(seals & fcntl.F_SEAL_SHRINK)


def close(fd: int) -> None:
    """Give the descriptor up; the memory is freed with the last descriptor and mapping of it."""
    os.close(fd)


def size_of(fd: int) -> int:
    """The size in bytes, holes included."""
    return os.fstat(fd).st_size


def used_by(fd: int) -> int:
    """The bytes of memory that it really takes: pages that were touched."""
    return os.fstat(fd).st_blocks * 512  # stat(3type): the unit of st_blocks is 512 bytes


def read(fd: int, start: int, end: int) -> bytes:
    """A copy of bytes `start` to before `end`, shorter at the end of the memory; no hole is filled by it."""
    return os.pread(fd, end - start, start)


def touched(fd: int, start: int, end: int) -> Iterator[tuple[int, int]]:
    """The parts of `start` to before `end` that may hold something else than zeros, in order (lseek(2), SEEK_DATA).

    Moves the offset of the descriptor, so it is not for growing memory that is written to without O_APPEND.
    """
    at = start
    while at < end:
        try:
            first = os.lseek(fd, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # only holes from here on
                return
            raise
        if first >= end:
            return
        at = min(os.lseek(fd, first, os.SEEK_HOLE), end)
        yield first, at


def _create(name: str, flags: int) -> int:
    try:
        try:
            return os.memfd_create(name, os.MFD_CLOEXEC | _NOEXEC_SEAL | flags)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            return os.memfd_create(name, os.MFD_CLOEXEC | flags)  # before Linux 6.3
    except OSError as error:
        raise HostError(_refusal(f"cannot make shared memory for {name}", error)) from error


def _refusal(what: str, error: OSError) -> str:
    remedy = {
        errno.EFBIG: "raise the file-size limit (ulimit -f) or ask for fewer threads or workers",
        errno.ENOMEM: "raise the address-space limit (ulimit -v) or ask for fewer threads or workers",
        errno.EMFILE: "raise the limit on open files (ulimit -n)",
        errno.ENFILE: "raise the system's limit on open files (sysctl fs.file-max)",
    }.get(error.errno or 0, "the kernel must be Linux 4.14 or newer, with memfd_create allowed")
    return f"{what}: {error.strerror}; {remedy}"
