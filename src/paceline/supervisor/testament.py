"""What a supervisor leaves to the program that takes its place in the same process.  Pure.

An upgrade in place executes a new Paceline (or a new Python) in the supervisor's process: the process stays, and with
it its number, its children and the descriptors that are kept.  Everything else is written down here, as JSON.

The reader may be another version than the writer.  Fields that it does not know are dropped, fields that the writer did
not know have their defaults, and `readable_from` names the oldest version of this format that can make sense of it.
What is wrong raises TestamentError, while the old program still runs: it is read in a rehearsal first (rehearsal.py).
"""

import json
import types
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields, is_dataclass
from typing import Any, TypeVar, get_args, get_origin

from paceline.errors import HostError

VERSION = 4
"""Of this format.  Raise it with every new field."""
READABLE_FROM = 1
"""Raise it to VERSION when a field gets another meaning, so that older readers refuse."""
MOST_BYTES = 16 * 1024 * 1024
_MOST_FD = 1 << 30


class TestamentError(HostError):
    """It cannot be used; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerLeft:
    """A listening socket."""

    fd: int
    index: int
    text: str
    kind: str
    path: str = ""
    """Of the file that was made for it; empty: none was, or it is somebody else's."""
    device: int = 0
    inode: int = 0
    words: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerLeft:
    """Who sits in a seat.  Times are seconds of the supervisor's steady clock."""

    pid: int
    control: int
    """Descriptor; -1: the channel is closed."""
    slot: int
    generation: int
    state: str
    """A name of supervisor.lifecycle.State."""
    forked_at: float
    ready_at: float | None = None
    kill_at: float | None = None
    is_current: bool = False
    """It has its slot; else it is leaving."""
    is_deaf: bool = False
    has_said_farewell: bool = False
    messages_before: int = 0
    outbox: tuple[str, ...] = ()
    """What its channel did not take yet: messages, as JSON."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeatLeft:
    """A seat."""

    number: int
    reader: int
    writer: int
    faults: int
    worker: WorkerLeft | None = None
    is_emptying: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FileLeft:
    """A file that is removed at the end: the pid file, the control socket, the runtime file."""

    role: str
    path: str
    fd: int = -1
    device: int = 0
    inode: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Testament:
    """All of it."""

    pid: int
    start_ticks: int
    """With the number it names the process for ever: nobody else believes this."""
    paceline: str
    """The writer's version."""
    board: int
    """Descriptor."""
    seats: tuple[SeatLeft, ...]
    listeners: tuple[ListenerLeft, ...]
    workers: int
    """How many there should be."""
    generation: int
    newest: int
    started_at: float
    gap_s: float = 0.0
    """What the steady clock has left out (steady.py)."""
    written_at: float = 0.0
    """When this was written, by CLOCK_MONOTONIC in seconds: from then on nobody was heard.  0: not known."""
    reloads: int = 0
    settings: dict[str, str] = field(default_factory=dict)
    """Those of the generation that serves, by key, each value as JSON; empty: not known."""
    passed: dict[str, str] = field(default_factory=dict)
    """The sockets that the service manager passed: name by descriptor (host/activation.py)."""
    files: tuple[FileLeft, ...] = ()
    config: str = ""
    """The file that settings come from, by name; empty: none has any."""
    asker: int = -1
    """Descriptor of the connection on which somebody waits to hear how it went."""
    version: int = VERSION
    readable_from: int = READABLE_FROM

    def descriptors(self) -> list[int]:
        """All that must be kept."""
        found = [self.board, self.asker]
        found += [listener.fd for listener in self.listeners]
        found += [file.fd for file in self.files]
        for seat in self.seats:
            found += [seat.reader, seat.writer, seat.faults]
            found += [seat.worker.control] if seat.worker is not None else []
        return [fd for fd in found if fd >= 0]

    def file(self, role: str) -> FileLeft | None:
        return next((file for file in self.files if file.role == role), None)


def encode(testament: Testament) -> bytes:
    return json.dumps({"is": "paceline-testament", **asdict(testament)}).encode()


def decode(text: bytes) -> Testament:
    """Raises TestamentError."""
    try:
        record = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise TestamentError(f"the state of the running server cannot be read: it is no JSON ({error})") from None
    if not isinstance(record, dict) or record.get("is") != "paceline-testament":
        raise TestamentError("the state of the running server cannot be read: it is something else")
    least, writer = record.get("readable_from"), record.get("paceline")
    if not isinstance(least, int) or least > VERSION:
        raise TestamentError(
            f"the running server (Paceline {writer}) keeps its state in a newer form ({least}) than this version reads "
            f"({VERSION}); install a newer version, or restart the server"
        )
    found = _made(Testament, record, "state")
    _examine(found)
    return found


def fixed_changes(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """The settings that only a restart changes and that are different now, as sentences' parts."""
    return [f"{key} was {before[key]} and is {now[key]}" for key in now if before.get(key, now[key]) != now[key]]


_Left = TypeVar("_Left")


def _made(kind: type[_Left], record: object, where: str) -> _Left:
    if not isinstance(record, dict):
        raise TestamentError(f"the state of the running server cannot be read: {where} is no object")
    given = {}
    for row in fields(kind):  # type: ignore[arg-type]
        if row.name in record:
            given[row.name] = _value(row.type, record[row.name], f"{where}.{row.name}")
        elif row.default is MISSING and row.default_factory is MISSING:
            raise TestamentError(f"the state of the running server cannot be read: {where}.{row.name} is missing")
    return kind(**given)


def _value(wanted: Any, value: object, where: str) -> Any:
    """The value, if it is of that type, with objects made of records."""
    if isinstance(wanted, types.UnionType):
        (inner,) = (part for part in get_args(wanted) if part is not types.NoneType)
        return None if value is None else _value(inner, value, where)
    if is_dataclass(wanted) and isinstance(wanted, type):
        return _made(wanted, value, where)
    if get_origin(wanted) is tuple and isinstance(value, list):
        inner = get_args(wanted)[0]
        return tuple(_value(inner, part, f"{where}[{n}]") for n, part in enumerate(value))
    if get_origin(wanted) is dict and isinstance(value, dict):
        return {str(key): _value(str, part, f"{where}[{key}]") for key, part in value.items()}
    is_right = isinstance(value, (int, float) if wanted is float else wanted) if isinstance(wanted, type) else False
    if not is_right or (isinstance(value, bool) and wanted is not bool):
        raise TestamentError(f"the state of the running server cannot be read: {where} is {value!r}")
    return value


def _examine(testament: Testament) -> None:
    """What the types do not say."""
    fds = testament.descriptors()
    _require(bool(testament.seats), "there are no seats")
    numbers = [seat.number for seat in testament.seats]
    _require(numbers == list(range(len(numbers))), "the seats are in disorder")
    _require(len(set(fds)) == len(fds), "a descriptor is there twice")
    _require(_are_between(3, fds, _MOST_FD), "a descriptor is none")
    workers = [seat.worker for seat in testament.seats if seat.worker is not None]
    _require(_are_between(1, [testament.pid, *(worker.pid for worker in workers)], 1 << 31), "a process id is none")
    slots = [worker.slot for worker in workers if worker.is_current]
    _require(len(set(slots)) == len(slots), "a slot has two workers")
    _require(_are_between(0, [*slots, testament.workers - 1], testament.workers - 1), "a slot is none")


def _are_between(low: int, numbers: Iterable[int], high: int) -> bool:
    return all(low <= number <= high for number in numbers)


def _require(is_so: bool, why_not: str) -> None:
    if not is_so:
        raise TestamentError(f"the state of the running server makes no sense: {why_not}")
