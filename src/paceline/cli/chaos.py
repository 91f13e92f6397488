"""`paceline chaos`: options into a plan, a table onto standard output, broken promises into an exit code.

What starts servers and breaks them is imported when the command runs: `paceline serve` starts without it.
"""

import json
import os
import secrets
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import click

from paceline.cli.options import GroupedCommand, options_of, unwritable, value_of
from paceline.cli.serve import closing_options
from paceline.cli.streams import check_output, complain, open_missing_standard_descriptors, show
from paceline.errors import HostError, UsageError
from paceline.settings.values import Number, Seconds, Whole

_INTRODUCTION = """\
Start a server, load it, break it again and again, and see whether it keeps its promises: every message that could be
answered was, once and in order; who is disconnected had been served by a worker that was killed; nothing is left.

\b
  paceline chaos                                       the application in the box, for a minute
  paceline chaos --faults kill,reload --count 100
  paceline chaos app:answer --message hello --echo     your own handler, with the faults that need no help of it
  paceline chaos --list                                the faults, and what each may cost

Everything happens in processes that it starts itself, on this machine, and that are gone at the end. No server that
runs already is touched.
"""

_EPILOG = """\
--seed repeats the order of the faults, and all that is left to chance in them. Times are seconds, or like 500ms, 2m,
1h; rates and counts are numbers, or like 2k. In TEXT \\r \\n \\t \\0 \\\\ and \\xHH stand for the bytes that they stand
for in Python.

Ctrl-C or SIGTERM ends the faults, and shows what was found so far. The table goes to standard output, progress to
standard error.

Exit codes: 0 every promise was kept, 1 one was broken (what, and how to repeat it, stands under the table) or a bug of
ours, 2 wrong usage, 3 could not start.
"""


class Count(Whole):
    """A count, also with k behind it, which is a thousand here."""

    units = {"": (1, 1), "k": (1000, 1), "m": (1_000_000, 1)}  # noqa: RUF012 - as its root has it


class PerSecond(Number):
    """A rate of messages."""

    units = {  # noqa: RUF012 - as its root has it
        unit + tail: by for tail in ("", "/s") for unit, by in {"": (1, 1), "k": (1000, 1)}.items()
    }

    @property
    def body(self) -> str:
        return f"messages per second, {self.low:g} to {self.high:g}, such as 500 or 2k"


_LASTING = Seconds(low=0.1, high=7 * 86400.0)
_PAUSE = Seconds(low=0, high=3600.0)
_COUNT = Count(low=1, high=10_000_000)
_SEED = Whole(low=0, high=(1 << 64) - 1)
_CONNECTIONS = Whole(low=1, high=20_000)
_ATTACKERS = Count(low=1, high=10_000_000)
_HOLD = Seconds(low=0.1, high=86400.0)
_DEADLINE = Seconds(low=1.0, high=3600.0)
_WORKERS = Whole(low=1, high=64)
_RATE = PerSecond(low=0.1, high=100_000)

_GROUPS: Mapping[str, Sequence[tuple[tuple[str, ...], str, str]]] = {
    "How long": (
        (("--for", "lasting"), "TIME", "Break things for so long. [default 60s, without --count]"),
        (("--count", "count"), "N", "Break so many things, if --for does not end it before."),
        (("--seed", "seed"), "N", "Repeat the run of this seed. [default: another one each time, and shown]"),
    ),
    "What is broken": (
        (("--faults", "faults"), "NAME,NAME|all", "Only these. [default: see --list]"),
        (("--attackers", "attackers"), "N", "Clients of each abuse; of flood, in a second. [default: see --list]"),
        (("--hold", "hold"), "TIME", "An abuse without an end of its own goes on so long. [default 3s]"),
        (("--deadline", "deadline"), "TIME", "The server's time limits for peers, in abuses. [default 3s]"),
        (("--pause", "pause"), "TIME", "Between two faults, on average. [default 300ms]"),
        (("--list", "list_"), "", "Show the faults, and end."),
    ),
    "The load": (
        (("-c", "--connections", "connections"), "N", "Clients; four of five stay connected. [default 100]"),
        (("--rate", "rate"), "N/s", "So many messages a second in all. [default 500]"),
        (("-m", "--message", "message"), "TEXT", "What TARGET is sent. [default hello]"),
        (("--framing", "framing"), "TEXT", "As for serve. [default: what TARGET says]"),
        (("--echo", "echo"), "", "TARGET echoes; its replies are checked. [default: any reply counts]"),
    ),
    "The server": (
        (("-w", "--workers", "workers"), "N", "Worker processes. [default 2]"),
        (("--set", "set_"), "NAME=VALUE", "A setting of serve, such as threads=8; may be given several times."),
    ),
    "Output": (
        (("--json", "json_"), "", "The result as JSON, with the schedule."),
        (("--report", "report"), "FILE", "Write that to a file, besides."),
        (("--server-log", "server_log"), "FILE", "Keep what the server said, as JSON lines."),
        (("--quiet", "quiet"), "", "No progress."),
    ),
}  # fmt: skip


