"""What supervisor and worker tell each other over the control channel.  Pure.

The channel is a SEQPACKET socket pair: one datagram, one message, one JSON object whose `is` names its row below.  Both
sides run the same code, except across an upgrade; therefore fields that a reader does not know are dropped, and a
message it does not know decodes to None and is ignored.
"""

import json
from dataclasses import asdict, dataclass, fields

MOST_BYTES = 64 * 1024
"""A datagram's limit; a longer traceback loses its middle, never its last line."""


@dataclass(frozen=True, slots=True)
class Ready:
    """worker → supervisor: imported, started, polling.  What is served, for the log and for `--check`."""

    kind: str
    framing: str
    target: str = ""


@dataclass(frozen=True, slots=True)
class Failed:
    """worker → supervisor: it could not start.  `why` is one paragraph; `traceback` the user's own lines, or empty."""

    why: str
    traceback: str = ""
    exit_code: int = 3


@dataclass(frozen=True, slots=True)
class Leaving:
    """worker → supervisor, its last word: how many calls the drain deadline cut."""

    cut: int = 0


@dataclass(frozen=True, slots=True)
class Drain:
    """supervisor → worker: take nothing new, finish what runs within so many seconds, leave."""

    within_s: float


Message = Ready | Failed | Leaving | Drain

_KINDS: dict[str, type[Message]] = {kind.__name__.lower(): kind for kind in (Ready, Failed, Leaving, Drain)}


def encode(message: Message) -> bytes:
    """One datagram of at most `MOST_BYTES`."""
    record = {"is": type(message).__name__.lower(), **asdict(message)}
    encoded = json.dumps(record).encode()
    if len(encoded) > MOST_BYTES and isinstance(message, Failed):
        keep = max(0, (MOST_BYTES - 4096) // 12)  # a character is at most 12 bytes of JSON (a surrogate pair)
        shorter = f"{message.traceback[:keep]}\n  …\n{message.traceback[-keep:]}"
        return encode(Failed(message.why[-keep // 2 :], shorter[: 2 * keep + 8], message.exit_code)) if keep else encoded
    return encoded


def decode(datagram: bytes) -> Message | None:
    """The message, or None when it is of a kind (or a shape) that this version does not know."""
    try:
        record = json.loads(datagram)
        kind = _KINDS[record["is"]]
        return kind(**{field.name: record[field.name] for field in fields(kind) if field.name in record})
    except (ValueError, KeyError, TypeError):
        return None
