"""`paceline serve`: the rows of the settings table as options.

click only splits the line into words; every value goes to the settings as the text it is, which are checked in one
place for all sources.
"""

import os
from collections.abc import Callable, Sequence

import click
from click.shell_completion import CompletionItem

from paceline import __version__
from paceline.cli import config, launch
from paceline.cli.options import NamedCommand
from paceline.cli.streams import open_missing_standard_descriptors, show
from paceline.settings.manual import print_config
from paceline.settings.sources import CommandLine, Environment, Resolved, Source, lay
from paceline.settings.table import GROUPS, TABLE, Setting
from paceline.settings.values import Choice

_SPELLED = "paceline.cli.serve"
"""The key under which a click context keeps which options were written short."""

_INTRODUCTION = """\
Serve TARGET: module:attribute, path/to/file.py:attribute, or the built-in echo.

\b
  paceline serve                          echoes, on 127.0.0.1:8888
  paceline serve app:answer -b :7000      the function answer of app.py, on all interfaces
  paceline serve chat.py:room --as connection --workers 2
"""

_EPILOG = f"""\
Every setting can also stand in the environment or in the file, under the name in brackets or without PACELINE_ in small
letters: threads = 8. The command line overrides the environment, which overrides the file, which overrides the default.

Sizes are bytes, or like 64k, 1.5MiB (powers of 1024). Times are seconds, or like 500ms, 2m, 1h. auto and off can be
written to take back what the file or the environment says.

Exit codes: 0 ended cleanly, 1 a bug of ours, 2 wrong usage or setting, 3 could not start, 4 calls were cut when
stopping. Without --config the file is ./paceline.toml, or [tool.paceline] of ./pyproject.toml. {config.VARIABLE} names
a file as --config does.
"""


class ServeCommand(NamedCommand):
    """A command whose help is grouped as the table is, and which knows how an option was spelled."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta[_SPELLED] = short_spellings(args)
        return super().parse_args(ctx, args)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        by_name = {parameter.name: parameter for parameter in self.get_params(ctx)}
        for group, rows in GROUPS.items():
            parameters = [by_name.pop(row.key) for row in rows]
            records = [
                parameter.get_help_record(ctx) for parameter in parameters if isinstance(parameter, click.Option)
            ]
            target = [("TARGET", _help(row)) for row in rows if row.name == "target"]
            _write(formatter, group, target + records)
        _write(formatter, "This command", [parameter.get_help_record(ctx) for parameter in by_name.values()])


def _write(formatter: click.HelpFormatter, title: str, records: Sequence[tuple[str, str] | None]) -> None:
    with formatter.section(title):
        formatter.write_dl([record for record in records if record])


def short_spellings(arguments: Sequence[str]) -> dict[str, str]:
    """By key: the short spelling, of each option whose last spelling is the short one (-t 8, -t8)."""
    spelled: dict[str, str] = {}
    for word in arguments:
        if word == "--":
            break
        for row in TABLE:
            if word.partition("=")[0] == row.option:
                spelled.pop(row.key, None)
            elif row.short and word.startswith(row.short):
                spelled[row.key] = row.short
    return spelled


def _option(row: Setting) -> click.Option:
    return click.Option(
        [*([row.short] if row.short else []), row.option, row.key],
        type=click.UNPROCESSED,
        multiple=row.kind.is_list,
        metavar=row.kind.metavar,
        help=_help(row),
        shell_complete=_completion(row.kind.choices) if isinstance(row.kind, Choice) else None,
    )


def _help(row: Setting) -> str:
    allowed = row.kind.allowed if row.kind.allowed not in row.help else ""
    notes = (f"default {row.default_text}", allowed, row.variable)
    return f"{row.help[0].upper()}{row.help[1:]}. [{'; '.join(filter(None, notes))}]"


def _completion(words: Sequence[str]) -> Callable[[click.Context, click.Parameter, str], list[str]]:
    return lambda _context, _parameter, begun: [word for word in words if word.startswith(begun)]


def at_once(names: list[str], text: Callable[[click.Context], str], help_: str) -> click.Option:
    """An option that shows a text and ends, whatever else was written (--help, --version)."""

    def answer(context: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
        if wanted and not context.resilient_parsing:
            show(text(context))
            context.exit()

    return click.Option(names, is_flag=True, is_eager=True, expose_value=False, callback=answer, help=help_)


def closing_options() -> list[click.Parameter]:
    """--version and --help, which every command has."""
    return [
        at_once(["--version"], lambda _: f"paceline {__version__}\n", "Show the version."),
        at_once(["-h", "--help"], lambda context: context.get_help() + "\n", "Show this text."),
    ]


def _run(
    context: click.Context,
    config_file: str | None,
    check: bool,
    print_: bool,
    dev: bool,
    **values: str | tuple[str, ...] | None,
) -> int:
    open_missing_standard_descriptors()  # before anything is opened: it would get their numbers
    written = {key: raw for key, raw in values.items() if raw not in (None, ())}

    counting = _config_file(config_file)

    def look() -> Resolved:
        sources: list[Source] = [CommandLine(written, context.meta[_SPELLED]), Environment(os.environ)]
        file = counting.read()
        if file is not None:
            sources.append(file)
        return lay(sources)

    again = launch.Again(look, counting)
    resolved, left = again.first()
    launch.warn_of_unknown(os.environ, resolved.settings.log_format)
    if print_:
        launch.checked(resolved)
        show(print_config(resolved))
        if not check:
            return 0
    return launch.launch(resolved, check=check, again=again, is_command=True, dev=dev, left=left)


def _config_file(named: str | None) -> config.ConfigFile:
    if named is not None:
        return config.ConfigFile(named, f"--config {named or repr(named)}")
    from_environment = os.environ.get(config.VARIABLE)
    if from_environment:
        return config.ConfigFile(from_environment, f"{config.VARIABLE}={from_environment}")
    return config.ConfigFile(None, "")


serve = ServeCommand(
    "serve",
    callback=click.pass_context(_run),
    help=_INTRODUCTION,
    epilog=_EPILOG,
    short_help="Serve a handler over TCP.",
    add_help_option=False,
    context_settings={"max_content_width": 100},
    params=[
        click.Argument(["target"], required=False, type=click.UNPROCESSED, metavar="[TARGET]"),
        *(_option(row) for row in TABLE if row.name != "target"),
        click.Option(
            ["--config", "config_file"],
            metavar="FILE",
            help=f"A TOML file with settings. [default ./paceline.toml, ./pyproject.toml; {config.VARIABLE}]",
            shell_complete=lambda _context, _parameter, begun: [CompletionItem(begun, type="file")],
        ),
        click.Option(["--dev"], is_flag=True, help="Reload when a .py or .toml file changes. Needs paceline[watch]."),
        click.Option(["--check"], is_flag=True, help="Load everything, the target included, and serve nothing."),
        click.Option(
            ["--print-config", "print_"], is_flag=True, help="Show all settings as TOML, and where each comes from."
        ),
        *closing_options(),
    ],
)
