r"""A blocking client: what a server says, as messages, with the same framings that the server has.

    with paceline.Client("127.0.0.1:8888", framing="line") as client:
        print(client.call(b"hello"))

Plain code for one thread at a time.  Calls block, each for at most the client's time-out (10 s unless said otherwise),
which is for the whole call and not for each piece that arrives.

**What arrives is kept in order**, however it was cut into pieces.

**Sending takes in what arrives.**  A server that answers while we still send is read meanwhile, so that two who both
write before they read do not wait for each other.  Of its replies `UNREAD_BYTES` are kept so, or twice `max_message` if
that is more; the rest waits in the kernel, and pushes back, until replies are received.

**What is still possible after an error** is always the same:

    receive ran out of time         nothing is lost, a part of a reply included: a later `receive` goes on
    call ran out of time            its reply may still come: `receive` it before the next `call`
    send ran out of time            inside a message: nothing more can be sent, replies can be received; else all
    a reply is wrong, or too large  those before it were received; then each `receive` raises the same again
    the connection has ended        what had arrived can be received; then each `receive` says how it ended
    the client is closed            nothing

A client that is dropped without `close` warns as a socket does (ResourceWarning).
"""

import errno
import select
import socket
from collections import deque
from collections.abc import Iterator, Sequence
from enum import Enum
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from paceline import clock
from paceline.addresses import Address, parse_address
from paceline.errors import (
    ConnectionClosed,
    ConnectionReset,
    MessageTooLarge,
    PacelineError,
    PeerError,
    SettingError,
    TimedOut,
    Truncated,
    UsageError,
)
from paceline.host.dialing import dial, reached
from paceline.host.streams import unread_bytes
from paceline.settings.values import Seconds, Size, WrongValueError
from paceline.wire import BadReply, Broken, Framing, as_framing, describe

RECEIVE_BYTES = 65536
UNREAD_BYTES = 1024 * 1024
"""How much of what the server says is kept at least while we send."""

_MESSAGE: Final = Size(low=1, high=1024**3)
_TIMEOUT: Final = Seconds(low=0.001, high=86400.0)
_TIMEOUT_OF_A_CALL: Final = Seconds(low=0.0, high=86400.0)


class _Unset(Enum):
    """The default of an argument whose other values include None."""

    UNSET = 0


_UNSET: Final = _Unset.UNSET
_E = TypeVar("_E", bound=PacelineError)
Timeout = float | str | None | _Unset


class _Deadline:
    """When a call has to be over; None: it may take for ever."""

    def __init__(self, within_s: float | None) -> None:
        self._within_s = within_s
        self._until = None if within_s is None else clock.now() + within_s

    def __str__(self) -> str:
        return "" if self._within_s is None else f" within {self._within_s:g} s"

    def is_over(self) -> bool:
        return self._until is not None and clock.now() >= self._until

    def left_ms(self) -> int | None:
        """For poll(2).  Rounded up: with less than a millisecond left it would not wait at all, again and again."""
        return None if self._until is None else max(0, int((self._until - clock.now()) * 1000) + 1)


