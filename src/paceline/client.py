r"""A blocking client: what a server says, as messages, with the same framings that the server has.

    with paceline.Client("127.0.0.1:8888", framing="line") as client:
        print(client.call(b"hello"))

Plain code for one thread: calls block, each for at most the client's time-out (10 s unless said otherwise), which is
for the whole call and not for each piece that arrives.  Two threads may not use one client at the same time.

**What arrives is kept in order**, however it was cut into pieces.  A call that runs out of time loses nothing: what has
arrived by then, a part of a reply included, is there for the next `receive`.

**Sending never waits for us.**  A server that answers while we still send is read meanwhile, so that two who both want
to write first do not wait for each other.  Of what it says then `UNREAD_BYTES` are kept (or twice the largest reply, if
that is more); the rest waits in the kernel until the replies are received.

**After the connection has ended** the replies that had arrived can still be received; then each `receive` raises what
ended it: ConnectionClosed, ConnectionReset, Truncated (inside a reply), or what was wrong with a reply.
"""

import errno
import select
import socket
from collections import deque
from collections.abc import Iterator, Sequence
from enum import Enum
from types import TracebackType
from typing import Any, Final, Self

from paceline import clock
from paceline.addresses import Address, parse_address
from paceline.errors import (
    ConnectionClosed,
    ConnectionReset,
    MessageTooLarge,
    PeerError,
    SettingError,
    TimedOut,
    Truncated,
    UsageError,
)
from paceline.host.dialing import dial, reached
from paceline.settings.values import Seconds, Size, WrongValueError
from paceline.wire import BadReply, Broken, Framing, as_framing

RECEIVE_BYTES = 65536
UNREAD_BYTES = 1024 * 1024
"""How much of what the server says is kept at least while we send."""

_MESSAGE: Final = Size(low=1, high=1024**3)
_TIMEOUT: Final = Seconds(low=0.001, high=86400.0)


class _Unset(Enum):
    """The default of an argument whose other values include None."""

    UNSET = 0


_UNSET: Final = _Unset.UNSET
Timeout = float | str | None | _Unset


