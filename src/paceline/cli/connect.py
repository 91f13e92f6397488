"""`paceline connect`: to a server, with a prompt when somebody types, else as a pipe.

What it runs is imported when it runs: `paceline serve` starts without it.
"""

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import click

from paceline.addresses import DEFAULT_PORT, parse_address
from paceline.cli.options import NamedCommand, value_of
from paceline.cli.serve import closing_options
from paceline.cli.streams import NobodyReadsError, complain, open_missing_standard_descriptors
from paceline.errors import ConnectFailed, HostError, TimedOut, UsageError
from paceline.settings.values import Seconds, Size

if TYPE_CHECKING:
    from paceline.addresses import Address
    from paceline.connect.dialogue import Dialogue
    from paceline.connect.framed import Framed
    from paceline.connect.history import History

_INTRODUCTION = """\
Talk to the server at ADDRESS (default 127.0.0.1:8888): HOST:PORT, [::1]:PORT, :PORT or unix:PATH.

\b
  paceline connect                              type messages, see the replies and their times
  paceline connect :7000 --framing line
  printf 'hi\\n' | paceline connect :7000        as a pipe
  paceline connect unix:app.sock < request > reply

At a terminal each line is a message, in which \\n \\r \\t \\0 \\\\ and \\xHH stand for bytes; /help shows the commands.
What the server sends is shown with the same escapes, never as it is: it cannot do anything to the terminal.

As a pipe (standard input or standard output is no terminal) all of standard input is sent: as it is with raw and line,
a message per line with other framings; then our end, and all replies go to standard output until the server closes: as
they are with raw, each with a line end behind it with other framings. When the server closes first, input is
offered to it until none comes for half a second. If standard output is a terminal, what could harm it is escaped.
"""

_EPILOG = """\
Sizes are bytes, or like 64k, 1.5MiB (powers of 1024). Times are seconds, or like 500ms, 2m, 1h; off waits for ever.

What is typed is kept in $XDG_STATE_HOME/paceline/connect-history (~/.local/state/paceline), 1,000 lines, for nobody
else to read; a line that begins with a space is not.

Exit codes: 0 the server closed in good order after our end, or you left; 1 a bug of ours; 2 wrong usage, or input that
cannot be sent; 3 could not connect; 5 the server reset the connection, closed it while bytes were unsent or inside a
reply, sent what is no reply of the framing, or was silent for --timeout; 130 Ctrl-C; 141 nobody reads standard output.
"""

_LIMIT = Size(low=1, high=1 << 30)
_TIMEOUT = Seconds(low=0.001, high=86400.0, word="off")


def _run(words: tuple[str, ...], framing: str, max_message: str, timeout: str, **given: bool) -> int:
    has_output = _is_open(1)
    open_missing_standard_descriptors()  # before anything is opened: it would get their numbers
    if len(words) > 1:
        raise UsageError(f"connect talks to one address, and these are {len(words)}: {' '.join(words)}")
    place = parse_address(words[0] if words else f"127.0.0.1:{DEFAULT_PORT}")
    limit: int = value_of("--max-message", _LIMIT, max_message)
    timeout_s: float | None = value_of("--timeout", _TIMEOUT, timeout)
    framed = _framed(framing, limit, given)
    if not has_output:
        raise HostError("standard output is closed; replies cannot be shown: open it (>/dev/null, or a file)")
    if os.isatty(0) and os.isatty(1):
        return _talk(place, framed, limit, timeout_s, given)
    return _pipe(place, framed, limit, timeout_s, given)


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def _framed(text: str, limit: int, given: Mapping[str, bool]) -> "Framed":
    """The framing of --framing, one in the box or the user's own.  Raises SettingError, TargetError, UsageError."""
    from paceline.connect.framed import Framed
    from paceline.spoken import framing_of
    from paceline.wire import Lines, Raw

    framing = framing_of(text, limit)
    if given["crlf"] and given["no_newline"]:
        raise UsageError("--crlf and --no-newline contradict each other: give one of them")
    if given["no_newline"] and not isinstance(framing, Raw):
        raise UsageError(f"--no-newline is for --framing raw; {text} ends messages by its own rule")
    if given["crlf"] and not isinstance(framing, Raw | Lines):
        raise UsageError(f"--crlf is for --framing raw and line; {text} ends messages by its own rule")
    if isinstance(framing, Lines) and given["crlf"]:
        framing = Lines(limit=limit, end=b"\r\n")
    return Framed(framing, text)


