"""What ctl shows, as text for people: no line wider than the terminal, columns aligned, no colours.  Pure.

What a server says of itself (a path, a traceback, the name of a target) may hold anything: control characters are
shown as escapes, so that nothing of it steers the terminal.
"""

import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from paceline.ctl.picture import Picture, Worker
from paceline.events import counted
from paceline.supervisor.sentences import size_text, span_text

_GAP = "  "
_UNBROKEN = "\xa0"
"""A space at which no line is broken."""
_ESCAPED = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0)) if code not in (0x09, 0x0A)} | {
    0x2028: "\\u2028",
    0x2029: "\\u2029",
}


@dataclass(frozen=True, slots=True)
class Column:
    title: str
    text_of: Callable[[Worker], str]
    is_left: bool = False
    """Its cells begin at the left."""
    needed: int = 9
    """A terminal that is too narrow loses the columns with the lowest number first."""


COLUMNS = (
    Column("worker", lambda worker: str(worker.slot)),
    Column("pid", lambda worker: str(worker.pid), needed=5),
    Column("state", lambda worker: worker.state, is_left=True),
    Column("gen", lambda worker: str(worker.generation), needed=2),
    Column("age", lambda worker: span_text(worker.age_s), needed=3),
    Column("connections", lambda worker: f"{worker.connections:,}", needed=6),
    Column("threads busy", lambda worker: f"{worker.threads_busy}/{worker.threads_limit}", needed=8),
    Column("messages", lambda worker: f"{worker.messages:,}", needed=1),
    Column("calls", lambda worker: f"{worker.calls:,}", needed=0),
    Column("calls/s", lambda worker: f"{worker.calls_per_s:,.0f}", needed=8),
    Column("oldest call", lambda worker: _age_text(worker.oldest_call_s), needed=7),
    Column("memory", lambda worker: "?" if worker.rss_bytes is None else size_text(worker.rss_bytes), needed=4),
)


def status_text(picture: Picture, width: int | None = None) -> str:
    """A head, a line for each worker, and what is wrong.  `width` is that of the terminal; None: there is none."""
    head = [picture.places, picture.target, f"generation {picture.generation}"]
    head += [f"up {span_text(picture.uptime_s)}", f"pid {picture.pid}"]
    head += [f"Paceline {picture.paceline}"] if picture.paceline else []
    parts = [_shortened(part, width).replace(" ", _UNBROKEN) for part in head if part]
    lines = _wrapped(" · ".join(parts), width)
    lines += ["", *_table(picture.workers, width)] if picture.workers else []
    notes = [line for note in _notes(picture.counters) for line in _wrapped(note, width)]
    lines += ["", *notes] if notes else []
    warnings = [line for warning in picture.warnings for line in _wrapped(warning, width, "! ")]
    lines += ["", *warnings] if warnings else []
    return shown("\n".join(lines) + "\n")


def _notes(counters: Mapping[str, int]) -> list[str]:
    """Who was kept out since the server was started, and how handshakes went; nothing where there was nothing."""
    notes = []
    done, failed = counters.get("handshakes", 0), counters.get("handshakes_failed", 0)
    if done or failed:
        renewed = counters.get("certificates_renewed", 0)
        ends = [f"{failed:,} failed or broken off"] * bool(failed)
        ends += [f"certificates renewed {counted(renewed, 'time')}"] * bool(renewed)
        notes.append(", ".join([f"TLS: {done:,} handshake{'' if done == 1 else 's'} done", *ends]))
    by = {
        "--allow and --deny": counters.get("refused_network", 0),
        "--max-connections-per-address": counters.get("refused_crowd", 0),
        "--queue-timeout": counters.get("refused_overload", 0) + counters.get("closed_overload", 0),
    }
    if total := sum(by.values()):
        counts = ", ".join(f"{count:,} by {setting}" for setting, count in by.items() if count)
        notes.append(f"refused: {counted(total, f'{total:,} connection|{total:,} connections')} ({counts})")
    if pauses := counters.get("rate_pauses", 0):
        notes.append(f"accepting paused {counted(pauses, 'time')} for --max-connection-rate")
    if overloads := counters.get("overloads", 0):
        notes.append(
            f"overloaded {counted(overloads, 'time')}: who was next had waited for too long, and nobody for less"
        )
    return notes


def _table(workers: Sequence[Worker], width: int | None) -> list[str]:
    columns = list(COLUMNS)
    while True:
        cells = [
            [column.title for column in columns],
            *([column.text_of(each) for column in columns] for each in workers),
        ]
        widths = [max(map(len, texts)) for texts in zip(*cells, strict=True)]
        total = sum(widths) + len(_GAP) * (len(columns) - 1)
        dispensable = [column for column in columns if column.needed < 9]
        if width is None or total <= width or not dispensable:
            break
        columns.remove(min(dispensable, key=lambda column: column.needed))
    lines = [
        _GAP.join(
            text.ljust(size) if column.is_left else text.rjust(size)
            for column, text, size in zip(columns, row, widths, strict=True)
        ).rstrip()
        for row in cells
    ]
    return lines if width is None else [line[:width] for line in lines]


def _shortened(text: str, width: int | None) -> str:
    """In the middle: the end of a path says more than what is before it.  There is room for the separator."""
    room = len(text) if width is None else max(3, width - 2)
    if len(text) <= room:
        return text
    end = (room - 1) // 2
    return f"{text[: room - 1 - end]}…{text[-end:]}"


def _age_text(seconds: float | None) -> str:
    return "-" if seconds is None else f"> {span_text(seconds)}"


def _wrapped(text: str, width: int | None, begun: str = "") -> list[str]:
    lines = [begun + text]
    if width is not None:
        room, indent = max(width, len(begun) + 1), " " * len(begun)
        lines = textwrap.wrap(text, room, initial_indent=begun, subsequent_indent=indent, break_on_hyphens=False)
    return [line.replace(_UNBROKEN, " ") for line in lines]


def dump_text(workers: Iterable[Mapping[str, object]]) -> str:
    """The stacks of the workers, a section each."""
    sections = []
    for worker in workers:
        head = [f"worker {worker.get('slot')}", f"pid {worker.get('pid')}", str(worker.get("state"))]
        head.append(f"generation {worker.get('generation')}")
        text = textwrap.indent(str(worker.get("text", "")).rstrip("\n") or "it said nothing", "  ")
        sections.append(f"{' · '.join(head)}\n{text}\n")
    return shown("\n".join(sections)) if sections else "there is no worker\n"


def shown(text: str) -> str:
    """The text, with control characters but tabs and line feeds as escapes."""
    return text.translate(_ESCAPED)
