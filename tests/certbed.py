"""Certificates for tests: an authority that nobody else trusts, and what it signs, as files in a folder of the test.

files = issue(tmp_path, "localhost")            a server's
client = trusting()                             a context of a client that believes this authority
client, incoming, outgoing = by_hand(raw)       a client whose records the test carries itself
"""

import socket
import ssl
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import trustme


def authority(name: str = "ours") -> trustme.CA:
    """The one that clients of tests believe, or one that they do not; its keys are elliptic, and quick to make."""
    return _authority(name)


@cache
def _authority(name: str) -> trustme.CA:
    return trustme.CA(organization_name=name, key_type=trustme.KeyType.ECDSA)


@dataclass(frozen=True)
class Files:
    """A certificate and its key; as texts, because settings are."""

    cert: str
    key: str

    @property
    def settings(self) -> dict[str, Any]:
        return {"tls_cert": (self.cert,), "tls_key": (self.key,)}


def issue(folder: Path, *names: str, ca: trustme.CA | None = None, stem: str = "") -> Files:
    """A new certificate for these names, in files that are called like the first one."""
    stem = stem or names[0].replace("*", "star").replace("@", "-at-")
    cert, key = folder / f"{stem}.cert.pem", folder / f"{stem}.key.pem"
    issued = (ca or authority()).issue_cert(*names, key_type=trustme.KeyType.ECDSA)
    cert.write_bytes(b"".join(part.bytes() for part in issued.cert_chain_pems))
    key.write_bytes(issued.private_key_pem.bytes())
    key.chmod(0o600)
    return Files(str(cert), str(key))


def trusting(ca: trustme.CA | None = None, **changes: object) -> ssl.SSLContext:
    """A context of a client that believes this authority."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    (ca or authority()).configure_trust(context)
    for name, value in changes.items():
        setattr(context, name, value)
    return context


def by_hand(raw: socket.socket) -> tuple[ssl.SSLObject, ssl.MemoryBIO, ssl.MemoryBIO]:
    """A client after its handshake, and what it reads from and writes to; its last words are not yet sent."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = trusting().wrap_bio(incoming, outgoing, server_hostname="localhost")
    while True:
        try:
            client.do_handshake()
            break
        except ssl.SSLWantReadError:
            raw.sendall(outgoing.read())
            incoming.write(raw.recv(65536))
    return client, incoming, outgoing
