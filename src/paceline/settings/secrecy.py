"""The kinds of values that only encryption has, and what its settings ask of each other.  Pure."""

from dataclasses import dataclass
from typing import Any

from paceline.settings.lists import Listed
from paceline.settings.values import Choice, WrongValueError, text_of_path

PASSWORD_VARIABLE = "PACELINE_TLS_KEY_PASSWORD"
"""Where a password may stand.  It is no setting: everybody reads a command line."""

MOST_PROTOCOL_BYTES = 255


@dataclass(frozen=True, slots=True, kw_only=True)
class Files(Listed):
    """Names of files.  A comma may be part of a name that is given by itself, in a list; not in a single text."""

    metavar: str = "FILE"

    @property
    def body(self) -> str:
        return "the name of a file"

    def body_of(self, raw: object) -> tuple[str, ...] | None:
        given = list(raw) if isinstance(raw, list | tuple) else [raw]
        texts = self.texts_of([text_of_path(part) for part in given])
        if texts is not None and isinstance(raw, str):
            texts = [name.strip() for name in raw.split(",")]
        for text in texts or ():
            if not text or "\0" in text:
                raise WrongValueError(self.rule, value=text or None)
            self.refuse_word(text)
        return None if texts is None else tuple(texts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocols(Listed):
    """Names of protocols for ALPN: 1 to 255 bytes each (RFC 7301, section 3.1), printable ASCII here."""

    metavar: str = "NAME"

    @property
    def body(self) -> str:
        return "names of protocols such as h2 or mqtt, printable ASCII of 1 to 255 characters"

    def body_of(self, raw: object) -> tuple[str, ...] | None:
        texts = self.texts_of(raw)
        if texts is None:
            return None
        found: dict[str, None] = {}
        for text in (name.strip() for part in texts for name in part.split(",")):
            if not text or len(text) > MOST_PROTOCOL_BYTES or not (text.isascii() and text.isprintable()):
                raise WrongValueError(self.rule, value=text or None)
            self.refuse_word(text)
            found[text] = None
        return tuple(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class Version(Choice):
    """A version, which in TOML and Python may be written as the number that it looks like."""

    metavar: str = "VERSION"

    def body_of(self, raw: object) -> str:
        return Choice.body_of(self, str(raw) if type(raw) is float else raw)


def oddity(settings: Any) -> tuple[str, str] | None:
    """The key of a setting (settings/table.py) that does not go with the others, and why; None: all do."""
    certificates, keys = settings.tls_cert, settings.tls_key
    if certificates is None:
        # These would have no effect, and whoever wrote them believes that something is encrypted, or asked for.
        for key in ("tls_key", "tls_ca", "alpn", "tls_key_password_file"):
            if getattr(settings, key) is not None:
                return key, "there is no --tls-cert, so that nothing is encrypted; give that, too"
        if settings.tls_client_cert != "none":
            return (
                "tls_client_cert",
                "there is no --tls-cert, so that nobody is asked for a certificate; give that, too",
            )
    elif keys is not None and len(keys) != len(certificates):
        there_are = "there is one" if len(certificates) == 1 else f"there are {len(certificates)}"
        return "tls_key", f"must be given once for each --tls-cert, and {there_are}"
    elif settings.tls_client_cert != "none" and settings.tls_ca is None:
        return "tls_client_cert", "there is no --tls-ca that says whose signature counts; give that, too"
    elif settings.tls_ca is not None and settings.tls_client_cert == "none":
        return "tls_ca", "nobody is asked for a certificate; give --tls-client-cert optional or required, too"
    return None
