"""Connecting to a server, for clients of all kinds.  Called by any thread; it blocks, and for a bounded time.

What a machine refuses becomes one paragraph: where it was tried, why it failed, the remedy.  A host with several
addresses is tried at each, in the order of the resolver.  All of them together have the time that was given, and each
has its share of what is left, so that one that swallows what is sent does not take the turn of the next.  Resolving a
name is the C library's work and has its own time-outs (resolv.conf(5)); it is not in that time.
"""

import errno
import os
import socket
import struct
from typing import Any

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
    if address.kind == "fd":
        raise UsageError(f"{address.text} is a socket that a server inherits; a client needs HOST:PORT or unix:PATH")
    if address.kind == "tcp" and not address.port:
        raise UsageError(
            f"{address.text} means any free port, which only a server can choose; give the port that it says it "
            f"listens on"
        )
    until = None if timeout_s is None else clock.now() + timeout_s
    try:
        return _dial_path(address.path, until) if address.kind == "unix" else _dial_host(address, until)
    except TimeoutError as error:
        waited = "" if timeout_s is None else f" within {timeout_s:g} s"
        raise TimedOut(
            f"{reached(address)} did not answer{waited}; look whether the machine is up, whether a firewall is "
            f"between, and whether more connections wait there than the server takes"
        ) from error
    except OSError as error:
        raise _explained(address, error) from error


def reached(address: Address) -> str:
    """The address as a client means it: with this machine where it names no host."""
    if address.kind == "tcp" and not address.host:
        return f"{THIS_MACHINE}:{address.port}"
    return address.text


def look_up(address: Address) -> list[tuple[Any, ...]]:
    """The places of a host, in the order of the resolver, as socket.getaddrinfo gives them.  Raises ConnectFailed."""
    try:
        return _looked_up(address)
    except OSError as error:
        raise _explained(address, error) from error


def _dial_host(address: Address, until: float | None) -> socket.socket:
    found = _looked_up(address)
    failure: OSError | None = None
    for tried, (family, kind, protocol, _name, place) in enumerate(found):
        try:
            left = _left(until)
            share = None if left is None else left / (len(found) - tried)
            return _dial_place(socket.socket(family, kind, protocol), place, share)
        except OSError as error:
            # That one of the addresses was refused says more than that there is no way to another one.
            if failure is None or isinstance(error, _TELLING) or not isinstance(failure, _TELLING):
                failure = error
    assert failure is not None
    raise failure


def _dial_place(made: socket.socket, place: Any, timeout_s: float | None) -> socket.socket:
    try:
        made.settimeout(timeout_s)
        made.connect(place)
        _refuse_itself(made)
        made.settimeout(None)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except BaseException:
        made.close()
        raise
    return made


def _refuse_itself(made: socket.socket) -> None:
    """Where nobody listens, the kernel may choose the called port itself to call from, and then that one answers."""
    if _is_connected(made) and made.getsockname() == made.getpeername():
        raise ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))


def _looked_up(address: Address) -> list[tuple[Any, ...]]:
    try:
        return socket.getaddrinfo(address.host or THIS_MACHINE, address.port, type=socket.SOCK_STREAM)
    except ValueError as error:  # of Python's own, before anybody is asked: a label of over 63 letters, a NUL
        raise socket.gaierror(socket.EAI_NONAME, str(error)) from error


def _dial_path(path: str, until: float | None) -> socket.socket:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        made.settimeout(None)
        while True:
            # A non-blocking connect to a full queue fails at once (EAGAIN), where a blocking one waits for SO_SNDTIMEO.
            made.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _timeval(_left(until)))
            try:
                made.connect(path)
            except BlockingIOError as error:
                raise TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT)) from error
            if _is_connected(made):
                break
        made.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _timeval(None))
    except BaseException:
        made.close()
        raise
    return made


def _is_connected(made: socket.socket) -> bool:
    """A signal ends a connect that waits for room in the queue, and CPython takes that for success."""
    try:
        made.getpeername()
    except OSError as error:
        if error.errno == errno.ENOTCONN:
            return False
        raise
    return True


def _timeval(seconds: float | None) -> bytes:
    """For SO_SNDTIMEO (socket(7)); None: for ever."""
    microseconds = 0 if seconds is None else max(1, int(seconds * _MICROSECONDS))  # 0 would mean for ever
    return struct.pack("@ll", *divmod(microseconds, _MICROSECONDS))


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
        return ConnectFailed(f"cannot connect to {where}: {_unknown(address.host, error)}")
    number = error.errno or 0
    if number == errno.ECONNREFUSED:
        remedy = "start the server (paceline serve), or give the address that it says it listens on"
        return Refused(f"nobody listens on {where}; {remedy}")
    why = os.strerror(number) if number else str(error)
    return ConnectFailed(f"cannot connect to {where}: {_REMEDIES.get(number, _plainly)(address, why)}")


def _unknown(host: str, error: socket.gaierror) -> str:
    if error.errno in (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", 0)):
        return f"the host {host!r} is not known; is it spelled right?"
    return (
        f"the host {host!r} could not be looked up ({error.strerror}); try again, or look whether the name servers "
        f"answer (resolv.conf(5))"
    )


def _plainly(_address: Address, why: str) -> str:
    return why[:1].lower() + why[1:]


def _no_descriptors(_address: Address, _why: str) -> str:
    return (
        f"no descriptors are left ({descriptors.open_count():,} of {descriptors.limit():,} are open); close some, or "
        f"raise the limit (ulimit -n)"
    )


def _no_descriptors_anywhere(_address: Address, _why: str) -> str:
    return "all processes of this machine together have no descriptors left; end some, or raise the sysctl fs.file-max"


def _no_port(address: Address, _why: str) -> str:
    try:
        with open(_LOCAL_PORTS) as file:
            ports = " to ".join(file.read().split())
    except OSError:
        ports = "a range of the kernel's"
    if ":" in address.host:  # where no interface has an address of IPv6, the kernel says the same
        return f"this machine has no IPv6 address to call from, or no local port is free ({ports})"
    return (
        f"no local port is free ({ports}); each connection to one address needs one, also for a minute after it was "
        f"closed; open fewer, keep them open for several messages, or widen net.ipv4.ip_local_port_range"
    )


def _no_file(address: Address, _why: str) -> str:
    return f"there is no socket file {address.path}; start the server, or give the path that it says it listens on"


def _no_permission(address: Address, why: str) -> str:
    if address.kind == "unix":
        return f"this user may not write to {address.path}; ask its owner, or connect as another user"
    return f"{_plainly(address, why)}: a firewall or a sandbox of this machine forbids it"


def _no_stream(address: Address, _why: str) -> str:
    return f"{address.path} is a socket of another kind; a client needs a stream socket"


_TELLING = (ConnectionRefusedError, TimeoutError)

_REMEDIES = {
    errno.EMFILE: _no_descriptors,
    errno.ENFILE: _no_descriptors_anywhere,
    errno.EADDRNOTAVAIL: _no_port,
    errno.ENOENT: _no_file,
    errno.EACCES: _no_permission,
    errno.EPERM: _no_permission,
    errno.EPROTOTYPE: _no_stream,
}
