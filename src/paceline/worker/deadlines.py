"""When a connection has waited too long.  Pure: the watcher asks, with the time as an argument.

The fast path reads no clock.  Instead the watcher looks now and then at the connections that owe something, and keeps
for each a `Watch`: what it saw, and since when that has not changed.  A deadline is therefore met to within two looks
(when it begins, and when it is over), and never early.

    owes              allowed
    first byte        `first_byte_timeout`; without one, it is idle
    rest of message   `message_timeout`, and one second more for every `min_rate` bytes that arrived since the clock
                      started (`min_rate` 0: none)
    writing           `write_timeout` without one byte taken by the peer
    lingering         `LINGER_S` in all
    header            `proxy_timeout` in all, to say for whom a proxy has connected
    handshake         `handshake_timeout` in all, to do its part of a TLS handshake
    nothing (idle)    `idle_timeout`

What is said of a connection for which too much is kept (`max_buffered`) is said here, too; no clock is looked at.
"""

from dataclasses import dataclass
from enum import IntEnum

LINGER_S = 2.0


class Owes(IntEnum):
    """What a parked connection waits for; the order is the order of judgement."""

    NOTHING = 0
    FIRST_BYTE = 1
    REST_OF_MESSAGE = 2
    WRITING = 3
    LINGERING = 4
    HEADER = 5
    ROOM = 6
    """No time, but memory that others need."""
    HANDSHAKE = 7


IN_ALL = frozenset({Owes.HEADER, Owes.HANDSHAKE})
"""What is owed in all, whatever is done meanwhile: the clock goes on while it is our turn, but when nobody takes it."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The time-outs in seconds, None: off; `min_rate` in bytes per second."""

    first_byte_s: float | None
    message_s: float | None
    min_rate: int
    write_s: float
    idle_s: float | None
    linger_s: float = LINGER_S
    header_s: float = 5.0
    handshake_s: float = 5.0
    kept_bytes: int | None = None
    """The most that is kept for all together."""


@dataclass(slots=True)
class Watch:
    """One connection as last seen."""

    owes: Owes
    progress: int
    """What must change whenever the peer does what it owes, so that the clock starts anew: messages so far, or bytes
    sent so far.  (Unsent bytes would not do: of replies of equal size the same number may wait at every look.)"""
    since: float
    received: int
    """Bytes received when the clock started."""


def look(watch: Watch | None, owes: Owes, progress: int, received: int, now: float) -> Watch:
    """The watch after a look at the connection: the same one while nothing changed, else a new one from `now`."""
    if watch is not None and watch.owes == owes and watch.progress == progress:
        return watch
    return Watch(owes, progress, now, received)


def later(watch: Watch, stood: float, now: float) -> Watch:
    """The watch whose clock has stood for so long."""
    return Watch(watch.owes, watch.progress, min(watch.since + stood, now), watch.received)


def due_at(watch: Watch, received: int, limits: Limits) -> float | None:
    """When the time is up, given that nothing changes; None: never."""
    match watch.owes:
        case Owes.LINGERING:
            allowed: float | None = limits.linger_s
        case Owes.HEADER:
            allowed = limits.header_s
        case Owes.HANDSHAKE:
            allowed = limits.handshake_s
        case Owes.WRITING:
            allowed = limits.write_s
        case Owes.REST_OF_MESSAGE:
            allowed = limits.message_s
            if allowed is not None and limits.min_rate:
                allowed += (received - watch.received) / limits.min_rate
        case Owes.FIRST_BYTE if limits.first_byte_s is not None:
            allowed = limits.first_byte_s
        case _:
            allowed = limits.idle_s
    return None if allowed is None else watch.since + allowed


def verdict(watch: Watch, limits: Limits) -> str:
    """Why the connection is closed, for the log: what it did not do, and the setting that says so."""
    match watch.owes:
        case Owes.LINGERING:
            return f"it did not close within {limits.linger_s:g} s after us"
        case Owes.HEADER:
            return f"it did not say for whom it had connected within {limits.header_s:g} s (--proxy-timeout)"
        case Owes.HANDSHAKE:
            return f"it did not finish its TLS handshake within {limits.handshake_s:g} s (--handshake-timeout)"
        case Owes.ROOM:
            return (
                f"more than {limits.kept_bytes:,} bytes are kept for all peers of this worker together "
                f"(--max-buffered), and for this one as much as for few others"
            )
        case Owes.WRITING:
            return f"it took nothing of the reply that waits for it for {limits.write_s:g} s (--write-timeout)"
        case Owes.REST_OF_MESSAGE:
            if limits.min_rate:
                return (
                    f"it began a message and did not finish it within {limits.message_s:g} s (--message-timeout), "
                    f"nor at {limits.min_rate} bytes/s after that (--min-rate)"
                )
            return f"it began a message and did not finish it within {limits.message_s:g} s (--message-timeout)"
        case Owes.FIRST_BYTE if limits.first_byte_s is not None:
            return f"it sent nothing for {limits.first_byte_s:g} s (--first-byte-timeout)"
        case _:
            return f"it was idle for {limits.idle_s:g} s (--idle-timeout)"
