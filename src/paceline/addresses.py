"""Where to listen, as text and as a value.  Pure.

    HOST:PORT      a name or an IPv4 address; port 0: any free one
    [::1]:PORT     an IPv6 address, in brackets (RFC 3986, section 3.2.2), with its zone: [fe80::1%eth0]:80
    :PORT          all interfaces
    unix:PATH      a socket file
    fd://N         a listening socket that was inherited as descriptor N
    fd://NAME      those that the service manager passed under this name (LISTEN_FDNAMES, sd_listen_fds(3))

Names are not looked up here, and whether the address exists on this machine is found out by who opens it.
"""

import re
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import Literal

from paceline.errors import SettingError

FORMS = "HOST:PORT, [::1]:PORT, :PORT (all interfaces), unix:PATH or fd://N"
FD_FORMS = "fd://N, where N is the number of an inherited descriptor, or fd://NAME, as systemd names it"
DEFAULT_PORT = 8888
UNIX_PATH_BYTES = 107
"""The kernel's sun_path has 108 bytes, the last of them NUL (unix(7))."""

_NAME = re.compile(r"\w(?:[\w.-]*[\w.])?")
_ANY = ("", "*")
_FD_NAME = re.compile(r"[A-Za-z_][!-+\--9;-~]{0,254}")
"""Printable ASCII without a colon, as systemd has it; without a comma, which separates addresses; unlike a number."""


@dataclass(frozen=True, slots=True)
class Address:
    """One place to listen; which of the fields mean something depends on `kind`."""

    kind: Literal["tcp", "unix", "fd"]
    host: str = ""
    """For tcp; an IPv6 address without its brackets; empty: all interfaces."""
    port: int = 0
    path: str = ""
    fd: int = -1
    """-1: it has a name instead."""
    name: str = ""

    @property
    def text(self) -> str:
        """The address as it is written; `parse_address` reads it back."""
        match self.kind:
            case "unix":
                return f"unix:{self.path}"
            case "fd":
                return f"fd://{self.name or self.fd}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class NotAnAddressError(SettingError):
    """What an address must be, and the nearest right text (or nothing), for whoever knows the setting's name."""

    def __init__(self, text: str, rule: str, nearest: str) -> None:
        super().__init__(
            f"the address {text!r} must be {rule}" + (f"; the nearest right one is {nearest}" if nearest else "")
        )
        self.rule = rule
        self.nearest = nearest


def parse_address(text: str) -> Address:
    """The address that `text` names.  Raises NotAnAddressError, a SettingError."""
    try:
        return _read(text)
    except _RefusedError as refused:
        raise NotAnAddressError(text, refused.rule, _first_right(refused.instead)) from None


class _RefusedError(Exception):
    """Why a text is no address, and what could have been meant; not all of that need be right either."""

    def __init__(self, rule: str, *instead: str) -> None:
        super().__init__(rule)
        self.rule = rule
        self.instead = instead


def _first_right(texts: tuple[str, ...]) -> str:
    for text in texts:
        try:
            return _read(text).text
        except _RefusedError:
            continue
    return ""


def _read(text: str) -> Address:
    scheme, colon, rest = text.partition(":")
    if scheme == "unix" and colon:
        return _unix(rest)
    if scheme == "fd" and colon:
        return _inherited(rest)
    if "://" in text:
        rest = text.partition("://")[2].rstrip("/")
        raise _RefusedError(f"{FORMS}, without a scheme such as {scheme}://", rest, f"{rest}:{DEFAULT_PORT}")
    return _tcp(text)


def _tcp(text: str) -> Address:
    if text.startswith("["):
        host, bracket, port = text[1:].rpartition("]:")
        bare = text.strip("[]")
        if not bracket:
            raise _RefusedError(f"{FORMS}; this one has no port", f"[{bare}]:{DEFAULT_PORT}")
        try:
            host = str(IPv6Address(host))
        except AddressValueError:
            raise _RefusedError(f"{FORMS}; {host!r} is no IPv6 address", f"{host}:{port}") from None
        return Address("tcp", host, _port(port, f"[{host}]"))
    host, colon, port = text.rpartition(":")
    if not colon:
        if text.isdecimal():
            raise _RefusedError(f"{FORMS}; a port alone does not say on which interface", f"127.0.0.1:{text}")
        raise _RefusedError(f"{FORMS}; this one has no port", f"{text.strip() or '127.0.0.1'}:{DEFAULT_PORT}")
    if ":" in host:
        raise _RefusedError(
            f"{FORMS}; an IPv6 address stands in brackets", f"[{host}]:{port}", f"[{text}]:{DEFAULT_PORT}"
        )
    if host and not _is_host(host):
        tidy = host.strip() if host.strip() not in _ANY else ""
        raise _RefusedError(f"{FORMS}; {host!r} is no host", f"{tidy}:{port.strip()}", f"127.0.0.1:{port}")
    return Address("tcp", host, _port(port, host))


def _is_host(host: str) -> bool:
    if re.fullmatch(r"[0-9.]+", host):  # the C library would read 127.1 or 1 as addresses; nobody means them
        try:
            return bool(IPv4Address(host).packed)
        except AddressValueError:
            return False
    return _NAME.fullmatch(host) is not None and len(host) <= 253


def _port(text: str, host: str) -> int:
    rule = f"{FORMS}, where PORT is a number from 0 (any free one) to 65535"
    if not re.fullmatch("[0-9]+", text):
        raise _RefusedError(rule, f"{host}:{text.strip()}", f"{host}:{DEFAULT_PORT}")
    digits = text.lstrip("0") or "0"
    if len(digits) > 5 or int(digits) > 65535:
        raise _RefusedError(rule, f"{host}:65535")
    return int(digits)


def _unix(path: str) -> Address:
    if path.startswith("//"):  # as a URL: unix:///run/app.sock
        if not path.startswith("///"):
            raise _RefusedError("unix:PATH, with one slash or none before a path", f"unix:{path[1:]}")
        path = path[2:]
    if not path or "\0" in path:
        raise _RefusedError("unix:PATH, where PATH is not empty and holds no NUL", "unix:paceline.sock")
    if path.startswith("@"):
        raise _RefusedError("unix:PATH with a file's path; abstract sockets are not served", f"unix:./{path}")
    if path.endswith("/"):
        raise _RefusedError(
            "unix:PATH with the path of a file, not of a folder", f"unix:{path.rstrip('/')}/paceline.sock"
        )
    size = len(path.encode("utf-8", "surrogateescape"))
    if size > UNIX_PATH_BYTES:
        raise _RefusedError(
            f"unix:PATH with at most {UNIX_PATH_BYTES} bytes in PATH, and this one has {size}: choose a shorter one"
        )
    return Address("unix", path=path)


def _inherited(rest: str) -> Address:
    which = rest.removeprefix("//")
    if which == rest:
        raise _RefusedError(FD_FORMS, f"fd://{which}", "fd://3")
    if _FD_NAME.fullmatch(which):
        return Address("fd", name=which)
    if not re.fullmatch("[0-9]{1,9}", which):
        raise _RefusedError(FD_FORMS, "fd://3")
    if int(which) in (1, 2):
        raise _RefusedError(
            "fd://N with another N than 1 and 2, which are standard output and standard error", "fd://3"
        )
    return Address("fd", fd=int(which))