class Client:
    """One connection to a server.

    address          `HOST:PORT`, `:PORT` (this machine), `[::1]:PORT`, `unix:PATH`, or an Address
    framing          as `--framing` of the server: `raw`, `line`, `length:4`, …, or a framing object
    max_message      the largest reply, in bytes or as `64k`; a framing object has a limit of its own
    timeout          seconds (or `500ms`) that one call may take; None: for ever
    connect_timeout  the same for connecting; `timeout` if it is not given

    Each call may be given another `timeout`; 0: only what can be done at once.

    Raises, where it connects: Refused, ConnectFailed, TimedOut; UsageError and SettingError for wrong arguments.
    """

    def __init__(
        self,
        address: str | Address = "127.0.0.1:8888",
        *,
        framing: str | Framing = "raw",
        max_message: int | str = "1MiB",
        timeout: float | str | None = 10.0,
        connect_timeout: Timeout = _UNSET,
    ) -> None:
        self._timeout_s = _seconds(_TIMEOUT, "timeout", timeout)
        limit: int = _read(_MESSAGE, "max_message", max_message)
        self.framing: Framing = as_framing(framing, limit)
        self._limit_is_ours = isinstance(framing, str)
        where = parse_address(address) if isinstance(address, str) else address
        if not isinstance(where, Address):
            raise UsageError(f"address={address!r} must be a text such as '127.0.0.1:8888'")
        self.peer = reached(where)
        """Where it is connected to, as text."""
        self._most_unread = max(UNREAD_BYTES, 2 * limit)
        self._arrived = bytearray()
        """Bytes that nobody has cut into replies yet."""
        self._rest: Any = None
        """The framing's own: what it has of an unfinished reply."""
        self._replies: deque[bytes] = deque()
        self._wrong: PacelineError | None = None
        """Why nothing more can be cut from what arrives."""
        self._ended: PeerError | None = None
        """Why nothing more arrives."""
        self._lost: PeerError | None = None
        """Why nothing more can be sent: what the kernel said."""
        self._mute = ""
        """The same: what was done here."""
        self._is_owed = False
        """A call ran out of time, and its reply has not been received."""
        self._is_closed = False
        self.socket = dial(
            where,
            self._timeout_s if connect_timeout is _UNSET else _seconds(_TIMEOUT, "connect_timeout", connect_timeout),
        )
        """The socket: blocking.  What is received from it directly is missing here."""

    def send(self, *messages: bytes, timeout: Timeout = _UNSET) -> None:
        """Send these messages, in order, as one piece.  Returns when the kernel has taken all of it.

        Raises ConnectionClosed or ConnectionReset when the server has ended the connection, TimedOut when it does not
        read, UsageError when a message cannot be sent in this framing (then none is), or nothing can be sent any more.
        """
        self._send(self._deadline(timeout), self._joined(messages))

    def receive(self, *, timeout: Timeout = _UNSET) -> bytes:
        """The next reply.  With the framing `raw`: what has arrived.

        Raises TimedOut, ConnectionClosed, ConnectionReset, Truncated, MessageTooLarge, BadFrame.
        """
        return self._receive(self._deadline(timeout))

    def call(self, message: bytes, *, timeout: Timeout = _UNSET) -> bytes:
        """Send one message and return the reply to it; both together within the time-out.

        The reply is the next one that arrives: whoever mixes this with `send` receives what is outstanding before.
        Raises what `send` and `receive` do; UsageError when an earlier call ran out of time and its reply, which
        would be taken for this one's, has not been received.
        """
        deadline = self._deadline(timeout)
        if self._is_owed and (self._ended or self._lost or self._wrong) is None:
            raise UsageError(
                f"an earlier call ran out of time, and its reply would be taken for the one to this: receive() it "
                f"first, or make another client of {self.peer}"
            )
        joined = self._joined([message])
        if not joined:
            raise UsageError(f"an empty message is nothing at all in the framing {describe(self.framing)}: no reply")
        self._send(deadline, joined)
        self._is_owed = True
        return self._receive(deadline)

    def end(self) -> None:
        """Send no more: the server sees end-of-file, and can still answer.  May be called again."""
        self._check_open()
        self._mute = "the sending was ended with end()"
        try:
            self.socket.shutdown(socket.SHUT_WR)
        except OSError as error:
            if error.errno != errno.ENOTCONN:  # it has gone already, as `receive` will say
                raise self._lose(error) from error

    def close(self) -> None:
        """End the connection.  What has not been received is dropped.  May be called again."""
        self._is_closed = True
        self.socket.close()

    def __iter__(self) -> Iterator[bytes]:
        """The replies, until the server ends the connection; each within the time-out.  Raises as `receive` does."""
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

    # Both directions

    def _deadline(self, timeout: Timeout) -> _Deadline:
        self._check_open()
        return _Deadline(self._timeout_s if timeout is _UNSET else _seconds(_TIMEOUT_OF_A_CALL, "timeout", timeout))

    def _check_open(self) -> None:
        if self._is_closed:
            raise UsageError(f"this client of {self.peer} is closed; make another one")

    def _wait(self, deadline: _Deadline, for_what: int) -> None:
        """Wait until one can send or receive, or the time is up.  What arrives meanwhile is taken in."""
        waiter = select.poll()
        may_read = self._ended is None and len(self._arrived) < self._most_unread
        waiter.register(self.socket, for_what | (select.POLLIN if may_read else 0))
        events = waiter.poll(deadline.left_ms())
        if events and may_read and events[0][1] & ~select.POLLOUT:
            self._take_in()

    def _take_in(self) -> bool:
        """Take in what has arrived.  False: nothing has."""
        try:
            piece = self.socket.recv(RECEIVE_BYTES, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError as error:
            self._ended = self._lose(error)
            return True
        if piece:
            self._arrived += piece
        else:
            # Who was told while sending that the connection was reset is told now that it has ended, and only that.
            self._ended = self._lost or ConnectionClosed(f"{self.peer} ended the connection")
        return True

    def _lose(self, error: OSError) -> PeerError:
        """The connection broke.  What was heard of it first is the cause: after a reset, to send is EPIPE."""
        after = "; whether it saw what was sent last is not known"
        if self._lost is not None:
            self._lost = _again(self._lost)
        elif error.errno == errno.EPIPE:
            self._lost = ConnectionClosed(f"{self.peer} had ended the connection{after}")
        elif error.errno == errno.ECONNRESET:
            self._lost = ConnectionReset(f"{self.peer} reset the connection{after}")
        else:
            self._lost = ConnectionReset(f"the connection to {self.peer} broke ({error.strerror}){after}")
        return self._lost

    # Sending

    def _joined(self, messages: Sequence[bytes]) -> bytes:
        for at, message in enumerate(messages, 1):
            if not isinstance(message, bytes | bytearray | memoryview):
                raise UsageError(
                    f"message {at} is of type {type(message).__name__}, where bytes are wanted{_hint(message)}"
                )
        try:
            joined = self.framing.join([bytes(message) for message in messages])
        except BadReply as error:
            raise UsageError(f"message {error.index + 1} cannot be sent: {_of_a_client(error)}") from error
        if not isinstance(joined, bytes | bytearray | memoryview):
            raise UsageError(
                f"join of the framing {describe(self.framing)} returned {type(joined).__name__}, not bytes"
            )
        return joined

    def _send(self, deadline: _Deadline, joined: bytes) -> None:
        if self._lost is not None:
            raise _again(self._lost)
        if self._mute:
            raise UsageError(f"nothing more can be sent to {self.peer}: {self._mute}; make another client")
        waiting = memoryview(joined)
        size = len(waiting)
        try:
            while waiting:
                sent = 0
                try:
                    sent = self.socket.send(waiting, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
                except BlockingIOError:
                    pass
                except OSError as error:
                    raise self._lose(error) from error
                waiting = waiting[sent:]
                if waiting and deadline.is_over():
                    raise TimedOut(self._not_read(len(waiting), size, deadline))
                if not sent:
                    self._wait(deadline, select.POLLOUT)
        finally:  # whatever ended it, the interrupt of a signal included
            if 0 < len(waiting) < size:
                self._mute = f"an earlier send broke off when {size - len(waiting):,} of {size:,} bytes were sent"

    def _not_read(self, unsent: int, size: int, deadline: _Deadline) -> str:
        why = "it does not read"
        if len(self._arrived) >= self._most_unread:
            why = f"its replies are not received, {len(self._arrived):,} bytes of them wait here; receive between sends"
        return f"{unsent:,} of {size:,} bytes could not be sent to {self.peer}{deadline}: {why}"

    # Receiving

    def _receive(self, deadline: _Deadline) -> bytes:
        in_time: int | None = None  # when the time is up: how many bytes had arrived by then, and are still to be taken
        while not self._replies:
            if self._wrong is not None:
                raise _again(self._wrong)
            if self._arrived:
                self._cut()
            elif self._ended is not None:
                raise self._how_it_ended(self._ended)
            elif in_time is not None and in_time <= 0:
                part = " (a part of it has arrived, and is kept)" if self._rest is not None else ""
                raise TimedOut(f"no reply from {self.peer}{deadline}{part}")
            else:
                if in_time is None and deadline.is_over():
                    in_time = max(unread_bytes(self.socket.fileno()), 1)  # at the end of the connection there are none
                took = self._take_in()
                if in_time is not None:
                    in_time -= len(self._arrived) or 1
                elif not took:
                    self._wait(deadline, select.POLLIN)
        self._is_owed = False
        return self._replies.popleft()

    def _cut(self) -> None:
        """Make replies of what has arrived: not of all at once, for many small ones take more room than their bytes."""
        piece = bytes(self._arrived[:RECEIVE_BYTES])
        del self._arrived[:RECEIVE_BYTES]
        try:
            replies, self._rest = self.framing.cut(self._rest, piece)
        except BaseException as error:
            self._wrong = UsageError(
                f"cut of the framing {describe(self.framing)} raised {type(error).__name__}: where the next reply of "
                f"{self.peer} begins is not known any more; make another client"
            )
            raise
        self._replies.extend(replies)
        if isinstance(self._rest, Broken):
            self._wrong = self._complaint(self._rest.error)

    def _complaint(self, error: PeerError) -> PeerError:
        """What was wrong with a reply, in the words of a client."""
        if isinstance(error, MessageTooLarge):
            remedy = (
                "give Client a larger max_message" if self._limit_is_ours else "make the framing with a larger limit"
            )
            return MessageTooLarge(f"a reply of {self.peer} is larger than this client takes: {error}; {remedy}")
        return type(error)(
            f"a reply of {self.peer} does not follow the framing {describe(self.framing)}: {error}; which one does it "
            f"speak?"
        )

    def _how_it_ended(self, ended: PeerError) -> PeerError:
        if self._rest is None:
            return _again(ended)
        size = f", after {len(self._rest):,} bytes of it" if isinstance(self._rest, bytes | bytearray) else ""
        if isinstance(ended, ConnectionReset):
            return ConnectionReset(f"{ended}; it was inside a reply{size}")
        return Truncated(f"{self.peer} ended the connection inside a reply{size}")


def _again(error: _E) -> _E:
    """The same error, new: one that is raised again collects tracebacks."""
    return type(error)(*error.args)


def _hint(message: object) -> str:
    if isinstance(message, str):
        return "; encode it: text.encode()"
    return "; give several messages as send(*messages)" if isinstance(message, list | tuple) else ""


def _of_a_client(error: BadReply) -> str:
    """A framing speaks of handlers and their replies; what a client sends is a message."""
    text = str(error).replace("the handler returned a reply", "it is a message").replace("every reply", "every message")
    return text.replace("return several replies", "send several messages")


def _seconds(kind: Seconds, name: str, value: Any) -> float | None:
    return None if value is None else _read(kind, name, value)


def _read(kind: Size | Seconds, name: str, value: object) -> Any:
    try:
        return kind.read(value)
    except WrongValueError as error:
        nearest = f"; the nearest right one is {error.nearest}" if error.nearest else ""
        raise SettingError(f"{name}={value!r} must be {error.rule}{nearest}") from None
