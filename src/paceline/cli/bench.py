"""`paceline bench`: options into a plan, a result onto standard output.

What measures is imported when the command runs: `paceline serve` starts without it.
"""

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

import click

from paceline.cli.options import GroupedCommand, options_of, value_of
from paceline.cli.serve import closing_options
from paceline.cli.streams import check_output, complain, open_missing_standard_descriptors, show
from paceline.errors import UsageError
from paceline.settings.values import Choice, Number, Rate, Seconds, Size, Whole

_INTRODUCTION = """\
Load a server and measure it: throughput, latencies, errors.

\b
  paceline bench                               127.0.0.1:8888, 64 connections, 64 bytes, for 10 s
  paceline bench :7000 --framing line -c 200 --in-flight 16
  paceline bench :7000 --rate 5k -d 1m --json > a.json
  paceline bench --compare a.json b.json

Closed loop (without --rate): each connection sends its next message when a reply comes; how much can the server do?
Open loop (--rate): messages are due at fixed times, as from users who do not wait for each other, and latency counts
from then; how long do they wait?
"""

_EPILOG = """\
Sizes are bytes, or like 64k, 1.5MiB (powers of 1024). Times are seconds, or like 500ms, 2m, 1h. Counts and rates are
numbers, or like 20k, 1.5m (powers of 1000). In TEXT \\r \\n \\t \\0 \\\\ and \\xHH stand for the bytes that they stand
for in Python.

Ctrl-C or SIGTERM ends the measured time, and shows what was measured so far. The report goes to standard output,
progress and warnings to standard error.

Exit codes: 0 measured, without errors, 1 a bug of ours, 2 wrong usage, 3 could not connect, or out of descriptors or
ports, 5 the other side broke off, did not answer or answered wrongly (what was measured is shown all the same).
"""


class Count(Whole):
    """A count, also with k or m behind it, which are thousands here."""

    units = {"": (1, 1), "k": (1000, 1), "m": (1_000_000, 1)}  # noqa: RUF012 - as its root has it


class PerSecond(Number):
    """A rate of messages."""

    units = {  # noqa: RUF012 - as its root has it
        unit + tail: by for tail in ("", "/s") for unit, by in {"": (1, 1), "k": (1000, 1), "m": (1_000_000, 1)}.items()
    }

    @property
    def body(self) -> str:
        return f"messages per second, {self.shown(self.low)} to {self.shown(self.high)}, such as 500 or 20k"

    def shown(self, value: float) -> str:
        return f"{value:g}" if value < 1000 or value % 1000 else f"{int(value // 1000)}k"


_COUNT = Whole(low=1, high=1_000_000)
_SMALL = Whole(low=1, high=10_000)
_MANY = Count(low=1, high=10**12)
_LASTING = Seconds(low=0.001, high=7 * 86400.0)
_WARMUP = Seconds(low=0, high=3600.0)
_PATIENCE = Seconds(low=0.001, high=3600.0)
_SIZE = Size(low=1, high=64 << 20)
_LIMIT = Size(low=1, high=1 << 30)
_RATE = PerSecond(low=0.001, high=10_000_000)
_READING = Rate(low=1, high=1 << 30)
_REPLY = Size(low=1, high=64 << 20, word="any", means=0)
_FORM = Choice(choices=("lines", "framed"))
_PROCESSES = Whole(low=1, high=256)

