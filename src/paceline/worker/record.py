"""What travels beside a connection from worker to worker.  Pure.

    {"listener": 0, "messages": 12, "greeted": true, "state": 31, "rest": 5}\n   <31 bytes: state>   <5 bytes: rest>

One line of JSON; then `connection.state`; then the bytes of an unfinished message.  Whoever reads may be older or newer
than whoever wrote: fields that it does not know are ignored, and those that are missing, or no such thing as they
should be, have their defaults (but for the listener: without it, nothing is known of the connection).

    listener, passes     by which listener it came; how often it was passed since it was last served
    greeted, messages    whether `connected` was called; how many messages were taken from it
    new                  it was accepted a moment ago: whoever takes it may still refuse it
    unnamed              it is a proxy's, which has not said yet for whom it has connected
    unsecured            its TLS handshake has not begun yet
    proxied              it is a proxy's: the process at the other end is not the peer's
    peer                 who it is, where that was noted
    generation, framing  of the worker that wrote it, which say what `rest` means
    state                how many bytes of state follow
    rest, kind           how many bytes of rest follow, and what they are
    in_memory            the rest is not in the record, but in the memory beside it (host/passing.py)
    owes, since, credit  what it owes (worker/deadlines.py), since when (CLOCK_MONOTONIC, in seconds), and how many
                         bytes of it have come since

State, and the rest of a framing that keeps something else than bytes, are builtin values as pickle writes them, in a
protocol that every Python since 3.8 reads.  Reading runs no code: the reader finds no class and no function at all, and
what it finds is looked at afterwards.
"""

import json
from dataclasses import dataclass
from enum import Enum
from typing import Any

INLINE_BYTES = 64 * 1024
"""The longest rest that travels in the record itself."""

_PROTOCOL = 5


class Kind(Enum):
    """What the rest is."""

    BYTES = "bytes"
    BYTEARRAY = "bytearray"
    """The framing kept a bytearray, which only says something where the framing is the same."""
    VALUE = "value"
    """Something else that the framing of a user keeps: it means nothing to another generation of the code."""


class MalformedRecord(ValueError):
    """It cannot be read: a bug of ours on the sending side.  It costs that connection."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One connection, but for its descriptor."""

    listener: int
    passes: int = 1
    greeted: bool = False
    is_new: bool = False
    is_unnamed: bool = False
    is_unsecured: bool = False
    is_proxied: bool = False
    messages: int = 0
    peer: str = ""
    generation: int = 0
    framing: str = ""
    state: object = None
    rest: bytes = b""
    kind: Kind = Kind.BYTES
    owes: int = 0
    since: float = 0.0
    """0: nothing was seen of it yet."""
    credit: int = 0
    is_in_memory: bool = False
    """The rest was not in the record."""

    @property
    def is_fresh(self) -> bool:
        """For all that its peer can know, nothing was done with it."""
        return not (self.greeted or self.messages or self.rest or self.state is not None)


def encode(record: Record, *, in_memory: bool = False) -> bytes:
    """The record as bytes; `in_memory`: its rest travels beside it."""
    state = b"" if record.state is None else dumped(record.state)
    header: dict[str, object] = {"listener": record.listener}
    if record.passes != 1:
        header["passes"] = record.passes
    for name in ("greeted", "messages", "peer", "generation", "framing", "owes", "since", "credit"):
        if value := getattr(record, name):
            header[name] = value
    if record.is_new:
        header["new"] = True
    if record.is_unnamed:
        header["unnamed"] = True
    if record.is_unsecured:
        header["unsecured"] = True
    if record.is_proxied:
        header["proxied"] = True
    if state:
        header["state"] = len(state)
    if record.rest:
        header["rest"] = len(record.rest)
        if record.kind is not Kind.BYTES:
            header["kind"] = record.kind.value
        if in_memory:
            header["in_memory"] = True
    line = json.dumps(header, separators=(",", ":")).encode()
    return b"".join((line, b"\n", state, b"" if in_memory else record.rest))


def decode(encoded: bytes, memory: bytes | None = None) -> Record:
    """The record again; `memory` is what was in the memory beside it.  Raises MalformedRecord."""
    line, _, body = encoded.partition(b"\n")
    try:
        header = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise MalformedRecord(f"a record cannot be read: {error}") from None
    if not isinstance(header, dict):
        raise MalformedRecord(f"a record is no table: {encoded[:80]!r}")
    listener = _number(header, "listener", -1)
    if listener < 0:
        raise MalformedRecord(f"a record names no listener: {encoded[:80]!r}")
    state_bytes, rest_bytes = _number(header, "state"), _number(header, "rest")
    in_memory = header.get("in_memory") is True
    state, rest = body[:state_bytes], body[state_bytes:]
    if in_memory and not rest:
        rest = memory if memory is not None else b""
    if len(state) != state_bytes or len(rest) != rest_bytes:
        raise MalformedRecord(f"a record has {len(body)} bytes behind its first line: {line[:80]!r}")
    return Record(
        listener=listener,
        passes=_number(header, "passes", 1),
        greeted=header.get("greeted") is True,
        is_new=header.get("new") is True,
        is_unnamed=header.get("unnamed") is True,
        is_unsecured=header.get("unsecured") is True,
        is_proxied=header.get("proxied") is True,
        messages=_number(header, "messages"),
        peer=_text(header, "peer"),
        generation=_number(header, "generation"),
        framing=_text(header, "framing"),
        state=loaded(state) if state else None,
        rest=rest,
        kind=_kind(header),
        owes=_number(header, "owes"),
        since=_seconds(header, "since"),
        credit=_number(header, "credit"),
        is_in_memory=in_memory,
    )


def dumped(value: object) -> bytes:
    """Builtin values as bytes that any Python reads."""
    import pickle  # only where somebody keeps a state

    return pickle.dumps(value, _PROTOCOL)


def loaded(encoded: bytes) -> Any:
    """The value again.  Raises MalformedRecord, also for what is more than values."""
    import pickle

    class Values(pickle.Unpickler):
        """Finds nothing that could be called."""

        def find_class(self, module: str, name: str, /) -> Any:
            raise MalformedRecord(f"a record names {module}.{name}, and holds values only")

    try:
        return Values(_Reader(encoded)).load()
    except MalformedRecord:
        raise
    except Exception as error:  # noqa: BLE001 - what pickle raises for bytes that are no pickle is not said
        raise MalformedRecord(f"the values in a record cannot be read: {type(error).__name__}: {error}") from None


class _Reader:
    """Bytes, for pickle to read from."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._at = 0

    def read(self, size: int, /) -> bytes:
        piece = self._content[self._at : self._at + size]
        self._at += len(piece)
        return piece

    def readline(self) -> bytes:
        end = self._content.find(b"\n", self._at)
        return self.read((len(self._content) if end < 0 else end + 1) - self._at)


def _number(header: dict[str, object], name: str, default: int = 0) -> int:
    value = header.get(name)
    return value if type(value) is int and value >= 0 else default


def _seconds(header: dict[str, object], name: str) -> float:
    value = header.get(name)
    return float(value) if isinstance(value, int | float) and 0 < value < float("inf") else 0.0


def _text(header: dict[str, object], name: str) -> str:
    value = header.get(name)
    return value if isinstance(value, str) else ""


def _kind(header: dict[str, object]) -> Kind:
    value = header.get("kind", Kind.BYTES.value)
    try:
        return Kind(value)
    except ValueError:
        raise MalformedRecord(f"a record holds a rest of an unknown kind: {str(value)[:40]!r}") from None
