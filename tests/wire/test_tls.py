"""wire/tls.py: what is said by it, in both directions, to OpenSSL as a client; how it ends, and how it breaks."""

import itertools
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paceline.wire.tls import PIECE_BYTES, RECORD_BYTES, Tls
from splits import quick, split_at, splits
from tlsbed import BOTH, NAME, Client, Folder, shake_hands, speaking

both = pytest.mark.parametrize("version", BOTH, ids=["1.2", "1.3"])
Connect = Callable[..., tuple[Tls, Client]]


@pytest.fixture(scope="module")
def connect(tmp_path_factory: pytest.TempPathFactory) -> Connect:
    """A server and a client after their handshake."""
    files = Folder(tmp_path_factory.mktemp("certificates"))
    files.server("one.pem", NAME)
    context = files.context("one.pem")

    def connected(version: ssl.TLSVersion | None = None) -> tuple[Tls, Client]:
        tls, client = Tls(context), Client(speaking(version))
        shake_hands(tls, client)
        return tls, client

    return connected


def ways(length: int) -> list[list[int]]:
    """The sizes of the pieces in which so many bytes may arrive."""
    return [[len(piece) for piece in pieces] for pieces in splits(bytes(length))]


def cut(sealed: bytes, sizes: Sequence[int]) -> list[bytes]:
    return split_at(sealed, itertools.accumulate(sizes))


def opened(tls: Tls, pieces: Iterable[bytes]) -> bytes:
    return b"".join([tls.open(piece) for piece in pieces])


def is_fine(tls: Tls) -> bool:
    """There is nothing to do but to read on."""
    return not (tls.is_odd or tls.is_over or tls.error)


def damaged(record: bytes) -> bytes:
    return record[:-1] + bytes([record[-1] ^ 1])


AROUND = [size + by for size in (PIECE_BYTES, RECORD_BYTES, 2 * RECORD_BYTES) for by in (-1, 0, 1)]