_GROUPS: Mapping[str, Sequence[tuple[tuple[str, ...], str, str]]] = {
    "How much": (
        (("-c", "--connections", "connections"), "N", "Connections, all at once. [default 64]"),
        (("--in-flight", "in_flight"), "N", "Messages under way on each connection. [default 1]"),
        (("-d", "--duration", "duration"), "TIME", "How long messages are sent. [default 10s, without -n]"),
        (("-n", "--count", "count"), "N", "How many messages are sent, if -d does not end it before."),
        (("--rate", "rate"), "N/s", "Open loop: so many messages a second in all, whatever becomes of them."),
        (("--warmup", "warmup"), "TIME", "Load before it is measured. [default 500ms, 0 with -n]"),
        (("--processes", "processes"), "N", "Load processes, which share connections, count and rate. [default 1]"),
    ),
    "What is sent": (
        (("-s", "--size", "size"), "SIZE", "Size of a message, without what the framing adds. [default 64]"),
        (("-m", "--message", "message"), "TEXT", "This message."),
        (("--messages", "messages"), "FILE", "The messages of this file, in turn, each connection from another on."),
        (("--messages-as", "messages_as"), "lines|framed", "One per line, or in the framing. [default lines]"),
        (("--framing", "framing"), "TEXT", "As for serve, or module:attribute, file.py:attribute. [default raw]"),
        (("--max-message", "max_message"), "SIZE", "Longer replies are an error. [default 1MiB]"),
        (("--reply-size", "reply_size"), "SIZE|any",
            "For raw: the size of a reply, or any: what arrives at once is one. [default that of the message]"),
    ),
    "How": (
        (("--new-connection", "new_connection"), "", "A new connection for each message, in its latency, too."),
        (("--slow-client", "slow_client"), "RATE", "Each connection reads no faster than this, such as 1k/s."),
        (("--timeout", "timeout"), "TIME", "For a connection, and for a reply. [default 10s]"),
        (("--check", "check"), "", "Compare each reply with the message sent."),
    ),
    "Output": (
        (("--json", "json_"), "", "The result as JSON, which --compare reads."),
        (("--quiet", "quiet"), "", "No progress."),
        (("--compare", "compare"), "", "Load nothing; compare two results: --compare FIRST.json SECOND.json."),
    ),
}  # fmt: skip


def _run(words: tuple[str, ...], compare: bool, json_: bool, quiet: bool, **given: Any) -> int:
    open_missing_standard_descriptors()  # before anything is opened: it would get their numbers
    check_output()
    if compare:
        return _compare(words, json_)
    if len(words) > 1:
        raise UsageError(f"bench loads one address, and these are {len(words)}: {' '.join(words)}")
    from paceline.addresses import DEFAULT_PORT, parse_address
    from paceline.bench import progress
    from paceline.bench.report import text_of
    from paceline.bench.run import measure
    from paceline.bench.verdicts import blames_us, nothing_answered

    address = parse_address(words[0] if words else f"127.0.0.1:{DEFAULT_PORT}")
    plan = _plan(address.text, given)
    with progress.shown(plan, quiet=quiet) as on_progress:
        result = measure(plan, address, on_progress)
    if not result.tally.answered and result.tally.errors and not result.is_interrupted:
        raise nothing_answered(plan, result.tally)
    show(json.dumps(result.to_json()) + "\n" if json_ else text_of(result))
    for warning in result.warnings:
        complain(warning)
    if blames_us(result.tally.errors):
        return 3
    return 5 if result.tally.errors else 0


def _plan(address: str, given: Mapping[str, Any]) -> Any:
    from paceline.bench.messages import on_the_wire
    from paceline.bench.plan import ANY, DEFAULT_DURATION_S, WARMUP_S, Plan
    from paceline.spoken import framing_of, is_ours

    limit = value_of("--max-message", _LIMIT, given["max_message"], 1 << 20)
    text = given["framing"] or "raw"
    framing = framing_of(text, limit)
    messages, source = _messages(given, framing, limit)
    on_the_wire(messages, framing, is_ours=is_ours(text))
    count = value_of("-n", _MANY, given["count"])
    duration = value_of("-d", _LASTING, given["duration"], DEFAULT_DURATION_S if count is None else None)
    reply_size = value_of("--reply-size", _REPLY, given["reply_size"])
    return Plan(
        address=address,
        messages=messages,
        source=source,
        connections=value_of("-c", _COUNT, given["connections"], 64),
        in_flight=value_of("--in-flight", _SMALL, given["in_flight"], 1),
        duration_s=duration,
        count=count,
        rate=value_of("--rate", _RATE, given["rate"]),
        framing=text,
        max_message=limit,
        reply_size=ANY if reply_size == 0 else reply_size,
        new_connection=given["new_connection"],
        slow_bytes_s=value_of("--slow-client", _READING, given["slow_client"]),
        processes=value_of("--processes", _PROCESSES, given["processes"], 1),
        warmup_s=value_of("--warmup", _WARMUP, given["warmup"], WARMUP_S if count is None else 0.0),
        timeout_s=value_of("--timeout", _PATIENCE, given["timeout"], 10.0),
        check=given["check"],
    )


