"""Certificates and keys as files, clients that speak TLS over memory, and records that OpenSSL would not write.

    folder = Folder(tmp_path)
    folder.server("one.pem", "one.test", "*.two.test")      a certificate and its key in one file, signed by the CA
    folder.apart("cert.pem", "key.pem", "one.test")         in two
    folder.context("one.pem")                               a server's, as paceline makes it

    client = Client(speaking(ssl.TLSVersion.TLSv1_3), "one.test")
    shake_hands(tls, client)
    tls.open(client.says(b"hello")); client.hears(tls.seal(b"hello"))

The keys are of elliptic curves, which take no time to make.
"""

import contextlib
import ssl
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import trustme
from cryptography.hazmat.primitives import hashes, hmac, serialization
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from certbed import authority, trusting
from paceline.host.certificates import Certificates, Wanted
from paceline.wire.tls import Stream, Tls, TlsError

NAME = "one.test"
PASSWORD = "correct horse"
BOTH = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)


class Folder:
    """A folder with certificates, all signed by the same authority (certbed.py)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ca = authority()

    def __truediv__(self, name: str) -> str:
        return str(self.folder / name)

    def server(self, name: str, *names: str, **more: Any) -> str:
        """A certificate for these names, and its key, in one file; its path."""
        leaf = self.ca.issue_cert(*names, **more)
        leaf.private_key_and_cert_chain_pem.write_to_path(self / name)
        return self / name

    def apart(self, certificate: str, key: str, *names: str, **more: Any) -> tuple[str, str]:
        """The same in two files."""
        leaf = self.ca.issue_cert(*names, **more)
        (self.folder / certificate).write_bytes(b"".join(part.bytes() for part in leaf.cert_chain_pems))
        leaf.private_key_pem.write_to_path(self / key)
        return self / certificate, self / key

    def authorities(self, name: str = "ca.pem") -> str:
        """The file of those who sign."""
        self.ca.cert_pem.write_to_path(self / name)
        return self / name

    def encrypt(self, name: str, password: str = PASSWORD, form: str = "PKCS8") -> None:
        """The private key in this file, from now on with a password: PKCS8, or TraditionalOpenSSL (RFC 1421)."""
        path = self.folder / name
        key = serialization.load_pem_private_key(path.read_bytes(), None)
        encryption = serialization.BestAvailableEncryption(password.encode())
        path.write_bytes(
            key.private_bytes(serialization.Encoding.PEM, getattr(serialization.PrivateFormat, form), encryption),
        )

    def write(self, name: str, text: str) -> str:
        (self.folder / name).write_text(text)
        return self / name

    def context(self, *certificates: str, **wanted: Any) -> ssl.SSLContext:
        paths = tuple(self / name for name in certificates)
        return Certificates(Wanted(paths, **wanted), Stream).context


def speaking(
    version: ssl.TLSVersion | None = None,
    *,
    ca: trustme.CA | None = None,
    certificate: trustme.LeafCert | None = None,
    alpn: Iterable[str] = (),
) -> ssl.SSLContext:
    """The context of a client."""
    context = trusting(ca)
    if version is not None:
        context.minimum_version = context.maximum_version = version
    if certificate is not None:
        certificate.configure_cert(context)
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context


class Client:
    """One connection's, on the other side."""

    def __init__(self, context: ssl.SSLContext, name: str | None = NAME) -> None:
        if name is None:
            context.check_hostname = False
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.stream = context.wrap_bio(self.incoming, self.outgoing, server_hostname=name)
        self.is_done = False
        self.heard = b""
        """What the server said in the handshake."""
        self.greeting = b""
        """The ClientHello, without the record it came in."""

    def shake(self, received: bytes = b"") -> bytes:
        """Go on with the handshake; what is to be sent."""
        self.incoming.write(received)
        self.heard += received
        try:
            self.stream.do_handshake()
            self.is_done = True
        except ssl.SSLWantReadError:
            pass
        said = self.outgoing.read()
        self.greeting = self.greeting or said[5:]
        return said

    def says(self, *plain: bytes) -> bytes:
        """A record for each."""
        for each in plain:
            self.stream.write(each)
        return self.outgoing.read()

    def ends(self) -> bytes:
        """It sends no more: close_notify."""
        with contextlib.suppress(ssl.SSLWantReadError):  # it would wait for the answer
            self.stream.unwrap()
        return self.outgoing.read()

    def hears(self, received: bytes) -> bytes:
        """All that is in these."""
        self.incoming.write(received)
        pieces = []
        try:
            while piece := self.stream.read(65_536):
                pieces.append(piece)
        except ssl.SSLWantReadError:
            pass
        return b"".join(pieces)


