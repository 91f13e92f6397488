"""bench/troubles.py: every kind has a meaning, every errno a kind."""

import errno

import pytest

from paceline.bench.troubles import CONNECTING, MEANINGS, OURS, Kind, of_broken, of_connecting, of_traffic
from paceline.errors import BadFrame, MessageTooLarge, PeerError, Truncated


def test_every_kind_has_a_meaning_and_a_unit() -> None:
    assert set(MEANINGS) == set(Kind)
    assert {meaning.unit for meaning in MEANINGS.values()} == {"connections", "messages"}
    assert OURS <= CONNECTING


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ECONNREFUSED, Kind.REFUSED),
        (errno.ENOENT, Kind.REFUSED),
        (errno.EMFILE, Kind.NO_DESCRIPTORS),
        (errno.ENFILE, Kind.NO_DESCRIPTORS),
        (errno.EADDRNOTAVAIL, Kind.NO_PORTS),
        (errno.ETIMEDOUT, Kind.CONNECT_TIMEOUT),
        (errno.EHOSTUNREACH, Kind.UNREACHABLE),
        (errno.EACCES, Kind.UNREACHABLE),
        (0, Kind.UNREACHABLE),
    ],
)
def test_of_connecting(number: int, kind: Kind) -> None:
    assert of_connecting(number) is kind


@pytest.mark.parametrize(
    ("number", "kind"),
    [(errno.EPIPE, Kind.CLOSED), (errno.ECONNRESET, Kind.RESET), (errno.ETIMEDOUT, Kind.TIMEOUT)],
)
def test_of_traffic(number: int, kind: Kind) -> None:
    assert of_traffic(number) is kind


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (MessageTooLarge("x"), Kind.TOO_LARGE),
        (BadFrame("x"), Kind.FRAMING),
        (Truncated("x"), Kind.TRUNCATED),
        (PeerError("x"), Kind.FRAMING),
    ],
)
def test_of_broken(error: PeerError, kind: Kind) -> None:
    assert of_broken(error) is kind
