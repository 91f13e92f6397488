"""wire/tls.py: what only TLS itself says, in records that OpenSSL as a client would not write."""

import itertools
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest

from paceline.wire.tls import Tls
from splits import split_at, splits
from tlsbed import NAME, Client, Folder, OldRecords, Records, shake_hands, speaking

Connect = Callable[[ssl.TLSVersion], tuple[Tls, Client]]


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """Where the client's OpenSSL notes its secrets."""
    return tmp_path / "keys"


@pytest.fixture
def connect(tmp_path: Path, keys: Path) -> Connect:
    """A server and a client after their handshake."""
    files = Folder(tmp_path)
    files.server("one.pem", NAME)
    context = files.context("one.pem")

    def connected(version: ssl.TLSVersion) -> tuple[Tls, Client]:
        theirs = speaking(version)
        theirs.keylog_filename = str(keys)
        tls, client = Tls(context), Client(theirs)
        shake_hands(tls, client)
        return tls, client

    return connected


def is_fine(tls: Tls) -> bool:
    """There is nothing to do but to read on."""
    return not (tls.is_odd or tls.is_over or tls.error)


def test_the_peer_takes_new_keys(connect: Connect, keys: Path) -> None:
    tls, _client = connect(ssl.TLSVersion.TLSv1_3)
    theirs = Records(keys)
    assert tls.session.cipher == theirs.CIPHER
    assert tls.open(theirs.record(theirs.DATA, b"one")) == b"one"
    assert tls.open(theirs.key_update(asked=False)) == b""
    assert is_fine(tls)
    assert tls.open(theirs.record(theirs.DATA, b"two")) == b"two"
    assert is_fine(tls)


def test_the_peer_asks_for_new_keys(connect: Connect, keys: Path) -> None:
    """The answer has time until something is said (RFC 8446, section 4.6.3), and goes along with that."""
    tls, client = connect(ssl.TLSVersion.TLSv1_3)
    theirs = Records(keys)
    before = tls.seal(b"before")
    records = theirs.record(theirs.DATA, b"one") + theirs.key_update(asked=True) + theirs.record(theirs.DATA, b"two")
    assert tls.open(records) == b"onetwo"
    assert client.hears(before + tls.take_out() + tls.seal(b"after")) == b"beforeafter"
    assert tls.open(theirs.record(theirs.DATA, b"three")) == b"three"
    assert is_fine(tls)


def test_who_asks_again_is_answered_again_and_no_more(connect: Connect, keys: Path) -> None:
    tls, client = connect(ssl.TLSVersion.TLSv1_3)
    theirs = Records(keys)
    for _ in range(10):
        asked = b"".join([theirs.key_update(asked=True) for _ in range(100)])
        assert tls.open(asked) == b""
        assert (tls.is_odd, tls.is_over, tls.error) == (True, False, None)
        answer = tls.take_out()
        assert len(answer) <= len(asked)
        assert client.hears(answer) == b""
    assert client.hears(tls.seal(b"here")) == b"here"
    assert tls.open(theirs.record(theirs.DATA, b"one")) == b"one"
    assert is_fine(tls)


def test_the_question_for_new_keys_in_all_the_ways_it_may_arrive(connect: Connect, keys: Path) -> None:
    tls, client = connect(ssl.TLSVersion.TLSv1_3)
    theirs = Records(keys)
    length = 2 * len(theirs.record(theirs.DATA, b"one")) + len(theirs.key_update(asked=True))
    tls, client = connect(ssl.TLSVersion.TLSv1_3)
    theirs = Records(keys)
    for pieces in splits(bytes(length)):
        one = theirs.record(theirs.DATA, b"one") + theirs.key_update(asked=True) + theirs.record(theirs.DATA, b"two")
        same = split_at(one, itertools.accumulate(len(piece) for piece in pieces))
        assert b"".join([tls.open(piece) for piece in same]) == b"onetwo"
        assert client.hears(tls.seal(b"reply")) == b"reply"
    assert tls.error is None


def test_records_without_anything_in_them_are_nothing(connect: Connect, keys: Path) -> None:
    """They are allowed, with any padding (RFC 8446, section 5.4); only not without end."""
    tls, _client = connect(ssl.TLSVersion.TLSv1_3)
    theirs = Records(keys)
    empty = b"".join(theirs.record(theirs.DATA, b"", padding) for padding in (0, 1, 1000))
    assert tls.open(empty) == b""
    assert is_fine(tls)
    assert tls.open(theirs.record(theirs.DATA, b"one", padding=5000)) == b"one"
    assert is_fine(tls)


def test_half_a_question_for_new_keys_is_none_yet(connect: Connect, keys: Path) -> None:
    """Messages of a handshake may be cut into records (RFC 8446, section 5.1); data may not come between them."""
    tls, _client = connect(ssl.TLSVersion.TLSv1_3)
    theirs = Records(keys)
    assert tls.open(theirs.record(theirs.HANDSHAKE, theirs.KEY_UPDATE[:2])) == b""
    assert is_fine(tls)
    assert tls.open(theirs.record(theirs.DATA, b"one")) == b""
    assert tls.error is not None


def test_what_is_no_message_of_a_handshake_breaks_it(connect: Connect, keys: Path) -> None:
    tls, _client = connect(ssl.TLSVersion.TLSv1_3)
    theirs = Records(keys)
    assert tls.open(theirs.record(theirs.DATA, b"one") + theirs.record(theirs.HANDSHAKE, b"\1\0\0\0")) == b"one"
    assert str(tls.error) == "TLS: unexpected message"


def test_the_peer_wants_a_new_handshake_and_gets_none(connect: Connect, keys: Path) -> None:
    """In TLS 1.2; it would cost us far more than the peer (CVE-2011-1473).  It hears so, and we go on."""
    tls, client = connect(ssl.TLSVersion.TLSv1_2)
    theirs = OldRecords(keys, client.heard)
    assert tls.session.cipher == theirs.CIPHER
    assert tls.open(theirs.record(theirs.DATA, b"one")) == b"one"
    warnings = b""
    for _ in range(3):
        again = theirs.record(theirs.HANDSHAKE, client.greeting)
        assert tls.open(again) == b""
        assert (tls.is_odd, tls.is_over, tls.error) == (True, False, None)
        warnings += tls.take_out()
        assert tls.open(theirs.record(theirs.DATA, b"more")) == b"more"
        assert is_fine(tls)
    with pytest.raises(ssl.SSLError, match=r"(?i)no.renegotiation"):
        client.hears(warnings)
