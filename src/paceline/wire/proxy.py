"""The header that a proxy sends before everything else, to say for whom it has connected (PROXY protocol).  Pure.

`parse` looks at what has arrived so far.  Both versions of haproxy's specification ("The PROXY protocol", 2020/03/05):

    1    PROXY TCP4 192.0.2.7 198.51.100.1 50312 443\\r\\n      a line of at most 107 bytes
    2    12 bytes that are no text, version and command, family, length, addresses, and more that is skipped

A header that names nobody (UNKNOWN, LOCAL, a family we do not know) is a header: the connection is the proxy's own, as
its health checks are.  Whatever is no header is refused at the first byte that differs; nothing of it is guessed at.
"""

import re
import struct
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv6Address

from paceline.errors import PacelineError

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
LONGEST_LINE = 107
LONGEST = 4096
"""Of version 2, with all that it has to say beside the addresses; more is refused."""

_LINE = re.compile(rb"PROXY (TCP4|TCP6) ([0-9a-fA-F:.]{2,45}) ([0-9a-fA-F:.]{2,45}) (0|[1-9]\d{0,4}) (0|[1-9]\d{0,4})")
_HEAD = struct.Struct("!12sBBH")
_LOCAL, _PROXY = 0x20, 0x21
_TCP4, _TCP6, _UNIX = 0x11, 0x21, 0x31
_NAMED = {_TCP4: 12, _TCP6: 36, _UNIX: 216}
"""How long the addresses of a family are."""


class NoHeader(PacelineError):
    """What has arrived is no header of a proxy; the text says why not."""


@dataclass(frozen=True, slots=True)
class Header:
    """What it says.

    length   of the header, in bytes: the peer's own begin behind it
    source   who has connected to the proxy: `192.0.2.7:50312`, `[2001:db8::7]:50312`; empty: it does not say
    """

    length: int
    source: str


def parse(data: bytes) -> Header | None:
    """The header at the beginning of `data`; None: more is to come.  Raises NoHeader."""
    if data.startswith(b"PROXY"[: len(data)]):
        return _line(data)
    if data.startswith(SIGNATURE[: len(data)]):
        return _binary(data)
    raise NoHeader(f"it begins with {bytes(data[:12])!r}, which is no header of the PROXY protocol")


def _line(data: bytes) -> Header | None:
    end = data.find(b"\r\n", 0, LONGEST_LINE)
    if end < 0:
        if len(data) >= LONGEST_LINE:
            raise NoHeader(f"its header has no end within {LONGEST_LINE} bytes")
        if not data.startswith(b"PROXY "[: len(data)]):
            raise NoHeader(f"it begins with {bytes(data[:12])!r}, which is no header of the PROXY protocol")
        return None
    line = bytes(data[:end])
    if line == b"PROXY UNKNOWN" or line.startswith(b"PROXY UNKNOWN "):
        return Header(end + 2, "")
    found = _LINE.fullmatch(line)
    if found is None:
        raise NoHeader(f"its header is {line!r}, which is not as version 1 has it")
    family, source, target, port, target_port = (part.decode() for part in found.groups())
    kind = IPv4Address if family == "TCP4" else IPv6Address
    try:
        host = kind(source)
        kind(target)
    except AddressValueError as error:
        raise NoHeader(f"its header is {line!r}: {error}") from None
    if max(int(port), int(target_port)) > 65535:  # five digits at the most, by the pattern
        raise NoHeader(f"its header is {line!r}, and there is no such port")
    return Header(end + 2, _text(host, int(port)))


def _binary(data: bytes) -> Header | None:
    if len(data) < _HEAD.size:
        return None
    _, command, family, rest = _HEAD.unpack_from(data)
    length = _HEAD.size + rest
    if command not in (_LOCAL, _PROXY):
        raise NoHeader(f"its header has version and command {command:#04x}, and there are 0x20 and 0x21")
    if length > LONGEST:
        raise NoHeader(f"its header says that it has {length:,} bytes, more than {LONGEST:,}")
    needed = _NAMED.get(family, 0)
    if command == _PROXY and rest < needed:
        raise NoHeader(f"its header has {rest} bytes for addresses of {needed}")
    if len(data) < length:
        return None
    if command == _LOCAL or family not in (_TCP4, _TCP6):
        return Header(length, "")
    wide = family == _TCP6
    size = 16 if wide else 4
    address = bytes(data[_HEAD.size : _HEAD.size + size])
    (port,) = struct.unpack_from("!H", data, _HEAD.size + 2 * size)
    return Header(length, _text(IPv6Address(address) if wide else IPv4Address(address), port))


def _text(host: IPv4Address | IPv6Address, port: int) -> str:
    if isinstance(host, IPv6Address):
        host = host.ipv4_mapped or host
    return f"[{host}]:{port}" if isinstance(host, IPv6Address) else f"{host}:{port}"
