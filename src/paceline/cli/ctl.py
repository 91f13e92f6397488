"""`paceline ctl`: look at a running server, and ask it something.

The options stand before the command or behind it; behind it counts.  What the commands do is in controlling.py.
"""

import sys
from collections.abc import Callable, Sequence
from typing import Any

import click

from paceline.cli import controlling
from paceline.cli.controlling import Given
from paceline.cli.options import CommandGroup, NamedCommand, subcommand, value_of
from paceline.cli.serve import closing_options
from paceline.cli.streams import check_output, open_missing_standard_descriptors
from paceline.errors import HostError, SettingError, UsageError
from paceline.settings.values import Seconds, Whole

_INTRODUCTION = """\
Look at a running server, and ask it something.

\b
  paceline ctl status                the workers, their calls and connections, and what is wrong
  paceline ctl health                exit code 0 or 1: for containers and load balancers
  paceline ctl reload                present code and settings, without losing a connection
  paceline ctl scale 4
  paceline ctl dump                  where every thread is, also when all of them hang

The server is found by itself if one of yours runs; --pid or --control says which one is meant. status and health read
the server's memory and ask nobody: they work when nothing answers any more.
"""

_EPILOG = """\
Exit codes: 0 done, or healthy; 1 unhealthy, or it failed, and standard error says why; 2 wrong usage, or several
servers run and none was named; 3 no server, or it cannot be reached; 5 it broke off; 130 Ctrl-C: what was
asked goes on.
"""

_PID = Whole(low=1, high=1 << 22)
_SLOT = Whole(low=0, high=1_000_000)
_TIMEOUT = Seconds(low=0.001, high=7 * 86400.0, word="off")
_OVER = Seconds(low=0.01, high=3600.0)
_OVER_S = 0.2
_MOST_WORKERS = 1_000_000


def _given(context: click.Context) -> Given:
    """The options before the command and behind it.  Raises SettingError, UsageError."""
    open_missing_standard_descriptors()  # before anything is opened: it would get their numbers
    check_output()
    if sys.platform != "linux":
        raise HostError(f"Paceline serves on Linux only, and this is {sys.platform}; ask on the server's machine")
    levels = [level.params for level in (context.parent, context) if level is not None]
    control, pid, timeout = (
        next((level[name] for level in reversed(levels) if level.get(name) is not None), None)
        for name in ("control", "pid", "timeout")
    )
    if control is not None and pid is not None:
        raise UsageError("--control and --pid both name a server; give one of them")
    if control in ("", "auto", "off"):
        raise UsageError(f"--control {control or repr(control)}: must be the path of a server's control socket")
    return Given(
        control,
        value_of("--pid", _PID, pid),
        any(level.get("json_") for level in levels),
        value_of("--timeout", _TIMEOUT, timeout),
        timeout is not None,
    )


# The commands


def _status(context: click.Context, over: str | None, **_: Any) -> int:
    return controlling.status(_given(context), value_of("--over", _OVER, over, _OVER_S))


def _health(context: click.Context, **_: Any) -> int:
    return controlling.health(_given(context))


def _reload(context: click.Context, **_: Any) -> int:
    return controlling.ask(_given(context), {"do": "reload"})


def _upgrade(context: click.Context, **_: Any) -> int:
    return controlling.ask(_given(context), {"do": "upgrade"})


def _scale(context: click.Context, number: str, **_: Any) -> int:
    sign, digits = (number[0], number[1:]) if number[:1] in ("+", "-") else ("", number)
    count = int(digits) if digits.isascii() and digits.isdecimal() and len(digits) < 8 else 0
    if not 1 <= count <= _MOST_WORKERS:
        raise SettingError(f"scale {number or repr(number)}: must be how many workers there shall be, or +N or -N")
    request = {"do": "scale", "by": int(sign + digits)} if sign else {"do": "scale", "workers": count}
    return controlling.ask(_given(context), request)


def _drain(context: click.Context, slot: str, **_: Any) -> int:
    return controlling.ask(_given(context), {"do": "drain", "slot": value_of("drain", _SLOT, slot)})


def _stop(context: click.Context, now: bool, **_: Any) -> int:
    return controlling.stop(_given(context), now=now)


