"""One connection as a worker keeps it: a few hundred bytes while it is quiet, no thread, no socket object.

It is also what a message handler gets as its second parameter; only the documented, public part is meant for users.
Everything below `# the worker's` belongs to whoever owns the connection (worker/tables.py).
"""

import marshal
from typing import TYPE_CHECKING, Any

from paceline.errors import UsageError
from paceline.host import streams
from paceline.worker.deadlines import Owes, Watch
from paceline.worker.lifecycle import State
from paceline.worker.packed import Packed, kept_by, packed

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Callable, Iterator

    from paceline.wire.tls import Tls, TlsSession
    from paceline.worker.files import Sending

    Push = Callable[["Connection", bytes], None]

GONE = -1
STATE_BYTES = 16 * 1024
STATE_DEPTH = 32
_PLAIN = (type(None), bool, int, float, str, bytes)
_CLOSED = "a peer that is gone"


def checked_state(value: object) -> object:
    """`value`, if it may be a connection's state: builtin values only, at most 16 KiB.  Raises UsageError.

    The state travels with its connection when that moves to another process, which may run newer code; an object of
    the user's own class would not survive that.
    """
    _check(value, 0, STATE_BYTES)
    size = len(marshal.dumps(value))  # type: ignore[arg-type]  # checked above
    if size > STATE_BYTES:
        raise UsageError(
            f"connection.state takes {size:,} bytes; at most {STATE_BYTES:,} can travel: keep a key, not the thing"
        )
    return value


def is_plain(value: object, most_values: int) -> bool:
    """`value` is builtin, to its depths, so that it can travel to another process of the same code."""
    try:
        _check(value, 0, most_values, (*_PLAIN, bytearray))
    except UsageError:
        return False
    return True


def _check(value: object, depth: int, room: int, plain: tuple[type, ...] = _PLAIN) -> int:
    """Refuse what is not builtin.  How much of `room` is left, a byte for each value: one that is met again counts
    again, so that a few lists that hold each other many times over do not take for ever.
    """
    if depth > STATE_DEPTH:
        raise UsageError(f"connection.state is nested more than {STATE_DEPTH} deep (or contains itself)")
    if room <= 0:
        raise UsageError(f"connection.state holds more than {STATE_BYTES:,} values: keep a key, not the thing")
    kind = type(value)
    room -= 1
    if kind in plain:
        return room
    if kind is dict:
        for key, item in value.items():  # type: ignore[attr-defined]
            room = _check(item, depth + 1, _check(key, depth + 1, room, plain), plain)
    elif kind in (list, tuple, set, frozenset):
        for item in value:  # type: ignore[attr-defined]
            room = _check(item, depth + 1, room, plain)
    else:
        raise UsageError(
            f"connection.state holds {kind.__module__}.{kind.__qualname__}; only None, bool, int, float, str, bytes "
            f"and list, tuple, set, frozenset, dict of them can travel to another process"
        )
    return room


