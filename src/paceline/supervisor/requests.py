"""What is asked and answered on the control socket, as lines of JSON.  Pure.

    request   {"do": "scale", "workers": 4}
    answer    {"version": 1, "ok": true, "is_last": true, "text": "4 workers, before 2", "detail": ""}

One request at a time on a connection; one or more answers to each, the last of them with `is_last`.  `COMMANDS` is the
table of what can be asked.  Whoever asks may be a script, an old version or a person with `nc -U`: a line that cannot
be understood is answered by a sentence that names what is wrong with it, and costs nothing else.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from paceline.errors import UsageError

VERSION = 1
"""Of the answers; raised when a field gets another meaning."""
LINE_BYTES = 64 * 1024
"""The longest request, its line feed included."""
MOST_WORKERS = 1_000_000
"""A number of workers beyond that is a slip; which are possible, the roster knows."""

COMMANDS: dict[str, dict[str, type]] = {
    "ping": {},
    "reload": {},
    "upgrade": {},
    "stop": {"now": bool},
    "scale": {"workers": int, "by": int},
    "drain": {"slot": int},
    "dump": {},
    "config": {},
}
"""By name, the fields that a request may have."""
_WORDS = {int: "a whole number", bool: "true or false", str: "a text"}


class RequestError(UsageError):
    """A request that cannot be understood; the text says why."""


@dataclass(frozen=True, slots=True)
class Request:
    """One that can."""

    do: str
    now: bool = False
    workers: int = 0
    """0: it is by `by`."""
    by: int = 0
    slot: int = 0

    def __str__(self) -> str:
        """As a person would write it for `paceline ctl`."""
        match self.do:
            case "stop" if self.now:
                return "stop --now"
            case "scale":
                return f"scale {self.workers or format(self.by, '+d')}"
            case "drain":
                return f"drain {self.slot}"
            case _:
                return self.do


def parse(line: bytes) -> Request:
    """The request in a line.  Raises RequestError."""
    try:
        record = json.loads(line.decode())  # from bytes it would guess, and read UTF-16 as well
    except RecursionError:
        raise RequestError("the request is nested too deeply; it is an object of texts and numbers") from None
    except ValueError as error:  # a UnicodeDecodeError, too
        where = error.msg if isinstance(error, json.JSONDecodeError) else "it is not UTF-8"
        example = '{"do": "ping"}'
        raise RequestError(
            f"the request is not JSON ({where}): write one object in a line, such as {example}"
        ) from None
    if not isinstance(record, dict):
        raise RequestError(f'the request is {_sort(record)}, not an object such as {{"do": "ping"}}')
    if "do" not in record:
        raise RequestError(f'the request has no "do", which is one of {_names()}')
    do = record.pop("do")
    if not isinstance(do, str) or do not in COMMANDS:
        raise RequestError(f"there is no command {_shown(do)}; there are {_names()}")
    allowed = COMMANDS[do]
    for name, value in record.items():
        if name not in allowed:
            there_are = f"its fields are {', '.join(allowed)}" if allowed else "it has none"
            raise RequestError(f"{do}: there is no field {_shown(name)}; {there_are}")
        if not isinstance(value, allowed[name]) or (isinstance(value, bool) and allowed[name] is not bool):
            raise RequestError(f"{do}: {name} is {_sort(value)}, and must be {_WORDS[allowed[name]]}")
    _examine(do, record)
    return Request(do, **record)


def _examine(do: str, fields: dict[str, int]) -> None:
    """What the types do not say."""
    if do == "scale":
        if len(fields) != 1:
            raise RequestError('scale: give either "workers", how many there shall be, or "by", how many more or fewer')
        if not 1 <= fields.get("workers", 1) <= MOST_WORKERS:
            raise RequestError(
                f"scale: workers is {_number(fields['workers'])}, and must be at least 1; stop ends them all"
            )
        if not 1 <= abs(fields.get("by", 1)) <= MOST_WORKERS:
            raise RequestError(
                f"scale: by is {_number(fields['by'])}, and must be another number than 0, such as 1 or -1"
            )
    if do == "drain":
        if "slot" not in fields:
            raise RequestError('drain: "slot" is missing, the number of the worker that shall be replaced')
        if not 0 <= fields["slot"] <= MOST_WORKERS:
            raise RequestError(f"drain: slot is {_number(fields['slot'])}, and there is no such worker")


def _names() -> str:
    return ", ".join(COMMANDS)


def _number(value: int) -> str:
    return str(value) if abs(value) < 10**18 else "out of all bounds"


def _shown(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:60]}…"


def _sort(value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return json.dumps(value)
        case int():
            return _number(value)
        case float():
            return f"{value}"  # JSON has no NaN and no Infinity, Python's reader has
        case str():
            return f"the text {_shown(value)}"
        case list():
            return "a list"
        case _:
            return "an object"


# Answers


def answer(
    text: str, detail: str = "", *, ok: bool = True, is_last: bool = True, more: Mapping[str, object] | None = None
) -> bytes:
    """A line.  `more` is what only this command answers."""
    record = {"version": VERSION, "ok": ok, "is_last": is_last, "text": text, "detail": detail, **(more or {})}
    return json.dumps(record).encode() + b"\n"


def fitting(texts: list[str], room_bytes: int) -> list[str]:
    """The texts, so that all of them together take at most about so many bytes of JSON: long ones lose their middle.

    Whoever is short keeps all of it, and leaves the room to the others.
    """
    sizes = [len(json.dumps(text)) for text in texts]
    share, left = 0, room_bytes
    for n, size in enumerate(sorted(sizes)):
        share = left // (len(sizes) - n)
        if size > share:
            break
        left -= size
    else:
        return texts
    return [text if size <= share else _cut(text, share, size) for text, size in zip(texts, sizes, strict=True)]


def _cut(text: str, room: int, size: int) -> str:
    keep = max(0, len(text) * room // size - 80) // 2
    return f"{text[:keep]}\n  … {len(text) - 2 * keep} characters left out …\n{text[len(text) - keep :]}"


# Lines


class Lines:
    """Cuts what arrives into requests, however it arrives."""

    __slots__ = ("_rest", "_seen", "is_too_long")

    def __init__(self) -> None:
        self._rest = bytearray()
        self._seen = 0
        """So far there is no line feed in `_rest`."""
        self.is_too_long = False
        """A line is longer than `LINE_BYTES`: nothing that follows is understood."""

    @property
    def is_inside(self) -> bool:
        """A part of a line has arrived."""
        return bool(self._rest)

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that are complete by now; empty ones are none."""
        lines: list[bytes] = []
        self._rest += data
        while not self.is_too_long:
            end = self._rest.find(b"\n", self._seen)
            self.is_too_long = (len(self._rest) if end < 0 else end) >= LINE_BYTES
            if end < 0 or self.is_too_long:
                self._seen = len(self._rest)
                break
            line = bytes(self._rest[:end]).strip()
            del self._rest[: end + 1]
            self._seen = 0
            lines += [line] if line else []
        return lines
