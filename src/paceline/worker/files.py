"""A file that is being sent as a reply: the kernel reads and sends it in one step (sendfile(2)).

Its bytes never pass through Python, and no more of it is in memory than the socket's buffer takes.
"""

import errno
import os
import stat
from collections.abc import Iterator
from typing import Any

from paceline.handlers import File

_OF_THE_FILE = frozenset({errno.EIO, errno.EINVAL, errno.ENOMEM, errno.EOVERFLOW, errno.ESPIPE, errno.ESTALE})
"""What sendfile(2) fails with when the file cannot be read; all else is the peer's."""


class FileError(Exception):
    """The file cannot be sent as it was promised."""


class Sending:
    """An open file, and how much of it is still to be sent.  It must be closed."""

    __slots__ = ("fd", "left", "offset", "path", "then")

    def __init__(self, file: File, then: "Iterator[Any] | Sending | None" = None) -> None:
        """`then`: what the reply goes on with.  Raises OSError, and FileError when it is no file or not so long."""
        # Without O_NONBLOCK, to open a named pipe would wait for whoever writes to it.
        self.fd = os.open(file.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        self.path, self.offset, self.then = file.path, file.offset, then
        try:
            self.left = _length(self.fd, file)
        except BaseException:
            os.close(self.fd)
            raise

    def send(self, to_fd: int, most: int) -> int:
        """Send as much as the peer takes now, at most so many bytes; how many.

        Raises BlockingIOError when it takes nothing, other OSErrors when it is gone, FileError when the file has become
        shorter, or cannot be read.
        """
        try:
            sent = os.sendfile(to_fd, self.fd, self.offset, min(self.left, most))
        except OSError as error:
            if error.errno in _OF_THE_FILE:
                raise FileError(f"{self.path!r} cannot be read: {error.strerror}") from None
            raise
        if sent == 0 and self.left:
            raise FileError(f"{self.path!r} has become shorter while it was sent: {self.left:,} bytes are missing")
        self.offset += sent
        self.left -= sent
        return sent

    def read(self, most: int) -> bytes:
        """The next piece, at most so many bytes, for whoever cannot let the kernel send it.  Raises FileError."""
        try:
            piece = os.pread(self.fd, min(self.left, most), self.offset)
        except OSError as error:
            raise FileError(f"{self.path!r} cannot be read: {error.strerror}") from None
        if not piece and self.left:
            raise FileError(f"{self.path!r} has become shorter while it was sent: {self.left:,} bytes are missing")
        self.offset += len(piece)
        self.left -= len(piece)
        return piece

    def close(self) -> None:
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)


def _length(fd: int, file: File) -> int:
    """How much of it is to be sent.  Raises FileError."""
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        raise FileError(f"{file.path!r} is no regular file, and only such can be sent")
    rest = max(0, status.st_size - file.offset)
    if file.count is not None and file.count > rest:
        raise FileError(
            f"{file.path!r} has {status.st_size:,} bytes, and {file.count:,} from byte {file.offset:,} on were to be "
            f"sent"
        )
    return rest if file.count is None else file.count