def _ending(framed: "Framed", given: Mapping[str, bool]) -> bytes:
    """What goes behind a typed message."""
    if not framed.is_raw or given["no_newline"]:
        return b""
    return b"\r\n" if given["crlf"] else b"\n"


def _talk(place: "Address", framed: "Framed", limit: int, timeout_s: float | None, given: Mapping[str, bool]) -> int:
    from paceline.connect.conversation import Conversation
    from paceline.connect.dialogue import Dialogue, View
    from paceline.connect.history import History
    from paceline.connect.history import place as place_of_history

    if given["escape"]:
        raise UsageError("--escape is for a pipe; at a terminal escapes are always shown")
    view = View(is_raw=framed.is_raw, as_hex=given["hex_"])
    try:
        conversation = Conversation(place, framed, view, timeout_s=timeout_s, is_line=framed.text == "line")
    except TimedOut as error:
        raise ConnectFailed(str(error)) from error
    history = History(place_of_history(os.environ))
    dialogue = Dialogue(conversation, view, ending=_ending(framed, given), limit=limit)
    code = _prompt()(dialogue, history)
    if history.trouble:
        complain(history.trouble)
    return code


def _prompt() -> "Callable[[Dialogue, History], int]":
    """The one with prompt-toolkit, if there is that, and a terminal that it can move the cursor of."""
    from paceline.connect import plain

    if plain.terminal_is_dumb():
        return plain.run
    try:
        from paceline.connect import prompting
    except ImportError:
        return plain.run
    return prompting.run


def _pipe(place: "Address", framed: "Framed", limit: int, timeout_s: float | None, given: Mapping[str, bool]) -> int:
    from paceline.connect.pipe import Pipe
    from paceline.connect.translation import ByLine, Verbatim, Written, inward
    from paceline.host.dialing import dial, reached

    is_verbatim = framed.is_raw or (framed.text == "line" and not given["crlf"])
    if framed.is_raw and (given["crlf"] or given["no_newline"]) and not given["escape"]:
        raise UsageError("--crlf and --no-newline are about typed lines; a pipe is sent as it is (--escape: by line)")
    how = Written.SAFE if os.isatty(1) else Written.VERBATIM
    if given["escape"] or given["hex_"]:
        how = Written.HEX if given["hex_"] else Written.ESCAPED
    outward = (
        Verbatim()
        if is_verbatim and not given["escape"]
        else ByLine(framed, limit, is_typed=given["escape"], ending=_ending(framed, given))
    )
    peer = reached(place)
    try:
        connection = dial(place, timeout_s)
    except TimedOut as error:
        raise ConnectFailed(str(error)) from error
    with connection:
        try:
            note = Pipe(connection, peer, outward, inward(how, framed, peer), timeout_s=timeout_s).run()
        except BrokenPipeError:
            raise NobodyReadsError from None
    if note:
        complain(note)
    return 0


def _option(name: str, metavar: str, default: str, help_: str) -> click.Option:
    """An option with a value, which is read later."""
    return click.Option(
        [name], default=default, type=click.UNPROCESSED, metavar=metavar, help=f"{help_} [default {default}]"
    )


def _switch(help_: str, *names: str) -> click.Option:
    return click.Option([*names], is_flag=True, help=help_)


connect = NamedCommand(
    "connect",
    callback=_run,
    help=_INTRODUCTION,
    epilog=_EPILOG,
    short_help="Talk to a server, or be a pipe to it.",
    add_help_option=False,
    context_settings={"max_content_width": 120},
    params=[
        click.Argument(["words"], nargs=-1, required=False, type=click.UNPROCESSED, metavar="[ADDRESS]"),
        _option("--framing", "TEXT", "raw", "As for paceline serve, or module:attribute, file.py:attribute."),
        _option("--max-message", "SIZE", "1MiB", "Longer messages and replies are an error."),
        _option(
            "--timeout",
            "TIME|off",
            "10s",
            "For connecting; as a pipe also for silence: nothing comes after our end, or the server takes nothing, not "
            "counting what standard input and output take.",
        ),
        _switch("Show replies as a hex dump; a pipe with a framing: as digits, one per line.", "--hex", "hex_"),
        _switch(
            "As a pipe: input lines are what would be typed, with escapes, and replies are written with escapes.",
            "--escape",
        ),
        _switch(r"Raw: put nothing behind a typed line. [without it \n]", "--no-newline"),
        _switch(r"Raw and line: end what is typed with \r\n.", "--crlf"),
        *closing_options(),
    ],
)
