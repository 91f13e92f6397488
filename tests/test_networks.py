"""networks.py: what is a network, what was probably meant, and which address is in which network."""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paceline.errors import SettingError
from paceline.networks import (
    IPV4,
    IPV6,
    UNIX,
    Networks,
    NotANetworkError,
    of_ipv4,
    of_ipv6,
    of_text,
    parse_network,
    site_of,
    text_of,
    text_of_site,
)


def number(text: str) -> int:
    """The address as accept(2) would bring it."""
    if text == "unix":
        return UNIX
    address = ip_address(text)
    return of_ipv4(address.packed) if isinstance(address, IPv4Address) else of_ipv6(address.packed)


def networks(*texts: str) -> Networks:
    return Networks(map(parse_network, texts))


@pytest.mark.parametrize(
    ("written", "text"),
    [
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("10.0.0.0/08", "10.0.0.0/8"),
        (" 192.0.2.7 ", "192.0.2.7"),
        ("192.0.2.7/32", "192.0.2.7"),
        ("0.0.0.0/0", "0.0.0.0/0"),
        ("::1", "::1"),
        ("2001:DB8:0::/32", "2001:db8::/32"),
        ("::/0", "::/0"),
        ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("::ffff:0:0/96", "0.0.0.0/0"),
        ("unix", "unix"),
        ("UNIX", "unix"),
    ],
)
def test_a_network_is_read(written: str, text: str) -> None:
    network = parse_network(written)
    assert network.text == text
    assert parse_network(text) == network


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("10.0.0.1/8", "10.0.0.0/8"),
        ("2001:db8::7/32", "2001:db8::/32"),
        ("::ffff:10.0.0.1/104", "10.0.0.0/8"),
        ("10.0.0.0/33", "10.0.0.0"),
        ("::1/129", "::1"),
        ("::1/999", "::1"),
        ("10/8", "10.0.0.0/8"),
        ("192.168/16", "192.168.0.0/16"),
        ("10.*", "10.0.0.0/8"),
        ("192.168.*.*", "192.168.0.0/16"),
        ("10.0.0.0/255.0.0.0", "10.0.0.0/8"),
        ("10.0.0.0 /8", "10.0.0.0/8"),
        ("10.0.0.0/", "10.0.0.0"),
        ("[::1]", "::1"),
        ("[2001:db8::]/32", "2001:db8::/32"),
        ("fe80::1%eth0", "fe80::1"),
        ("localhost", "127.0.0.1"),
        ("all", "0.0.0.0/0"),
        ("*", "0.0.0.0/0"),
        ("unix:/run/app.sock", "unix"),
        ("", ""),
        ("/", ""),
        ("10.1", ""),
        ("010.0.0.1", ""),
        ("10.0.0.1-10.0.0.9", ""),
        ("example.org", ""),
        ("1" * 5000, ""),
        ("::1/" + "1" * 5000, "::1"),
        ("\N{ARABIC-INDIC DIGIT ONE}.0.0.0/8", ""),
    ],
)
def test_what_is_none_is_refused_with_what_was_probably_meant(written: str, meant: str) -> None:
    with pytest.raises(NotANetworkError) as caught:
        parse_network(written)
    assert caught.value.nearest == meant
    assert isinstance(caught.value, SettingError)
    assert meant in str(caught.value)
    if meant:
        parse_network(meant)


def test_bits_behind_the_prefix_are_said_to_be_that() -> None:
    with pytest.raises(NotANetworkError, match=r"no bits set behind its prefix, or 10\.0\.0\.1 alone, for one address"):
        parse_network("10.0.0.1/8")


@given(st.text(max_size=40) | st.from_regex(r"[0-9a-f.:]{1,20}/[0-9]{0,4}", fullmatch=True))
def test_any_text_is_a_network_or_refused_and_what_is_offered_instead_is_one(text: str) -> None:
    try:
        right = parse_network(text).text
    except NotANetworkError as wrong:
        right = wrong.nearest
    assert not right or parse_network(right).text == right


