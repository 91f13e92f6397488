"""bench/places.py: an address as connect(2) wants it."""

import socket

import pytest

from paceline.addresses import Address, parse_address
from paceline.bench.places import place_of
from paceline.errors import ConnectFailed, UsageError
from paceline.host.dialing import dial


@pytest.mark.parametrize(
    ("text", "family", "place"),
    [
        ("127.0.0.1:80", socket.AF_INET, ("127.0.0.1", 80)),
        (":80", socket.AF_INET, ("127.0.0.1", 80)),
        ("localhost:80", socket.AF_INET, ("127.0.0.1", 80)),
        ("[::1]:80", socket.AF_INET6, ("::1", 80, 0, 0)),
        ("unix:/run/x", socket.AF_UNIX, "/run/x"),
    ],
)
def test_places(text: str, family: int, place: object) -> None:
    assert place_of(parse_address(text)) == (family, place)


def test_a_name_that_nobody_knows() -> None:
    with pytest.raises(ConnectFailed, match=r"cannot connect to no-such-host\.invalid:80: the host 'no-such-host"):
        place_of(parse_address("no-such-host.invalid:80"))


@pytest.mark.parametrize("host", ["a" * 64 + ".invalid", "a\0b"])
def test_what_cannot_be_a_name_is_told_as_by_every_client(host: str) -> None:
    address = Address("tcp", host=host, port=80)
    with pytest.raises(ConnectFailed, match="is not known; is it spelled right") as ours:
        place_of(address)
    with pytest.raises(ConnectFailed) as theirs:
        dial(address, 1.0)
    assert str(ours.value) == str(theirs.value)


@pytest.mark.parametrize("text", ["fd://3", "127.0.0.1:0"])
def test_what_nobody_can_connect_to(text: str) -> None:
    with pytest.raises(UsageError, match=r"bench connects to|nobody listens on port 0"):
        place_of(parse_address(text))
