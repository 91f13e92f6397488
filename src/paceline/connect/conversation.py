"""The connection while somebody types: a thread that sends what it is given, and shows what comes when it comes.

Whoever types calls `send`, `send_file`, `end`, `reconnect`; these never wait.  The thread owns the socket and the
session; it waits (poll(2)) for the server and, through an eventfd, for the one who types.  It shows through the screen,
and while the screen has not taken a piece it reads no more from the server: a flood waits in the kernel, not here.

A file is read as the server takes it.  Time is stamped when the first byte of a message is given to the kernel, and
when its reply is taken from there.
"""

import errno
import os
import select
import socket
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import BinaryIO, Protocol

from paceline import clock
from paceline.addresses import Address
from paceline.connect import endings
from paceline.connect.framed import Framed
from paceline.connect.session import Reply, Session, State
from paceline.errors import PacelineError, UsageError
from paceline.host.dialing import dial, reached
from paceline.wire.framing import size_text

READ_BYTES = 65536
MOST_WAITING = 16 << 20
"""Bytes of messages that wait for the server to read; more are not taken."""
_LEAVING_S = 1.0


class Screen(Protocol):
    """Where things are shown.  Called by the conversation's thread; returns when it is shown, or nobody looks."""

    def show(self, replies: Sequence[Reply]) -> None: ...

    def say(self, text: str) -> None: ...

    def complain(self, text: str) -> None: ...

    def on_change(self) -> None:
        """The state is another one."""


@dataclass(slots=True)
class _Out:
    """Bytes to send, and of how many messages they are; a file behind them is read when they are sent."""

    wire: memoryview
    messages: int
    file: BinaryIO | None = None
    name: str = ""
    sent: int = 0


class _OurEnd:
    """Stands behind the last bytes."""


