"""What the options of all commands have in common: grouped help, options from rows, values with their errors.

click only splits the line into words; every value is read by a kind of settings/values.py, so that a time, a size or a
number is written in the same way everywhere and is refused in the same words.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click

from paceline.cli.streams import show
from paceline.errors import SettingError, UsageError
from paceline.settings.values import Kind, WrongValueError, near

Row = tuple[tuple[str, ...], str, str]
"""An option: its spellings, the last one being the parameter's name; what its value is called, or nothing for a flag;
its help."""
Groups = Mapping[str, Sequence[Row]]


class NamedCommand(click.Command):
    """A command that says whose options are wrong."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            error.ctx = error.ctx or ctx  # the parser does not know whose words it reads
            raise


class GroupedCommand(NamedCommand):
    """A command whose help is grouped; `groups` are its options, besides which it has one argument."""

    def __init__(self, *args: Any, groups: Groups, **keywords: Any) -> None:
        self.groups = groups
        super().__init__(*args, **keywords)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        by_name = {parameter.name: parameter for parameter in self.get_params(ctx)}
        for title, rows in self.groups.items():
            with formatter.section(title):
                records = [by_name.pop(names[-1]).get_help_record(ctx) for names, _, _ in rows]
                formatter.write_dl([record for record in records if record])
        with formatter.section("This command"):
            rest = [parameter.get_help_record(ctx) for parameter in by_name.values() if _is_option(parameter)]
            formatter.write_dl([record for record in rest if record])


MOST_COLUMNS = 100
"""A help text is no wider than that."""


class CommandGroup(click.Group):
    """A command with subcommands, shown in the order in which they were given; without one it shows its help."""

    def __init__(self, name: str, **keywords: Any) -> None:
        super().__init__(
            name,
            callback=click.pass_context(show_help_alone),
            invoke_without_command=True,
            no_args_is_help=False,
            add_help_option=False,
            context_settings={"max_content_width": MOST_COLUMNS},
            subcommand_metavar="COMMAND",
            **keywords,
        )

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            error.ctx = error.ctx or ctx
            raise

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if self.get_command(ctx, args[0]) is None and not ctx.resilient_parsing:
            nearest = near(args[0], list(self.commands))
            hint = f"did you mean {nearest}?" if nearest else f"there are {', '.join(self.commands)}"
            raise click.UsageError(f"{self.name} has no command {args[0]!r}; {hint}", ctx)
        return super().resolve_command(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - as its root has it
        return list(self.commands)


def show_help_alone(context: click.Context, **_: Any) -> None:
    """What a command does that was given no subcommand."""
    if context.invoked_subcommand is None:
        show(context.get_help() + "\n")


def subcommand(
    name: str,
    callback: Callable[..., Any],
    short: str,
    more: str,
    parameters: Sequence[click.Parameter],
    kind: type[NamedCommand] = NamedCommand,
) -> click.Command:
    """One command of a group: `short` stands in the list of commands, `more` below it in its own help."""
    return kind(
        name,
        callback=callback,
        help=f"{short}\n\n{more}",
        short_help=short,
        params=list(parameters),
        add_help_option=False,
        context_settings={"max_content_width": MOST_COLUMNS},
    )


def unwritable(option: str, path: str, error: OSError) -> UsageError:
    """The file that an option names cannot be written."""
    return UsageError(f"{option} {path}: cannot be written ({error.strerror}); give a file that can be")


def options_of(groups: Groups, *, several: Sequence[str] = ()) -> list[click.Parameter]:
    """The options of the rows; those named in `several` may be given several times."""
    return [
        click.Option([*names], type=click.UNPROCESSED, metavar=metavar, help=help_, multiple=names[-1] in several)
        if metavar
        else click.Option([*names], is_flag=True, help=help_)
        for rows in groups.values()
        for names, metavar, help_ in rows
    ]


def value_of(option: str, kind: Kind, raw: str | None, default: Any = None) -> Any:
    """The value that was written behind an option, or the default.  Raises SettingError, in the words of `serve`."""
    if raw is None:
        return default
    try:
        return kind.read(raw)
    except WrongValueError as wrong:
        nearest = f"; the nearest right value is {wrong.nearest}" if wrong.nearest else ""
        shown = raw if raw and raw.isprintable() else repr(raw)
        raise SettingError(f"{option} {shown}: must be {wrong.rule}{nearest}") from None


def _is_option(parameter: click.Parameter) -> bool:
    return isinstance(parameter, click.Option)
