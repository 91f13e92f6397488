"""The commands together, and how every way to end becomes an exit code and one paragraph on standard error.

`run` is the only place where an exception becomes text.  What is raised on purpose names the guilty party and is shown
as it is; anything else is a bug of ours and shown with its traceback.
"""

import contextlib
import platform
import traceback
from collections.abc import Sequence

import click

from paceline import __version__
from paceline.cli.bench import bench
from paceline.cli.chaos import chaos
from paceline.cli.connect import connect
from paceline.cli.ctl import ctl
from paceline.cli.lab import lab
from paceline.cli.options import show_help_alone
from paceline.cli.serve import closing_options, serve
from paceline.cli.streams import NobodyReadsError, complain
from paceline.errors import PacelineError
from paceline.settings.table import nearest_setting
from paceline.settings.values import near

NAME = "paceline"


class Program(click.Group):
    """The command without a subcommand."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if self.get_command(ctx, args[0]) is None and not ctx.resilient_parsing:
            raise click.UsageError(_no_command(args[0], self.list_commands(ctx)), ctx)
        return super().resolve_command(ctx, args)


def _no_command(word: str, commands: Sequence[str]) -> str:
    nearest = near(word, commands)
    if nearest:
        hint = f"did you mean {NAME} {nearest}?"
    elif ":" in word:
        hint = f"to serve it, write {NAME} serve {word}"
    else:
        hint = f"there is {', '.join(commands)}"
    return f"there is no command {word!r}; {hint}"


program = Program(
    NAME,
    callback=click.pass_context(show_help_alone),
    invoke_without_command=True,
    no_args_is_help=False,
    help="Serves plain blocking Python over TCP on every core: worker processes × threads.",
    epilog=f"{NAME} COMMAND --help tells the rest.",
    add_help_option=False,
    params=closing_options(),
    commands=[serve, ctl, connect, bench, chaos, lab],
    context_settings={"max_content_width": 100},
)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code (the list is at `paceline.cli.main`)."""
    try:
        code = program.main(None if arguments is None else list(arguments), prog_name=NAME, standalone_mode=False)
        return code if isinstance(code, int) else 0
    except click.ClickException as error:
        complain(usage_text(error))
        return 2
    except PacelineError as error:
        complain(str(error))
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return 130
    except NobodyReadsError:
        return 141
    except Exception:  # noqa: BLE001 - this is the edge: nobody above could say more
        with contextlib.suppress(OSError, ValueError):
            traceback.print_exc()
        complain(
            f"this is a bug in Paceline {__version__} ({platform.python_implementation()} {platform.python_version()}, "
            f"{platform.system()} {platform.release()}), not in what you wrote; please report it with the lines above"
        )
        return 1


def usage_text(error: click.ClickException) -> str:
    """What click has to say, as a paragraph of ours: what was wrong, the nearest right thing, where to look."""
    context = error.ctx if isinstance(error, click.UsageError) else None
    command = context.command_path if context else NAME
    text = error.format_message()
    if isinstance(error, click.NoSuchOption):
        text = _no_option(error.option_name, context)
    text = text[:1].lower() + text[1:].rstrip(".")
    return f"{text}{'' if text.endswith('?') else ';'} `{command} --help` shows what there is"


def _no_option(written: str, context: click.Context | None) -> str:
    of_serve = {name for parameter in serve.params for name in parameter.opts}
    if context is None or (context.command is not serve and written in of_serve):
        return f"{written} belongs behind the command: {NAME} serve {written}"
    options = [name for parameter in context.command.get_params(context) for name in parameter.opts if name[:2] == "--"]
    setting = nearest_setting(written) if context.command is serve else None
    by_other_name = setting is not None and written.strip("-").replace("-", "_") in setting.also
    nearest = setting.option if setting and by_other_name else near(written, options)
    return f"there is no option {written}" + (f"; did you mean {nearest}?" if nearest else "")
