"""Everything Paceline can say in its log: one row per event.  Pure.

A row has the event's name (for machines), its level, its sentence (for people) and how often it may be said.  A warning
carries a number, what it means and what to do; it never guesses a cause.  `Log` in host/output.py looks rows up here,
so an event that has no row cannot be logged, and a row nobody logs is found by a test.

`text_line` and `json_line` turn one event into what is written; a multi-line field (`detail`: a traceback, a stack) is
indented below the sentence in text and stays one field in JSON.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum


class Level(IntEnum):
    """How loud an event is; the numbers are those of the standard library's logging module."""

    DEBUG = 10
    INFO = 20
    WARNING = 30
    ERROR = 40


@dataclass(frozen=True, slots=True)
class Kind:
    """One row of the table."""

    name: str
    level: Level
    sentence: str
    every_s: float = 0.0
    """Said at most once in this time by one process (0: always); what was held back is counted in the next one."""


D, I, W, E = Level.DEBUG, Level.INFO, Level.WARNING, Level.ERROR  # noqa: E741 - a table reads best with one letter

_ROWS = (
    # the supervisor's life
    Kind("listening", I, "listening on {addresses} · {crew} · pid {pid}"),
    Kind("more-workers-than-cores", I, "{workers} workers on {cores} usable cores ({why}): beyond the cores, processes only take turns"),
    Kind("stopping", I, "{signal}: stopping; calls have {within} to finish, a second signal ends them at once"),
    Kind("stopped", I, "stopped after {uptime}; {calls} calls served"),
    Kind("cut", W, "{cut} calls were cut, because they did not finish within the drain time of {within} (--drain-timeout)"),
    Kind("degraded", E, "degraded: {deaths} workers died within a minute after they were ready; each is still replaced at once; look at the causes above"),
    Kind("recovered", I, "no longer degraded: {deaths} deaths within the last minute"),
    # the workers' lives, as the supervisor sees them
    Kind("worker-started", D, "worker {slot} started as pid {pid} on seat {seat}"),
    Kind("worker-ready", D, "worker {slot} (pid {pid}) is ready after {seconds:.2f} s: {kind} handler, framing {framing}"),
    Kind("worker-died", E, "worker {slot} (pid {pid}) {cause} after {uptime} while {doing}; {next}"),
    Kind("worker-left", I, "worker {slot} (pid {pid}) left after {uptime}"),
    Kind("worker-failed", E, "worker {slot} (pid {pid}) could not start: {why}; {next}"),
    Kind("worker-killed", W, "worker {slot} (pid {pid}) is killed: {why}"),
    Kind("fork-failed", E, "no process could be made for worker {slot}: {error}; tried again in {seconds:.1f} s (see the limits on processes and memory)", 1.0),
    Kind("orphan-reaped", D, "reaped pid {pid}, a process of somebody else that ended with {cause}"),
    # inside a worker
    Kind("draining", D, "draining: {connections} connections open, {calls} calls running"),
    Kind("drained", D, "drained"),
    Kind("supervisor-gone", W, "the supervisor is gone: finishing what runs, then leaving"),
    Kind("handler-failed", E, "the handler raised {error} for message {message} of {peer}; that connection is closed, no other is touched"),
    Kind("reply-refused", E, "the handler returned {got} for message {message} of {peer}; a reply is bytes, None, an iterable of bytes or paceline.Close; that connection is closed"),
    Kind("hook-failed", E, "{hook} raised {error}{where}"),
    Kind("peer-broke", I, "{peer} is disconnected after message {message}: {error}", 1.0),
    Kind("peer-slow", I, "{peer} is disconnected: {why}", 1.0),
    Kind("peer-reset", D, "{peer} reset the connection"),
    Kind("saturated", W, "all {threads} threads are inside calls{waiting}; new connections go to other workers or wait; raise --threads if the calls wait for something, --workers if they compute", 10.0),
    Kind("thread-refused", W, "no further thread could be made ({error}); {threads} go on", 10.0),
    Kind("accept-paused", W, "no descriptors left for new connections ({error}): accepting pauses for {seconds} s at a time; {open} connections stay served; raise the limit (ulimit -n) or lower --max-connections", 1.0),
    Kind("accept-failed", W, "accepting failed: {error}; tried again in {seconds} s", 1.0),
    Kind("connections-full", W, "{open} connections are open, which is the limit (--max-connections): new ones wait in the backlog", 10.0),
    Kind("forked-child-returned", W, "a process forked by the handler returned into the server's code; it was ended"),
    Kind("bug", E, "a bug in Paceline: {where}: {error}; one connection is closed, the worker goes on"),
    Kind("setting-unknown", W, "{text}"),
)  # fmt: skip

TABLE: Mapping[str, Kind] = {kind.name: kind for kind in _ROWS}


def sentence_of(kind: Kind, fields: Mapping[str, object], held_back: int = 0) -> str:
    """The event as one sentence; `held_back` equal events were not written since the last one."""
    sentence = kind.sentence.format_map(fields)
    return f"{sentence} ({held_back} more like this were not written)" if held_back else sentence


def text_line(
    stamp: str, who: str, kind: Kind, fields: Mapping[str, object], *, held_back: int = 0, color: bool = False
) -> str:
    """`2026-11-24 17:22:01.123 warning worker 0: …`, the detail indented below; ends with a line feed."""
    level = kind.level.name.lower()
    if color and kind.level >= W:
        level = f"\x1b[{31 if kind.level >= E else 33}m{level}\x1b[0m"
    line = f"{stamp} {level} {who}: {sentence_of(kind, fields, held_back)}\n"
    detail = str(fields.get("detail") or "")
    return line + "".join(f"    {part}\n" for part in detail.splitlines())


def json_line(stamp: str, who: str, kind: Kind, fields: Mapping[str, object], *, held_back: int = 0) -> str:
    """One JSON object per line: time, level, who, event, sentence, and every field under its own name."""
    import json  # only processes that log JSON pay for it

    record: dict[str, object] = {
        "time": stamp,
        "level": kind.level.name.lower(),
        "who": who,
        "event": kind.name,
        "text": sentence_of(kind, fields),
    }
    if held_back:
        record["held_back"] = held_back
    record.update((name, value) for name, value in fields.items() if name not in record)
    return json.dumps(record, ensure_ascii=False, default=str) + "\n"
