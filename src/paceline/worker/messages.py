"""What supervisor and worker tell each other over the control channel.  Pure.

The channel is a SEQPACKET socket pair: one datagram, one message, one JSON object whose `is` names its row below.  Both
sides run the same code, except across an upgrade; therefore fields that a reader does not know are dropped, and a
message it does not know decodes to None and is ignored.  A worker runs the user's code, which can write anything to any
descriptor: `decode` raises nothing, whatever the bytes are.
"""

import json
from dataclasses import asdict, dataclass, fields, replace

MOST_BYTES = 64 * 1024
"""A datagram's limit; a longer traceback loses its middle, never its last line."""


@dataclass(frozen=True, slots=True)
class Ready:
    """worker → supervisor: imported, started, polling.  What is served, for the log and for `--check`."""

    kind: str
    framing: str
    target: str = ""
    rss_bytes: int = 0
    """How much memory it has; 0: it does not say."""


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
class Turned:
    """worker → supervisor, the answer to Serve: it accepts.  And to Drain, when it `leaves`: it accepts nothing any
    more, and what was parked and could move has moved."""

    leaves: bool = False


@dataclass(frozen=True, slots=True)
class Delayed:
    """worker → supervisor, in a drain: it stood still for so long, and goes on for so much longer."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Terminated:
    """worker → supervisor: somebody has sent SIGTERM to this worker alone.  It goes on until it is told to drain."""


@dataclass(frozen=True, slots=True)
class Stuck:
    """worker → supervisor: a call takes longer than it may; its stack is in the log.

    Said of each such call when it has become late, and of the longest again each second.
    """

    thread: int
    """Its index in the worker."""
    seconds: float
    """How long it has run."""
    limit_s: float
    peer: str = ""


@dataclass(frozen=True, slots=True)
class Dumped:
    """worker → supervisor, the answer to Dump: what each thread does, with its stack."""

    asker: int
    text: str


@dataclass(frozen=True, slots=True)
class Serve:
    """supervisor → worker: accept.  Until then it is in standby, whatever it says itself."""


@dataclass(frozen=True, slots=True)
class Drain:
    """supervisor → worker: take nothing new, finish what runs within so many seconds from now, leave.

    A later Drain can only shorten the time of an earlier one; 0 means: cut what runs, and leave.
    """

    within_s: float
    hand_over: bool = False
    """Others go on serving: parked connections move to them instead of being closed."""


@dataclass(frozen=True, slots=True)
class Dump:
    """supervisor → worker: say where your threads are."""

    asker: int


@dataclass(frozen=True, slots=True)
class Reopen:
    """supervisor → worker: the file that the log goes to was moved away; open its path anew."""


@dataclass(frozen=True, slots=True)
class Nudge:
    """supervisor → worker: connections wait in a listener's accept queue and nobody takes them; look again.

    A sleeper that cannot run may have swallowed the wake-up.  Whoever has no free thread ignores it.
    """


Message = (
    Ready | Failed | Leaving | Turned | Delayed | Terminated | Stuck | Dumped | Serve | Drain | Dump | Reopen | Nudge
)

_TOLD = (Ready, Failed, Leaving, Turned, Delayed, Terminated, Stuck, Dumped)
_ASKED = (Serve, Drain, Dump, Reopen, Nudge)
_KINDS: dict[str, type[Message]] = {kind.__name__.lower(): kind for kind in (*_TOLD, *_ASKED)}


def encode(message: Message) -> bytes:
    """One datagram of at most `MOST_BYTES`."""
    encoded = _encoded(message)
    room = MOST_BYTES
    while len(encoded) > MOST_BYTES and isinstance(message, Failed | Dumped):
        room //= 2  # characters; one of them is 1 to 12 bytes of JSON, so this ends after a few rounds
        encoded = _encoded(_shortened(message, room))
    return encoded


def decode(datagram: bytes) -> Message | None:
    """The message, or None when it is of a kind (or a shape) that this version does not know."""
    try:
        record = json.loads(datagram)
        kind = _KINDS[record["is"]]
        given = {field.name: record[field.name] for field in fields(kind) if field.name in record}
        if all(_fits(given.get(field.name, field.default), field.type) for field in fields(kind)):
            return kind(**given)
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    return None


def _encoded(message: Message) -> bytes:
    return json.dumps({"is": type(message).__name__.lower(), **asdict(message)}).encode()


def _shortened(message: Failed | Dumped, room: int) -> Message:
    if isinstance(message, Dumped):
        return replace(message, text=_cut(message.text, room))
    return replace(message, why=_cut(message.why, room // 4), traceback=_cut(message.traceback, room))


def _fits(value: object, wanted: object) -> bool:
    if isinstance(value, bool):
        return wanted is bool  # which Python counts as an int
    return isinstance(value, (int, float) if wanted is float else wanted)  # type: ignore[arg-type]


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most // 2]}\n  …\n{text[-(most // 2) :]}"
