"""Peers inside TLS for integration tests, and what the authority of certbed.py has signed for their servers.

Everything is text, to be given to a server as its files:

    with running("app.py:shout", *TLS, files={**APP, **pem("localhost")}) as server:
        with SecurePeer(server) as peer:
            peer.send(b"hello\\n")
"""

import datetime as dt
import functools
import socket
import ssl
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509 import load_pem_x509_certificate

from certbed import authority, trusting
from peer import PEER_S, Peer
from testbed import Server

TLS = ("--tls-cert", "cert.pem", "--tls-key", "key.pem")


@dataclass(frozen=True)
class Signed:
    """A certificate, with those between it and the authority, and its key: PEM."""

    certificate: str
    key: str

    @property
    def serial(self) -> int:
        return load_pem_x509_certificate(self.certificate.encode()).serial_number

    def encrypted(self, password: bytes) -> str:
        """The key, as it may lie about."""
        key = load_pem_private_key(self.key.encode(), None)
        return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(password)).decode()


def authority_pem(name: str = "ours") -> str:
    return authority(name).cert_pem.bytes().decode()


def sign(*names: str, by: str = "ours", days: float | None = None, **options: Any) -> Signed:
    """A new one for these names; it ends in so many days."""
    if days is not None:
        end = dt.datetime.now(dt.UTC) + dt.timedelta(days=days)
        options |= {"not_after": end, "not_before": end - dt.timedelta(days=90)}
    made = authority(by).issue_cert(*(names or ("localhost",)), **options)
    chain = b"".join(blob.bytes() for blob in made.cert_chain_pems)
    return Signed(chain.decode(), made.private_key_pem.bytes().decode())


def pem(*names: str) -> dict[str, str]:
    """The files of `TLS`."""
    signed = sign(*names)
    return {"cert.pem": signed.certificate, "key.pem": signed.key}


def client_context(
    *, shows: Signed | None = None, alpn: tuple[str, ...] = (), version: ssl.TLSVersion | None = None, by: str = "ours"
) -> ssl.SSLContext:
    """Of a client that trusts the authority, shows this certificate, and speaks this version only."""
    context = trusting(authority(by))
    if shows is not None:
        with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
            file.write(shows.key + shows.certificate)
            file.flush()
            context.load_cert_chain(file.name)
    if alpn:
        context.set_alpn_protocols(list(alpn))
    if version is not None:
        context.minimum_version = context.maximum_version = version
    return context


@functools.cache
def plain_context() -> ssl.SSLContext:
    return client_context()


class Inside:
    """A client's socket inside TLS, of which each record can be had before it is sent.

    An end without close_notify is ConnectionResetError.  (ssl.SSLSocket cannot end one side alone.)
    """

    def __init__(self, plain: socket.socket, context: ssl.SSLContext, name: str | None) -> None:
        self.plain = plain
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=name)
        self.is_over = False
        """close_notify has come."""

    def shake(self) -> None:
        """The whole handshake.  Raises ssl.SSLError."""
        while (to_send := self.step()) is not None:
            self.plain.sendall(to_send)
            received = self.plain.recv(65536)
            if not received:
                raise ConnectionResetError("it ended in the middle of the handshake")
            self._incoming.write(received)
        self.plain.sendall(self._outgoing.read())

    def step(self, received: bytes = b"") -> bytes | None:
        """A part of the handshake: what is to be said to what was received.  None: it is done."""
        self._incoming.write(received)
        try:
            self.tls.do_handshake()
        except ssl.SSLWantReadError:
            return self._outgoing.read()
        except ssl.SSLError:
            with suppress(OSError):
                self.plain.sendall(self._outgoing.read())
            raise
        return None

    def seal(self, content: bytes) -> bytes:
        """The records of it, and what is still to be said of the handshake: to be sent, in order."""
        self.tls.write(content)
        return self._outgoing.read()

    def take_out(self) -> bytes:
        """What is still to be said of the handshake."""
        return self._outgoing.read()

    def sendall(self, content: bytes) -> None:
        self.plain.sendall(self.seal(content) if content else b"")

    def recv(self, count: int) -> bytes:
        while not self.is_over:
            try:
                return self.tls.read(count)
            except ssl.SSLZeroReturnError:
                self.is_over = True
            except ssl.SSLWantReadError:
                received = self.plain.recv(65536)
                if not received:
                    raise ConnectionResetError("it ended without close_notify") from None
                self._incoming.write(received)
        return b""

    def goodbye(self) -> bytes:
        """Our close_notify: to be sent.  What has come by then should have been read."""
        with suppress(ssl.SSLError):
            self.tls.unwrap()
        return self._outgoing.read()

    def shutdown(self, how: int) -> None:
        self.plain.sendall(self.goodbye())

    def close(self) -> None:
        self.plain.close()

    def settimeout(self, seconds: float | None) -> None:
        self.plain.settimeout(seconds)

    def getsockname(self) -> Any:
        return self.plain.getsockname()

    def setsockopt(self, *options: Any) -> None:
        self.plain.setsockopt(*options)


class SecurePeer(Peer):
    """A client inside TLS: as a plain one, but that `half_close` sends close_notify and no end-of-file."""

    socket: Inside  # type: ignore[assignment]  # all of a socket that a peer uses

    def __init__(
        self,
        server: Server | str,
        name: str | None = "localhost",
        context: ssl.SSLContext | None = None,
        timeout: float = PEER_S,
        *,
        shakes: bool = True,
    ) -> None:
        super().__init__(server if isinstance(server, str) else "{}:{}".format(*server.address), timeout)
        self.socket = Inside(self.socket, context or plain_context(), name)  # type: ignore[arg-type]
        try:
            if shakes:
                self.socket.shake()
        except BaseException:
            self.socket.close()
            raise
