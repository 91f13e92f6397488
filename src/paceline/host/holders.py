"""Who holds a TCP port or a Unix socket: for the message that says why we could not have it.  Best effort, bounded.

The kernel's tables (proc_net(5)) name the socket's inode, and `/proc/PID/fd` says which process has it open, as far as
the caller may read that.  The parsing is pure; what looks is called once, by a start that fails anyway.
"""

import contextlib
import itertools
import os
import socket
from collections.abc import Iterator

THIS_PROCESS = "this very process"

_TABLE_BYTES = 1 << 20
"""Of a table, so much is read: listening sockets come first in /proc/net/tcp, a million connections after them."""
_MOST_LINKS = 20_000
"""At so many open descriptors of other processes the search is given up."""
_MOST_NAMESAKES = 8
"""So many sockets of one name, in whichever folders, are looked at."""


def holder_of_port(host: str, port: int) -> str | None:
    """Who listens where host:port (an IP address) would: `nginx (pid 812)`, THIS_PROCESS, or None: not found."""
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for inode, uid in listening_on(_read(table), host, port):
            pid = _process_with(inode)
            return _called(pid) if pid else f"a process of uid {uid}"
    return None


def holder_of_path(path: str) -> str | None:
    """Who holds the Unix socket that is bound there: `redis-server (pid 77)`, THIS_PROCESS, or None.

    The kernel's table has the path as that process wrote it, which may be relative to a folder of its own.
    """
    folder, name = os.path.split(path)
    for inode, bound in itertools.islice(bound_to(_read("/proc/net/unix"), name), _MOST_NAMESAKES):
        pid = _process_with(inode)
        if pid and _is_same(os.path.join(f"/proc/{pid}/cwd", os.path.dirname(bound)), folder or "."):
            return _called(pid)
    return None


def listening_on(table: str, host: str, port: int) -> Iterator[tuple[int, int]]:
    """(inode, uid) of each listening row of /proc/net/tcp or tcp6 that host:port collides with.  Pure."""
    ours = _plain(host)
    for row in table.splitlines()[1:]:
        columns = row.split()
        if len(columns) < 10 or columns[3] != "0A":  # TCP_LISTEN
            continue
        address, _, hex_port = columns[1].partition(":")
        theirs = _plain(_address_of(address))
        if int(hex_port, 16) == port and (ours == theirs or "*" in (ours, theirs)):
            yield int(columns[9]), int(columns[7])


def bound_to(table: str, name: str) -> Iterator[tuple[int, str]]:
    """(inode, path) of each row of /proc/net/unix whose path ends with this name; listening ones first.  Pure."""
    rows = [row.split(maxsplit=7) for row in table.splitlines()[1:]]
    bound = [row for row in rows if len(row) == 8 and row[7][0] != "@" and row[7].rpartition("/")[2] == name]
    bound.sort(key=lambda row: row[3] != "00010000")  # __SO_ACCEPTCON
    return ((int(row[6]), row[7]) for row in bound)


def _address_of(digits: str) -> str:
    """`0100007F` → `127.0.0.1`: each 32-bit word is printed as the machine holds it, least significant byte first."""
    words = [bytes.fromhex(digits[at : at + 8])[::-1] for at in range(0, len(digits), 8)]
    packed = b"".join(words)
    return socket.inet_ntop(socket.AF_INET if len(packed) == 4 else socket.AF_INET6, packed)


def _plain(host: str) -> str:
    """One spelling for what collides: `*` for every address, an IPv4 address in its own form."""
    host = host.removeprefix("::ffff:") if "." in host else host
    return "*" if host in ("", "0.0.0.0", "::") else host


def _read(table: str) -> str:
    try:
        with open(table, "rb") as lines:
            return lines.read(_TABLE_BYTES).decode(errors="surrogateescape")
    except OSError:
        return ""


def _is_same(one: str, other: str) -> bool:
    try:
        return os.path.samefile(one, other)
    except OSError:
        return False


def _process_with(inode: int) -> int | None:
    """The oldest (lowest) process id that has this socket open: among a server's processes, mostly the parent."""
    wanted = f"socket:[{inode}]"
    links = 0
    for pid in sorted(int(name) for name in _names_in("/proc") if name.isdecimal()):
        folder = f"/proc/{pid}/fd"
        for fd in _names_in(folder):
            links += 1
            if links > _MOST_LINKS:
                return None
            with contextlib.suppress(OSError):  # closed meanwhile, or not ours to read
                if os.readlink(f"{folder}/{fd}") == wanted:
                    return pid
    return None


def _called(pid: int) -> str:
    return THIS_PROCESS if pid == os.getpid() else f"{_name_of(pid)} (pid {pid})"


def _names_in(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _name_of(pid: int) -> str:
    return _read(f"/proc/{pid}/comm").strip() or "a process"