class Conversation:
    """One user's conversation with one address, over several connections if it must be."""

    def __init__(
        self, address: Address, framed: Framed, screen: Screen, *, timeout_s: float | None, is_line: bool = False
    ) -> None:
        """`is_line`: each line of a file is a message.  Connects: raises what `dial` raises."""
        self.peer = reached(address)
        self.framed = framed
        self.failure: PacelineError | None = None
        """What was wrong with the end of the connection; set before the state changes."""
        self.bug: Exception | None = None
        """What ended the thread though it must not; for whoever types, to raise it."""
        self.over = threading.Event()
        """Our end was sent, and the connection has ended."""
        self._address = address
        self._screen = screen
        self._timeout_s = timeout_s
        self.sends_verbatim = framed.is_raw or is_line
        """Files go as they are, not as one message."""
        self._is_line = is_line
        self._session = Session(is_raw=framed.is_raw, timeout_ns=None if timeout_s is None else round(timeout_s * 1e9))
        self._asked: deque[Callable[[], None]] = deque()  # append and popleft only
        self._waiting = 0  # guarded by lock
        self._lock = threading.Lock()
        # The rest is the thread's.
        self._out: deque[_Out | _OurEnd] = deque()
        self._rest: object = None
        self._lost: PacelineError | None = None
        """Why nothing more can be sent, while there is still something to receive."""
        self._leaving = False
        self._connection: socket.socket | None = dial(address, timeout_s)
        self._connection.setblocking(False)
        self._session.on_open()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._thread = threading.Thread(target=self._run, name="conversation", daemon=True)

    # For the one who types

    def start(self) -> None:
        self._thread.start()

    @property
    def state(self) -> State:
        return self._session.state

    def send(self, message: bytes) -> None:
        """Send this message when the server has taken what is before it.  Raises UsageError: it cannot be sent."""
        wire = self.framed.joined(message)
        with self._lock:
            if self._waiting and self._waiting + len(wire) > MOST_WAITING:
                raise UsageError(
                    f"{self.peer} does not read: {size_text(self._waiting)} wait for it already; this is not sent"
                )
            self._waiting += len(wire)
        self._ask(lambda: self._put(_Out(memoryview(wire), 1)))

    def send_file(self, file: BinaryIO, name: str) -> None:
        """Send its bytes as they are, as fast as the server takes them; it is closed then."""
        self._ask(lambda: self._put(_Out(memoryview(b""), 0, file, name)))

    def end(self) -> None:
        """Send our end when all else is sent."""
        self._ask(lambda: self._put(_OurEnd()))

    def reconnect(self) -> None:
        """End this connection, with whatever is under way, and make another one."""
        self._ask(self._dial)

    def close(self) -> None:
        """End the thread and the connection."""
        self._ask(self._leave)
        if self._thread.ident is None:
            self._let_go()
            os.close(self._wake)
            return
        self._thread.join(_LEAVING_S)  # longer only while it connects, and then the end of the process ends it
        if not self._thread.is_alive():
            os.close(self._wake)

    def _ask(self, for_what: Callable[[], None]) -> None:
        self._asked.append(for_what)
        os.eventfd_write(self._wake, 1)

    # The thread

    def _run(self) -> None:
        try:
            while not self._leaving:
                self._step()
        except Exception as error:  # noqa: BLE001 - whoever types is told
            self.bug = error
        self._let_go()
        self._asked.clear()
        self._session.on_closed()
        self.over.set()
        self._screen.on_change()

    def _leave(self) -> None:
        self._leaving = True

    def _step(self) -> None:
        poll = select.poll()
        poll.register(self._wake, select.POLLIN)
        if self._connection is not None:
            poll.register(self._connection, select.POLLIN | (select.POLLOUT if self._out else 0))
        due_ns = self._session.due_ns
        events = dict(poll.poll(None if due_ns is None else max(0, (due_ns - clock.now_ns()) // 1_000_000 + 1)))
        if events.pop(self._wake, 0):
            os.eventfd_read(self._wake)
            while self._asked:
                self._asked.popleft()()
        flags = next(iter(events.values()), 0)
        if flags & ~select.POLLOUT:
            self._receive()
        if self._out:
            self._send()
        self._give_up()

    def _put(self, item: _Out | _OurEnd) -> None:
        if self._connection is None or self._session.state is not State.OPEN:
            self._drop(item)
            self._screen.complain("not sent: the connection has ended; /reconnect makes another one")
            return
        self._out.append(item)

    def _drop(self, item: _Out | _OurEnd) -> None:
        if isinstance(item, _Out):
            self._taken(len(item.wire) if item.file is None else 0)
            if item.file is not None:
                item.file.close()

    def _taken(self, count: int) -> None:
        with self._lock:
            self._waiting -= count

    def _send(self) -> None:
        """As much as the server takes now."""
        while self._out and self._connection is not None:
            item = self._out[0]
            if isinstance(item, _OurEnd):
                self._send_our_end()
            elif not item.wire and not self._read_on(item):
                self._out.popleft()
            else:
                try:
                    stamp = clock.now_ns()
                    count = self._connection.send(item.wire)
                except BlockingIOError:
                    return
                except OSError as error:
                    # What it sent before is still to be read; then receiving comes to the end, too.
                    self._lost = self._lost or endings.broken_off(self.peer, error, self._unsent())
                    self._drop_all()
                    return
                self._session.on_sent(stamp, item.messages)
                item.messages = 0
                item.wire = item.wire[count:]
                item.sent += count
                if item.file is None:
                    self._taken(count)

    def _read_on(self, item: _Out) -> bool:
        """The next piece of the file, if there is one."""
        if item.file is None:
            return False
        try:
            piece = item.file.read(READ_BYTES)
        except OSError as error:
            self._screen.complain(f"{item.name}: cannot be read on ({error.strerror}) after {size_text(item.sent)}")
            piece = b""
        if piece:
            item.messages = piece.count(b"\n") if self._is_line else int(item.sent == 0)
            item.wire = memoryview(piece)
            return True
        item.file.close()
        self._screen.say(f"sent {size_text(item.sent)} of {item.name}")
        return False

    def _send_our_end(self) -> None:
        self._out.popleft()
        assert self._connection is not None
        try:
            self._connection.shutdown(socket.SHUT_WR)
        except OSError:  # gone: receiving says how
            return
        self._session.on_our_end()
        self._screen.on_change()

    def _receive(self) -> None:
        """One piece; a flood lets the one who types have his turn."""
        assert self._connection is not None
        try:
            piece = self._connection.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            self._end(self._lost or endings.broken_off(self.peer, error, self._unsent()))
            return
        stamp = clock.now_ns()
        if not piece:
            self._end(endings.ended(self.peer, self._rest) or self._lost or self._refused())
            return
        try:
            messages, self._rest = self.framed.cut(self._rest, piece)
        except UsageError as error:
            self._end(error)
            return
        if messages:
            self._screen.show(self._session.on_replies(messages, stamp))
        broken = self.framed.complaint(self.peer, self._rest)
        if broken is not None:
            self._end(broken)

    def _refused(self) -> PacelineError | None:
        """The server has ended the connection though we still had something for it."""
        unsent = self._unsent()
        gone = OSError(errno.EPIPE, os.strerror(errno.EPIPE))
        return endings.broken_off(self.peer, gone, unsent) if unsent else None

    def _unsent(self) -> int:
        return sum(len(item.wire) for item in self._out if isinstance(item, _Out))

    def _end(self, failure: PacelineError | None) -> None:
        """The connection is over."""
        is_last = self._session.state is State.ENDED
        said = endings.closed(self.peer, self._session.awaited)
        self._let_go()
        self.failure = failure
        self._session.on_closed()
        if failure is not None:
            self._screen.complain(str(failure))
            said = ""
        again = "" if is_last else "/reconnect makes another one"
        if said or again:
            self._screen.say("; ".join(filter(None, (said, again))))
        if is_last:
            self.over.set()
        self._screen.on_change()

    def _let_go(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None
        self._drop_all()
        self._rest = self._lost = None

    def _drop_all(self) -> None:
        while self._out:
            self._drop(self._out.popleft())

    def _dial(self) -> None:
        self._let_go()
        self._session.on_closed()
        self.failure = None
        try:
            self._connection = dial(self._address, self._timeout_s)
        except PacelineError as error:
            self._screen.complain(str(error))
        else:
            self._connection.setblocking(False)
            self._session.on_open()
            self._screen.say(f"connected to {self.peer}")
        self._screen.on_change()

    def _give_up(self) -> None:
        count = self._session.give_up(clock.now_ns())
        if count and self._timeout_s is not None:
            self._screen.say(endings.not_answered(self._timeout_s, count, is_raw=self.framed.is_raw))
