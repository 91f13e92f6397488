"""Replies and notes as lines on the screen.  Pure.

A line is a list of (style, text), as prompt-toolkit wants it; whoever has no styles joins the texts.  A reply's lines
begin with "< ", ours with "* ".  Long replies are shown in part: a terminal is no place for a mebibyte.
"""

import re
from collections.abc import Sequence

from paceline.connect.escapes import dump, shown, shown_by_line
from paceline.connect.session import Reply

MOST_SHOWN = 16 * 1024
"""Bytes of one reply that are shown."""

Line = list[tuple[str, str]]
"""Fragments (style, text); a style is "" or one of those below."""
ESCAPE, QUIET, TROUBLE = "class:escape", "class:quiet", "class:trouble"

_ESCAPES = re.compile(r"(\\(?:x[0-9a-f]{2}|.))")


def duration(took_ns: int) -> str:
    """`85 µs`, `0.21 ms`, `12.3 ms`, `1.52 s`."""
    if took_ns < 100_000:
        return f"{took_ns / 1e3:.0f} µs"
    if took_ns < 1_000_000_000:
        milliseconds = took_ns / 1e6
        return f"{milliseconds:.{2 if milliseconds < 10 else 1 if milliseconds < 100 else 0}f} ms"
    return f"{took_ns / 1e9:.2f} s"


def lines_of(reply: Reply, *, is_raw: bool, as_hex: bool) -> list[Line]:
    """One reply.  The time stands behind its last line; a framed one that answers nothing says so."""
    part = reply.message[:MOST_SHOWN]
    as_text = shown_by_line if is_raw else lambda message: [shown(message)]
    texts = (dump(part) or [""]) if as_hex else as_text(part)
    lines: list[Line] = [[(QUIET, "< "), *_styled(text, as_hex=as_hex)] for text in texts]
    beyond = len(reply.message) - len(part)
    if beyond:
        lines.append([(QUIET, f"  … and {beyond:,} bytes more (as a pipe, paceline connect writes all of them)")])
    if reply.took_ns is not None:
        lines[-1].append((QUIET, f"   {duration(reply.took_ns)}"))
    elif not is_raw:
        lines[-1].append((QUIET, "   not asked for"))
    return lines


def _styled(text: str, *, as_hex: bool) -> Line:
    """Escapes apart from the text that looks like one."""
    if as_hex:
        return [("", text)]
    return [(ESCAPE if at % 2 else "", piece) for at, piece in enumerate(_ESCAPES.split(text)) if piece]


def note(text: str) -> Line:
    """A line of ours."""
    return [(QUIET, f"* {text}")]


def trouble(text: str) -> Line:
    """A line of ours about something that went wrong."""
    return [(QUIET, "* "), (TROUBLE, text)]


def plain(lines: Sequence[Line]) -> str:
    """The lines without styles."""
    return "".join("".join(text for _, text in line) + "\n" for line in lines)
