r"""What a typed line asks for.  Pure.

A line is a message, with escapes; one that begins with / is a command, and // begins a message with a slash.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from paceline.connect.escapes import typed
from paceline.errors import UsageError
from paceline.settings.values import near


@dataclass(frozen=True, slots=True)
class Send:
    """This message, without what the framing adds."""

    message: bytes


@dataclass(frozen=True, slots=True)
class SendFile:
    """The content of a file; the path as it was typed, perhaps with a ~."""

    path: str


@dataclass(frozen=True, slots=True)
class SetHex:
    """Show replies as a hex dump, or no longer; None: the other way than now."""

    wanted: bool | None


@dataclass(frozen=True, slots=True)
class Reconnect:
    """End the connection and make another one."""


@dataclass(frozen=True, slots=True)
class End:
    """Half-close: nothing more will be sent; wait for what still comes."""


@dataclass(frozen=True, slots=True)
class Help:
    """Show what can be typed."""


@dataclass(frozen=True, slots=True)
class Quit:
    """Leave at once."""


Action = Send | SendFile | SetHex | Reconnect | End | Help | Quit

COMMANDS: Mapping[str, tuple[str, str]] = {
    "/help": ("", "show this"),
    "/hex": ("[on|off]", "show replies as a hex dump, or no longer"),
    "/file": ("PATH", "send the content of a file"),
    "/end": ("", "send our end (half-close), show what still comes; Ctrl-D does it, too"),
    "/reconnect": ("", "end this connection and make another one"),
    "/quit": ("", "leave"),
}
"""By name: the argument, and what it does."""

_PLAIN: Mapping[str, Action] = {
    "/help": Help(),
    "/end": End(),
    "/reconnect": Reconnect(),
    "/quit": Quit(),
    "/exit": Quit(),  # what other clients call it
    "/?": Help(),
}
_SWITCH = {"": None, "on": True, "off": False}


def read(line: str, ending: bytes = b"") -> Action:
    """What a line asks for.  `ending` is put behind a message.  Raises UsageError: a wrong escape, no such command."""
    if line.startswith("//"):
        return Send(typed(line[1:]) + ending)
    if not line.startswith("/"):
        return Send(typed(line) + ending)
    name, _, rest = line.partition(" ")
    argument = rest.strip()
    if name == "/file":
        if not argument:
            raise UsageError("/file needs the path of a file: /file requests.txt")
        return SendFile(argument)
    if name == "/hex":
        if argument not in _SWITCH:
            raise UsageError(f"/hex {argument}: write /hex on, /hex off, or /hex for the other way than now")
        return SetHex(_SWITCH[argument])
    if name in _PLAIN:
        if argument:
            raise UsageError(f"{name} takes nothing behind it")
        return _PLAIN[name]
    nearest = near(name, COMMANDS)
    hint = f"did you mean {nearest}?" if nearest else f"there are {', '.join(COMMANDS)}"
    raise UsageError(f"there is no command {name}; {hint} (a message that begins with / is typed with //)")


def help_text(ending: bytes, framing: str) -> list[str]:
    """What can be typed, as lines."""
    behind = {b"\n": r"\n", b"\r\n": r"\r\n"}.get(ending, "")
    width = max(len(f"{name} {argument}") for name, (argument, _) in COMMANDS.items())
    return [
        f"A line is a message; framing {framing}" + (f", {behind} is put behind it." if behind else "."),
        r"In it \n \r \t \0 \\ and \xHH stand for bytes; a leading / is typed //.",
        *(f"  {f'{name} {argument}':{width}}  {what}" for name, (argument, what) in COMMANDS.items()),
        f"  {'Ctrl-C':{width}}  cancel the line; once more: leave",
        "A line that begins with a space is not remembered.",
    ]
