"""Opening the sockets that connections arrive at, and closing them.  Called by the supervisor, before it forks.

A listener is opened once, listens from then on, and is shared by all workers: connections that wait in it survive each
of them.  It is never SO_REUSEPORT: that would give each process a queue of its own, which dies with it.

What a machine refuses becomes a HostError of one paragraph: what was tried, why it failed, the remedy.  Nothing that
belongs to somebody else is ever touched: a Unix socket's file is replaced only when no process holds it, a file that
is no socket never, and at the end only the file that we made ourselves is removed.
"""

import contextlib
import errno
import math
import os
import socket
import stat
from dataclasses import dataclass

from paceline.addresses import Address
from paceline.errors import HostError
from paceline.host import activation
from paceline.host.holders import THIS_PROCESS, holder_of_port
from paceline.host.refusals import sort_of_file, why_not
from paceline.host.unix_paths import AS_MADE, FileRights, Made, listen_at_path

_PROBES = 4
"""TCP_KEEPCNT: unanswered probes until a peer counts as dead; together they take as long as the idle time."""
_LONGEST_S = 32767
"""The kernel's limit for TCP_KEEPIDLE and TCP_KEEPINTVL (include/net/tcp.h, MAX_TCP_KEEPIDLE)."""

_IPV6_ADDRESSES = "/proc/net/if_inet6"
"""A row for each address of an interface (proc_net(5))."""


UNSENT_BYTES = 256 * 1024
"""The kernel takes so much more than it can send to a peer, and no more: else one that does not read costs some MiB
there, and the processor time to copy them (docs/decisions/0037)."""


@dataclass(frozen=True, slots=True)
class Listener:
    """A socket that listens: non-blocking, close-on-exec.

    text   where, the port resolved: `127.0.0.1:8888`, `[::]:8888` (all interfaces), `unix:/run/x.sock`
    kind   "tcp" or "unix": what it is, also when it was inherited
    index  its place among the addresses; a handed-over connection names its listener by it
    words  for people, what of its text means more than one sees: `IPv4 and IPv6`; empty: nothing
    """

    socket: socket.socket
    text: str
    kind: str
    index: int
    made: Made | None = None
    words: str = ""

    def spoken(self, *, is_encrypted: bool = False) -> str:
        """Where, in full: `[::]:8888 (IPv4 and IPv6; TLS)`; `is_encrypted`: TLS is spoken on TCP."""
        words = [self.words] if self.words else []
        words += ["TLS"] if is_encrypted and self.kind == "tcp" else []
        return f"{self.text} ({'; '.join(words)})" if words else self.text

    def fileno(self) -> int:
        return self.socket.fileno()


def open_listener(
    address: Address, index: int, backlog: int, keepalive_s: float | None, rights: FileRights = AS_MADE
) -> Listener:
    """Listen there.  Raises HostError; then nothing is left open.  `rights` are those of a Unix socket's file.

    A host name with several addresses is opened at the first that works, IPv4 before IPv6.  No host at all means all
    interfaces: one socket for IPv6 and IPv4, or IPv4 alone where the machine has no IPv6.  An IPv6 address, `[::]`
    included, is IPv6 only, so that `0.0.0.0` may stand beside it.
    """
    try:
        if address.kind == "unix":
            opened, made = listen_at_path(address.path, backlog, rights)
        elif address.kind == "fd":
            (fd,) = [address.fd] if address.fd >= 0 else activation.NONE.named(address.name)
            opened, made = _inherit(fd, backlog), None
        else:
            opened, made = _open_tcp(address, backlog), None
    except HostError as why:
        raise HostError(f"cannot listen on {address.text}: {why}") from why.__cause__
    opened.setblocking(False)  # whatever socket.setdefaulttimeout says
    opened.set_inheritable(False)
    kind = "unix" if opened.family == socket.AF_UNIX else "tcp"
    if kind == "tcp":
        _set_inherited_options(opened, keepalive_s)
    text = address.text if made is not None else _text_of(opened)  # unix_paths.py: it may be bound by another name
    words = "" if made is not None else _words_of(opened, is_dual=address.kind == "tcp" and not address.host)
    return Listener(opened, text, kind, index, made, words)


def is_same(one: Listener, other: Listener) -> bool:
    """They are one socket, by two descriptors, as whoever started us may leave it open."""
    return os.fstat(one.fileno()).st_ino == os.fstat(other.fileno()).st_ino