@both
@pytest.mark.parametrize("size", [1, 2, 100, *AROUND, 1 << 16, 1 << 20])
def test_what_is_said_is_heard_in_both_directions(connect: Connect, version: ssl.TLSVersion, size: int) -> None:
    tls, client = connect(version)
    plain = bytes(itertools.islice(itertools.cycle(range(251)), size))
    assert tls.open(client.says(plain)) == plain
    assert is_fine(tls)
    sealed = tls.seal(plain)
    assert client.hears(sealed) == plain
    assert size < len(sealed) <= size + 30 * -(-size // PIECE_BYTES), "records of a piece each"
    assert tls.take_out() == b""
    assert is_fine(tls)


@both
def test_it_does_not_matter_how_records_arrive(connect: Connect, version: ssl.TLSVersion) -> None:
    """In all the ways of splits.py, one after the other on the same connection."""
    tls, client = connect(version)
    said = (b"one", b"two", b"three")
    sealed = client.says(*said)
    length = len(sealed)
    assert tls.open(sealed) == b"onetwothree", "several records at once"
    for sizes in ways(length):
        assert opened(tls, cut(client.says(*said), sizes)) == b"onetwothree", sizes
        assert is_fine(tls)


@both
def test_a_record_with_any_part_of_the_next(connect: Connect, version: ssl.TLSVersion) -> None:
    tls, client = connect(version)
    length = len(client.says(b"second"))
    tls, client = connect(version)
    for size in range(length):
        first, second = client.says(b"first"), client.says(b"second")
        assert tls.open(first + second[:size]) == b"first"
        assert is_fine(tls)
        assert tls.open(second[size:]) == b"second"
        assert is_fine(tls)


@both
def test_the_longest_record_byte_by_byte(connect: Connect, version: ssl.TLSVersion) -> None:
    tls, client = connect(version)
    sealed = client.says(bytes(RECORD_BYTES + 1))
    found = [plain for at in range(len(sealed)) if (plain := tls.open(sealed[at : at + 1]))]
    assert [len(plain) for plain in found] == [RECORD_BYTES, 1]
    assert is_fine(tls)


@quick
@given(st.lists(st.binary(max_size=40), max_size=8), st.lists(st.integers(0, 400), max_size=8), st.sampled_from(BOTH))
def test_any_messages_in_any_pieces(
    connect: Connect, messages: list[bytes], places: list[int], version: ssl.TLSVersion
) -> None:
    tls, client = connect(version)
    assert opened(tls, split_at(client.says(*messages), places)) == b"".join(messages)
    assert client.hears(b"".join([tls.seal(message) for message in messages])) == b"".join(messages)
    assert is_fine(tls)


def test_nothing_is_sealed_as_nothing(connect: Connect) -> None:
    tls, client = connect()
    assert tls.seal(b"") == b""
    assert tls.error is None
    assert client.hears(tls.seal(b"more")) == b"more"


def test_what_is_returned_are_bytes(connect: Connect) -> None:
    """Framings and sockets are given nothing else."""
    tls, client = connect()
    for size in (1, PIECE_BYTES, PIECE_BYTES + 1):
        assert type(tls.open(client.says(bytes(size)))) is bytes
        assert type(tls.seal(bytes(size))) is bytes


# The end


@both
@pytest.mark.parametrize("said", [(), (b"last",)])
def test_the_peers_end_in_all_the_ways_it_may_arrive(
    connect: Connect, version: ssl.TLSVersion, said: tuple[bytes, ...]
) -> None:
    tls, client = connect(version)
    length = len(client.says(*said) + client.ends())
    for sizes in ways(length):
        tls, client = connect(version)
        pieces = cut(client.says(*said) + client.ends(), sizes)
        assert opened(tls, pieces[:-1]) in (b"", *said)
        assert is_fine(tls)
        tls.open(pieces[-1])
        assert (tls.is_over, tls.is_odd, tls.error) == (True, True, None)


@both
def test_what_comes_with_the_end_is_returned(connect: Connect, version: ssl.TLSVersion) -> None:
    tls, client = connect(version)
    assert tls.open(client.says(b"one", b"two") + client.ends()) == b"onetwo"
    assert (tls.is_over, tls.is_odd, tls.error) == (True, True, None)


@both
@pytest.mark.parametrize("more", [b"x", b"\x17\x03\x03\0\x20", bytes(100), bytes(2 * PIECE_BYTES)])
def test_behind_the_peers_end_nothing_counts(connect: Connect, version: ssl.TLSVersion, more: bytes) -> None:
    tls, client = connect(version)
    assert tls.open(client.says(b"last") + client.ends() + more) == b"last"
    assert tls.open(more) == b""
    assert (tls.is_over, tls.error) == (True, None)


@both
def test_after_the_peers_end_it_is_still_told(connect: Connect, version: ssl.TLSVersion) -> None:
    tls, client = connect(version)
    sealed = client.says(b"question") + client.ends()
    assert tls.open(sealed) == b"question"
    assert client.hears(tls.seal(b"answer")) == b"answer"
    tls.end()
    assert tls.is_ended
    assert tls.error is None


@both
def test_our_end_is_said_once(connect: Connect, version: ssl.TLSVersion) -> None:
    tls, client = connect(version)
    reply, end = tls.seal(b"last"), tls.end()
    assert end
    assert tls.is_ended
    assert tls.end() == b""
    assert client.hears(reply + end) == b"last"
    assert client.stream.read(1) == b"", "it is the end, for the client"


@both
def test_after_our_end_the_peer_is_still_heard_until_its_own(connect: Connect, version: ssl.TLSVersion) -> None:
    tls, client = connect(version)
    client.hears(tls.end())
    assert tls.open(client.says(b"one")) == b"one"
    assert is_fine(tls)
    assert tls.open(client.says(b"two") + client.ends()) == b"two"
    assert (tls.is_over, tls.is_odd, tls.error) == (True, True, None)
    assert tls.open(b"") == b""
    assert (tls.is_over, tls.error) == (True, None)


@both
def test_after_our_end_nothing_is_said(connect: Connect, version: ssl.TLSVersion) -> None:
    tls, _client = connect(version)
    tls.end()
    assert tls.seal(b"more") == b""
    assert str(tls.error) == "TLS: protocol is shutdown"


@both
def test_a_truncation_is_no_end(connect: Connect, version: ssl.TLSVersion) -> None:
    """At whichever byte: what is whole is returned, and only close_notify is the end."""
    tls, client = connect(version)
    one, two = (len(client.says(said)) for said in (b"one", b"two"))
    length = one + two + len(client.ends())
    for size in range(length):
        tls, client = connect(version)
        sealed = client.says(b"one", b"two") + client.ends()
        assert tls.open(sealed[:size]) == b"one" * (size >= one) + b"two" * (size >= one + two)
        assert is_fine(tls)


# What is broken


@both
@pytest.mark.parametrize(
    ("garbage", "why"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "wrong version number"),
        (b"\x80\x80" * 20, "wrong version number"),
        (b"\x17\x02\0\0\x20" + bytes(32), "wrong version number"),
        (b"\x17\x03\x03\xff\xff" + bytes(100), "packet length too long"),
        (b"\x17\x03\x03\0\x20" + bytes(32), "decryption failed or bad record mac"),
    ],
)
def test_no_record_behind_good_ones(connect: Connect, version: ssl.TLSVersion, garbage: bytes, why: str) -> None:
    """What was decrypted before it is returned, the peer is told, and nothing follows."""
    for before in ((), (b"one", b"two"), (bytes(RECORD_BYTES),)):
        tls, client = connect(version)
        assert tls.open(client.says(*before) + garbage) == b"".join(before)
        assert (tls.is_odd, tls.is_over) == (True, False)
        assert str(tls.error) == f"TLS: {why}"
        assert tls.take_out(), "an alert"


