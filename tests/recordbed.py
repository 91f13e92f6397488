"""A client of TLS 1.3 that makes its records itself: those that no library would send.

The handshake is the library's; then this goes on with its keys (RFC 8446, section 7).  Only what the client says is
made here, for the suite TLS_AES_128_GCM_SHA256 or TLS_AES_256_GCM_SHA384.
"""

import hashlib
import hmac
import os
import socket
import ssl
import struct
import tempfile
from typing import Self

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from peer import PEER_S
from securepeer import client_context
from testbed import Server

ALERT, HANDSHAKE, DATA = 21, 22, 23
KEY_UPDATE = bytes([24, 0, 0, 1])
UPDATE_NOT_REQUESTED, UPDATE_REQUESTED = b"\0", b"\1"
CLOSE_NOTIFY = b"\1\0"
_HASHES = {"TLS_AES_128_GCM_SHA256": (hashlib.sha256, 16), "TLS_AES_256_GCM_SHA384": (hashlib.sha384, 32)}


class RecordPeer:
    """After the handshake."""

    def __init__(self, server: Server) -> None:
        context = client_context(version=ssl.TLSVersion.TLSv1_3)
        descriptor, path = tempfile.mkstemp()
        os.close(descriptor)
        context.keylog_filename = path
        plain = socket.create_connection(server.address, PEER_S)
        secured = context.wrap_socket(plain, server_hostname="localhost")
        suite = secured.cipher()
        assert suite is not None
        self.hash, self.key_bytes = _HASHES[suite[0]]
        self.sealed_by = secured  # keeps what the library has of it
        self.socket = socket.socket(fileno=os.dup(secured.fileno()))
        self.socket.settimeout(PEER_S)
        with open(path) as file:
            (secret,) = [line.split()[2] for line in file if line.startswith("CLIENT_TRAFFIC_SECRET_0 ")]
        context.keylog_filename = None  # type: ignore[assignment]  # it closes the file
        os.unlink(path)
        self.secret = bytes.fromhex(secret)
        self._take_keys()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.socket.close()
        self.sealed_by.close()

    def record(self, content: bytes, kind: int = DATA, padding: int = 0) -> bytes:
        """The next record."""
        inner = content + bytes([kind]) + bytes(padding)
        head = struct.pack("!BHH", DATA, 0x0303, len(inner) + 16)
        nonce = (int.from_bytes(self.iv, "big") ^ self.number).to_bytes(12, "big")
        self.number += 1
        return head + AESGCM(self.key).encrypt(nonce, inner, head)

    def key_update(self, asks: bytes = UPDATE_REQUESTED) -> bytes:
        """The record that says that what follows has other keys."""
        made = self.record(KEY_UPDATE + asks, HANDSHAKE)
        self.secret = self._expand(self.secret, b"traffic upd", b"", self.hash().digest_size)
        self._take_keys()
        return made

    def send(self, sealed: bytes) -> None:
        self.socket.sendall(sealed)

    def receive(self, count: int) -> bytes:
        """What has been said to us, by the library."""
        return self.sealed_by.recv(count)

    def reset(self) -> None:
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.close()

    def _take_keys(self) -> None:
        self.key = self._expand(self.secret, b"key", b"", self.key_bytes)
        self.iv = self._expand(self.secret, b"iv", b"", 12)
        self.number = 0

    def _expand(self, secret: bytes, label: bytes, context: bytes, length: int) -> bytes:
        """HKDF-Expand-Label; no more than one block is wanted anywhere."""
        full = b"tls13 " + label
        told = struct.pack("!HB", length, len(full)) + full + bytes([len(context)]) + context
        return hmac.new(secret, told + b"\1", self.hash).digest()[:length]