class Client:
    """One connection to a server.

    address          `HOST:PORT`, `:PORT` (this machine), `[::1]:PORT`, `unix:PATH`, or an Address
    framing          as `--framing` of the server: `raw`, `line`, `length:4`, …, or a framing object
    max_message      the largest reply, in bytes or as `64k`
    timeout          seconds (or `500ms`) that one call may take; None: for ever
    connect_timeout  the same for connecting; `timeout` if it is not given

    Raises, where it connects: Refused, ConnectFailed, TimedOut; UsageError and SettingError for wrong arguments.
    """

    def __init__(
        self,
        address: str | Address = "127.0.0.1:8888",
        *,
        framing: str | Framing = "raw",
        max_message: int | str = 1024 * 1024,
        timeout: float | str | None = 10.0,
        connect_timeout: Timeout = _UNSET,
    ) -> None:
        self._timeout_s = _seconds("timeout", timeout)
        limit: int = _read(_MESSAGE, "max_message", max_message)
        self.framing: Framing = as_framing(framing, limit)
        where = parse_address(address) if isinstance(address, str) else address
        self.peer = reached(where)
        """Where it is connected to, as text."""
        within_s = self._timeout_s if connect_timeout is _UNSET else _seconds("connect_timeout", connect_timeout)
        self._most_unread = max(UNREAD_BYTES, 2 * limit)
        self._rest: Any = None
        self._arrived = bytearray()
        """Bytes that nobody has cut into replies yet."""
        self._replies: deque[bytes] = deque()
        self._ended: PeerError | None = None
        """What ended the connection: nothing more will arrive."""
        self._is_closed = False
        self.socket = dial(where, within_s)
        """The socket: blocking; what is received from it directly is missing here."""

    def send(self, *messages: bytes, timeout: Timeout = _UNSET) -> None:
        """Send these messages, in order, as one piece.  Returns when the kernel has taken all of it.

        Raises ConnectionClosed or ConnectionReset when the server has ended the connection, TimedOut when it does not
        read (then a part may be sent: end the connection), UsageError when a message cannot be sent in this framing.
        """
        until = self._until(timeout)
        waiting = memoryview(self._joined(messages))
        while waiting:
            try:
                sent = self.socket.send(waiting, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
            except BlockingIOError:
                if not self._wait(until, select.POLLOUT):
                    raise TimedOut(self._not_read(len(waiting))) from None
            except OSError as error:
                raise self._lost(error) from error
            else:
                waiting = waiting[sent:]

    def receive(self, *, timeout: Timeout = _UNSET) -> bytes:
        """The next reply.  With the framing `raw`: what has arrived.

        Raises TimedOut, ConnectionClosed, ConnectionReset, Truncated, MessageTooLarge, BadFrame.
        """
        until = self._until(timeout)
        while not self._replies:
            if self._arrived:
                self._cut()
            elif type(self._rest) is Broken:
                raise self._complaint(self._rest.error)
            elif self._ended is not None:
                raise self._how_it_ended(self._ended)
            elif not self._read() and not self._wait(until, select.POLLIN):
                raise TimedOut(self._no_reply(until))
        return self._replies.popleft()

    def call(self, message: bytes, *, timeout: Timeout = _UNSET) -> bytes:
        """Send one message and return the reply to it; both together within the time-out.

        The reply is the next one that arrives: whoever mixes this with `send` receives what is outstanding before.
        """
        until = self._until(timeout)
        self.send(message, timeout=timeout)
        return self.receive(timeout=None if until is None else max(until - clock.now(), 0.001))

    def end(self) -> None:
        """Send no more: the server sees end-of-file, and can still answer."""
        self._check_open()
        try:
            self.socket.shutdown(socket.SHUT_WR)
        except OSError as error:
            if error.errno != errno.ENOTCONN:  # it has gone already, as `receive` will say
                raise

    def close(self) -> None:
        """End the connection.  What has not been received is dropped.  May be called again."""
        self._is_closed = True
        self.socket.close()

    def __iter__(self) -> Iterator[bytes]:
        """The replies, until the server ends the connection; each within the time-out."""
        while True:
            try:
                reply = self.receive()
            except ConnectionReset:
                raise
            except ConnectionClosed:
                return
            yield reply

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Client of {self.peer}, {'closed' if self._is_closed else 'open'}>"

    def _until(self, timeout: Timeout) -> float | None:
        self._check_open()
        seconds = self._timeout_s if timeout is _UNSET else _seconds("timeout", timeout)
        return None if seconds is None else clock.now() + seconds

    def _check_open(self) -> None:
        if self._is_closed:
            raise UsageError(f"this client of {self.peer} is closed; make another one")

    def _joined(self, messages: Sequence[bytes]) -> bytes:
        for at, message in enumerate(messages, 1):
            if not isinstance(message, bytes | bytearray | memoryview):
                kind = type(message).__name__
                hint = "; encode it: text.encode()" if isinstance(message, str) else ""
                raise UsageError(f"message {at} is of type {kind}, where bytes are wanted{hint}")
        try:
            return self.framing.join([bytes(message) for message in messages])
        except BadReply as error:
            raise UsageError(f"message {error.index + 1} cannot be sent: {error}") from error

    def _wait(self, until: float | None, for_what: int) -> bool:
        """Wait until one can send or receive; what arrives meanwhile is taken in.  False: the time is up."""
        waiter = select.poll()
        may_read = self._ended is None and len(self._arrived) < self._most_unread
        waiter.register(self.socket, for_what | (select.POLLIN if may_read else 0))
        if until is None:
            events = waiter.poll()
        else:
            left_s = until - clock.now()
            # Rounded up: with less than a millisecond left, poll(2) would not wait at all, again and again.
            events = waiter.poll(int(left_s * 1000) + 1) if left_s > 0 else waiter.poll(0)
        if events and may_read and events[0][1] & ~select.POLLOUT:
            self._read()
        return bool(events)

    def _read(self) -> bool:
        """Take in what has arrived.  False: nothing has."""
        try:
            piece = self.socket.recv(RECEIVE_BYTES, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError as error:
            self._lost(error)
            return True
        if piece:
            self._arrived += piece
        else:
            self._ended = ConnectionClosed(f"{self.peer} ended the connection")
        return True

    def _cut(self) -> None:
        """Make replies of what has arrived: not of all at once, for many small ones take more room than their bytes."""
        piece = bytes(self._arrived[:RECEIVE_BYTES])
        del self._arrived[:RECEIVE_BYTES]
        replies, self._rest = self.framing.cut(self._rest, piece)
        self._replies.extend(replies)

    def _lost(self, error: OSError) -> PeerError:
        """The connection broke."""
        if error.errno in (errno.ECONNRESET, errno.EPIPE):
            how = "reset the connection" if error.errno == errno.ECONNRESET else "had ended the connection"
            kind = ConnectionReset if error.errno == errno.ECONNRESET else ConnectionClosed
            lost = kind(f"{self.peer} {how}; whether it saw what was sent last is not known")
        else:
            lost = ConnectionReset(f"the connection to {self.peer} broke: {error.strerror}")
        if self._ended is None and error.errno != errno.EPIPE:  # what it had sent before it ended can still be read
            self._ended = lost
        return lost

    def _how_it_ended(self, ended: PeerError) -> PeerError:
        """A new error each time: one that is raised again collects tracebacks."""
        if type(ended) is ConnectionClosed and self._rest is not None:
            size = f", after {len(self._rest):,} bytes of it" if isinstance(self._rest, bytes | bytearray) else ""
            return Truncated(f"{self.peer} ended the connection inside a reply{size}")
        return type(ended)(*ended.args)

    def _complaint(self, error: PeerError) -> PeerError:
        """What was wrong with a reply, in the words of a client."""
        if isinstance(error, MessageTooLarge):
            return MessageTooLarge(
                f"a reply of {self.peer} is larger than this client takes: {error}; give Client a larger max_message"
            )
        return type(error)(f"a reply of {self.peer} does not follow the framing {self.framing!r}: {error}")

    def _no_reply(self, until: float | None) -> str:
        part = " (a part of it has arrived, and is kept)" if self._rest is not None else ""
        return f"no reply from {self.peer} within the time-out{part}" if until is not None else "no reply"

    def _not_read(self, unsent: int) -> str:
        if len(self._arrived) >= self._most_unread:
            return (
                f"{unsent:,} bytes could not be sent to {self.peer} within the time-out: its replies are not received, "
                f"{len(self._arrived):,} bytes of them wait here; receive between sends"
            )
        return f"{unsent:,} bytes could not be sent to {self.peer} within the time-out: it does not read"


def _seconds(name: str, value: Any) -> float | None:
    return None if value is None else _read(_TIMEOUT, name, value)


def _read(kind: Size | Seconds, name: str, value: object) -> Any:
    try:
        return kind.read(value)
    except WrongValueError as error:
        nearest = f"; the nearest right one is {error.nearest}" if error.nearest else ""
        raise SettingError(f"{name}={value!r} must be {error.rule}{nearest}") from None