@both
def test_a_damaged_record(connect: Connect, version: ssl.TLSVersion) -> None:
    tls, client = connect(version)
    sealed = client.says(b"good") + damaged(client.says(b"bad"))
    assert tls.open(sealed) == b"good"
    assert str(tls.error) == "TLS: decryption failed or bad record mac"
    with pytest.raises(ssl.SSLError, match=r"(?i)bad.record.mac"):
        client.hears(tls.take_out())


@both
def test_a_damaged_record_in_all_the_ways_it_may_arrive(connect: Connect, version: ssl.TLSVersion) -> None:
    tls, client = connect(version)
    length = len(client.says(b"good", b"bad"))
    for sizes in ways(length):
        tls, client = connect(version)
        pieces = cut(damaged(client.says(b"good", b"bad")), sizes)
        assert opened(tls, pieces) == b"good"
        assert str(tls.error) == "TLS: decryption failed or bad record mac"
        assert tls.is_odd


@both
@pytest.mark.parametrize("size", [1, 3 * PIECE_BYTES])
def test_after_an_error_nothing_is_understood_or_said(connect: Connect, version: ssl.TLSVersion, size: int) -> None:
    tls, client = connect(version)
    good = client.says(b"good")
    tls.open(damaged(client.says(b"bad")))
    error = tls.error
    tls.take_out()
    for received in (good, client.says(bytes(size)), client.ends(), b"", bytes(size)):
        assert tls.open(received) == b""
        assert (tls.is_odd, tls.is_over) == (True, False)
    assert tls.seal(bytes(size)) == b""
    assert tls.end() == b""
    assert tls.is_ended
    assert tls.error is error, "the first one"


@both
def test_a_record_that_comes_again_is_none(connect: Connect, version: ssl.TLSVersion) -> None:
    tls, client = connect(version)
    sealed = client.says(b"once")
    assert tls.open(sealed + sealed) == b"once"
    assert str(tls.error) == "TLS: decryption failed or bad record mac"


@both
def test_an_error_of_the_peer_is_said_by_its_name(connect: Connect, version: ssl.TLSVersion) -> None:
    tls, client = connect(version)
    with pytest.raises(ssl.SSLError):
        client.hears(damaged(tls.seal(b"reply")))
    alert = client.outgoing.read()
    assert alert
    assert tls.open(alert) == b""
    assert "bad record mac" in str(tls.error)
    assert tls.is_odd


# Memory


class Counting:
    """A BIO that notes the most that lay in it."""

    def __init__(self, bio: ssl.MemoryBIO) -> None:
        self.bio = bio
        self.most = 0

    def write(self, given: bytes) -> int:
        written = self.bio.write(given)
        self.most = max(self.most, self.bio.pending)
        return written

    def read(self) -> bytes:
        self.most = max(self.most, self.bio.pending)
        return self.bio.read()

    @property
    def pending(self) -> int:
        return self.bio.pending


@both
def test_nothing_larger_than_a_piece_lies_in_a_bio(connect: Connect, version: ssl.TLSVersion) -> None:
    tls, client = connect(version)
    incoming, outgoing = Counting(tls._incoming), Counting(tls._outgoing)
    tls._incoming, tls._outgoing = incoming, outgoing  # type: ignore[assignment]
    large = bytes(1 << 20)
    assert tls.open(client.says(large)) == large
    assert client.hears(tls.seal(large)) == large
    assert incoming.most == PIECE_BYTES
    assert PIECE_BYTES < outgoing.most <= PIECE_BYTES + 29, "what a record adds"
    assert incoming.pending == outgoing.pending == 0


def test_a_quiet_connection_keeps_little() -> None:
    """Of 300, with a MiB through each in both directions; in a process of its own, whose memory nobody else uses."""
    done = subprocess.run(
        [sys.executable, "-c", KEPT, *(path for path in sys.path if path)], capture_output=True, text=True, timeout=50
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < MOST_KEPT_BYTES


MOST_KEPT_BYTES = 80 * 1024
"""It is 37 KB; with a BIO that once held 64 KiB it would be 100 more."""
KEPT = """
import gc, os, sys, tempfile
from pathlib import Path
sys.path[:0] = sys.argv[1:]
from tlsbed import NAME, Client, Folder, shake_hands, speaking
from paceline.wire.tls import Tls

def resident():
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

def used():
    tls, client = Tls(context), Client(theirs)
    shake_hands(tls, client)
    for _ in range(16):
        tls.open(client.says(large))
        client.hears(tls.seal(large))
    return tls

with tempfile.TemporaryDirectory() as folder:
    files = Folder(Path(folder))
    files.server("one.pem", NAME)
    context, theirs, large = files.context("one.pem"), speaking(), bytes(1 << 16)
    used(), used()
    before = resident()
    kept = [used() for _ in range(300)]
    print((resident() - before) // len(kept))
"""
