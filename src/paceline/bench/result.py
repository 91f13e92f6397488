"""What a run found, and the JSON of it.  Pure.

The schema, version 1; a reader refuses another version, and ignores names it does not know:

    format, version          "paceline bench", 1
    paceline, began          the version of Paceline; when the measured time began, seconds since the epoch
    settings                 the plan: address, connections, in_flight, duration_s, count, rate (null: closed loop),
                             framing, max_message, reply_size (0: any), new_connection, slow_bytes_s, processes,
                             warmup_s, timeout_s, check, source, messages {count, bytes, sha256 (its first 16 digits)}
    machine                  processor, cores, usable_cores, memory_mib, kernel, python, load_average, …
    seconds                  how long was measured
    interrupted, gone        ended by Ctrl-C; given up, and why (null: not)
    messages                 sent; answered; in_time: of those, before the end of the measured time
    per_second               messages (in_time / seconds), sent_bytes, received_bytes (before the end, too)
    latency_us               mean, min, p50, p75, p90, p99, p99.9, p99.99, max; within 1 %, and max as it was; null:
                             nothing was answered
    errors                   by kind, how many; none: empty.  The kinds and units are in troubles.py
    example                  what the first strange reply looked like, or ""
    connections              made in the measured time: again, or with --new-connection
    generator                processes [{seconds, busy_seconds, starved_seconds}], late_mean_us, late_max_us (open loop:
                             how late the generator sent), waited (open loop: messages that waited for a connection)
    warnings                 what to keep in mind, as sentences
    histogram                scheme, counts [[bucket, count], …]: from it come the percentiles, and counts of several
                             runs add.  Bucket b < 256 is b ns; else with s = (b >> 7) - 1 it is all from
                             (b - (s << 7)) << s to before (b - (s << 7) + 1) << s
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from paceline.bench.latency import SCHEME, Latencies
from paceline.bench.tally import Effort, Tally
from paceline.bench.troubles import Kind
from paceline.bench.verdicts import warnings
from paceline.errors import UsageError

FORMAT, VERSION = "paceline bench", 1
MOST = 1e18
"""No figure in a file is over it."""
PERCENTS = (50, 75, 90, 99, 99.9, 99.99)


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One run.  `settings` and `machine` are as in the schema."""

    settings: Mapping[str, Any]
    machine: Mapping[str, Any]
    paceline: str
    began_at: float
    seconds: float
    tally: Tally
    efforts: Sequence[Effort]
    is_interrupted: bool = False
    gone: Kind | None = None

    @property
    def per_second(self) -> float:
        """Messages answered in a second of the measured time."""
        return self.tally.in_time / self.seconds if self.seconds > 0 else 0.0

    @property
    def warnings(self) -> list[str]:
        """What to keep in mind."""
        return warnings(
            self.settings["rate"],
            self.tally,
            self.efforts,
            self.seconds,
            usable_cores=len(self.machine.get("usable_cores", [0])),
            gone=self.gone,
        )

    def latency_us(self) -> dict[str, float] | None:
        """The figures of the schema."""
        return latency_us(self.tally.latencies)

    def to_json(self) -> dict[str, Any]:
        """By the schema."""
        tally, seconds = self.tally, max(self.seconds, 1e-9)
        return {
            "format": FORMAT,
            "version": VERSION,
            "paceline": self.paceline,
            "began": round(self.began_at, 3),
            "settings": dict(self.settings),
            "machine": dict(self.machine),
            "seconds": round(self.seconds, 6),
            "interrupted": self.is_interrupted,
            "gone": None if self.gone is None else str(self.gone),
            "messages": {"sent": tally.sent, "answered": tally.answered, "in_time": tally.in_time},
            "per_second": {
                "messages": round(self.per_second, 3),
                "sent_bytes": round(tally.sent_bytes / seconds, 1),
                "received_bytes": round(tally.received_bytes / seconds, 1),
            },
            "latency_us": self.latency_us(),
            "errors": {str(kind): count for kind, count in sorted(tally.errors.items()) if count},
            "example": tally.example,
            "connections": tally.connections,
            "generator": {
                "processes": [
                    {
                        "seconds": round(effort.seconds, 6),
                        "busy_seconds": round(effort.busy_seconds, 6),
                        "starved_seconds": round(effort.starved_seconds, 6),
                    }
                    for effort in self.efforts
                ],
                "late_mean_us": round(tally.late_sum_ns / tally.sent / 1000, 3) if tally.sent else 0.0,
                "late_max_us": round(tally.late_ns / 1000, 3),
                "waited": tally.waited,
            },
            "warnings": self.warnings,
            "histogram": {"scheme": SCHEME, "counts": tally.latencies.to_json()},
        }