def close_listener(listener: Listener) -> None:
    """Listen no more here; remove the file of a Unix socket if this process made it and it is still that one.

    Connections that wait in it are lost only when no other process has it open.  Never raises.
    """
    if listener.made is not None:
        listener.made.remove()
    with contextlib.suppress(OSError):
        listener.socket.close()


# TCP


def _open_tcp(address: Address, backlog: int) -> socket.socket:
    """At the first place that works; the reason given is the last place's."""
    places = _places(address)
    for family, host, place in places:
        try:
            return _listen_at(family, place, backlog, dual=not address.host)
        except OSError as error:
            is_elsewhere = error.errno in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)
            if not is_elsewhere or place == places[-1][2]:
                raise HostError(_why_no_port(error, host, address.port)) from error
    raise AssertionError("getaddrinfo returns at least one place, or raises")


_Place = tuple[str, int] | tuple[str, int, int, int]


def _places(address: Address) -> list[tuple[int, str, _Place]]:
    """(family, IP address, what bind takes) to be tried in this order."""
    if not address.host:
        every: list[tuple[int, str, _Place]] = [(socket.AF_INET6, "::", ("::", address.port, 0, 0))]
        return [*every, (socket.AF_INET, "0.0.0.0", ("0.0.0.0", address.port))]
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:  # a name that cannot be one at all fails in its encoding
        why = error.strerror if isinstance(error, OSError) else "it is not a possible name"
        raise HostError(
            f"the host name {address.host!r} cannot be resolved ({why}); check its spelling, or give an IP address: "
            f"127.0.0.1 for this machine only, :{address.port} for all interfaces"
        ) from error
    places: list[tuple[int, str, _Place]] = [
        (family, str(place[0]), place)  # type: ignore[misc]
        for family, _, _, _, place in found
        if family in (socket.AF_INET, socket.AF_INET6)
    ]
    # Stable: the resolver's order within a family.  Clients of `localhost` try 127.0.0.1 sooner or later.
    return sorted(places, key=lambda entry: entry[0] != socket.AF_INET)


def _listen_at(family: int, place: _Place, backlog: int, *, dual: bool) -> socket.socket:
    opened = socket.socket(family, socket.SOCK_STREAM)
    try:
        # A port with connections in TIME_WAIT may be taken again at once; a listening one still may not (socket(7)).
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not dual)
        opened.bind(place)
        opened.listen(backlog)  # here too may come EADDRINUSE: who listens first has the port
    except BaseException:
        opened.close()
        raise
    return opened


