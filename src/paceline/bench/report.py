"""A result as text, for people.  Pure."""

from collections.abc import Mapping
from typing import Any

from paceline.bench.result import Result
from paceline.bench.tally import Tally
from paceline.bench.troubles import MEANINGS, counted

_WIDTH = 12


def text_of(result: Result) -> str:
    """Several lines, the last one ended, too."""
    tally, seconds = result.tally, max(result.seconds, 1e-9)
    lines = [
        f"paceline bench {result.settings['address']} · {settings_text(result.settings)}",
        "",
        _row(
            "messages", f"{tally.in_time:,} answered of {tally.sent:,} sent in {_time(result.seconds)}{_later(tally)}"
        ),
        _row("throughput", f"{_rate(result.per_second)} a second"),
        _row(
            "traffic",
            f"{_bytes(tally.sent_bytes / seconds)}/s sent, {_bytes(tally.received_bytes / seconds)}/s received",
        ),
    ]
    if result.is_interrupted:
        lines.append(_row("interrupted", "these are the figures so far"))
    if result.settings["new_connection"]:
        lines.append(_row("connections", f"{tally.connections:,}, {tally.connections / seconds:,.0f} a second"))
    elif tally.connections:
        lines.append(_row("connections", f"{tally.connections:,} made again in the place of broken ones"))
    lines += ["", *_latency(result), *_errors(result), _row("generator", _generator(result))]
    return "\n".join(lines) + "\n"


def _later(tally: Tally) -> str:
    late = tally.answered - tally.in_time
    return f", {late:,} later" if late else ""


def settings_text(settings: Mapping[str, Any]) -> str:
    """What was asked for, in one line."""
    in_flight = settings["in_flight"]
    words = [
        settings["framing"],
        settings["source"],
        counted(settings["connections"], "connections") + (f" × {in_flight:,} in flight" if in_flight > 1 else ""),
        "closed loop" if settings["rate"] is None else f"open loop at {settings['rate']:,g} a second",
        "a connection per message" if settings["new_connection"] else "",
        f"read at {_bytes(settings['slow_bytes_s'])}/s each" if settings["slow_bytes_s"] else "",
        f"{settings['processes']} processes" if settings["processes"] > 1 else "",
        "replies checked" if settings["check"] else "",
    ]
    return " · ".join(word for word in words if word)


def _latency(result: Result) -> list[str]:
    figures = result.latency_us()
    if figures is None:
        return [_row("latency", "none: nothing was answered")]
    since = "from when each was due" if result.settings["rate"] is not None else "from when each was sent"
    rows = [_row("latency", f"{since}, within 1 %")]
    return rows + [_row(f"  {name}", f"{_micros(value):>10}") for name, value in figures.items()]


def _errors(result: Result) -> list[str]:
    errors = {kind: count for kind, count in result.tally.errors.most_common() if count}
    if not errors:
        return [_row("errors", "none")]
    rows = [_row("errors", "")]
    for kind, count in errors.items():
        meaning = MEANINGS[kind]
        remedy = f"; {meaning.remedy}" if meaning.remedy else ""
        rows.append(_row(f"  {kind}", f"{counted(count, meaning.unit)}: {meaning.means}{remedy}"))
    if result.tally.example:
        rows.append(_row("  for example", result.tally.example))
    return rows


def _generator(result: Result) -> str:
    cores = [f"{effort.cores:.2f}" for effort in result.efforts]
    which = "1 process" if len(cores) == 1 else f"{len(cores)} processes"
    text = f"{which}, busy for {' and '.join(cores)} of a core"
    if result.settings["rate"] is not None and result.tally.sent:
        mean_us = result.tally.late_sum_ns / result.tally.sent / 1000
        text += f"; sent {_micros(mean_us)} late on average, {_micros(result.tally.late_ns / 1000)} at most"
    return text


def _row(name: str, text: str) -> str:
    return f"  {name:<{_WIDTH}}  {text}".rstrip()


def _micros(us: float) -> str:
    for limit, over, unit in ((1000, 1, "µs"), (1_000_000, 1000, "ms")):
        if us < limit:
            return f"{us / over:.{2 if us / over < 100 else 1}f} {unit}"
    return f"{us / 1_000_000:.2f} s"


def _rate(per_second: float) -> str:
    return f"{per_second:,.0f}" if per_second >= 100 else f"{per_second:.3g}"


def _time(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds < 100 else f"{seconds:,.0f} s"


def _bytes(amount: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if amount < 1024:
            return f"{amount:.{0 if unit == 'B' else 1}f} {unit}"
        amount /= 1024
    return f"{amount:.2f} GiB"


def progress_text(seconds: float, answered: int, rate: float, errors: int) -> str:
    """One line while it runs."""
    return f"{seconds:.0f} s · {counted(answered, 'replies')} · {rate:,.0f} a second · {counted(errors, 'errors')}"
