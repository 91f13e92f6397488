"""From where somebody connects: networks as text, and addresses as numbers that can be compared with them.  Pure.

    192.0.2.0/24     an IPv4 network (CIDR, RFC 4632)
    192.0.2.7        one address: /32, of IPv6 /128
    2001:db8::/32    an IPv6 network (RFC 4291, section 2.3)
    unix             whoever connects by a Unix socket

An address is one whole number: its bits, and above them one bit that tells the family, so that `::/0` holds no IPv4 and
`0.0.0.0/0` no IPv6.  A listener for both families has IPv4 peers as ::ffff:192.0.2.7 (RFC 4291, section 2.5.5.2); here
that is 192.0.2.7, of peers and of networks alike.  So a network is a mask and a number: an address is in it when its
bits under the mask are that number.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from paceline.errors import SettingError

FORMS = "an IPv4 or IPv6 network like 10.0.0.0/8 or 2001:db8::/32, one address of these, or unix"

IPV4, IPV6, UNIX = 1 << 128, 1 << 129, 1 << 130
"""The bits of the families; `UNIX` is the whole address of every Unix socket."""

SITE_BITS = 64
"""So much of an IPv6 address names one place: a subnet, in which a machine chooses its addresses itself (RFC 8981)."""

_FAMILIES = IPV4 | IPV6 | UNIX
_SITE = _FAMILIES | ((1 << SITE_BITS) - 1) << (128 - SITE_BITS)
_LOW_32 = 0xFFFFFFFF
_ALL_OF = {"*": "0.0.0.0/0", "all": "0.0.0.0/0", "any": "0.0.0.0/0", "localhost": "127.0.0.1"}
_CIDR = re.compile(r"([0-9a-fA-F.:]+)(?:/([0-9]{1,3}))?")


class NotANetworkError(SettingError):
    """What a network must be, and the nearest right text (or nothing), for whoever knows the setting's name."""

    def __init__(self, text: str, rule: str, nearest: str) -> None:
        super().__init__(
            f"the network {text!r} must be {rule}" + (f"; the nearest right one is {nearest}" if nearest else "")
        )
        self.rule = rule
        self.nearest = nearest


@dataclass(frozen=True, slots=True)
class Network:
    """The addresses whose bits under `mask` are `first`; `text` is how it is written, and reads back as the same."""

    text: str
    mask: int
    first: int


def parse_network(text: str) -> Network:
    """The network that `text` names.  Raises NotANetworkError, a SettingError."""
    text = text.strip()
    if text.casefold() == "unix":
        return Network("unix", _FAMILIES, UNIX)
    found = _CIDR.fullmatch(text)
    if found is None:
        raise NotANetworkError(text, FORMS, _meant(text))
    try:
        network = ip_network(text)
    except ValueError:
        raise NotANetworkError(text, *_why_not(text)) from None
    return _compiled(network)


def _compiled(network: IPv4Network | IPv6Network) -> Network:
    first, bits = int(network.network_address), network.prefixlen
    if isinstance(network, IPv6Network) and first >> 32 == 0xFFFF and bits >= 96:
        network = IPv4Network((first & _LOW_32, bits - 96))
        first, bits = int(network.network_address), network.prefixlen
    family, width = (IPV4, 32) if isinstance(network, IPv4Network) else (IPV6, 128)
    text = str(network.network_address) if bits == width else str(network)
    return Network(text, _FAMILIES | ((1 << bits) - 1) << (width - bits), family | first)


def _why_not(text: str) -> tuple[str, str]:
    """(the rule, the network that was probably meant) of what looks like a network and is none."""
    host, _, length = text.partition("/")
    try:
        address = ip_address(host)
    except ValueError:
        return FORMS, _meant(text)
    if length and int(length) > address.max_prefixlen:
        rule = f"{FORMS}; the prefix of an IPv{address.version} network has at most {address.max_prefixlen} bits"
        return rule, str(address)
    meant = _compiled(ip_network(text, strict=False)).text
    return f"a network whose address has no bits set behind its prefix, or {host} alone, for one address", meant


def _meant(text: str) -> str:
    """The nearest right text, or nothing."""
    bare = text.strip().casefold()
    if bare in _ALL_OF:
        return _ALL_OF[bare]
    if bare.startswith("unix"):
        return "unix"
    host, slash, length = bare.partition("/")
    host = host.strip("[] ").partition("%")[0]
    if re.fullmatch(r"[0-9.]+", host) and slash:  # 10/8, 192.168/16
        host = ".".join([*filter(None, host.split(".")), "0", "0", "0"][:4])
    elif re.fullmatch(r"(?:[0-9]+\.){1,3}\*(?:\.\*)*", host):  # 10.*, 192.168.*.*
        given = [part for part in host.split(".") if part != "*"]
        host, slash, length = ".".join([*given, "0", "0", "0"][:4]), "/", str(8 * len(given))
    for candidate in (f"{host}{slash}{length.strip()}", host):
        try:
            return _compiled(ip_network(candidate, strict=False)).text
        except ValueError:
            continue
    return ""


def of_ipv4(packed: bytes) -> int:
    """The number of an IPv4 address of 4 bytes."""
    return IPV4 | int.from_bytes(packed)


def of_ipv6(packed: bytes) -> int:
    """The number of an IPv6 address of 16 bytes; of one that stands for an IPv4 address, that one's."""
    number = int.from_bytes(packed)
    return IPV4 | number & _LOW_32 if number >> 32 == 0xFFFF else IPV6 | number


def of_text(peer: str) -> int:
    """Of a peer as the log has it: `192.0.2.7:50312`, `[2001:db8::7]:50312`; `UNIX`: of anything else."""
    host = peer.rpartition(":")[0]
    try:
        address = ip_address(host[1:-1] if host.startswith("[") else host)
    except ValueError:
        return UNIX
    return of_ipv4(address.packed) if address.version == 4 else of_ipv6(address.packed)


def site_of(address: int) -> int:
    """What counts as one place: the IPv4 address itself, or the /64 of an IPv6 address; 0: it came by a Unix socket."""
    if address & IPV4:
        return address
    return address & _SITE if address & IPV6 else 0


def text_of(address: int) -> str:
    """An address, or what counts as one place, as a person would write it."""
    if address & IPV4:
        return str(IPv4Address(address & _LOW_32))
    if not address & IPV6:
        return "unix"
    number = address ^ IPV6
    return str(IPv6Address(number))


def text_of_site(site: int) -> str:
    """What counts as one place, as a person would write it: `192.0.2.7`, `2001:db8::/64`."""
    return f"{text_of(site)}/{SITE_BITS}" if site & IPV6 else text_of(site)


class Networks:
    """Several networks, for the question whether an address is in one of them: a look-up for each length of prefix."""

    __slots__ = ("_by_mask",)

    def __init__(self, networks: Iterable[Network]) -> None:
        by_mask: dict[int, set[int]] = {}
        for network in networks:
            by_mask.setdefault(network.mask, set()).add(network.first)
        self._by_mask = tuple((mask, frozenset(firsts)) for mask, firsts in by_mask.items())

    @classmethod
    def of(cls, texts: Iterable[str] | None) -> "Networks":
        """Those of a setting.  Raises NotANetworkError."""
        return cls(map(parse_network, texts or ()))

    def __bool__(self) -> bool:
        return bool(self._by_mask)

    def __contains__(self, address: int) -> bool:
        for mask, firsts in self._by_mask:  # noqa: SIM110 - any() with a generator takes twice as long
            if address & mask in firsts:
                return True
        return False
