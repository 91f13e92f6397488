"""Connecting to a server, for clients of all kinds.  Called by any thread; it blocks, and for a bounded time.

What a machine refuses becomes one paragraph: where it was tried, why it failed, the remedy.  A host with several
addresses is tried at each, in the order of the resolver, and all of them together have the time that was given.
Resolving a name is the C library's work and has its own time-outs (resolv.conf(5)); it is not in that time.
"""

import errno
import os
import socket
import struct

from paceline import clock
from paceline.addresses import Address
from paceline.errors import ConnectFailed, Refused, TimedOut, UsageError
from paceline.host import descriptors

THIS_MACHINE = "127.0.0.1"
"""Where a client goes when the address names no host: `:8888` listens everywhere, this machine included."""

_LOCAL_PORTS = "/proc/sys/net/ipv4/ip_local_port_range"
_MICROSECONDS = 1_000_000


def dial(address: Address, timeout_s: float | None) -> socket.socket:
    """A connected socket: blocking, close-on-exec, TCP_NODELAY where it is TCP.  Within `timeout_s` (None: for ever).

    Raises Refused, TimedOut, ConnectFailed (no such host, no way there, no descriptor or local port left) or
    UsageError (an address that only a server can have).  Then nothing is left open.
    """
    until = None if timeout_s is None else clock.now() + timeout_s
    if address.kind == "fd":
        raise UsageError(f"{address.text} is a socket that a server inherits; a client needs HOST:PORT or unix:PATH")
    try:
        if address.kind == "unix":
            return _dial_path(address, until)
        return _dial_host(address, until)
    except TimeoutError as error:
        waited = "" if timeout_s is None else f" within {timeout_s:g} s"
        raise TimedOut(
            f"{reached(address)} did not answer{waited}: the machine is off, a firewall drops what we send, or more "
            f"connections wait there than its queue holds"
        ) from error
    except OSError as error:
        raise _explained(address, error) from error


def reached(address: Address) -> str:
    """The address as a client means it: with this machine where it names no host."""
    if address.kind == "tcp" and not address.host:
        return f"{THIS_MACHINE}:{address.port}"
    return address.text


def _dial_host(address: Address, until: float | None) -> socket.socket:
    found = socket.getaddrinfo(address.host or THIS_MACHINE, address.port, type=socket.SOCK_STREAM)
    failure: OSError | None = None
    for family, kind, protocol, _name, place in found:
        made = socket.socket(family, kind, protocol)
        try:
            made.settimeout(_left(until))
            made.connect(place)
            made.settimeout(None)
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as error:
            made.close()
            failure = error
            if isinstance(error, TimeoutError):
                break
        except BaseException:
            made.close()
            raise
        else:
            return made
    assert failure is not None
    raise failure


def _dial_path(address: Address, until: float | None) -> socket.socket:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # A non-blocking connect to a full queue fails at once (EAGAIN), where a blocking one waits for SO_SNDTIMEO.
        left = _left(until)
        made.settimeout(None)
        if left is not None:
            seconds, fraction = divmod(max(left, 1 / _MICROSECONDS), 1)  # 0 would mean for ever
            made.setsockopt(
                socket.SOL_SOCKET, socket.SO_SNDTIMEO, _timeval(int(seconds), int(fraction * _MICROSECONDS))
            )
        try:
            made.connect(address.path)
        except BlockingIOError as error:
            raise TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT)) from error
        made.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _timeval(0, 0))
    except BaseException:
        made.close()
        raise
    return made


def _timeval(seconds: int, microseconds: int) -> bytes:
    return struct.pack("@ll", seconds, microseconds)


def _left(until: float | None) -> float | None:
    if until is None:
        return None
    left = until - clock.now()
    if left <= 0:
        raise TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))
    return left


def _explained(address: Address, error: OSError) -> ConnectFailed:
    """The error as one of ours: what was tried, why it failed, what to do."""
    where = reached(address)
    if isinstance(error, socket.gaierror):
        return ConnectFailed(f"cannot connect to {where}: the host {address.host!r} is not known ({error.strerror})")
    number = error.errno or 0
    why = os.strerror(number) if number else str(error)
    if number == errno.ECONNREFUSED:
        remedy = "start the server (paceline serve), or give the address that it says it listens on"
        return Refused(f"nobody listens on {where}; {remedy}")
    return ConnectFailed(f"cannot connect to {where}: {_REMEDIES.get(number, _plainly)(address, why)}")


def _plainly(_address: Address, why: str) -> str:
    return why[:1].lower() + why[1:]


def _no_descriptors(_address: Address, _why: str) -> str:
    return (
        f"no descriptors are left ({descriptors.open_count():,} of {descriptors.limit():,} are open); close some, or "
        f"raise the limit (ulimit -n)"
    )


def _no_port(_address: Address, _why: str) -> str:
    try:
        with open(_LOCAL_PORTS) as file:
            ports = " to ".join(file.read().split())
    except OSError:
        ports = "a range of the kernel's"
    return (
        f"no local port is free ({ports}); each connection to one address needs one, also for a minute after it was "
        f"closed; open fewer, keep them open for several messages, or widen net.ipv4.ip_local_port_range"
    )


def _no_file(address: Address, _why: str) -> str:
    return f"there is no socket file {address.path}; start the server, or give the path that it says it listens on"


def _no_permission(address: Address, why: str) -> str:
    if address.kind == "unix":
        return f"this user may not write to {address.path}; ask its owner, or connect as another user"
    return f"{_plainly(address, why)}; a firewall forbids it"


def _no_socket(address: Address, _why: str) -> str:
    return f"{address.path} is no socket that is spoken to like this"


_REMEDIES = {
    errno.EMFILE: _no_descriptors,
    errno.ENFILE: _no_descriptors,
    errno.EADDRNOTAVAIL: _no_port,
    errno.ENOENT: _no_file,
    errno.EACCES: _no_permission,
    errno.EPERM: _no_permission,
    errno.EPROTOTYPE: _no_socket,
    errno.ENOTSOCK: _no_socket,
}
