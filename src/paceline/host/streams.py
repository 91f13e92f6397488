"""Verbs for a connected stream that we hold as a bare descriptor.

A parked connection is a number and a small record, not a socket object: 100 bytes less each; `os.read` and `os.write`
cost the same as `socket.recv` and `socket.send` (equal within 4 % of a 64-byte round over TCP and over a socketpair).
Any thread may call these, but only the owner of a descriptor does (worker/tables.py), else its number may mean another
connection by then.  SIGPIPE must be ignored, as Python starts; then writing to a peer that is gone is an exception.
"""

import _socket
import contextlib
import ctypes
import errno
import fcntl
import os
import select
import socket
import struct
import sys
import termios
from dataclasses import dataclass

from paceline.networks import of_ipv4, of_ipv6

RECEIVE_BYTES = 65536
"""One receive: the most a single read takes."""

_ABORT = struct.pack("ii", 1, 0)  # struct linger: on, no time (socket(7))
_NOWHERE = struct.pack("H14x", socket.AF_UNSPEC)  # struct sockaddr: whoever connects to it is disconnected
_GONE = frozenset({errno.ENOTCONN, errno.ECONNRESET, errno.EPIPE})
_PEER_IS_GONE = "a peer that is gone"

_connect = ctypes.CDLL(None).connect
_connect.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_uint]
_connect.restype = ctypes.c_int

Peer = tuple[str, int] | tuple[str, int, int, int] | None
"""The address of a peer, as Python has it (host, port, and of IPv6 more); None: it is a Unix socket, or gone."""

_CREDENTIALS = struct.Struct("iII")
"""struct ucred."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """Whose process has connected by a Unix socket, as the kernel has noted it then (SO_PEERCRED, unix(7)).

    uid, gid   its effective user and group; nobody can pretend to be another one
    pid        its number, which may be another process's by now: for the log, not for a decision

    They are what this process's namespaces have: who is not in them has the pid 0, or the uid and gid 65534
    (user_namespaces(7)).  A process that was given the connection by the one that made it has that one's.
    """

    pid: int
    uid: int
    gid: int


receive = os.read
"""receive(fd, n) -> bytes.  b"" is end-of-file.

