"""Handing a connection to another process: its descriptor and a record, as one datagram (SCM_RIGHTS, unix(7)).

The way is a SEQPACKET socket pair.  Any process may send into it; one thread of one process at a time receives.  Until
it is received, a connection is in flight: it stays open although no process has a descriptor of it, it can be moved on
by whoever gets hold of the reading end, and its peer waits.

No connection is lost for want of a descriptor.  A plain recvmsg(2) that finds the descriptor table full drops what it
cannot install, and says so too late (MSG_CTRUNC); giving up a spare one first does not help where other threads open
files at the same time.  Therefore the datagram is looked at first (MSG_PEEK), which installs the descriptor and leaves
the datagram in its place, and taken out only when the descriptor is there.  That costs 1.6 µs more.
"""

import array
import errno
import os
import socket
import stat

from paceline.errors import PacelineError
from paceline.host.descriptors import Spare

RECORD_BYTES = 96 * 1024
"""The longest record."""

_ROOM_BYTES = 208 * 1024
"""What may be in flight at least (SO_SNDBUF): two of the longest records, or some 250 small ones."""
_FULL = frozenset({errno.EAGAIN, errno.ETOOMANYREFS, errno.ENOBUFS, errno.ENOMEM})
_PEEK = socket.MSG_PEEK | socket.MSG_CMSG_CLOEXEC | socket.MSG_DONTWAIT
_ANCILLARY_BYTES = socket.CMSG_SPACE(2 * array.array("i").itemsize)  # one more than there should be: to see that


class NotAConnection(PacelineError):
    """What arrived is no record with one connected stream socket: a bug of ours on the sending side.  It is dropped."""


def pair() -> tuple[socket.socket, socket.socket]:
    """(reader, writer) of a new way, non-blocking and close-on-exec."""
    reader, writer = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in (reader, writer):
        end.setblocking(False)
    writer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _ROOM_BYTES)
    return reader, writer


def send_connection(writer: socket.socket, fd: int, record: bytes) -> bool:
    """Put the connection and its record into the way.  False: it is full for now; the caller keeps the connection.

    After True, the caller gives its descriptor back with `streams.let_go`, having taken it out of its epoll set before
    sending.  It is full, too, when this user has too many descriptors in flight (ETOOMANYREFS) or the kernel no memory.
    Raises ValueError for a record that is empty or too long, OSError when the reading end is gone.
    """
    if not 0 < len(record) <= RECORD_BYTES:
        raise ValueError(f"a record has 1 to {RECORD_BYTES} bytes, not {len(record)}")
    rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", (fd,)))
    try:
        writer.sendmsg((record,), (rights,), socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
    except OSError as error:
        if error.errno in _FULL:
            return False
        raise
    return True


def receive_connection(reader: socket.socket, spare: Spare) -> tuple[int, bytes] | None:
    """The next connection and its record; None: nothing has arrived.  Never waits.

    Raises OSError with EMFILE when no descriptor is left, not even the spare one: the connection stays where it is, and
    the next call finds it.  Raises NotAConnection for what has another shape, which is dropped, and EOFError when all
    writing ends are closed.
    """
    spare.take_back()
    try:
        record, fds, flags = _peek(reader)
        if not fds and flags & socket.MSG_CTRUNC:
            if spare.give():
                record, fds, flags = _peek(reader)
            if not fds and flags & socket.MSG_CTRUNC:
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
    except BlockingIOError:
        return None
    if not record and not fds:
        raise EOFError("all writing ends are closed")
    reader.recv(1, socket.MSG_DONTWAIT)  # a datagram is taken out whole, with the second reference to its descriptor
    if len(fds) == 1 and record and not flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC) and _is_socket(fds[0]):
        return fds[0], record
    for fd in fds:
        os.close(fd)
    raise NotAConnection(f"a datagram of {len(record)} bytes with {len(fds)} descriptors was dropped")


def _peek(reader: socket.socket) -> "tuple[bytes, array.array[int], int]":
    """(record, descriptors installed, flags) of the next datagram, which stays."""
    record, ancillary, flags, _ = reader.recvmsg(RECORD_BYTES, _ANCILLARY_BYTES, _PEEK)
    fds = array.array("i")
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(content[: len(content) - len(content) % fds.itemsize])
    return record, fds, flags


def _is_socket(fd: int) -> bool:
    return stat.S_ISSOCK(os.fstat(fd).st_mode)
