"""Telling the service manager how we are: datagrams to NOTIFY_SOCKET (sd_notify(3)).  For the supervisor's thread.

What is said, and when, supervisor/systemd.py decides; here are the variables of the environment and the sending.
Nothing here waits, and a manager that is gone costs one failed system call each time.
"""

import os
import re
import socket
from collections.abc import MutableMapping
from dataclasses import dataclass, field

VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
_FLAGS = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL
_LONGEST_PATH = 107
"""sun_path has 108 bytes (unix(7)): a path ends with a zero, an abstract name begins with one."""


@dataclass(slots=True)
class ServiceManager:
    """The one that started us, if it wants to be told."""

    address: str = ""
    """The path, or the abstract name behind a zero byte; empty: nobody wants to be told."""
    watchdog_s: float | None = None
    """It expects a sign of life at least so often."""
    refused: str = ""
    """Why nothing can be told although somebody wants it: a sentence for the log."""
    variables: dict[str, str] = field(default_factory=dict)
    """What stood in the environment: the next image of this process needs it once more."""
    _socket: socket.socket | None = None

    def send(self, text: str) -> bool:
        """One datagram of lines `NAME=value`.  False: it was not taken; what is still true is to be said again."""
        if not self.address:
            return True
        try:
            if self._socket is None:
                self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            # By address each time: a manager that was executed anew has a new socket at the same path.
            self._socket.sendto(text.encode("utf-8", "backslashreplace"), _FLAGS, self.address)
        except OSError:
            return False
        return True

    def fds(self) -> list[int]:
        """What is open for it: nobody who is forked may keep that."""
        return [] if self._socket is None else [self._socket.fileno()]

    def close(self) -> None:
        """At the end."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def take(environment: MutableMapping[str, str], pid: int) -> ServiceManager:
    """Who wants to be told; `pid` is ours.  The variables are gone afterwards, so that no worker speaks in our name."""
    said = {name: environment.pop(name) for name in VARIABLES if name in environment}
    address = said.get("NOTIFY_SOCKET", "")
    refused = _why_refused(address) if address else ""
    if not address or refused:
        return ServiceManager(refused=refused, variables=said)
    if address.startswith("@"):
        address = "\0" + address[1:]
    watchdog_s, refused = _watchdog_of(said, pid)
    return ServiceManager(address, watchdog_s, refused, said)


def _why_refused(address: str) -> str:
    if address.startswith("vsock"):
        return f"NOTIFY_SOCKET={address!r} is of a virtual machine's host, which is not supported"
    if address[0] not in "/@" or len(address) < 2:
        return f"NOTIFY_SOCKET={address!r} is neither an absolute path nor an abstract name (@…)"
    if "\0" in address or len(os.fsencode(address)) > _LONGEST_PATH:
        return f"NOTIFY_SOCKET has {len(os.fsencode(address))} bytes, and a Unix socket's path at most {_LONGEST_PATH}"
    return ""


def _watchdog_of(said: dict[str, str], pid: int) -> tuple[float | None, str]:
    """(seconds, why not).  As sd_watchdog_enabled(3): meant for us unless WATCHDOG_PID names another process."""
    if "WATCHDOG_USEC" not in said or said.get("WATCHDOG_PID", str(pid)) != str(pid):
        return None, ""
    usec = said["WATCHDOG_USEC"]
    if not re.fullmatch("[0-9]{1,18}", usec) or int(usec) == 0:
        return None, f"WATCHDOG_USEC={usec!r} is no number of microseconds, so no sign of life is given"
    return int(usec) / 1e6, ""
