"""The beginning of connections that are encrypted: the TLS handshake, without a thread, and with a deadline of its own.

What has arrived is given to OpenSSL (wire/tls.py), what it answers is sent, until it says that the handshake is done;
then the connection goes on as any other, but for what is received and sent being decrypted and encrypted on the way.
Meanwhile it is SECURING (lifecycle.py).  It costs nothing to keep before its first byte has come, and can move to
another worker until then.

The certificates are read when the worker starts, and again when their files have changed: the watcher looks once a
second (`Renewing`).  Connections keep what they began with.
"""

from paceline import clock
from paceline.errors import HostError
from paceline.host import streams
from paceline.host.certificates import Certificate, Certificates, Place, Wanted, given
from paceline.settings import Settings
from paceline.wire.tls import PIECE_BYTES, NotTlsError, Stream, Tls, TlsError
from paceline.worker.connection import Connection
from paceline.worker.crew import Member
from paceline.worker.ending import Ending
from paceline.worker.lifecycle import Event, after
from paceline.worker.worker import Worker

SOON_S = 14 * 86_400
"""A certificate that ends within this time is said to."""
DAY_S = 86_400
SAYS_AGAIN_S = DAY_S


class Securing:
    """The handshakes of one worker."""

    def __init__(self, worker: Worker, certificates: Certificates, ending: Ending) -> None:
        self.worker = worker
        self.certificates = certificates
        self.ending = ending

    def go_on(self, c: Connection, me: Member) -> bool:
        """Receive once.  False: more is to come; else there is something to send, or it is done, or is closing.

        Its owner's.
        """
        try:
            received = streams.receive(c.fd, PIECE_BYTES)
        except BlockingIOError:
            return False
        except OSError:
            self.ending.lose(c, me)
            return True
        if not received:
            c.reason = "peer"
            self.ending.close(c, me)
            return True
        me.words[me.bytes_in] += len(received)
        if c.owed is not None:
            c.owed -= len(received)
        if c.secrecy is None:
            c.secrecy = Tls(self.certificates.context)
        self._shake(c, c.secrecy, received)
        return True

    def _shake(self, c: Connection, secrecy: Tls, received: bytes) -> None:
        worker = self.worker
        try:
            is_done = secrecy.shake(received)
        except TlsError as error:
            worker.count("handshakes_failed")
            event = "peer-not-tls" if isinstance(error, NotTlsError) else "handshake-failed"
            worker.log.say(event, peer=c.peer, listener=c.listener, why=str(error))
            self.ending.calls.end(c, "broken")
            is_done = False
        if is_done:
            worker.count("handshakes")
            c.phase = after(c.phase, Event.SECURED)
            plain = secrecy.open(b"")
            c.uncut = memoryview(plain) if plain else None
        c.out = secrecy.take_out() or None
        if is_done and c.out is None and c.uncut is None:
            # In TLS 1.3 the last word is the peer's, and its first message may wait behind it.
            streams.acknowledge(c.fd)


class Renewing:
    """The certificates of one worker: it is looked once a second whether their files have changed.  The watcher's."""

    def __init__(self, worker: Worker, certificates: Certificates, *, is_first: bool) -> None:
        """`is_first`: what all workers see alike is said by this one."""
        self.worker = worker
        self.is_first = is_first
        self.certificates = certificates
        self.says_at = 0.0 if is_first else float("inf")
        """When it is said again that one of them ends soon."""
        self._say_readable()

    def look(self, now: float) -> None:
        try:
            if self.certificates.look():
                self.worker.count("certificates_renewed")
                if self.is_first:
                    names = "; ".join(_described(one) for one in self.certificates.loaded)
                    self.worker.log.say("certificates-renewed", certificates=names)
                    self._say_readable()
                    self.says_at = now
        except HostError as error:
            if self.is_first:
                self.worker.log.say("certificates-refused", why=str(error))
        if now >= self.says_at:
            self.says_at = now + SAYS_AGAIN_S
            for one in self.certificates.loaded:
                if why := _ends_soon(one, clock.wall_seconds()):
                    self.worker.log.say("certificate-ends", file=given(one.path), names=one.known_as, why=why)

    def _say_readable(self) -> None:
        for path in self.certificates.readable_by_all() if self.is_first else ():
            self.worker.log.say("key-readable", file=path)


def certificates_of(settings: Settings, password: str | None, folder: str) -> Certificates:
    """Those that the settings name, as seen from this folder: a handler may go to another one.  Raises HostError."""
    assert settings.tls_cert is not None
    wanted = Wanted(
        certificates=tuple(Place(folder, name) for name in settings.tls_cert),
        keys=tuple(Place(folder, name) for name in settings.tls_key or ()),
        password=password,
        password_file=_within(folder, settings.tls_key_password_file),
        ca=_within(folder, settings.tls_ca),
        client=settings.tls_client_cert,  # type: ignore[arg-type]  # one of the choices
        alpn=settings.alpn or (),
        minimum=settings.tls_min,  # type: ignore[arg-type]
    )
    return Certificates(wanted, Stream)


def _within(folder: str, name: str | None) -> str | None:
    return None if name is None else Place(folder, name)


def _described(one: Certificate) -> str:
    return f"{one.known_as} until {clock.date_text(one.ends_s)}"


def _ends_soon(one: Certificate, wall_s: float) -> str:
    """What is the matter with its time; empty: nothing."""
    if wall_s >= one.ends_s:
        return f"has ended on {clock.date_text(one.ends_s)}: clients refuse it"
    if wall_s < one.begins_s:
        return f"begins on {clock.date_text(one.begins_s)} only: clients refuse it until then"
    if wall_s >= one.ends_s - SOON_S:
        return f"ends on {clock.date_text(one.ends_s)}"
    return ""
