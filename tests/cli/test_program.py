"""cli/program.py: how every way to end becomes an exit code and one paragraph on standard error."""

import platform
import re
import typing
from collections.abc import Callable

import click
import pytest

from paceline import __version__
from paceline.cli.program import usage_text
from paceline.errors import HostError, PeerError, TargetError

if typing.TYPE_CHECKING:
    from cli.conftest import Ended, Supervisor

    Run = Callable[..., Ended]


def test_alone_it_shows_its_help(run: "Run") -> None:
    ended = run()
    assert (ended.code, ended.err) == (0, "")
    for command, about in (
        ("serve", "Serve a handler over TCP."),
        ("connect", ""),
        ("bench", ""),
        ("chaos", ""),
        ("lab", ""),
    ):
        assert re.search(rf"^  {command} +{re.escape(about)}", ended.out, re.MULTILINE)
    assert run("--help") == run("-h") == ended


def test_it_tells_its_version(run: "Run") -> None:
    for arguments in (["--version"], ["serve", "--version"]):
        ended = run(*arguments)
        assert (ended.code, ended.out, ended.err) == (0, f"paceline {__version__}\n", "")


SHOWS = "`paceline --help` shows what there is"
SERVE_SHOWS = "`paceline serve --help` shows what there is"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["serve", "--thread", "3"], f"there is no option --thread; did you mean --threads? {SERVE_SHOWS}"),
        (["serve", "--thread=3"], f"there is no option --thread; did you mean --threads? {SERVE_SHOWS}"),
        (["serve", "--port", "3"], f"there is no option --port; did you mean --bind? {SERVE_SHOWS}"),
        (
            ["serve", "--graceful-timeout", "3"],
            f"there is no option --graceful-timeout; did you mean --drain-timeout? {SERVE_SHOWS}",
        ),
        (["serve", "-p", "3"], f"there is no option -p; did you mean --bind? {SERVE_SHOWS}"),
        (["serve", "--keep-alive", "3"], f"there is no option --keep-alive; did you mean --keepalive? {SERVE_SHOWS}"),
        (
            ["serve", "--request-timeout", "3"],
            f"there is no option --request-timeout; did you mean --timeout? {SERVE_SHOWS}",
        ),
        (["serve", "--zzzz"], f"there is no option --zzzz; {SERVE_SHOWS}"),
        (["serve", "-x"], f"there is no option -x; {SERVE_SHOWS}"),
        (["serve", "--chek"], f"there is no option --chek; did you mean --check? {SERVE_SHOWS}"),
        (["serve", "--threads"], f"option '--threads' requires an argument; {SERVE_SHOWS}"),
        (["serve", "--check=yes"], f"option '--check' does not take a value; {SERVE_SHOWS}"),
        (["serve", "a:b", "c:d"], f"got unexpected extra argument (c:d); {SERVE_SHOWS}"),
        (["--threads", "4", "serve"], f"--threads belongs behind the command: paceline serve --threads; {SHOWS}"),
        (["--vers"], f"there is no option --vers; did you mean --version? {SHOWS}"),
        (["-x"], f"there is no option -x; {SHOWS}"),
        (["srve"], f"there is no command 'srve'; did you mean paceline serve? {SHOWS}"),
        (["app:f"], f"there is no command 'app:f'; to serve it, write paceline serve app:f; {SHOWS}"),
        (["zzzz"], f"there is no command 'zzzz'; there is bench, chaos, connect, ctl, lab, serve; {SHOWS}"),
    ],
)
def test_wrong_usage_is_told_in_one_paragraph_with_the_nearest_right_thing(
    arguments: list[str], text: str, run: "Run", supervisor: "Supervisor"
) -> None:
    ended = run(*arguments)
    assert ended.code == 2
    assert ended.err == f"paceline: {text}\n"
    assert ended.out == ""
    assert not supervisor.calls


@pytest.mark.parametrize("code", [0, 1, 2, 3, 4])
def test_the_exit_code_is_the_supervisors(code: int, run: "Run", supervisor: "Supervisor") -> None:
    supervisor.code = code
    assert run("serve").code == code


@pytest.mark.parametrize(
    ("error", "code"), [(HostError("port taken"), 3), (TargetError("no module app"), 3), (PeerError("odd"), 5)]
)
def test_an_error_on_purpose_is_its_text_and_its_code(
    error: Exception, code: int, run: "Run", supervisor: "Supervisor"
) -> None:
    supervisor.error = error
    ended = run("serve")
    assert (ended.code, ended.out, ended.err) == (code, "", f"paceline: {error}\n")


def test_anything_else_is_a_bug_of_ours_and_said_so(run: "Run", supervisor: "Supervisor") -> None:
    supervisor.error = ZeroDivisionError("oops")
    ended = run("serve")
    assert ended.code == 1
    lines = ended.err.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[-2] == "ZeroDivisionError: oops"
    assert lines[-1].startswith(f"paceline: this is a bug in Paceline {__version__} (")
    assert platform.python_version() in lines[-1]


def test_a_broken_pipe_while_serving_is_no_reader_that_went_away(run: "Run", supervisor: "Supervisor") -> None:
    supervisor.error = BrokenPipeError("oops")
    assert run("serve").code == 1


def test_ctrl_c_is_clean(run: "Run", supervisor: "Supervisor") -> None:
    supervisor.error = KeyboardInterrupt()
    ended = run("serve")
    assert (ended.code, ended.out, ended.err.strip()) == (130, "", "")


def test_what_only_click_knows_to_complain_of_reads_the_same_way() -> None:
    assert usage_text(click.FileError("x.toml", "no")) == f"could not open file 'x.toml': no; {SHOWS}"
    assert usage_text(click.NoSuchOption("--x")) == (f"--x belongs behind the command: paceline serve --x; {SHOWS}")