def _run(target: str | None, list_: bool, json_: bool, quiet: bool, report: str | None, **given: Any) -> int:
    open_missing_standard_descriptors()  # before anything is opened: it would get their numbers
    check_output()
    if list_:
        show(_list_of_faults())
        return 0
    if sys.platform != "linux":
        raise HostError(f"Paceline serves on Linux only, and this is {sys.platform}; use a Linux machine or container")
    from paceline.chaos.report import text_of
    from paceline.chaos.run import run

    plan = _plan(target, given)
    with _report_file(report) as write, _progress(plan, quiet=quiet) as on_progress:
        result = run(plan, on_progress)
        text = json.dumps(result.to_json()) + "\n"
        write(text)
    show(text if json_ else text_of(result))
    return 1 if result.broken else 0


def _list_of_faults() -> str:
    from paceline.chaos.catalogue import ROWS

    lines = ["Faults, and what may be lost by each; * in a run that names none, o not for a TARGET of yours.", ""]
    for row in ROWS:
        marks = ("*" if row.is_default else " ") + ("o" if row.ours else " ")
        cost = f"may cost: {row.loses.value}"
        lines += [f"  {marks} {row.name:<12}{row.does}", f"{'':17}{cost}"]
        if row.attackers:
            lines[-1] += f"; an abuse by {row.attackers:,}"
    return "\n".join(lines) + "\n"


def _plan(target: str | None, given: Mapping[str, Any]) -> Any:
    from paceline.chaos.catalogue import chosen
    from paceline.chaos.plan import Plan

    for option in ("message", "framing", "echo"):
        if target is None and given[option]:
            raise UsageError(f"--{option} is for a TARGET of yours; the application in the box has its own messages")
    count = value_of("--count", _COUNT, given["count"])
    seed = value_of("--seed", _SEED, given["seed"])
    names = [name for name in (given["faults"] or "").split(",") if name]
    framing, is_told = "line", True
    if target is not None:
        framing, is_told = _framing(target, given["framing"])
    hold_s = value_of("--hold", _HOLD, given["hold"], 3.0)
    faults = chosen(names, is_ours=target is None)
    has_abuses = any(fault.attackers for fault in faults)
    deadline_s = value_of("--deadline", _DEADLINE, given["deadline"], 3.0)
    connections = value_of("--connections", _CONNECTIONS, given["connections"], 100)
    rate = value_of("--rate", _RATE, given["rate"], 500.0)
    timed = [fault.name for fault in faults if any("{deadline}" in need for need in fault.needs)]
    if timed and connections / rate > deadline_s / 2:
        raise UsageError(
            f"its clients speak every {connections / rate:g} s, and --faults {','.join(timed)} ends who says nothing "
            f"for {deadline_s:g} s: have fewer --connections, a higher --rate, or a longer --deadline"
        )
    return Plan(
        seed=secrets.randbelow(1 << 32) if seed is None else seed,
        faults=faults,
        target=target,
        lasting_s=value_of("--for", _LASTING, given["lasting"], 60.0 if count is None else None),
        count=count,
        pause_s=value_of("--pause", _PAUSE, given["pause"], 0.3),
        attackers=value_of("--attackers", _ATTACKERS, given["attackers"], 0),
        hold_s=hold_s,
        deadline_s=deadline_s,
        patience_s=15.0 + hold_s if has_abuses else 15.0,
        idle_s=5.0 if has_abuses else 1.0,
        connections=connections,
        workers=value_of("--workers", _WORKERS, given["workers"], 2),
        rate=rate,
        message=_message(given["message"]),
        framing=framing,
        is_framing_told=is_told,
        echo=given["echo"],
        settings=tuple(_setting(text) for text in given["set_"]),
        log_path=_emptied(given["server_log"]),
        where=os.getcwd(),
    )