def _set_inherited_options(listening: socket.socket, keepalive_s: float | None) -> None:
    """What every accepted socket inherits (tcp(7)), so that accepting costs no further system call."""
    options = [
        (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
        (socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES),
    ]
    if keepalive_s is None:
        options.append((socket.SOL_SOCKET, socket.SO_KEEPALIVE, 0))
    else:
        idle_s = min(_LONGEST_S, max(1, math.ceil(keepalive_s)))
        options += [
            (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
            (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, idle_s),
            (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, max(1, idle_s // _PROBES)),
            (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _PROBES),
            # Sent data that nobody acknowledges: ends as late as an idle peer's silence, not after 15 minutes.
            (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, min(2**31 - 1, max(1, round(2000 * keepalive_s)))),
        ]
    for level, name, value in options:
        try:
            listening.setsockopt(level, name, value)
        except OSError as error:  # an inherited socket may be of a kin of TCP that lacks one of them
            if error.errno not in (errno.ENOPROTOOPT, errno.EOPNOTSUPP):
                raise


def _why_no_port(error: OSError, host: str, port: int) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            holder = holder_of_port(host, port)
            if holder == THIS_PROCESS:
                return "another of the addresses to be served covers it already; leave one of them out"
            taken = f"{holder} listens there" if holder else "the port is held by a socket that is not listening"
            return f"{taken}; stop that one, or choose another port (port 0 takes any free one)"
        case errno.EACCES | errno.EPERM if 0 < port < _first_free_port():
            return (
                f"ports below {_first_free_port()} are privileged; choose a higher one, or start as root, with the "
                f"capability CAP_NET_BIND_SERVICE, or with a socket that systemd opened (fd://3)"
            )
        case errno.EADDRNOTAVAIL:
            return (
                f"no interface of this machine has the address {host}; give one that `ip address` shows, 127.0.0.1 for "
                f"this machine only, or :{port} for all interfaces"
            )
        case errno.EAFNOSUPPORT:
            return f"this machine has no IPv6; give an IPv4 address, or :{port} for all interfaces"
        case errno.EINVAL if host.lower().startswith("fe80:"):
            return f"a link-local address needs its interface; write [{host}%eth0]:{port}, with the interface's name"
        case _:
            return why_not(error)


def _first_free_port() -> int:
    try:
        with open("/proc/sys/net/ipv4/ip_unprivileged_port_start") as setting:
            return int(setting.read())
    except (OSError, ValueError):
        return 1024


# Sockets that somebody else opened


def _inherit(fd: int, backlog: int) -> socket.socket:
    """The socket that whoever started us left open as this descriptor; it is ours from now on."""
    try:
        mode = os.fstat(fd).st_mode
    except OSError as error:
        raise HostError(
            f"descriptor {fd} is not open; whoever starts Paceline must leave a listening socket open there "
            f"(systemd: the first socket of the unit is fd://3)"
        ) from error
    if not stat.S_ISSOCK(mode):
        raise HostError(f"descriptor {fd} is {sort_of_file(mode)}, not a socket; pass a listening stream socket")
    found = socket.socket(fileno=fd)
    try:
        _make_listen(found, fd, backlog)
    except BaseException:
        found.detach()  # it stays open, as it was: it is not ours
        raise
    return found


def _make_listen(found: socket.socket, fd: int, backlog: int) -> None:
    if found.family not in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX):
        raise HostError(f"descriptor {fd} is a socket of another family; pass a TCP or Unix one")
    if found.type != socket.SOCK_STREAM:
        raise HostError(
            f"descriptor {fd} is not a stream socket but one for datagrams; "
            f"pass a stream socket (systemd: ListenStream=, not ListenDatagram=)"
        )
    if found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        return  # its backlog is its owner's choice
    with contextlib.suppress(OSError):
        found.getpeername()
        raise HostError(
            f"descriptor {fd} is one connection, not a listening socket; "
            f"pass the listening one (systemd: Accept=no; inetd: wait)"
        )
    name = found.getsockname()
    if not name or (found.family != socket.AF_UNIX and name[1] == 0):
        raise HostError(f"descriptor {fd} is a socket without an address; bind it before passing it")
    try:
        found.listen(backlog)
    except OSError as error:
        raise HostError(f"descriptor {fd} is a socket that cannot listen: {why_not(error)}") from error


# Words


def _text_of(listening: socket.socket) -> str:
    name = listening.getsockname()
    if listening.family == socket.AF_UNIX:
        path = os.fsdecode(name)
        return f"unix:@{path[1:]}" if path.startswith("\0") else f"unix:{path}"
    host, port = name[:2]
    if listening.family == socket.AF_INET:
        return f"{host}:{port}"
    if name[3] and "%" not in host:  # a link-local address means something only with its interface
        host = f"{host}%{_interface(name[3])}"
    return f"[{host}]:{port}"


def _words_of(listening: socket.socket, *, is_dual: bool) -> str:
    """Which families a listener for all interfaces serves; `is_dual`: both were asked for."""
    name = listening.getsockname()
    if listening.family == socket.AF_UNIX:  # an inherited one can have lost its file; what it is relative to, who knows
        is_gone = isinstance(name, str) and name.startswith("/") and not os.path.lexists(name)
        return "its file is gone: nobody can connect" if is_gone else ""
    if name[0] not in ("::", "0.0.0.0"):
        return ""
    if listening.family == socket.AF_INET:
        return "IPv4 only: this machine has no IPv6" if is_dual else "IPv4 only"
    if listening.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY):
        return "IPv6 only"
    return "IPv4 and IPv6" if _has_ipv6_address() else "IPv4 and IPv6: this machine has no IPv6 address now"


def _has_ipv6_address() -> bool:
    """Whether any interface has one.  Where IPv6 is turned off by sysctl, sockets for it can be had all the same."""
    try:
        with open(_IPV6_ADDRESSES, "rb") as rows:
            return bool(rows.read(1))
    except FileNotFoundError:
        return not os.path.exists("/proc/net")  # without /proc, nobody knows
    except OSError:
        return True


def _interface(number: int) -> str:
    try:
        return socket.if_indextoname(number)
    except OSError:
        return str(number)
