"""wire/proxy.py: headers of both versions, whole and in pieces; whatever is none is refused at once."""

import struct
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paceline.wire.proxy import LONGEST, LONGEST_LINE, SIGNATURE, Header, NoHeader, parse


def binary(command: int, family: int, addresses: bytes, more: bytes = b"") -> bytes:
    return SIGNATURE + struct.pack("!BBH", command, family, len(addresses) + len(more)) + addresses + more


def tcp4(source: str, port: int, more: bytes = b"") -> bytes:
    packed = IPv4Address(source).packed + IPv4Address("198.51.100.1").packed + struct.pack("!HH", port, 443)
    return binary(0x21, 0x11, packed, more)


def tcp6(source: str, port: int) -> bytes:
    packed = IPv6Address(source).packed + IPv6Address("2001:db8::1").packed + struct.pack("!HH", port, 443)
    return binary(0x21, 0x21, packed)


FULL = b":".join([b"ffff"] * 8)
WHOLE = [
    (b"PROXY TCP4 192.0.2.7 198.51.100.1 50312 443\r\n", "192.0.2.7:50312"),
    (b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", "255.255.255.255:65535"),
    (b"PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n", "0.0.0.0:0"),
    (b"PROXY TCP6 2001:db8::7 2001:db8::1 50312 443\r\n", "[2001:db8::7]:50312"),
    (b"PROXY TCP6 ::ffff:192.0.2.7 ::1 50312 443\r\n", "192.0.2.7:50312"),
    (b"PROXY TCP6 " + FULL + b" " + FULL + b" 65535 65535\r\n", f"[{FULL.decode()}]:65535"),
    (b"PROXY UNKNOWN\r\n", ""),
    (b"PROXY UNKNOWN ffff:f...f:ffff 65535 whatever\r\n", ""),
    (tcp4("192.0.2.7", 50312), "192.0.2.7:50312"),
    (tcp4("192.0.2.7", 50312, b"\x03\0\4abcd" * 9), "192.0.2.7:50312"),
    (tcp6("2001:db8::7", 1), "[2001:db8::7]:1"),
    (tcp6("::ffff:192.0.2.7", 1), "192.0.2.7:1"),
    (binary(0x20, 0x00, b""), ""),
    (binary(0x20, 0x11, b"\0" * 12), ""),
    (binary(0x21, 0x00, b"anything"), ""),
    (binary(0x21, 0x31, b"/a/socket".ljust(216, b"\0")), ""),
    (binary(0x21, 0x12, b"\0" * 12), ""),
]  # fmt: skip


@pytest.mark.parametrize(("header", "source"), WHOLE)
def test_a_header_is_read_however_it_arrives(header: bytes, source: str) -> None:
    assert parse(header) == Header(len(header), source)
    assert parse(header + b"GET / HTTP/1.1\r\n") == Header(len(header), source)
    for cut in range(len(header)):
        assert parse(header[:cut]) is None, "more is to come"


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"GET / HTTP/1.1\r\n", "it begins with b'GET / HTTP/1"),
        (b"\x16\x03\x01\x02\x00", "which is no header"),
        (b"PROXX", "which is no header"),
        (b"PROXYTCP4 ", "which is no header"),
        (b"\r\n\r\n\0\r\nQUIX", "which is no header"),
        (b"proxy TCP4", "which is no header"),
        (b"PROXY \r\n", "is not as version 1 has it"),
        (b"PROXY UNKNOWNX\r\n", "is not as version 1 has it"),
        (b"PROXY TCP5 192.0.2.7 198.51.100.1 50312 443\r\n", "is not as version 1 has it"),
        (b"PROXY TCP4 192.0.2.7 198.51.100.1 50312\r\n", "is not as version 1 has it"),
        (b"PROXY TCP4  192.0.2.7 198.51.100.1 50312 443\r\n", "is not as version 1 has it"),
        (b"PROXY TCP4 192.0.2.7 198.51.100.1 050312 443\r\n", "is not as version 1 has it"),
        (b"PROXY TCP4 192.0.2.7 198.51.100.1 +5031 443\r\n", "is not as version 1 has it"),
        (b"PROXY TCP4 192.0.2.7 198.51.100.1 5_1 443\r\n", "is not as version 1 has it"),
        ("PROXY TCP4 192.0.2.7 198.51.100.1 \u0661 443\r\n".encode(), "is not as version 1 has it"),
        (b"PROXY TCP4 192.0.2.7 198.51.100.1 99999 443\r\n", "there is no such port"),
        (b"PROXY TCP4 192.0.2.7 198.51.100.1 1 65536\r\n", "there is no such port"),
        (b"PROXY TCP4 192.0.2.256 198.51.100.1 1 1\r\n", "192.0.2.256"),
        (b"PROXY TCP4 192.0.02.7 198.51.100.1 1 1\r\n", "eading zeros"),
        (b"PROXY TCP4 2001:db8::7 198.51.100.1 1 1\r\n", "2001:db8::7"),
        (b"PROXY TCP6 192.0.2.7 ::1 1 1\r\n", "192.0.2.7"),
        (b"PROXY TCP4 192.0.2.7 198.51.100.300 1 1\r\n", "198.51.100.300"),
        (b"PROXY UNKNOWN " + b"x" * 93 + b"\r\n", f"has no end within {LONGEST_LINE} bytes"),
        (b"PROXY TCP4 " + b"1" * 200, f"has no end within {LONGEST_LINE} bytes"),
        (binary(0x11, 0x11, b"\0" * 12), "version and command 0x11"),
        (binary(0x2F, 0x11, b"\0" * 12), "version and command 0x2f"),
        (binary(0x21, 0x11, b"\0" * 11), "has 11 bytes for addresses of 12"),
        (binary(0x21, 0x21, b"\0" * 12), "has 12 bytes for addresses of 36"),
        (binary(0x21, 0x11, b"\0" * 12, b"x" * LONGEST), f"more than {LONGEST:,}"),
    ],
)
def test_whatever_is_none_is_refused_with_the_reason(data: bytes, said: str) -> None:
    with pytest.raises(NoHeader) as caught:
        parse(data)
    assert said in str(caught.value)


def test_the_longest_line_that_is_allowed_is_read() -> None:
    line = b"PROXY UNKNOWN ".ljust(LONGEST_LINE - 2, b"x") + b"\r\n"
    assert parse(line) == Header(LONGEST_LINE, "")


@given(st.binary(max_size=200))
def test_no_bytes_make_it_fail_otherwise(data: bytes) -> None:
    try:
        found = parse(data)
    except NoHeader:
        return
    assert found is None or 0 < found.length <= len(data)


@given(st.sampled_from([header for header, _ in WHOLE]), st.integers(0, 250), st.integers(0, 255))
def test_a_byte_that_is_changed_never_makes_it_longer_than_what_has_arrived(header: bytes, at: int, byte: int) -> None:
    changed = bytearray(header)
    changed[at % len(changed)] = byte
    try:
        found = parse(bytes(changed))
    except NoHeader:
        return
    assert found is None or found.length <= len(changed)


@given(st.ip_addresses(v=4), st.integers(0, 65535))
def test_both_versions_say_the_same(address: IPv4Address, port: int) -> None:
    line = parse(f"PROXY TCP4 {address} 198.51.100.1 {port} 443\r\n".encode())
    other = parse(tcp4(str(address), port))
    assert line is not None
    assert other is not None
    assert line.source == other.source == f"{address}:{port}"
