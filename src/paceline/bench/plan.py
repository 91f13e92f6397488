"""What a run is to do, checked and unchanging.  Pure.

`Plan` is made by the command line, goes as JSON to every load process, and stands as settings in the result.
"""

import hashlib
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from paceline.errors import UsageError

MOST_UNDER_WAY = 256 << 20
"""Bytes under way on one connection, at most."""
DEFAULT_DURATION_S = 10.0
WARMUP_S = 0.5
ANY = 0
"""As reply_size: whatever arrives at once is a reply."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The settings of a run.  Raises UsageError for what does not go together.

    duration_s      how long messages are sent; None: until `count` of them are
    count           how many are sent; None: as many as go into the duration; both: whichever comes first
    rate            messages per second in all, stamped by when they are due (open loop); None: closed loop
    reply_size      raw only: the bytes of a reply; None: as many as the message has; ANY
    slow_bytes_s    each connection reads no faster; None: as fast as it can
    timeout_s       for a connection, and for a reply
    """

    address: str
    messages: tuple[bytes, ...]
    source: str
    connections: int = 64
    in_flight: int = 1
    duration_s: float | None = DEFAULT_DURATION_S
    count: int | None = None
    rate: float | None = None
    framing: str = "raw"
    max_message: int = 1 << 20
    reply_size: int | None = None
    new_connection: bool = False
    slow_bytes_s: int | None = None
    processes: int = 1
    warmup_s: float = WARMUP_S
    timeout_s: float = 10.0
    check: bool = False

    def __post_init__(self) -> None:
        if self.duration_s is None and self.count is None:
            raise UsageError("a run without an end: give a duration (-d) or a count of messages (-n)")
        if self.processes > self.connections:
            raise UsageError(
                f"--processes {self.processes} with -c {self.connections}: each process needs a connection of its own; "
                f"give at least -c {self.processes}"
            )
        if self.count is not None and self.count < self.processes:
            raise UsageError(
                f"-n {self.count} with --processes {self.processes}: each process needs a message to send; give at "
                f"least -n {self.processes}"
            )
        if self.new_connection and self.in_flight > 1:
            raise UsageError(
                f"--new-connection sends one message per connection, so --in-flight {self.in_flight} cannot be; for "
                "more at once, raise -c"
            )
        if self.in_flight * max(map(len, self.messages)) > MOST_UNDER_WAY:
            raise UsageError(
                f"--in-flight {self.in_flight} of such messages are over {MOST_UNDER_WAY >> 20} MiB under way on one "
                "connection: send smaller ones, or fewer at once"
            )
        if self.reply_size is not None and self.framing != "raw":
            raise UsageError(
                f"--reply-size is for raw, which cannot tell where a reply ends; --framing {self.framing} can: leave "
                "--reply-size out"
            )
        if self.reply_size == ANY and self.in_flight > 1:
            raise UsageError("--reply-size any cannot tell several replies apart: give the size, or --in-flight 1")
        if self.check and self.reply_size is not None:
            raise UsageError("--check compares replies with the messages sent, so --reply-size has no place beside it")
        if self.framing == "raw" and self.reply_size is None and len({len(message) for message in self.messages}) > 1:
            raise UsageError(
                "messages of different sizes in raw: nothing tells where a reply ends; give --framing, or --reply-size"
            )

    @property
    def raw_reply_size(self) -> int:
        """For raw: the bytes of a reply, or ANY."""
        return len(self.messages[0]) if self.reply_size is None else self.reply_size

    def share(self, process: int) -> tuple[int, int, int | None]:
        """(connections, the number of the first of them, count of messages) of one of the processes."""
        connections, first = part_of(self.connections, self.processes, process)
        count = None if self.count is None else part_of(self.count, self.processes, process)[0]
        return connections, first, count

    def to_json(self) -> dict[str, Any]:
        """All of it; `from_json` reads it."""
        return {
            **{field.name: getattr(self, field.name) for field in fields(self)},
            "messages": [b64encode(message).decode() for message in self.messages],
        }

    @classmethod
    def from_json(cls, read: Mapping[str, Any]) -> "Plan":
        return cls(**{**read, "messages": tuple(b64decode(message) for message in read["messages"])})

    def settings(self) -> dict[str, Any]:
        """For a result: the same without the messages, of which it tells enough to know them again."""
        settings = {field.name: getattr(self, field.name) for field in fields(self)}
        digest = hashlib.sha256(b"".join(b"%d:%b," % (len(message), message) for message in self.messages))
        settings["messages"] = {
            "count": len(self.messages),
            "bytes": sum(map(len, self.messages)),
            "sha256": digest.hexdigest()[:16],
        }
        return settings


def part_of(whole: int, parts: int, part: int) -> tuple[int, int]:
    """(how many, which is the first) of `whole` things, when `parts` share them as evenly as can be."""
    each, more = divmod(whole, parts)
    return each + (part < more), part * each + min(part, more)
