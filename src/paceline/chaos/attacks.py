"""What hostile clients do, each kind in a few lines.  attackers.py has their loop; one thread, nothing here waits.

An attacker *stands* when it has done what it came for and only holds its connection; it is *over* when the server has
ended that, or when it is through by itself.
"""

import random
import signal
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from os import kill
from typing import Any

REPLY_BYTES = 64 << 20
"""Of those replies that nobody reads."""
EARLY_BYTES = 20_000
"""Of the replies that come before all was sent."""
UNREAD_BYTES = 10 << 20
"""What is sent to somebody who has answered already."""
TINY = 8 << 10
"""Bytes of small messages behind a large reply."""
DROP_S = 1.0
"""From one byte to the next of those who drip."""
ASK_S = 0.05
RESETS = b"\1\0\0\0\0\0\0\0"
"""struct linger: to close is to reset (socket(7))."""


@dataclass(slots=True)
class Peer:
    """One attacker: its connection, and what is to be remembered of it."""

    number: int
    socket: socket.socket
    begun_s: float = 0.0
    """When it began to owe something; then its time counts."""
    due_s: float = 0.0
    out: memoryview = field(default_factory=lambda: memoryview(b""))
    got: bytes = b""
    asked: int = 0
    answered: int = 0
    stands: bool = False
    is_dialling: bool = True


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind.  All functions are given the gang (attackers.py), the attacker, and the time.

    opens     what it sends first
    on_time   what it does when its time has come (`due_s`)
    on_data   what it makes of what it reads; None: it never reads
    on_over   the server has ended its connection
    at_once   so many connect at the same time
    streams   each is over by itself, and the next one comes; else all stand together
    renews    whoever is over has a successor
    is_deaf   it does not read
    waits     it does not read before all is sent
    window    bytes of its receive buffer, where it is to be small
    stands_at_once    as soon as it has sent what it sends first
    """

    opens: Callable[["Any", Peer], bytes]
    on_time: Callable[["Any", Peer, float], None] | None = None
    on_data: Callable[["Any", Peer, bytes, float], None] | None = None
    on_over: Callable[["Any", Peer, float], None] | None = None
    at_once: int = 64
    streams: bool = False
    renews: bool = False
    is_deaf: bool = False
    waits: bool = False
    window: int = 0
    stands_at_once: bool = True


def _nothing(_gang: Any, _peer: Peer) -> bytes:
    return b""


def _drop(gang: Any, peer: Peer, at_s: float) -> None:
    """One byte more of a message that never ends."""
    gang.send(peer, b"x", at_s)
    peer.due_s = at_s + DROP_S


def _drip(gang: Any, peer: Peer) -> bytes:
    peer.due_s = peer.begun_s + gang.chance.uniform(0, DROP_S)
    return b"x"


def _greeted(_gang: Any, peer: Peer, data: bytes, _at_s: float) -> None:
    peer.stands = peer.stands or b"\n" in data


def _early(gang: Any, _peer: Peer) -> bytes:
    return b"".join([b"!early %d\n" % EARLY_BYTES, gang.ballast])


def _collect(_gang: Any, peer: Peer, data: bytes, _at_s: float) -> None:
    peer.got += data


def _is_whole(gang: Any, peer: Peer, _at_s: float) -> None:
    """All of the reply has come before the end, however the end was."""
    gang.drain(peer)
    if peer.got != b"x" * EARLY_BYTES + b"\n":
        gang.wrong(f"{len(peer.got):,} of {EARLY_BYTES + 1:,} bytes of a reply came before the end")


def _told(_gang: Any, peer: Peer, data: bytes, at_s: float) -> None:
    """Which process was made; from here on its time counts."""
    peer.got += data
    if b"\n" in peer.got and not peer.stands:
        peer.stands, peer.begun_s = True, at_s


def _orphaned(gang: Any, peer: Peer, _at_s: float) -> None:
    if not peer.stands:
        gang.wrong(f"no process was made, but {peer.got[:50]!r} was said")
        return
    try:
        kill(int(peer.got.split()[0]), signal.SIGKILL)
    except ProcessLookupError:
        gang.wrong("the process that kept the connection had ended by itself")


def _ask(gang: Any, peer: Peer, at_s: float) -> None:
    """The next numbered line; a few may be under way."""
    if peer.asked - peer.answered < 4:
        ask(gang, peer, at_s)
    peer.due_s = at_s + ASK_S * gang.chance.uniform(0.5, 1.5)


def ask(gang: Any, peer: Peer, at_s: float) -> None:
    """The next line."""
    peer.asked += 1
    gang.send(peer, _line(gang, peer, peer.asked - 1), at_s)


def _first(gang: Any, peer: Peer) -> bytes:
    peer.asked, peer.due_s = 1, peer.begun_s + ASK_S
    return _line(gang, peer, 0)


def _line(gang: Any, peer: Peer, number: int) -> bytes:
    length = random.Random(f"{gang.seed}/{peer.number}/{number}").randrange(400)
    return b"%d.%d.%08x" % (peer.number, number, number * 7919) + b"-" * length + b"\n"


def _check(gang: Any, peer: Peer, data: bytes, _at_s: float) -> None:
    """Byte by byte what was asked, in order; behind it stands who answers, and the count of the connection."""
    peer.got += data
    *lines, peer.got = peer.got.split(b"\n")
    for line in lines:
        said, *rest = line.split(b" ")
        if said + b"\n" != _line(gang, peer, peer.answered) or len(rest) != 3 or int(rest[2]) != peer.answered + 1:
            gang.wrong(f"reply {peer.answered} of attacker {peer.number} was {line[:80]!r}")
        peer.answered += 1


KINDS: Mapping[str, Kind] = {
    "drip": Kind(_drip, _drop),
    "mute": Kind(_nothing),
    "unread": Kind(lambda _gang, _peer: b"!stream %d\n" % REPLY_BYTES, is_deaf=True, window=0),
    "pile": Kind(lambda _gang, _peer: b"!stream %d\n" % REPLY_BYTES + b"ab\n" * (TINY // 3), is_deaf=True, window=0),
    "quiet": Kind(lambda _gang, _peer: b"!who\n", on_data=_greeted, stands_at_once=False),
    "linger": Kind(lambda _gang, _peer: b"!close\n", is_deaf=True),
    "early": Kind(_early, on_data=_collect, on_over=_is_whole, at_once=50, streams=True, waits=True),
    "offspring": Kind(
        lambda _gang, _peer: b"!fork\n", on_data=_told, on_over=_orphaned, at_once=4, streams=True, stands_at_once=False
    ),
    "sever": Kind(lambda gang, _peer: b"!who\nhal"[: gang.chance.randrange(9)]),
    "errors": Kind(_first, _ask, _check, renews=True),
}
"""By name of the fault.  `churn`, `tear` and `flood` are too many for a loop (attackers.py)."""


def has_refused(each: socket.socket) -> bool:
    """The server has reset it since."""
    try:
        return each.recv(1, socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


def cut_off(gang: Any, place: Any, source: str, chance: random.Random | None) -> None:
    """Connect and break off: at once, or after a random part of some lines, and some of the replies."""
    with socket.socket() as each:
        each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESETS)
        gang.bind(each, source)
        each.connect(place)
        if chance is not None:
            text = b"1.1.0 hello\n!sleep 0.001\n!many 20\n2.2.0 hello\n"
            with suppress(OSError):
                each.send(text[: chance.randrange(len(text) + 1)])
                if chance.random() < 0.3:
                    each.settimeout(0.001)
                    each.recv(chance.randrange(1, 4000))
                if chance.random() < 0.3:
                    each.shutdown(socket.SHUT_WR)  # then the next write to it is SIGPIPE's (tcp(7), EPIPE)
