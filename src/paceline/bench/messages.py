r"""What is sent: one message or many, generated, written on the command line, or read from a file.  Pure.

On the command line `\r \n \t \0 \\` and `\xHH` stand for the bytes they stand for in Python.  A file holds one message
per line (the line without its end, no escapes), or messages in the framing of the run.
"""

from collections.abc import Sequence

from paceline.errors import PeerError, UsageError
from paceline.wire import BadReply, Broken, Framing, Raw, truncated
from paceline.wire.escapes import NotAnEscapeError, unescaped

MOST_BYTES = 16 << 20
MOST_MESSAGES = 100_000
"""Limits of a file of messages: each process keeps all of them."""

_LETTERS = b"abcdefghijklmnopqrstuvwxyz"


def generated(size: int) -> bytes:
    """`size` bytes of small letters."""
    return (_LETTERS * (size // len(_LETTERS) + 1))[:size]


def written(text: str) -> bytes:
    """The bytes of a message with escapes.  Raises UsageError."""
    try:
        return unescaped(text)
    except NotAnEscapeError as error:
        raise UsageError(
            rf"message {text!r}: \{error.letter} is no escape; there are \r \n \t \0 \\ and \xHH (two hex digits), a "
            r"backslash is \\"
        ) from None


def lines_of(content: bytes, name: str) -> tuple[bytes, ...]:
    """One message per line, ended by LF or CRLF; the last one may have no end.  Raises UsageError."""
    lines = content.split(b"\n")
    if not lines[-1]:
        lines.pop()
    return _counted([line.removesuffix(b"\r") for line in lines], name)


def framed_in(content: bytes, framing: Framing, name: str) -> tuple[bytes, ...]:
    """The messages that the framing cuts from the content.  Raises UsageError."""
    if isinstance(framing, Raw):
        raise UsageError(f"{name}: raw has no messages to be cut from a file; give --framing, or --messages-as lines")
    cut, rest = framing.cut(None, content)
    if rest is not None:
        error = rest.error if isinstance(rest, Broken) else truncated(rest)
        raise UsageError(f"{name} does not hold messages of this framing: behind message {len(cut)}, {_why(error)}")
    return _counted(list(cut), name)


def _why(error: PeerError) -> str:
    return str(error).replace("the peer ended the connection inside a message", "it ends inside a message")


def _counted(messages: Sequence[bytes], name: str) -> tuple[bytes, ...]:
    if not messages:
        raise UsageError(f"{name} holds no message; write at least one")
    if len(messages) > MOST_MESSAGES:
        raise UsageError(f"{name} holds {len(messages):,} messages; the limit is {MOST_MESSAGES:,}: send fewer of them")
    return tuple(messages)


def on_the_wire(messages: Sequence[bytes], framing: Framing, *, is_ours: bool) -> list[bytes]:
    """Each message as it is sent.  Raises UsageError for one that the framing cannot carry.

    `is_ours`: a framing in the box, from which each message must come back as it went in.
    """
    found = []
    for number, message in enumerate(messages, 1):
        which = f"message {number} of {len(messages)}" if len(messages) > 1 else "the message"
        try:
            wire = framing.join([message])
        except BadReply as error:
            why = str(error).replace("the handler returned a reply", "it is a message").replace("every reply", "each")
            raise UsageError(f"{which} cannot be sent in this framing: {why}") from None
        if not wire:
            raise UsageError(f"{which} is empty, and in this framing that is nothing to send: give bytes (-s, -m)")
        if is_ours and not isinstance(framing, Raw):
            cut, rest = framing.cut(None, wire)
            if isinstance(rest, Broken):
                raise UsageError(f"{which} cannot be sent in this framing: {rest.error}")
            if list(cut) != [message] or rest is not None:
                raise UsageError(
                    f"{which} ({message[:16]!r}…) would not arrive as one message in this framing: it holds the bytes "
                    "that end a message; take another message or framing"
                )
        found.append(wire)
    return found