Raises BlockingIOError; ConnectionResetError; and what the network says of a peer that it has given up: TimeoutError
(keepalive, TCP_USER_TIMEOUT), OSError with EHOSTUNREACH (read(2), tcp(7)).
"""

send = os.write
"""send(fd, bytes) -> how many were taken.  Raises BlockingIOError, BrokenPipeError, and as `receive`."""


def peek(fd: int, most: int) -> bytes:
    """What has arrived, up to so many bytes, and stays to be received; b"" is end-of-file.  Raises as `receive`."""
    stream = _as_socket(fd)
    try:
        return stream.recv(most, socket.MSG_PEEK)
    finally:
        stream.detach()


def is_at_end(fd: int) -> bool:
    """The peer sends no more: behind what has arrived there is end-of-file, or a reset (POLLRDHUP, poll(2))."""
    poll = select.poll()
    poll.register(fd, select.POLLRDHUP)
    return bool(poll.poll(0))


def accept(listener: socket.socket) -> int:
    """The descriptor of the next connection, non-blocking and close-on-exec.

    Raises BlockingIOError when none waits, and any other OSError of accept(2).  2.6 µs, of which the non-blocking flag
    takes 0.3; `listener.accept()` takes 4.8, and accept4(2) by ctypes, which sets both flags itself, 2.2.
    """
    fd: int = listener._accept()[0]  # type: ignore[attr-defined]  # what socket.accept wraps in an object
    os.set_blocking(fd, False)
    return fd


def accept_from(listener: socket.socket) -> tuple[int, Peer]:
    """As `accept`; and from where it comes, which accept(2) says anyway: no further system call."""
    fd, address = listener._accept()  # type: ignore[attr-defined]
    os.set_blocking(fd, False)
    return fd, address if type(address) is tuple else None


def acknowledge(fd: int) -> None:
    """Tell the peer's kernel at once what has been received (TCP_QUICKACK, tcp(7)); nothing where there is no TCP.

    Its next small segment may wait for that (RFC 896), and our kernel for something to send along, 40 ms.
    """
    stream = _as_socket(fd)
    try:
        with contextlib.suppress(OSError):
            stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
    finally:
        stream.detach()


def end_output(fd: int) -> None:
    """Send end-of-file (shutdown(2), SHUT_WR).  The peer sees it even if a forked child still holds a copy."""
    _shut(fd, socket.SHUT_WR)


def end_input(fd: int) -> None:
    """Let every read, also one that waits, return end-of-file after what has arrived (shutdown(2), SHUT_RD)."""
    _shut(fd, socket.SHUT_RD)


def close(fd: int) -> None:
    """End the connection, in both directions, and give the descriptor back.  Never raises.

    The peer sees the end even if a process that a handler started still holds a copy.  What has been taken by `send` is
    still delivered; input that was never read turns the end into a reset (RFC 9293, section 3.10.4), so linger first.
    """
    try:
        stream = _as_socket(fd)
        try:
            stream.shutdown(socket.SHUT_RDWR)
        finally:
            stream.close()
    except OSError:  # the peer was quicker
        pass


def abort(fd: int) -> None:
    """Reset the connection and give the descriptor back: what was sent and is not yet delivered is lost.  Never raises.

    For a peer that does not read: after an ordinary close the kernel would keep what it does not take for minutes.
    The peer sees the end even if a process that a handler started still holds a copy.
    """
    try:
        stream = _as_socket(fd)
        try:
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)
            # Only the close of the last copy resets (socket(7), SO_LINGER); this does at once (connect(2), AF_UNSPEC).
            if _connect(fd, _NOWHERE, len(_NOWHERE)) != 0:  # no TCP, or a copy is being read from
                stream.shutdown(socket.SHUT_RDWR)
        finally:
            stream.close()
    except OSError:  # the peer was quicker
        pass


let_go = os.close
"""let_go(fd): give our descriptor back and leave the connection alone: another process goes on with it."""


def drop_input(fd: int, limit_bytes: int) -> tuple[int, bool]:
    """Read and drop what has arrived, up to the limit: (how many bytes, whether the end has come).

    The end is end-of-file or a reset: after it nothing more arrives.  Never waits, never raises for what a peer does.
    """
    dropped = 0
    while dropped < limit_bytes:
        try:
            piece = os.read(fd, min(RECEIVE_BYTES, limit_bytes - dropped))
        except BlockingIOError:
            return dropped, False
        except OSError:  # a reset, or the network has given the peer up (ETIMEDOUT, EHOSTUNREACH)
            return dropped, True
        if not piece:
            return dropped, True
        dropped += len(piece)
    return dropped, False


def peer_text(fd: int) -> str:
    """Who is at the other end: `192.0.2.7:50312`, `[2001:db8::7]:50312`, `unix pid 4711 uid 1000`; never raises."""
    try:
        stream = _socket.socket(fileno=fd)
    except (OSError, ValueError):  # it is no descriptor, or -1
        return _PEER_IS_GONE
    try:
        if stream.family == socket.AF_UNIX:
            who = _credentials_of(stream)
            return f"unix pid {who.pid} uid {who.uid}"
        return text_of(stream.getpeername())
    except OSError:
        return _PEER_IS_GONE
    finally:
        stream.detach()


def peer_credentials(fd: int) -> Credentials | None:
    """Who is at the other end of a Unix socket, also when it is gone; None: it is none.  Never raises."""
    try:
        stream = _socket.socket(fileno=fd)
    except (OSError, ValueError):
        return None
    try:
        return _credentials_of(stream) if stream.family == socket.AF_UNIX else None
    except OSError:
        return None
    finally:
        stream.detach()


def _credentials_of(stream: _socket.socket) -> Credentials:
    told = stream.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return Credentials(*_CREDENTIALS.unpack(told))


def peer_address(fd: int) -> Peer:
    """Where the other end is (getpeername(2)); never raises."""
    try:
        stream = _socket.socket(fileno=fd)
    except (OSError, ValueError):
        return None
    try:
        address = stream.getpeername()
    except OSError:
        return None
    finally:
        stream.detach()
    return address if type(address) is tuple else None


def text_of(address: Peer) -> str:
    """`192.0.2.7:50312`, `[2001:db8::7]:50312`; empty for None."""
    if address is None:
        return ""
    host, port = address[:2]
    host = host.removeprefix("::ffff:") if "." in host else host  # IPv4, by a listener for both (RFC 4291, 2.5.5.2)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def number_of(address: tuple[str, int] | tuple[str, int, int, int]) -> int:
    """The address without its port as one number (networks.py)."""
    host = address[0]
    if ":" in host:
        return of_ipv6(socket.inet_pton(socket.AF_INET6, host.partition("%")[0]))
    return of_ipv4(socket.inet_pton(socket.AF_INET, host))


def unread_bytes(fd: int) -> int:
    """How many bytes have arrived and were not read (ioctl FIONREAD, tcp(7), unix(7)); 0 when it is gone."""
    try:
        return int.from_bytes(fcntl.ioctl(fd, termios.FIONREAD, bytes(4)), sys.byteorder)
    except OSError:
        return 0


def quiet_s(fd: int) -> float | None:
    """How long ago the last bytes arrived, or the connection itself did; None: nobody can tell, as of Unix sockets.

    tcpi_last_data_recv of TCP_INFO (linux/tcp.h), in steps of the kernel's clock, 1 to 10 ms.  0.8 µs.
    """
    try:
        stream = _as_socket(fd)
    except OSError:  # closed by its owner, while somebody else asks
        return None
    try:
        report = stream.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 56)
    except OSError:
        return None
    finally:
        stream.detach()
    return int(struct.unpack_from("=I", report, 52)[0]) / 1e3 if len(report) >= 56 else None


def unsent_bytes(fd: int) -> int:
    """How much the kernel still holds of what was sent (ioctl TIOCOUTQ, which is SIOCOUTQ); 0 when it is gone.

    TCP: the bytes that the peer's kernel has not acknowledged, and one for our end (tcp(7)).  Unix sockets: the memory
    of what the peer has not read, which is more than its bytes.  It falls only if something moves.
    """
    try:
        return int.from_bytes(fcntl.ioctl(fd, termios.TIOCOUTQ, bytes(4)), sys.byteorder)
    except OSError:
        return 0


def accept_queue(listener: socket.socket) -> int:
    """How many connections wait to be accepted; 0 for Unix sockets.  It is tcpi_unacked of a listener (linux/tcp.h)."""
    if listener.family not in (socket.AF_INET, socket.AF_INET6):
        return 0
    try:
        report = listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 28)
    except OSError:
        return 0
    return int(struct.unpack_from("=I", report, 24)[0]) if len(report) >= 28 else 0


def _as_socket(fd: int) -> _socket.socket:
    """A socket object around the descriptor, which it owns until it is detached.

    The family is not asked for by what we call on it; naming one saves finding it out.  The C base class: its
    subclass in the standard library costs 0.6 µs more.
    """
    return _socket.socket(socket.AF_INET, socket.SOCK_STREAM, 0, fd)


def _shut(fd: int, how: int) -> None:
    stream = _as_socket(fd)
    try:
        stream.shutdown(how)
    except OSError as error:
        if error.errno not in _GONE:
            raise
    finally:
        stream.detach()
