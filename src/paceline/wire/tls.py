"""TLS between the bytes of the wire and those of the framing.  Pure: bytes in, bytes out, no socket.

    tls.shake(received) -> bool       the handshake, with what came; True: it is done
    tls.open(received)  -> plain      what the peer has said by it
    tls.seal(plain)     -> sealed     what is to be sent for it
    tls.end()           -> sealed     our end, close_notify (RFC 8446, section 6.1)
    tls.take_out()      -> sealed     what OpenSSL has to say by itself: its part of the handshake, an alert

One object per connection, used by whoever owns that.  What was sealed must be sent, once and in order: the next record
counts on it.  The answer to a key update goes along with what is sealed next (RFC 8446, section 4.6.3).

The work is OpenSSL's, by way of two memory BIOs.  A socket given to OpenSSL would cost a second read for each record
(its head, its body), and would hide how much of a reply the peer has taken.  A BIO keeps the room of the most that ever
lay in it; so nothing is put into one in pieces larger than `PIECE_BYTES`.

**The end.**  Only close_notify says that the peer has sent all it wanted to.  `is_over` says whether it has come; an
end-of-file without it may be a truncation by somebody else.  `error` says why nothing more can be understood, or said;
what was decrypted before it is still returned.
"""

import contextlib
import re
import ssl
from typing import Any

from paceline.errors import PeerError
from paceline.wire.hello import looks_like_tls

PIECE_BYTES = 8 * 1024
"""The most that is given to OpenSSL at once, in either direction; larger replies are sent as several records."""

RECORD_BYTES = 16 * 1024
"""The most that one record holds (RFC 8446, section 5.1)."""

MOST_BARREN_BYTES = 2 * RECORD_BYTES
"""So much may come that says nothing: more than a record, which must be whole.  New keys, again and again, cost us
more than they cost who asks for them."""

_SHOWN = 16
_PLACES = re.compile(r"^\[[^]]*\] | \(_ssl\.c:[0-9]+\)$")
"""Where in OpenSSL, and in Python, something happened."""


class TlsError(PeerError):
    """The peer broke TLS, or agreed to nothing that we offer; the text says how."""


class NotTlsError(TlsError):
    """What came is no TLS at all; the text shows how it began."""


class Stream(ssl.SSLObject):
    """As OpenSSL sees it; the name that the client asked for is noted here while its greeting is read."""

    server_name: str | None = None


