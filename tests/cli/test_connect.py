"""cli/connect.py: options, what is refused, and which way it takes."""

import os
import subprocess
import sys
import typing
from collections.abc import Callable
from pathlib import Path

import pytest

from paceline.cli.program import program

if typing.TYPE_CHECKING:
    from cli.conftest import Ended

    Run = Callable[..., Ended]

FRAMING = """\
class Odd:
    def cut(self, rest, data):
        raise ZeroDivisionError("oops")

    def join(self, replies):
        return b"".join(replies)

odd = Odd()
"""


def test_its_help_names_what_it_takes(run: "Run") -> None:
    ended = run("connect", "--help")
    assert (ended.code, ended.err) == (0, "")
    for name in (
        "--framing", "--max-message", "--timeout", "--hex", "--escape", "--no-newline", "--crlf", "Exit codes", "141",
        "connect-history", r"\xHH", "[default 10s]", r"end what is typed with \r\n",
    ):  # fmt: skip
        assert name in " ".join(ended.out.split())
    assert max(map(len, ended.out.splitlines())) <= 120


def test_it_stands_among_the_commands(run: "Run") -> None:
    assert "Talk to a server" in run().out
    assert "connect" in program.commands


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["nowhere"], "the address 'nowhere' must be HOST:PORT"),
        (["8888"], "the address '8888' must be"),
        (["fd://3"], "fd://3 is a socket that a server inherits"),
        (["--framing", "lin"], "framing 'lin': there is no framing 'lin'; did you mean line?"),
        (["--framing", "length:3"], "framing 'length:3': a length has 1, 2, 4 or 8 bytes"),
        (["--max-message", "0"], "--max-message 0: must be a size from 1B to 1GiB, in bytes or like 64KiB"),
        (["--timeout", ""], "--timeout '': must be a time from 1ms to 1d, in seconds or like 500ms or 2m, or off"),
        (["--timeout", "0"], "--timeout 0: must be a time from 1ms to 1d, in seconds or like 500ms or 2m, or off"),
        (["--crlf", "--no-newline"], "--crlf and --no-newline contradict each other"),
        (["--crlf", "--framing", "netstring"], "--crlf is for --framing raw and line; netstring ends messages by"),
        (["--no-newline", "--framing", "line"], "--no-newline is for --framing raw; line ends messages by"),
        (["--crlf"], "--crlf and --no-newline are about typed lines; a pipe is sent as it is"),
        (["--hexx"], "there is no option --hexx; did you mean --hex? `paceline connect --help` shows what there is"),
        (["a:1", "b:2"], "connect talks to one address, and these are 2: a:1 b:2\n"),
    ],
)
def test_what_is_wrong_is_named(arguments: list[str], text: str, run: "Run", monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "isatty", lambda _fd: False)
    ended = run("connect", *arguments)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith(f"paceline: {text}")
    assert ended.err.count("\n") == 1


def test_escape_is_for_pipes(run: "Run", monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "isatty", lambda _fd: True)
    ended = run("connect", "--escape", "127.0.0.1:1")
    assert (ended.code, ended.err) == (2, "paceline: --escape is for a pipe; at a terminal escapes are always shown\n")


@pytest.mark.parametrize("is_terminal", [True, False])
def test_nobody_is_there(is_terminal: bool, run: "Run", monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "isatty", lambda _fd: is_terminal)
    ended = run("connect", f"unix:{tmp_path}/gone.sock")
    assert (ended.code, ended.out) == (3, "")
    assert ended.err.startswith(f"paceline: cannot connect to unix:{tmp_path}/gone.sock: there is no socket file")


def test_a_framing_of_the_users_own(run: "Run", folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "own.py").write_text(FRAMING)
    monkeypatch.setattr(os, "isatty", lambda _fd: False)
    monkeypatch.setattr(sys, "path", list(sys.path))
    nowhere = f"unix:{folder}/gone.sock"
    assert run("connect", nowhere, "--framing", "own.py:odd").code == 3
    ended = run("connect", nowhere, "--framing", "own.py:Odd")
    assert ended.code == 2
    assert "framing Odd is a class; give an object of it" in ended.err
    ended = run("connect", nowhere, "--framing", "own.py:gone")
    assert ended.code == 3
    assert "gone" in ended.err


def test_serving_does_not_wait_for_what_only_this_command_needs() -> None:
    script = """if True:
        import sys
        import paceline.cli.program
        slow = [name for name in sys.modules if name.startswith(("paceline.connect", "prompt_toolkit", "asyncio"))]
        assert not slow, slow"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=20)