def _messages(given: Mapping[str, Any], framing: Any, limit: int) -> tuple[tuple[bytes, ...], str]:
    """The messages, and what to call them."""
    from paceline.bench.messages import framed_in, generated, lines_of, written
    from paceline.bench.troubles import counted

    ways = [name for name in ("size", "message", "messages") if given[name] is not None]
    if len(ways) > 1:
        raise UsageError(f"--{ways[0]} and --{ways[1]} both say what is sent: give one of them")
    if given["messages_as"] is not None and given["messages"] is None:
        raise UsageError("--messages-as says how to read the file of --messages, which is missing")
    if given["message"] is not None:
        message = written(given["message"])
        return (message,), f"{counted(len(message), 'bytes')} given"
    if given["messages"] is not None:
        name = f"--messages {given['messages']}"
        content = _content(given["messages"], name)
        form = value_of("--messages-as", _FORM, given["messages_as"], "lines")
        found = framed_in(content, framing, name) if form == "framed" else lines_of(content, name)
        return found, f"{counted(len(found), 'messages')} of {os.path.basename(given['messages'])}"
    fixed = getattr(framing, "size", None)
    size = value_of("-s", _SIZE, given["size"], fixed if type(fixed) is int else 64)
    if size > limit:
        raise UsageError(f"-s {size} is over --max-message {limit}: allow more, or send less")
    return (generated(size),), counted(size, "bytes")


def _content(path: str, name: str) -> bytes:
    from paceline.bench.messages import MOST_BYTES

    try:
        with open(path, "rb") as file:
            content = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise UsageError(f"{name}: cannot be read ({error.strerror}); give a file that can be") from None
    if len(content) > MOST_BYTES:
        raise UsageError(f"{name} is over {MOST_BYTES >> 20} MiB, the limit for a file of messages: send a part of it")
    return content


def _compare(words: tuple[str, ...], json_: bool) -> int:
    from paceline.bench import comparison
    from paceline.bench.result import checked

    if len(words) != 2:
        raise UsageError(f"--compare wants two files of `paceline bench --json`, not {len(words)}")
    results = []
    for path in words:
        try:
            with open(path, encoding="utf-8") as file:
                results.append(checked(json.load(file), path))
        except OSError as error:
            raise UsageError(f"{path} cannot be read ({error.strerror}); give a file that can be") from None
        except (ValueError, RecursionError):
            raise UsageError(f"{path} is no JSON; make it by `paceline bench --json > {path}`") from None
    compared = comparison.compare(results[0], results[1], (words[0], words[1]))
    show(json.dumps(compared) + "\n" if json_ else comparison.text_of(compared))
    return 0


bench = GroupedCommand(
    "bench",
    groups=_GROUPS,
    callback=_run,
    help=_INTRODUCTION,
    epilog=_EPILOG,
    short_help="Load a server and measure it.",
    add_help_option=False,
    context_settings={"max_content_width": 100},
    params=[
        click.Argument(["words"], nargs=-1, required=False, type=click.UNPROCESSED, metavar="[ADDRESS]"),
        *options_of(_GROUPS),
        *closing_options(),
    ],
)
