"""What the options of all commands have in common; test_bench.py and the others test it through the commands."""

import click
import pytest

from paceline.cli.options import GroupedCommand, Groups, NamedCommand, options_of, value_of
from paceline.errors import SettingError
from paceline.settings.values import Whole

GROUPS: Groups = {
    "How": ((("-n", "--number", "number"), "N", "So many."), (("--word", "words"), "TEXT", "Again and again.")),
    "Output": ((("--json", "json_"), "", "As JSON."),),
}
COUNT = Whole(low=1, high=10)


def test_a_value_is_read_or_is_the_default() -> None:
    assert value_of("-n", COUNT, "3") == 3
    assert value_of("-n", COUNT, None, 7) == 7


@pytest.mark.parametrize(("raw", "shown"), [("0", "0"), ("", "''"), ("\x1b[2J", r"'\x1b[2J'")])
def test_a_wrong_value_is_shown_as_it_was_written_unless_that_cannot_be_seen(raw: str, shown: str) -> None:
    with pytest.raises(SettingError) as caught:
        value_of("-n", COUNT, raw)
    assert str(caught.value).startswith(f"-n {shown}: must be a whole number from 1 to 10")


def test_rows_are_options_and_flags_and_some_may_come_several_times() -> None:
    number, words, json = options_of(GROUPS, several=["words"])
    assert isinstance(number, click.Option)
    assert not number.multiple
    assert isinstance(words, click.Option)
    assert words.multiple
    assert isinstance(json, click.Option)
    assert json.is_flag


def test_help_is_grouped_and_an_argument_is_no_option() -> None:
    params = [click.Argument(["target"]), *options_of(GROUPS), click.Option(["--other"], is_flag=True, help="Rest.")]
    command = GroupedCommand("try", groups=GROUPS, params=params, add_help_option=False)
    text = command.get_help(click.Context(command, info_name="try"))
    how, output, rest = (text.index(title) for title in ("How:", "Output:", "This command:"))
    assert how < text.index("--number N") < output < text.index("--json") < rest < text.index("--other")


def test_whose_options_are_wrong_is_known() -> None:
    command = NamedCommand("try", params=[])
    with pytest.raises(click.UsageError) as caught:
        command.make_context("try", ["--nothing"])
    assert caught.value.ctx is not None