class Connection:
    """One client.

    peer         who it is, as text: `192.0.2.7:50312`; after its end: `a peer that is gone`
    credentials  of a Unix socket: pid, uid and gid of the process that has connected; else None
    listener     the address it came in by, as text
    messages     how many messages it has sent so far, the present one included
    state        anything of yours that should stay with it: builtin values, at most 16 KiB (UsageError otherwise)
    tls          what was agreed in the TLS handshake (paceline.TlsSession); None: it is not encrypted
    send         a message beside the replies, from any thread of the worker
    """

    __slots__ = ("_peer", "_state", "armed", "busy", "fd", "greeted", "messages", "out", "owed", "passed_at", "passes",
                 "phase", "polled", "pushed", "pushed_bytes", "queue", "reason", "received", "rest", "secrecy", "sent",
                 "source", "uncut", "waiting_bytes", "watch", "way_in")  # fmt: skip

    def __init__(self, fd: int, way_in: "WayIn", phase: State = State.OPEN) -> None:
        self._peer: str | None = None
        self._state: object = None
        self.messages = 0
        # the worker's:
        self.fd = fd
        self.way_in = way_in
        self.phase = phase
        self.busy = phase is not State.OPEN
        """Something is in hand, or will be before the next message: the fast path must not touch it."""
        self.passes = 0
        """How often it was passed from worker to worker since it was last served: for as long as `passed_at` holds."""
        self.passed_at = 0
        """`messages` when it came from another worker."""
        self.polled = False
        """Its descriptor is in the epoll set."""
        self.armed = False
        """The epoll set reports room to write, too."""
        self.greeted = False
        """`connected` was called, so `disconnected` will be."""
        self.reason = ""
        """Why it is being closed, when that was not the peer's doing: the end of a scoreboard cell, `closed_…`."""
        self.rest: Any = None
        """What the framing keeps of an unfinished message, or Broken."""
        self.received = 0
        """Bytes received while a message was unfinished (for the minimum rate), or dropped while lingering."""
        self.out: bytes | memoryview | None = None
        """What could not be sent yet; empty: only room for it is waited for, for a file."""
        self.queue: deque[bytes] | Packed | None = None
        """Messages that were cut and not yet answered."""
        self.uncut: memoryview | None = None
        """Bytes that were received and not yet cut: they come after `queue`."""
        self.waiting_bytes = 0
        """How much memory these two take, noted when it was parked with something unsent."""
        self.secrecy: Tls | None = None
        """What decrypts what is received, and encrypts what goes into `out`; made when a handshake begins."""
        self.owed: int | None = None
        """In a drain: how many bytes of what it had sent are still to be read."""
        self.sent = 0
        """Bytes that the peer took of what had waited."""
        self.source: Iterator[Any] | Sending | None = None
        """A reply that comes in pieces, or out of a file."""
        self.watch: Watch | None = None
        """The watcher's: what it saw when it last looked."""
        self.pushed: list[bytes] | None = None  # guarded by the lock of pushing.py, as the next one
        """Messages of `send` that nobody has put on the wire yet."""
        self.pushed_bytes = 0
        """How much they are; GONE: no more are taken."""

    @property
    def peer(self) -> str:
        if self._peer is not None:
            return self._peer
        # After the end its number may be another connection's.
        return _CLOSED if self.phase is State.CLOSED else streams.peer_text(self.fd)

    @property
    def credentials(self) -> streams.Credentials | None:
        """Whose process the peer is.  None: it came by TCP, it is for a proxy to say who it is, or it is not here any
        more (closed, or moved to another worker).  Asked of the kernel each time.
        """
        if self.way_in.is_proxied:
            return None  # the process at the other end is the proxy's
        found = streams.peer_credentials(self.fd)
        # Asked afterwards: before its number can be another connection's, it is CLOSED.
        return None if self.phase is State.CLOSED else found

    def remember_peer(self, text: str = "") -> None:
        """Keep the text, for a handler that may ask when the peer is gone and the kernel has forgotten it."""
        self._peer = text or self.peer

    @property
    def known_peer(self) -> str:
        """The text that is kept; empty: it can be asked for."""
        return self._peer or ""

    @property
    def listener(self) -> str:
        return self.way_in.text

    @property
    def tls(self) -> "TlsSession | None":
        return None if self.secrecy is None else self.secrecy.session

    def send(self, message: bytes) -> None:
        """Send it a message that is no reply, as soon as that may be: from any thread of this worker, at any time.

        It is framed as a reply is, comes behind the messages that were sent before it, and never in the middle of a
        reply.  Returns at once.  Raises BlockingIOError when the peer does not read and more than `--max-buffer` would
        wait for it; BrokenPipeError when it is closed, or has moved to another worker; ValueError when it is longer
        than `--max-buffer` by itself; TypeError.
        """
        if not isinstance(message, bytes | bytearray | memoryview):
            raise TypeError(f"connection.send() takes bytes, and not {type(message).__name__}")
        self.way_in.push(self, bytes(message))

    @property
    def state(self) -> Any:
        return self._state

    @state.setter
    def state(self, value: object) -> None:
        self._state = checked_state(value)

    def __repr__(self) -> str:
        return f"<paceline.Connection {self.peer} via {self.listener}, {self.messages} messages>"

    @property
    def is_closed(self) -> bool:
        return self.phase is State.CLOSED

    @property
    def owes(self) -> Owes:
        """What a deadline may be set for, while nobody owns it."""
        if self.phase is State.LINGERING:
            return Owes.LINGERING
        if self.phase is State.UNNAMED:
            return Owes.HEADER
        if self.phase is State.SECURING:
            return Owes.HANDSHAKE
        if self.out is not None:
            return Owes.WRITING
        if self.rest is not None:
            return Owes.REST_OF_MESSAGE
        return Owes.NOTHING if self.messages else Owes.FIRST_BYTE

    def note_waiting(self) -> None:
        """It is parked with something unsent: its messages that are not answered yet may wait for long."""
        queue, uncut = self.queue, self.uncut
        if queue:
            self.queue = queue = packed(queue)
        self.waiting_bytes = (kept_by(queue) if queue else 0) + (0 if uncut is None else len(uncut))

    @property
    def kept_bytes(self) -> int:
        """How much is kept for it: what it does not read, what waits behind that, and what it has not finished."""
        out, rest = self.out, self.rest
        kept = max(self.pushed_bytes, 0) + (0 if out is None else len(out) + self.waiting_bytes)
        return kept + (len(rest) if isinstance(rest, bytes | bytearray) else 0)

    @property
    def progress(self) -> int:
        """What changes when the peer does what it owes; of one that owes nothing, also when something is sent to it."""
        if self.out is not None and self.phase is not State.SECURING:
            # What its side has acknowledged: that there was room left in our kernel's buffer is not its doing.
            return self.sent - streams.unsent_bytes(self.fd)
        return self.messages + self.sent if self.messages and self.rest is None else self.messages


class WayIn:
    """What all connections of one listener share; those that begin with a proxy's header have one of their own."""

    __slots__ = ("_proxied", "index", "is_proxied", "push", "secures", "text")

    def __init__(self, index: int, text: str, push: "Push | None" = None, *, secures: bool = False) -> None:
        self.index = index
        self.text = text
        self.secures = secures
        """TLS is spoken there."""
        self.push = push or _nobody_sends
        self.is_proxied = False
        self._proxied: WayIn | None = None

    @property
    def proxied(self) -> "WayIn":
        """The same listener, for connections of proxies."""
        if self._proxied is None:
            self._proxied = WayIn(self.index, self.text, self.push, secures=self.secures)
            self._proxied.is_proxied = True
            self._proxied._proxied = self._proxied
        return self._proxied


def _nobody_sends(_connection: Connection, _message: bytes) -> None:
    raise BrokenPipeError("this connection belongs to no worker")