@pytest.mark.parametrize(
    ("inside", "outside", "of"),
    [
        ("10.255.0.1", "11.0.0.1", "10.0.0.0/8"),
        ("::ffff:10.1.2.3", "::ffff:11.1.2.3", "10.0.0.0/8"),
        ("10.1.2.3", "11.1.2.3", "::ffff:10.0.0.0/104"),
        ("0.0.0.0", "::", "0.0.0.0/0"),
        ("::1", "127.0.0.1", "::/0"),
        ("::1", "::ffff:127.0.0.1", "::/0"),
        ("::1", "0.0.0.1", "::1"),
        ("2001:db8:ffff::1", "2001:db9::1", "2001:db8::/32"),
        ("unix", "::", "unix"),
        ("unix", "0.0.0.0", "unix"),
        ("0.0.0.0", "unix", "0.0.0.0/0"),
        ("::", "unix", "::/0"),
    ],
)
def test_an_address_is_in_a_network_or_not(inside: str, outside: str, of: str) -> None:
    assert number(inside) in networks(of)
    assert number(outside) not in networks(of)


def test_of_several_networks_one_is_enough() -> None:
    several = networks("10.0.0.0/8", "192.0.2.7", "192.0.2.9", "2001:db8::/32", "unix")
    assert all(number(text) in several for text in ("10.9.9.9", "192.0.2.7", "192.0.2.9", "2001:db8::9", "unix"))
    assert not any(number(text) in several for text in ("192.0.2.8", "2001:db7::9"))
    assert several
    assert not networks()
    assert number("::1") not in networks()


addresses = st.ip_addresses() | st.integers(0, 2**32 - 1).map(lambda bits: IPv6Address(0xFFFF << 32 | bits))


@st.composite
def some_networks(draw: st.DrawFn) -> list[IPv4Network | IPv6Network]:
    """Networks that often hold each other's addresses."""
    found = draw(st.lists(st.tuples(addresses, st.integers(0, 128)), max_size=6))
    return [ip_network(f"{address}/{min(bits, address.max_prefixlen)}", strict=False) for address, bits in found]


@given(some_networks(), addresses, st.data())
def test_the_standard_library_finds_the_same(
    given_: list[IPv4Network | IPv6Network], address: IPv4Address | IPv6Address, choices: st.DataObject
) -> None:
    goes_near = choices.draw(st.booleans())
    if given_ and goes_near:
        near = given_[choices.draw(st.integers(0, len(given_) - 1))]
        address = near[choices.draw(st.integers(0, min(2**40, near.num_addresses - 1)))]

    def plain(one: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
        return (one.ipv4_mapped or one) if isinstance(one, IPv6Address) else one

    def holds(network: IPv4Network | IPv6Network) -> bool:
        mapped = isinstance(network, IPv6Network) and network.subnet_of(IPv6Network("::ffff:0:0/96"))
        if mapped:
            network = IPv4Network((int(network.network_address) & 0xFFFFFFFF, network.prefixlen - 96))
        return plain(address) in network

    assert (number(str(address)) in networks(*map(str, given_))) == any(map(holds, given_))


@pytest.mark.parametrize(
    ("address", "text", "site"),
    [
        ("192.0.2.7", "192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("::1", "::1", "::/64"),
        ("unix", "unix", "unix"),
    ],
)
def test_what_counts_as_one_place(address: str, text: str, site: str) -> None:
    found = number(address)
    assert text_of(found) == text
    assert text_of_site(site_of(found)) == site


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
def test_machines_of_one_subnet_are_one_place(subnet: int, one: int, other: int) -> None:
    sites = {site_of(IPV6 | subnet << 64 | machine) for machine in (one, other)}
    assert len(sites) == 1
    assert site_of(IPV6 | (subnet ^ 1) << 64 | one) not in sites


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
def test_each_ipv4_address_is_a_place_of_its_own(one: int, other: int) -> None:
    assert (site_of(IPV4 | one) == site_of(IPV4 | other)) == (one == other)
    assert site_of(IPV4 | one)


def test_a_unix_socket_is_no_place() -> None:
    assert site_of(UNIX) == 0


@pytest.mark.parametrize(
    ("peer", "number"),
    [
        ("192.0.2.7:50312", of_ipv4(IPv4Address("192.0.2.7").packed)),
        ("[2001:db8::7]:1", of_ipv6(IPv6Address("2001:db8::7").packed)),
        ("[fe80::1%eth0]:1", of_ipv6(IPv6Address("fe80::1").packed)),
        ("[::ffff:192.0.2.7]:1", of_ipv4(IPv4Address("192.0.2.7").packed)),
        ("unix pid 5 uid 0", UNIX),
        ("", UNIX),
        ("a peer that is gone", UNIX),
        ("[]:7", UNIX),
        ("300.0.0.1:7", UNIX),
    ],
)
def test_the_address_of_a_peer_that_was_noted_as_text(peer: str, number: int) -> None:
    assert of_text(peer) == number