class Tls:
    """One connection's, on the server's side."""

    __slots__ = (
        "_barren_bytes",
        "_has_begun",
        "_incoming",
        "_outgoing",
        "_stream",
        "error",
        "is_ended",
        "is_odd",
        "is_over",
    )

    def __init__(self, context: ssl.SSLContext) -> None:
        """The context makes a `Stream` (SSLContext.sslobject_class)."""
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        stream = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        assert isinstance(stream, Stream)
        self._stream = stream
        self._has_begun = False
        self._barren_bytes = 0
        """Received since something was said by them: the beginning of a record, and records of TLS itself."""
        self.is_over = False
        """The peer has said that it sends no more."""
        self.is_ended = False
        """We have said so."""
        self.is_odd = False
        """As `open` left it: there is more to be done than to read on, for it is over, or broken, or has to answer."""
        self.error: TlsError | None = None

    def shake(self, received: bytes) -> bool:
        """Go on with the handshake.  True: it is done, and what came behind it is what `open(b"")` returns.

        Raises TlsError; there may be an alert to be sent then.  A piece is at most `PIECE_BYTES` long.
        """
        if not self._has_begun and not looks_like_tls(received):
            raise NotTlsError(f"it sent no TLS, but {received[:_SHOWN]!r}")
        self._has_begun = True
        self._incoming.write(received)
        try:
            self._stream.do_handshake()
        except ssl.SSLWantReadError:
            return False
        except ssl.SSLError as error:
            self.error = TlsError(f"the TLS handshake failed: {_said(error)}")
            raise self.error from None
        return True

    def open(self, received: bytes) -> bytes:
        """What the peer has said by this; b"": no whole record has come, or nothing for us.  `is_odd` says more."""
        incoming = self._incoming
        self._barren_bytes += len(received)
        if len(received) <= PIECE_BYTES:
            try:
                incoming.write(received)
                plain = self._stream.read(RECORD_BYTES)
            except ssl.SSLError as error:
                plain = b""
                self._note(error)
            else:
                if plain and not incoming.pending and not self._outgoing.pending:
                    self.is_odd = False
                    self._barren_bytes = 0
                    return plain
                self.is_over = not plain
            return self._open_more(plain, b"")
        incoming.write(received[:PIECE_BYTES])
        return self._open_more(self._next(), received[PIECE_BYTES:])

    def _open_more(self, first: bytes, rest: bytes) -> bytes:
        """The records behind the first one, and those in the rest."""
        incoming = self._incoming
        pieces, left = [first] if first else [], memoryview(rest)
        while True:
            while incoming.pending and (plain := self._next()):
                pieces.append(plain)
            if not pieces and self._barren_bytes - len(left) > MOST_BARREN_BYTES and self.error is None:
                self.error = TlsError(f"TLS: {self._barren_bytes - len(left):,} bytes have come that said nothing")
            if not left or self.has_ended:
                break
            incoming.write(left[:PIECE_BYTES])
            left = left[PIECE_BYTES:]
        if pieces:
            self._barren_bytes = 0
        self.is_odd = self.has_ended or self._outgoing.pending > 0
        return b"".join(pieces)

    def seal(self, plain: bytes) -> bytes:
        """What is to be sent for it; b"": nothing can be said any more, which `error` explains."""
        write, outgoing = self._stream.write, self._outgoing
        try:
            if len(plain) <= PIECE_BYTES:
                write(plain)
                return outgoing.read()
            rest = memoryview(plain)
            pieces: list[bytes] = []
            while rest:
                write(rest[:PIECE_BYTES])
                pieces.append(outgoing.read())
                rest = rest[PIECE_BYTES:]
        except ssl.SSLError as error:
            self._break(error)
            return b""
        return b"".join(pieces)

    def take_out(self) -> bytes:
        """What OpenSSL has to say by itself.  It goes along with whatever is sealed next, too."""
        return self._outgoing.read()

    def end(self) -> bytes:
        """We send no more.  b"": there is nobody to say it to, in the middle of a handshake or after an error."""
        self.is_ended = True
        # It would wait for the peer's (SSL_shutdown(3)): that has its own time, after ours is sent.
        with contextlib.suppress(ssl.SSLError):
            self._stream.unwrap()
        return self._outgoing.read()

    @property
    def has_ended(self) -> bool:
        """Nothing more comes: it is over, or broken."""
        return self.is_over or self.error is not None

    @property
    def cipher(self) -> tuple[str, str, int] | None:
        """Name, version of the protocol, bits: as ssl.SSLSocket.cipher()."""
        return self._stream.cipher()

    @property
    def session(self) -> "TlsSession":
        return TlsSession(self._stream)

    def _next(self) -> bytes:
        """The next record's; b"": no whole one is there, or the end."""
        try:
            plain = self._stream.read(RECORD_BYTES)
        except ssl.SSLError as error:
            self._note(error)
            return b""
        if not plain:
            self.is_over = True
        return plain

    def _note(self, error: ssl.SSLError) -> None:
        """What reading met instead of a record."""
        if isinstance(error, ssl.SSLZeroReturnError):  # the same as b"", once we have said our end, too
            self.is_over = True
        elif not isinstance(error, ssl.SSLWantReadError):
            self._break(error)

    def _break(self, error: ssl.SSLError) -> None:
        if self.error is None:
            self.error = TlsError(f"TLS: {_said(error)}")


class TlsSession:
    """What was agreed with the peer; what a handler sees as `connection.tls`.

    version            `TLSv1.3`
    cipher             `TLS_AES_128_GCM_SHA256`
    server_name        the name that the peer asked for (SNI), or None
    alpn               the protocol that was agreed on (--alpn), or None
    peer_certificate   what is in the peer's certificate, as ssl.SSLSocket.getpeercert() tells it; None: it showed none
    """

    __slots__ = ("_stream",)

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    @property
    def version(self) -> str:
        return self._stream.version() or ""

    @property
    def cipher(self) -> str:
        cipher = self._stream.cipher()
        return cipher[0] if cipher else ""

    @property
    def server_name(self) -> str | None:
        return self._stream.server_name

    @property
    def alpn(self) -> str | None:
        return self._stream.selected_alpn_protocol()

    @property
    def peer_certificate(self) -> dict[str, Any] | None:
        return self._stream.getpeercert() or None

    @property
    def peer_certificate_der(self) -> bytes | None:
        """The same as it came, for a library that reads certificates."""
        return self._stream.getpeercert(binary_form=True)

    def __repr__(self) -> str:
        return f"<paceline.TlsSession {self.version} {self.cipher}>"


def _said(error: ssl.SSLError) -> str:
    """`no shared cipher`, `certificate verify failed (self-signed certificate)`."""
    if error.reason == "CALLBACK_FAILED":  # the only one there is chooses a certificate, and is called with ASCII only
        return "the name that it asks for (SNI) is not ASCII"
    text = (error.reason or _PLACES.sub("", str(error.args[-1]))).replace("_", " ").lower()
    why = getattr(error, "verify_message", "")
    return f"{text} ({why})" if why else text
