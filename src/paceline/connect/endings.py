"""How a connection ended, as an error that says so in a sentence.  Pure.

`unsent`: how many bytes we still had for the server; `awaited`: how many messages it left without a reply.
"""

import errno

from paceline.errors import ConnectionClosed, ConnectionReset, PeerError, TimedOut, Truncated
from paceline.wire.framing import size_text


def unsent_text(unsent: int) -> str:
    return f" with {size_text(unsent)} unsent" if unsent else ""


def broken_off(peer: str, error: OSError, unsent: int = 0) -> PeerError:
    """The connection broke: what the kernel said of it, when we received or sent."""
    number = error.errno
    if number == errno.ECONNRESET:
        return ConnectionReset(
            f"{peer} reset the connection{unsent_text(unsent)}: what it had not read is lost; its log should say why"
        )
    if number == errno.EPIPE:
        return ConnectionClosed(f"{peer} closed the connection{unsent_text(unsent)}; its log should say why")
    if number == errno.ETIMEDOUT:
        return TimedOut(f"{peer} is not heard of any more, the kernel has given it up; is the network down?")
    return ConnectionReset(f"the connection to {peer} broke: {error.strerror}")


def ended(peer: str, rest: object) -> PeerError | None:
    """The server sent its end while `rest` was kept of a reply.  None: in good order."""
    if rest is None:
        return None
    part = f", after {size_text(len(rest))} of it" if isinstance(rest, bytes | bytearray) else ""
    return Truncated(
        f"{peer} closed the connection inside a reply{part}; is the framing right (--framing), and what says its log?"
    )


def closed(peer: str, awaited: int) -> str:
    """A note: the server ended the connection in good order."""
    return f"{peer} closed the connection" + (f" before it answered {_messages(awaited)}" if awaited else "")


def closed_inside_a_line(peer: str, kept: int) -> ConnectionClosed:
    """The server ended the connection in good order, but the input had given the first bytes of a line."""
    return ConnectionClosed(
        f"{peer} closed the connection before standard input ended; "
        f"a line that has not ended is unsent ({size_text(kept)} so far)"
    )


def silent(peer: str, timeout_s: float, *, rest: object = None) -> TimedOut:
    """Nothing came for so long after our end."""
    part = " (a part of a reply has come)" if rest is not None else ""
    return TimedOut(
        f"{peer} was silent for {timeout_s:g} s after the end of the input{part}; --timeout allows more, "
        f"and does it speak this framing (--framing)?"
    )


def not_read(peer: str, timeout_s: float, unsent: int) -> TimedOut:
    """The server takes nothing."""
    return TimedOut(
        f"{peer} has read nothing for {timeout_s:g} s, {size_text(unsent)} and the rest of the input are unsent; "
        f"--timeout allows more"
    )


def not_answered(timeout_s: float, count: int, *, is_raw: bool) -> str:
    """A note: so many messages have waited for the time-out."""
    hint = "does the server wait for another line end?" if is_raw else "does the server speak this --framing?"
    return f"no reply to {_messages(count)} within {timeout_s:g} s; a later one is still shown ({hint})"


def _messages(count: int) -> str:
    return f"{count:,} message{'' if count == 1 else 's'}"
