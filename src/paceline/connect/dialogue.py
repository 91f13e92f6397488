"""What each typed line does, and what is shown: the same for both kinds of prompt.

A prompt (prompting.py, plain.py) reads lines and writes lines; `View` makes lines of what the conversation has to show,
`Dialogue` does what a typed line asks for.
"""

import os
import stat
from collections.abc import Callable, Sequence
from enum import Enum
from typing import BinaryIO

from paceline.connect import commands, rendering
from paceline.connect.conversation import Conversation
from paceline.connect.rendering import Line
from paceline.connect.session import Reply, State
from paceline.errors import UsageError


class View:
    """Makes lines of what there is to show.  `write` and `changed` are the prompt's, which sets them."""

    def __init__(self, *, is_raw: bool, as_hex: bool) -> None:
        self.as_hex = as_hex
        self.write: Callable[[list[Line]], None] = _nowhere
        self.changed: Callable[[], None] = _nothing
        self._is_raw = is_raw

    def show(self, replies: Sequence[Reply]) -> None:
        for at in range(0, len(replies), 256):  # a piece may hold tens of thousands, and as many lines
            self.write(
                [
                    line
                    for reply in replies[at : at + 256]
                    for line in rendering.lines_of(reply, is_raw=self._is_raw, as_hex=self.as_hex)
                ]
            )

    def say(self, text: str) -> None:
        self.write([rendering.note(text)])

    def complain(self, text: str) -> None:
        self.write([rendering.trouble(text)])

    def on_change(self) -> None:
        self.changed()


def _nowhere(_lines: list[Line]) -> None:
    """Before there is a prompt."""


def _nothing() -> None:
    """Before there is a prompt."""


class Next(Enum):
    """What the prompt does next.  EDIT: ask again, with the line as it was."""

    ASK = "ask"
    EDIT = "edit"
    WAIT_FOR_END = "wait"
    LEAVE = "leave"


class Dialogue:
    """What is typed, one line after the other.  For one thread."""

    def __init__(self, conversation: Conversation, view: View, *, ending: bytes, limit: int) -> None:
        """`ending` goes behind a typed message; `limit`: the most bytes of one."""
        self.conversation = conversation
        self.view = view
        self._ending = ending
        self._limit = limit
        self._was_interrupted = False

    @property
    def prompt(self) -> str:
        closed = "(closed) " if self.conversation.state is State.CLOSED else ""
        return f"{closed}{self.conversation.peer}> "

    def greet(self) -> None:
        where, how = self.conversation.peer, self.conversation.framed.text
        self.view.say(f"connected to {where}, framing {how}; /help shows what can be typed")

    def on_line(self, line: str) -> Next:
        """Somebody typed this; several lines, when they were pasted."""
        self._was_interrupted = False
        if self.conversation.bug is not None:
            raise self.conversation.bug
        for each in line.replace("\r\n", "\n").replace("\r", "\n").split("\n"):
            try:
                then = self._do(commands.read(each, self._ending))
            except UsageError as error:
                self.view.complain(str(error))
                return Next.EDIT if "\n" not in line else Next.ASK
            if then is not Next.ASK:
                return then
        return Next.ASK

    def on_interrupt(self) -> Next:
        """Ctrl-C: the second in a row leaves."""
        if self._was_interrupted:
            return Next.LEAVE
        self._was_interrupted = True
        self.view.say("Ctrl-C once more leaves")
        return Next.ASK

    def outcome(self) -> int:
        """The exit code when the connection is over, after our end."""
        if self.conversation.bug is not None:
            raise self.conversation.bug
        return self.conversation.failure.exit_code if self.conversation.failure is not None else 0

    def on_end(self) -> Next:
        """Ctrl-D."""
        if self.conversation.state is State.CLOSED:
            return Next.LEAVE
        self.conversation.end()
        self.view.say("our end is sent when all else is; waiting for the server to close (Ctrl-C leaves)")
        return Next.WAIT_FOR_END

    def _do(self, action: commands.Action) -> Next:
        match action:
            case commands.Send(message):
                self._send(message)
            case commands.SendFile(path):
                self._send_file(path)
            case commands.SetHex(wanted):
                self.view.as_hex = (not self.view.as_hex) if wanted is None else wanted
                self.view.say(f"replies are shown as {'a hex dump' if self.view.as_hex else 'text'}")
            case commands.Reconnect():
                self.conversation.reconnect()
            case commands.Help():
                lines = commands.help_text(self._ending, self.conversation.framed.text)
                self.view.write([rendering.note(text) for text in lines])
            case commands.End():
                return self.on_end()
            case commands.Quit():
                return Next.LEAVE
        return Next.ASK

    def _send(self, message: bytes) -> None:
        if self.conversation.state is State.CLOSED:
            if message.strip(b"\r\n"):
                raise UsageError("not connected; /reconnect connects again, /quit leaves")
            self.view.say("not connected; /reconnect connects again, /quit leaves")
        elif message or not self.conversation.framed.is_raw:
            self.conversation.send(message)

    def _send_file(self, path: str) -> None:
        if self.conversation.state is State.CLOSED:
            raise UsageError("not connected; /reconnect connects again, /quit leaves")
        file = _opened(path)
        if self.conversation.sends_verbatim:
            self.conversation.send_file(file, path)  # which closes it
            return
        with file:
            size = os.fstat(file.fileno()).st_size
            if size > self._limit:
                raise UsageError(
                    f"/file {path}: has {size:,} bytes, and a message at most {self._limit:,} (--max-message)"
                )
            self.conversation.send(file.read(self._limit))


def _opened(path: str) -> BinaryIO:
    """The file to send.  Raises UsageError."""
    try:
        # O_NONBLOCK: to open a named pipe would wait for who writes to it.
        file = open(os.open(os.path.expanduser(path), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb")  # noqa: SIM115
    except ValueError:
        raise UsageError("/file: a path has no NUL in it") from None
    except OSError as error:
        raise UsageError(f"/file {path}: cannot be read ({error.strerror})") from None
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise UsageError(
            f"/file {path}: is no file; what a pipe or a device says goes through paceline connect as a pipe"
        )
    return file