def _emptied(path: str | None) -> str:
    """The absolute path of the file, which is there now, and empty.  Raises UsageError."""
    if path is None:
        return ""
    try:
        with open(path, "wb"):
            return os.path.abspath(path)
    except OSError as error:
        raise unwritable("--server-log", path, error) from None


def _message(text: str | None) -> bytes:
    from paceline.wire.escapes import NotAnEscapeError, unescaped

    try:
        return unescaped("hello" if text is None else text)
    except NotAnEscapeError as wrong:
        there_are = r"there are \r \n \t \0 \\ and \xHH (two hex digits), a backslash is \\"
        raise UsageError(rf"--message {text!r}: \{wrong.letter} is no escape; {there_are}") from None


_TAKEN = ("bind", "workers", "max-workers", "framing", "heartbeat", "log-format", "control", "config", "pid", "chdir")
"""Settings that chaos itself gives."""


def _setting(text: str) -> str:
    """An option of serve.  Raises UsageError."""
    from paceline.settings.table import BY_KEY, nearest_setting

    name, equals, value = text.partition("=")
    key = name.strip("-").replace("-", "_")
    if not equals or key not in BY_KEY:
        nearest = nearest_setting(name)
        hint = f"; did you mean {nearest.key}?" if nearest and equals else ""
        raise UsageError(f"--set {text!r}: must be NAME=VALUE, a setting of `paceline serve`{hint}")
    if key.replace("_", "-") in _TAKEN:
        raise UsageError(f"--set {text!r}: chaos gives this setting itself")
    return f"{BY_KEY[key].option}={value}"


def _framing(target: str, given: str | None) -> tuple[str, bool]:
    """The framing of the user's target, and whether the server is to be told it.  Raises what --check says."""
    from paceline.spoken import framing_of

    if given is not None:
        framing_of(given, 1 << 20)
        return given, True
    from paceline.chaos.asking import framing_of_target

    return framing_of_target(target), False


@contextmanager
def _report_file(path: str | None) -> Iterator[Callable[[str], None]]:
    """Opened before the run: who cannot have the file should not wait for it."""
    if path is None:
        yield lambda _text: None
        return
    try:
        with open(path, "w", encoding="utf-8") as file:

            def write(text: str) -> None:
                file.write(text)

            yield write
    except OSError as error:
        raise unwritable("--report", path, error) from None


@contextmanager
def _progress(plan: Any, *, quiet: bool) -> Iterator[Callable[..., None] | None]:
    """A line that changes on a terminal; else only what the run is."""
    if quiet or sys.stderr is None:
        yield None
        return
    from paceline.chaos.report import progress_text
    from paceline.chaos.schedule import first_steps
    from paceline.host import terminal

    complain(f"chaos with seed {plan.seed}: {first_steps(plan.seed, plan.faults, plan.pause_s, 12)}")
    if not terminal.is_there():
        yield None
        return
    last_s = -1.0

    def on_progress(seconds: float, injected: int, fault: str, answered: int, broken: int) -> None:
        nonlocal last_s
        if seconds - last_s >= 0.25:
            last_s = seconds
            with suppress(OSError, ValueError):
                print(f"\r\x1b[K{progress_text(seconds, injected, fault, answered, broken)}", end="", file=sys.stderr)
                sys.stderr.flush()

    try:
        yield on_progress
    finally:
        with suppress(OSError, ValueError):
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


chaos = GroupedCommand(
    "chaos",
    groups=_GROUPS,
    callback=_run,
    help=_INTRODUCTION,
    epilog=_EPILOG,
    short_help="Break a server on purpose, and see what it loses.",
    add_help_option=False,
    context_settings={"max_content_width": 100},
    params=[
        click.Argument(["target"], required=False, type=click.UNPROCESSED, metavar="[TARGET]"),
        *options_of(_GROUPS, several=["set_"]),
        *closing_options(),
    ],
)
