"""connect/commands.py: what a typed line asks for."""

import pytest

from paceline.connect import commands
from paceline.connect.commands import COMMANDS, End, Help, Quit, Reconnect, Send, SendFile, SetHex, help_text, read
from paceline.errors import UsageError


@pytest.mark.parametrize(
    ("line", "action"),
    [
        ("hello", Send(b"hello")),
        ("", Send(b"")),
        (r"a\x00b", Send(b"a\0b")),
        ("//not a command", Send(b"/not a command")),
        (r"//\n", Send(b"/\n")),
        (" /spaces count", Send(b" /spaces count")),
        ("/help", Help()),
        ("/?", Help()),
        ("/quit", Quit()),
        ("/exit ", Quit()),
        ("/end", End()),
        ("/reconnect", Reconnect()),
        ("/hex", SetHex(None)),
        ("/hex on", SetHex(True)),
        ("/hex  off ", SetHex(False)),
        ("/file a file.txt", SendFile("a file.txt")),
        ("/file  ~/x ", SendFile("~/x")),
    ],
)
def test_read(line: str, action: commands.Action) -> None:
    assert read(line) == action


@pytest.mark.parametrize("line", ["hello", "//hello", ""])
def test_the_ending_goes_behind_messages(line: str) -> None:
    assert read(line, b"\r\n") == Send(line.replace("//", "/").encode() + b"\r\n")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("/hexx", "there is no command /hexx; did you mean /hex? (a message that begins with / is typed with //)"),
        ("/zzz", "there is no command /zzz; there are /help, /hex, /file, /end, /reconnect, /quit ("),
        ("/", "there is no command /; there are"),
        ("/hex maybe", "/hex maybe: write /hex on, /hex off"),
        ("/quit now", "/quit takes nothing behind it"),
        ("/file", "/file needs the path of a file"),
        (r"\q", r"\q is no escape"),
    ],
)
def test_what_cannot_be_is_refused_with_the_nearest_right_thing(line: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        read(line)
    assert str(caught.value).startswith(said)


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_of_the_table_is_one_and_stands_in_the_help(name: str) -> None:
    read(f"{name} x" if name == "/file" else name)
    assert any(name in line for line in help_text(b"\n", "raw"))


def test_the_help_names_what_goes_behind_a_message() -> None:
    assert help_text(b"\r\n", "raw")[0] == r"A line is a message; framing raw, \r\n is put behind it."
    assert help_text(b"", "line")[0] == "A line is a message; framing line."