def shake_hands(tls: Tls, client: Client) -> None:
    """All of the handshake, and what the server says behind it."""
    said, is_done = client.shake(), False
    while not (is_done and client.is_done):
        assert said, "nobody goes on"
        is_done = tls.shake(said)
        said = client.shake(tls.take_out())


def quarrel(tls: Tls, client: Client) -> str:
    """A handshake that fails, on either side; what the server says of it."""
    said = client.shake()
    while True:
        assert said, "nobody goes on"
        try:
            tls.shake(said)
        except TlsError as error:
            return str(error)
        try:
            said = client.shake(tls.take_out())
        except ssl.SSLError:
            said = client.outgoing.read()  # an alert


class Records:
    """Records of TLS 1.3 as a client would send them, of any kind (RFC 8446, section 5.2).

    The secret is what the client's OpenSSL wrote into its file of keys (SSLContext.keylog_filename).  Of the ciphers,
    it is the one that OpenSSL prefers.
    """

    CIPHER = "TLS_AES_256_GCM_SHA384"
    ALERT, HANDSHAKE, DATA = 21, 22, 23
    KEY_UPDATE = b"\x18\0\0\1"

    def __init__(self, keys: Path) -> None:
        self._start(_noted(keys, "CLIENT_TRAFFIC_SECRET_0")[1])

    def _start(self, secret: bytes) -> None:
        self.secret = secret
        self.key, self.iv = self._derived("key", 32), self._derived("iv", 12)
        self.number = 0

    def _derived(self, label: str, length: int) -> bytes:
        """HKDF-Expand-Label (section 7.1)."""
        full = b"tls13 " + label.encode()
        said = struct.pack("!HB", length, len(full)) + full + b"\0"
        return HKDFExpand(hashes.SHA384(), length, said).derive(self.secret)

    def record(self, kind: int, content: bytes, padding: int = 0) -> bytes:
        inner = content + bytes([kind]) + bytes(padding)
        head = struct.pack("!BHH", self.DATA, 0x0303, len(inner) + 16)
        nonce = (int.from_bytes(self.iv, "big") ^ self.number).to_bytes(12, "big")
        self.number += 1
        return head + AESGCM(self.key).encrypt(nonce, inner, head)

    def key_update(self, *, asked: bool) -> bytes:
        """New keys from here on; `asked`: the other side shall have new ones, too (section 4.6.3)."""
        record = self.record(self.HANDSHAKE, self.KEY_UPDATE + bytes([asked]))
        self._start(self._derived("traffic upd", 48))
        return record


class OldRecords:
    """The same for TLS 1.2 (RFC 5246, section 6.2.3.3; RFC 5288, section 3)."""

    CIPHER = "ECDHE-ECDSA-AES256-GCM-SHA384"
    HANDSHAKE, DATA = 22, 23

    def __init__(self, keys: Path, heard: bytes) -> None:
        """`heard` begins with the ServerHello: the head of a record and of a message, a version, and its random."""
        random, master = _noted(keys, "CLIENT_RANDOM")
        block = self._derived(master, b"key expansion" + heard[11:43] + random, 72)
        self.key, self.salt = block[:32], block[64:68]
        self.number = 1  # 0 was in the handshake: Finished

    def _derived(self, secret: bytes, seed: bytes, length: int) -> bytes:
        """P_hash (RFC 5246, section 5)."""

        def keyed(said: bytes) -> bytes:
            code = hmac.HMAC(secret, hashes.SHA384())
            code.update(said)
            return code.finalize()

        each, block = seed, b""
        while len(block) < length:
            each = keyed(each)
            block += keyed(each + seed)
        return block[:length]

    def record(self, kind: int, content: bytes) -> bytes:
        number = self.number.to_bytes(8, "big")
        self.number += 1
        also = number + struct.pack("!BHH", kind, 0x0303, len(content))
        sealed = number + AESGCM(self.key).encrypt(self.salt + number, content, also)
        return struct.pack("!BHH", kind, 0x0303, len(sealed)) + sealed


def _noted(keys: Path, label: str) -> tuple[bytes, bytes]:
    """The last of its kind that OpenSSL has noted: the client's random, and the secret."""
    *_, last = (line.split() for line in keys.read_text().splitlines() if line.startswith(label))
    return bytes.fromhex(last[1]), bytes.fromhex(last[2])
