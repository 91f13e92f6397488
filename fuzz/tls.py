"""TLS: whatever comes, in the handshake or behind it, is what the peer has said and in that order, or a TlsError.

The first byte says what the others are: the beginning of a connection as it stands there, or steps of three bytes each
for a client of OpenSSL's, whose records and handshakes are damaged, cut, repeated and mixed with others on their way.
"""

import contextlib
import ssl
import tempfile
from collections.abc import Iterable
from pathlib import Path

import trustme
from fuzzing import run

from paceline.host.certificates import Certificates, Wanted, hush_strange_names
from paceline.wire.tls import PIECE_BYTES, Stream, Tls, TlsError

MOST_SAID_BYTES = 4096
"""What OpenSSL has to say by itself, to a single piece: its part of a handshake is most of it."""

MOST_STEPS = 10

Step = tuple[int, int, int]


def our_context() -> ssl.SSLContext:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "one.pem"
        trustme.CA().issue_cert("one.test").private_key_and_cert_chain_pem.write_to_path(path)
        return Certificates(Wanted((str(path),), alpn=("h2",)), Stream).context


def their_context(version: ssl.TLSVersion) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.minimum_version = context.maximum_version = version
    return context


class Client:
    """One connection's, of the other side.  `session`: from an earlier one, so that the handshake costs little."""

    def __init__(self, context: ssl.SSLContext, session: ssl.SSLSession | None = None) -> None:
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.stream = context.wrap_bio(self.incoming, self.outgoing, server_hostname="one.test", session=session)
        self.is_done = self.is_ended = False

    def shake(self, received: bytes) -> bytes:
        self.incoming.write(received)
        try:
            self.stream.do_handshake()
            self.is_done = True
        except ssl.SSLError:  # it waits, or has had enough
            pass
        return self.outgoing.read()

    def says(self, plain: bytes) -> bytes:
        self.stream.write(plain)
        return self.outgoing.read()

    def ends(self) -> bytes:
        self.is_ended = True
        with contextlib.suppress(ssl.SSLError):
            self.stream.unwrap()
        return self.outgoing.read()


OURS = our_context()
OLD, NEW = their_context(ssl.TLSVersion.TLSv1_2), their_context(ssl.TLSVersion.TLSv1_3)


def shake(tls: Tls, piece: bytes) -> bool:
    """As a worker would, and what holds after it."""
    is_done = tls.shake(piece)
    assert is_done or not tls._incoming.pending, "something was left lying"
    assert tls._outgoing.pending <= MOST_SAID_BYTES
    assert tls.error is None
    return is_done


def shake_hands(client: Client) -> Tls:
    tls, said, is_done = Tls(OURS), client.shake(b""), False
    while not (is_done and client.is_done):
        is_done = shake(tls, said)
        said = client.shake(tls.take_out())
    return tls


def session_of(context: ssl.SSLContext) -> ssl.SSLSession | None:
    client = Client(context)
    shake_hands(client)
    return client.stream.session


SESSION = session_of(OLD)


def pieces_of(data: bytes, size: int) -> Iterable[bytes]:
    return (data[at : at + size] for at in range(0, len(data), size))


def damaged(said: bytearray, step: Step) -> None:
    """What may happen to bytes on their way."""
    what, where, value = step
    at = where * len(said) // 256
    match what % 4:
        case 0:
            if said:
                said[at] ^= value
        case 1:
            del said[at : at + value]
        case 2:
            said += said[at : at + value]
        case 3:
            said[at:at] = bytes((20 + what % 5, 3, value % 5, 0, value % 40))


def check_greeting(data: bytes) -> None:
    """Bytes as they are, as the first ones of a connection; the client does not go on."""
    size = data[0] % 32 or PIECE_BYTES if data else 1
    tls = Tls(OURS)
    try:
        assert not any(shake(tls, piece) for piece in pieces_of(data[1:], size))
    except TlsError:
        assert tls._outgoing.pending <= MOST_SAID_BYTES


def check_handshake(steps: list[Step], client: Client) -> None:
    """Each of the client's parts meets one of the steps."""
    tls, is_done = Tls(OURS), False
    said = client.shake(b"")
    for step in steps:
        part = bytearray(said)
        damaged(part, step)
        try:
            for piece in pieces_of(bytes(part[:PIECE_BYTES]), step[2] + 1):
                if is_done:
                    break
                is_done = shake(tls, piece)
        except TlsError:
            break
        said = client.shake(tls.take_out())
    assert len(client.shake(tls.take_out())) <= MOST_SAID_BYTES


class Conversation:
    """After a handshake: what the client says, what becomes of it, and what of that is understood."""

    def __init__(self, client: Client, tls: Tls) -> None:
        self.client = client
        self.tls = tls
        self.said = b""
        self.heard = tls.open(b"")
        self.on_its_way = bytearray()
        self.is_damaged = False

    def take(self, step: Step) -> None:
        what, where, value = step
        match what % 8:
            case 0 | 1 if not self.client.is_ended:
                plain = bytes((where, value)) * (1 + value * (what % 8) * (1 + where % 64))  # up to 32 KB
                self.said += plain
                self.on_its_way += self.client.says(plain)
            case 2 if not self.client.is_ended:
                self.on_its_way += self.client.ends()
            case 3:
                self.arrive(value)
            case 4:
                sealed = self.tls.seal(bytes(value + 1)) if not self.tls.is_ended else b"-"
                assert bool(sealed) == (self.tls.error is None) or self.tls.is_ended
            case 5 if where < 16:
                self.tls.end()
            case _:
                before = bytes(self.on_its_way)
                damaged(self.on_its_way, (what // 8, where, value))
                self.is_damaged |= before != self.on_its_way

    def arrive(self, size: int) -> None:
        """In pieces of so many bytes; 0: in one."""
        tls, data = self.tls, bytes(self.on_its_way)
        self.on_its_way.clear()
        for piece in pieces_of(data, max(size, len(data) // 16) if size else len(data) or 1):
            was_over, error = tls.is_over, tls.error
            plain = tls.open(piece)
            self.heard += plain
            if was_over or error is not None:
                assert not plain, "it was over"
                assert tls.error is error or error is None
            assert tls.is_over or tls.error is not None or not tls._incoming.pending, "something was left lying"
            assert tls._incoming.pending <= PIECE_BYTES or tls.is_over or tls.error is not None
            assert tls._outgoing.pending <= MOST_SAID_BYTES
        assert self.said.startswith(self.heard), "what nobody has said"
        assert self.client.is_ended or not tls.is_over
        if not self.is_damaged:
            assert tls.error is None
            assert self.heard == self.said
            assert tls.is_over == self.client.is_ended


def check_records(steps: list[Step], client: Client) -> None:
    conversation = Conversation(client, shake_hands(client))
    for step in steps:
        conversation.take(step)
    conversation.arrive(0)
    conversation.tls.take_out()
    conversation.tls.end()


def check(data: bytes) -> None:
    if not data:
        return
    steps = list(zip(data[1::3], data[2::3], data[3::3], strict=False))[:MOST_STEPS]
    match min(data[0] % 16, 11):  # the most often what costs least
        case 0 | 1 | 2 | 3:
            check_records(steps, Client(OLD, SESSION))
        case 4:
            check_records(steps, Client(NEW))
        case 5 | 6:
            check_handshake(steps, Client(OLD, SESSION))
        case 7:
            check_handshake(steps, Client(OLD))
        case _:
            check_greeting(data[1:])


if __name__ == "__main__":
    hush_strange_names()
    run("tls", check)
