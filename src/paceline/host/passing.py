"""Handing a connection to another process: its descriptor and a record, as one datagram (SCM_RIGHTS, unix(7)).

The way is a SEQPACKET socket pair.  Any process may send into it; one thread of one process at a time receives.  Until
it is received, a connection is in flight: it stays open although no process has a descriptor of it, it can be moved on
by whoever gets hold of the reading end, and its peer waits.  What is too long for a record travels beside it in memory
that has a descriptor of its own (host/memory.py).

No connection is lost for want of a descriptor.  A plain recvmsg(2) that finds the descriptor table full drops what it
cannot install, and says so too late (MSG_CTRUNC); giving up a spare one first does not help where other threads open
files at the same time.  Therefore the datagram is looked at first (MSG_PEEK), which installs the descriptors and leaves
the datagram in its place, and taken out only when all of them are there.  That costs 1.6 µs more.
"""

import array
import errno
import os
import socket
import stat
from typing import NamedTuple

from paceline.errors import PacelineError
from paceline.host.descriptors import Spare

RECORD_BYTES = 96 * 1024
"""The longest record."""

NO_MEMORY = -1
"""Stands for the descriptor where nothing travels beside the record."""

MOST_DESCRIPTORS = 2
"""Of one datagram: the connection, and the memory."""

_ROOM_BYTES = 208 * 1024
"""What may be in flight at least (SO_SNDBUF): two of the longest records, or some 250 small ones."""
_FULL = frozenset({errno.EAGAIN, errno.ETOOMANYREFS, errno.ENOBUFS, errno.ENOMEM})
_PEEK = socket.MSG_PEEK | socket.MSG_CMSG_CLOEXEC | socket.MSG_DONTWAIT
# One more than there should be: to see that.
_ANCILLARY_BYTES = socket.CMSG_SPACE((MOST_DESCRIPTORS + 1) * array.array("i").itemsize)


class NotAConnection(PacelineError):
    """What arrived is no record with one connected stream socket: a bug of ours on the sending side.  It is dropped."""


class Arrived(NamedTuple):
    """What was in one datagram.  The descriptors are the receiver's."""

    fd: int
    record: bytes
    memory: int = NO_MEMORY

    def close(self) -> None:
        """Give the descriptors back; elsewhere the connection may go on."""
        os.close(self.fd)
        if self.memory >= 0:
            os.close(self.memory)


def pair() -> tuple[socket.socket, socket.socket]:
    """(reader, writer) of a new way, non-blocking and close-on-exec."""
    reader, writer = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in (reader, writer):
        end.setblocking(False)
    writer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _ROOM_BYTES)
    return reader, writer


def send_connection(writer: socket.socket, fd: int, record: bytes, memory: int = NO_MEMORY) -> bool:
    """Put the connection and its record into the way.  False: it is full for now; the caller keeps the connection.

    After True, the caller gives its descriptor back with `streams.let_go`, having taken it out of its epoll set before
    sending; that of the memory stays its own either way.  It is full, too, when this user has too many descriptors in
    flight (ETOOMANYREFS) or the kernel no memory.  Raises ValueError for a record that is empty or too long, OSError
    when the reading end is gone.
    """
    if not 0 < len(record) <= RECORD_BYTES:
        raise ValueError(f"a record has 1 to {RECORD_BYTES} bytes, not {len(record)}")
    fds = array.array("i", (fd,) if memory < 0 else (fd, memory))
    try:
        writer.sendmsg(
            (record,), ((socket.SOL_SOCKET, socket.SCM_RIGHTS, fds),), socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL
        )
    except OSError as error:
        if error.errno in _FULL:
            return False
        raise
    return True


def receive_connection(reader: socket.socket, spare: Spare) -> Arrived | None:
    """The next connection and its record; None: nothing has arrived.  Never waits.

    `spare` should hold `MOST_DESCRIPTORS`.  Raises OSError with EMFILE when not enough descriptors are left, spare ones
    included: the connection stays where it is, and the next call finds it.  Raises NotAConnection for what has another
    shape, which is dropped, and EOFError when all writing ends are closed.
    """
    arrived = look(reader, spare)
    if arrived is not None:
        take_out(reader)
    return arrived


def look(reader: socket.socket, spare: Spare) -> Arrived | None:
    """As `receive_connection`, but a connection stays in its place, and is found again, until `take_out`."""
    spare.take_back()
    try:
        record, fds, flags = _peek(reader)
        # Where there was room for less than was sent (not: where more was sent than we look at), the table is full.
        while flags & socket.MSG_CTRUNC and len(fds) <= MOST_DESCRIPTORS:
            _close(fds)
            if not spare.give():
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
            record, fds, flags = _peek(reader)
    except BlockingIOError:
        return None
    if not record and not fds:
        raise EOFError("all writing ends are closed")
    if record and not flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
        match list(fds):
            case [fd] if _is_socket(fd):
                return Arrived(fd, record)
            case [fd, memory] if _is_socket(fd) and _is_memory(memory):
                return Arrived(fd, record, memory)
    _close(fds)
    take_out(reader)
    raise NotAConnection(f"a datagram of {len(record)} bytes with {len(fds)} descriptors was dropped")


def take_out(reader: socket.socket) -> None:
    """Remove the datagram that was looked at: whole, with the second references to its descriptors."""
    reader.recv(1, socket.MSG_DONTWAIT)


def _peek(reader: socket.socket) -> "tuple[bytes, array.array[int], int]":
    """(record, descriptors installed, flags) of the next datagram, which stays."""
    record, ancillary, flags, _ = reader.recvmsg(RECORD_BYTES, _ANCILLARY_BYTES, _PEEK)
    fds = array.array("i")
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(content[: len(content) - len(content) % fds.itemsize])
    return record, fds, flags


def _close(fds: "array.array[int]") -> None:
    for fd in fds:
        os.close(fd)


def _is_socket(fd: int) -> bool:
    return stat.S_ISSOCK(os.fstat(fd).st_mode)


def _is_memory(fd: int) -> bool:
    """Reading it ends, and waits for nobody."""
    return stat.S_ISREG(os.fstat(fd).st_mode)