def latency_us(latencies: Latencies) -> dict[str, float] | None:
    """Mean, extremes and percentiles in microseconds; None when there is nothing."""
    if not latencies.counts:
        return None
    found = zip(PERCENTS, latencies.percentiles(PERCENTS), strict=True)
    figures = {
        "mean": latencies.mean_ns,
        "min": latencies.least_ns,
        **{f"p{percent:g}": ns for percent, ns in found},
        "max": latencies.most_ns,
    }
    return {name: round(ns / 1000, 3) for name, ns in figures.items()}


def checked(read: object, name: str) -> dict[str, Any]:
    """What was read from a file, if it is a result of this version.  Raises UsageError, which names the file."""
    if not isinstance(read, dict) or read.get("format") != FORMAT:
        raise UsageError(f"{name} is no result of `paceline bench --json`")
    if read.get("version") != VERSION:
        raise UsageError(
            f"{name} is a result of version {read.get('version')!r}, and this Paceline reads version {VERSION}: "
            "compare results of one version"
        )
    damage = _damage(read)
    if damage:
        raise UsageError(f"{name} is damaged ({damage}); make it again")
    return read


def _damage(read: Mapping[str, Any]) -> str:
    """What is wrong with a result; nothing if nothing is."""
    for place in ("settings", "machine", "errors", "messages", "per_second", "generator", "histogram"):
        if not isinstance(read.get(place), dict):
            return f"{place} is missing"
    if read["histogram"].get("scheme") != SCHEME:
        return "it has another histogram"
    try:
        Latencies.from_json(read["histogram"].get("counts"))
    except (TypeError, ValueError) as error:
        return f"histogram: {error}"
    figures = {"seconds": read.get("seconds"), "per_second": read["per_second"].get("messages")}
    latency = read.get("latency_us")
    if latency is not None and not isinstance(latency, dict):
        return "latency_us is no table"
    figures.update({f"latency_us of {name!r}": value for name, value in (latency or {}).items()})
    for name, value in figures.items():
        if not _is_number(value):
            return f"{name} is no number"
    for kind, count in read["errors"].items():
        if type(count) is not int or not 0 <= count <= MOST:
            return f"errors of {kind!r} is no count"
    for place in ("settings", "machine"):
        for name, value in read[place].items():
            if not _is_simple(value):
                return f"{place} of {name!r} is neither a value nor a list or table of values"
    said = read.get("warnings", [])
    if type(said) is not list or not all(type(text) is str for text in said):
        return "warnings is no list of sentences"
    return ""


def _is_number(value: object) -> bool:
    """Finite, at least 0, and not so big that arithmetic fails; True is none, nor is "1"."""
    return (type(value) is int or type(value) is float) and 0 <= value <= MOST


def _is_simple(value: object) -> bool:
    parts = value if isinstance(value, list) else value.values() if isinstance(value, dict) else [value]
    return all(part is None or type(part) in (str, bool) or _is_printable(part) for part in parts)


def _is_printable(value: object) -> bool:
    return (type(value) is int or type(value) is float) and abs(value) <= MOST
