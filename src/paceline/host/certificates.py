"""The files of TLS: read into contexts of OpenSSL, and read again when they have changed.

Each process that accepts has its own; `look` is called by one of its threads from time to time, and `context` is
exchanged as a whole, so that a handshake begins with the old ones or the new ones.  Files that are exchanged one after
the other do not belong together for a moment: what cannot be used is refused, the ones from before stay, and the next
change is another try.

What is wrong with a file becomes a HostError that names the file, the reason and the remedy.
"""

import os
import re
import ssl
import stat
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from paceline.errors import HostError
from paceline.host.refusals import sort_of_file
from paceline.settings.secrecy import PASSWORD_VARIABLE

CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""For TLS 1.2: forward secrecy and authenticated encryption only (RFC 9325, section 4.2).  TLS 1.3 has no others."""

_CERTIFICATE, _KEY = "-----BEGIN CERTIFICATE-----", "PRIVATE KEY-----"
_ENCRYPTED = ("-----BEGIN ENCRYPTED PRIVATE KEY-----", "Proc-Type: 4,ENCRYPTED")  # PKCS #8 (RFC 5958), RFC 1421
_ENCRYPTED_CERTIFICATE = re.compile(r"-----BEGIN [A-Z0-9 ]*CERTIFICATE-----\s*Proc-Type:")
_FOREIGN = frozenset({"NO_CERTIFICATE_ASSIGNED", "KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH"})


class Place(str):  # noqa: SLOT000 - a str has no room for slots of its own
    """Where a file is, in full, for a handler may go to another folder; shown to people as it was given."""

    given: str

    def __new__(cls, folder: str, given: str) -> Self:
        place = super().__new__(cls, os.path.join(folder, given))
        place.given = given
        return place

    def __repr__(self) -> str:
        return repr(self.given)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked for.  `keys`: one for each certificate, or none, when they are in the certificates' files."""

    certificates: tuple[str, ...]
    keys: tuple[str, ...] = ()
    password: str | None = field(default=None, repr=False)
    password_file: str | None = None
    ca: str | None = None
    """Who has signed the certificates of clients."""
    client: Literal["none", "optional", "required"] = "none"
    alpn: tuple[str, ...] = ()
    minimum: Literal["1.2", "1.3"] = "1.2"

    @property
    def files(self) -> tuple[str, ...]:
        others = (self.ca, self.password_file)
        return (*self.certificates, *self.keys, *(name for name in others if name is not None))


@dataclass(frozen=True, slots=True)
class Certificate:
    """One of ours: for which names, and until when (seconds since 1970)."""

    path: str
    names: tuple[str, ...]
    begins_s: int
    ends_s: int

    @property
    def known_as(self) -> str:
        return ", ".join(self.names) or given(self.path)


def given(path: str) -> str:
    """A path as somebody gave it."""
    return path.given if isinstance(path, Place) else path


class Certificates:
    """Those of one process."""

    def __init__(self, wanted: Wanted, stream_class: type[ssl.SSLObject]) -> None:
        """Raises HostError.  `stream_class` is what the contexts make; it has an attribute `server_name`."""
        self.wanted = wanted
        self.stream_class = stream_class
        self.seen = _states(wanted.files)
        self.context, self.loaded = _load(wanted, stream_class)

    def look(self) -> bool:
        """Whether the files have changed since the last look, and are in use now.

        Raises HostError when they have changed and cannot be used: those from before stay.
        """
        states = _states(self.wanted.files)
        if states == self.seen:
            return False
        self.seen = states  # before they are read: what changes meanwhile is seen next time
        try:
            self.context, self.loaded = _load(self.wanted, self.stream_class)
        except HostError:
            raise
        except Exception as error:
            raise HostError(f"they cannot be read: {type(error).__name__}: {error}") from error
        return True

    def readable_by_all(self) -> list[str]:
        """The files with private keys that every user of this machine can read."""
        return [given(path) for path in self.wanted.keys or self.wanted.certificates if _mode(path) & stat.S_IROTH]