def _dump(context: click.Context, **_: Any) -> int:
    return controlling.dump(_given(context))


def _config(context: click.Context, **_: Any) -> int:
    return controlling.config(_given(context))


# The command line


class ScaleCommand(NamedCommand):
    """`scale -1` means a number, not an option."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        numbers = [at for at, word in enumerate(args) if word[:1] == "-" and word[1:].isdecimal()]
        if numbers and "--" not in args:
            number = args.pop(numbers[0])
            args = [*args, "--", number]
        return super().parse_args(ctx, args)


def _options(*, waits: bool = True) -> list[click.Parameter]:
    """Those that every command has; `waits`: it asks, and waits for an answer."""
    found: list[click.Parameter] = [
        click.Option(["--pid"], type=click.UNPROCESSED, metavar="N", help="The server whose supervisor this is."),
        click.Option(
            ["--control"],
            type=click.UNPROCESSED,
            metavar="PATH",
            help="The server that is asked at this socket. [PACELINE_CONTROL]",
        ),
        click.Option(["--json", "json_"], is_flag=True, help="JSON, one object a line."),
    ]
    if waits:
        found.append(
            click.Option(
                ["--timeout"],
                type=click.UNPROCESSED,
                metavar="TIME|off",
                help="So long the end of what was asked is waited for; it goes on all the same. "
                "[default off; stop: --drain-timeout and 10s]",
            )
        )
    return [*found, *closing_options()]


def _sub(
    name: str,
    callback: Callable[..., int],
    short: str,
    more: str = "",
    parameters: Sequence[click.Parameter] = (),
    kind: type[NamedCommand] = NamedCommand,
    *,
    waits: bool = True,
) -> click.Command:
    its = [*parameters, *_options(waits=waits)]
    return subcommand(name, click.pass_context(callback), short, more, its, kind)


_COMMANDS = [
    _sub(
        "status",
        _status,
        "Show the workers, and what is wrong.",
        "Two looks at the server's memory; nobody is asked. A call that is the same in both has run for at least the "
        "time between them.",
        [
            click.Option(
                ["--over"], type=click.UNPROCESSED, metavar="TIME", help="The time between the looks. [default 200ms]"
            )
        ],
        waits=False,
    ),
    _sub(
        "health",
        _health,
        "Exit code 0: new work is taken; 1: it is not.",
        "One line says why. Unhealthy is a server that does not run, of which no worker serves, or whose workers have "
        "all their threads inside calls of which none ends within a second. Nobody is asked.",
        waits=False,
    ),
    _sub(
        "reload",
        _reload,
        "Serve with the present code and settings.",
        "Waits until it is done. When it fails the old workers go on, the exit code is 1, and standard error shows the "
        "traceback.",
    ),
    _sub(
        "upgrade",
        _upgrade,
        "Let a new Paceline or Python take over in the same process.",
        "Waits until it is done; the listeners and the connections stay.",
    ),
    _sub(
        "scale",
        _scale,
        "Have so many workers, or so many more or fewer.",
        "N is a number such as 4, or +1, or -1. Fewer: the last ones hand over their connections and leave.",
        [click.Argument(["number"], type=click.UNPROCESSED, metavar="N")],
        kind=ScaleCommand,
    ),
    _sub(
        "stop",
        _stop,
        "Stop the server, and wait until it is gone.",
        "Calls have --drain-timeout to finish, as after SIGTERM.",
        [click.Option(["--now"], is_flag=True, help="At once: calls that run are cut.")],
    ),
    _sub(
        "drain",
        _drain,
        "Replace one worker: a new one starts, then it leaves.",
        "SLOT is the number of the worker that status shows.",
        [click.Argument(["slot"], type=click.UNPROCESSED, metavar="SLOT")],
    ),
    _sub(
        "dump",
        _dump,
        "Show where every thread of every worker is.",
        "Also when all of them hang: a worker that cannot answer is looked into by C code, and one that is stopped is "
        "said to be.",
    ),
    _sub("config", _config, "Show the settings that count now, as TOML."),
]

ctl = CommandGroup(
    "ctl",
    help=_INTRODUCTION,
    epilog=_EPILOG,
    short_help="Look at a running server, and ask it something.",
    params=_options(),
    commands=_COMMANDS,
)