def _load(wanted: Wanted, stream_class: type[ssl.SSLObject]) -> tuple[ssl.SSLContext, list[Certificate]]:
    """The context that handshakes begin with, which goes over to another one by the name that is asked for."""
    password = _password(wanted)
    contexts: list[ssl.SSLContext] = []
    loaded: list[Certificate] = []
    for at, path in enumerate(wanted.certificates):
        context = _context(wanted, stream_class)
        loaded.append(_load_certificate(context, path, wanted.keys[at] if wanted.keys else path, password))
        contexts.append(context)
    contexts[0].sni_callback = _chooser(loaded, contexts)
    return contexts[0], loaded


def _context(wanted: Wanted, stream_class: type[ssl.SSLObject]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.sslobject_class = stream_class
    context.minimum_version = ssl.TLSVersion.TLSv1_3 if wanted.minimum == "1.3" else ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    # A client could have us renew keys again and again (CVE-2011-1473); there is no need to, in TLS 1.3 no way.
    context.options |= ssl.OP_NO_RENEGOTIATION
    # Who only sends, and goes, has never read the tickets that follow a handshake in TLS 1.3; to close with something
    # unread is a reset, which takes what is still on its way.  To resume by one would need the same worker again, too.
    # (Without them nothing is sent after a handshake, which worker/securing.py makes up for.)
    context.num_tickets = 0
    if wanted.alpn:
        context.set_alpn_protocols(list(wanted.alpn))
    if wanted.ca is not None:
        _read_certificates(wanted.ca, "the certificates of --tls-ca")
        try:
            context.load_verify_locations(wanted.ca)
        except OSError as error:  # SSLError is one, too
            raise HostError(f"the certificates in {wanted.ca!r} (--tls-ca) cannot be read: {_reason(error)}") from None
        context.verify_mode = {"none": ssl.CERT_NONE, "optional": ssl.CERT_OPTIONAL, "required": ssl.CERT_REQUIRED}[
            wanted.client
        ]
    return context


def _load_certificate(
    context: ssl.SSLContext, path: str, key_path: str, password: Callable[[], str] | None
) -> Certificate:
    """Put one with its key into the context.  Raises HostError."""
    _read_certificates(path, "the certificate")
    described = _describe(path)
    remedy = "" if key_path != path else "; name the file that has it by --tls-key"
    key = _read(key_path, "the private key", _KEY, remedy)
    is_encrypted = any(mark in key for mark in _ENCRYPTED)
    if is_encrypted and password is None:
        raise HostError(
            f"the private key in {key_path!r} is encrypted; give its password in a file (--tls-key-password-file), or "
            f"in the environment ({PASSWORD_VARIABLE})"
        )
    try:
        context.load_cert_chain(path, key_path, password or _nothing)
    except ssl.SSLError as error:
        if error.reason in _FOREIGN:
            why = f"does not belong to the certificate in {path!r}; give the two that were made for each other"
        elif is_encrypted:
            why = f"cannot be decrypted: the password is another one, or the file is damaged ({_reason(error)})"
        else:
            why = f"cannot be used with the certificate in {path!r}: {_reason(error)}"
        raise HostError(f"the private key in {key_path!r} {why}") from None
    except (ValueError, OSError) as error:  # a password that cannot be one; the file went away meanwhile
        raise HostError(f"the private key in {key_path!r} cannot be used: {error}") from None
    return described


def _describe(path: str) -> Certificate:
    """What stands in the first certificate of a file.  Raises HostError."""
    try:
        # First, because the other one gives no reason for what it cannot read, and leaves it in OpenSSL's queue of
        # errors, where this thread's next handshake or record would find it (SSL_get_error(3)).
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(path)
        # The only reader of certificates in the standard library; it is what getpeercert() is made of.
        decoded: dict[str, Any] = ssl._ssl._test_decode_cert(path)  # type: ignore[attr-defined]
        begins_s, ends_s = (int(ssl.cert_time_to_seconds(decoded[name])) for name in ("notBefore", "notAfter"))
    except (OSError, ValueError, KeyError) as error:  # SSLError is the first, too
        raise HostError(f"the certificate in {path!r} cannot be read: {_reason(error)}") from None
    names = [value.lower() for kind, value in decoded.get("subjectAltName", ()) if kind == "DNS"]
    if not names:
        names = [value.lower() for part in decoded.get("subject", ()) for name, value in part if name == "commonName"]
    return Certificate(path, tuple(dict.fromkeys(names)), begins_s, ends_s)


def _chooser(loaded: Sequence[Certificate], contexts: Sequence[ssl.SSLContext]) -> Callable[..., None]:
    """Notes the name that the client asks for, and chooses the certificate (RFC 6066, section 3)."""
    by_name: dict[str, ssl.SSLContext | None] = {}
    for at, (certificate, context) in enumerate(zip(loaded, contexts, strict=True)):
        for name in certificate.names:
            by_name.setdefault(name, context if at else None)  # the first one is chosen already

    def choose(stream: Any, name: str | None, _context: ssl.SSLContext) -> None:
        if name is None:
            return
        stream.server_name = name
        chosen = _lookup(by_name, name.lower())
        if chosen is not None:
            stream.context = chosen

    return choose


class _Hushing:
    """The hook for errors that nobody can be told of, but for one kind."""

    def __init__(self, before: Callable[[Any], object]) -> None:
        self.before = before

    def __call__(self, unraisable: Any) -> None:
        if not (isinstance(unraisable.object, bytes) and isinstance(unraisable.exc_value, UnicodeDecodeError)):
            self.before(unraisable)


def hush_strange_names() -> None:
    """A name that is not ASCII never comes to `choose`: the handshake fails, and Python writes a traceback for it.

    That is the log's, where whoever connects could write as much as they like.  What is said of the failed handshake
    is enough.  For the whole process.
    """
    if not isinstance(sys.unraisablehook, _Hushing):
        sys.unraisablehook = _Hushing(sys.unraisablehook)


def _lookup(by_name: Mapping[str, ssl.SSLContext | None], name: str) -> ssl.SSLContext | None:
    """By the name itself, then by one with a star for its first part (RFC 9525, section 6.3); else the first one's."""
    if name in by_name:
        return by_name[name]
    return by_name.get("*." + name.partition(".")[2])


def _password(wanted: Wanted) -> Callable[[], str] | None:
    if wanted.password_file is None:
        given = wanted.password
    else:
        given = _read(wanted.password_file, "the password of the private key").rstrip("\r\n")
    return None if given is None else lambda: given


def _nothing() -> str:
    """OpenSSL would ask at the terminal instead."""
    raise ValueError("it is encrypted, and no password was given")


def _read(path: str, what: str, mark: str = "", remedy: str = "") -> str:
    """The text of a file, in which the mark must stand.  Raises HostError."""
    try:
        mode = os.stat(path).st_mode
        if not stat.S_ISREG(mode):  # to open a named pipe would wait for whoever writes to it
            raise HostError(f"{what} cannot be read from {path!r}: it is {sort_of_file(mode)}")
        with open(path, encoding="utf-8", errors="replace") as file:
            text = file.read()
    except PermissionError as error:
        raise HostError(
            f"{what} cannot be read from {path!r} as uid {os.geteuid()} ({error.strerror}); give that user the right "
            f"to, for example by a group of its own (chgrp, chmod 640)"
        ) from None
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise HostError(f"{what} cannot be read from {path!r}: {why}") from None
    if mark not in text:
        form = f"-----BEGIN …{mark}" if not mark.startswith("-") else mark
        raise HostError(f"there is nothing in {path!r} that could be {what}: no line {form!r} (PEM){remedy}")
    return text


def _read_certificates(path: str, what: str) -> None:
    """See that there are some in the file.  Raises HostError."""
    if _ENCRYPTED_CERTIFICATE.search(_read(path, what, _CERTIFICATE)):
        # OpenSSL would ask for a password at the terminal, and cannot be told another way.
        raise HostError(f"{what} cannot be read from {path!r}: there is an encrypted one; decrypt it")


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        # Of its own errors Python gives the reason only where it knows the name, and of some not even that.
        reason: str | None = getattr(error, "reason", None)
        return reason.replace("_", " ").lower() if reason else "it is damaged, or no PEM"
    return getattr(error, "strerror", None) or str(error)


def _states(paths: Sequence[str]) -> tuple[tuple[int, ...] | None, ...]:
    """What differs when a file is another one, or was written to (stat(2))."""
    return tuple(_state(path) for path in paths)


def _state(path: str) -> tuple[int, ...] | None:
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _mode(path: str) -> int:
    try:
        return os.stat(path).st_mode
    except OSError:
        return 0
