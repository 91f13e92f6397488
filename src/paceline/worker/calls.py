"""Running the user's code for one connection: messages, replies in pieces, hooks, whole-connection calls.

Called by the thread that owns the connection.  Nothing here receives or sends: what there is to reply is returned, and
serving.py puts it on the wire (but a piece of a file, which the kernel reads and sends in one step).  Whatever the
user's code raises stops here (SystemExit and KeyboardInterrupt, too): it is logged, ends that one connection after the
replies before it were sent, and touches nothing else.

Every call is announced on the scoreboard before it begins, so that the watcher can see that it goes on.  While the
handler counts as blocking, somebody else is promoted before each call.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, TypeVar

from paceline import clock
from paceline.handlers import Close, File, describe
from paceline.host.scheduling import voluntary_switches
from paceline.scoreboard.fields import ThreadState
from paceline.wire.framing import sends_as_is
from paceline.worker.connection import Connection
from paceline.worker.crew import Member
from paceline.worker.estimate import BATCH_BYTES
from paceline.worker.files import FileError, Sending
from paceline.worker.held import HeldSocket, take_back
from paceline.worker.lifecycle import Event, after
from paceline.worker.roles import Why
from paceline.worker.target import user_traceback
from paceline.worker.worker import Worker

_CALLING = int(ThreadState.CALLING)
_END = object()
_AT_HAND: tuple[type, ...] = (type(iter([])), type(iter(())))
"""Iterators whose next pieces are there already: several are sent at once."""

PIECES_BYTES = 64 * 1024
"""So much of them: what a peer does not take is kept."""

FORKED_CHILD_EXIT = 1

_T = TypeVar("_T")


class Calls:
    """The calls of one worker."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.call = worker.handler.call
        self.wants_connection = worker.handler.wants_connection
        self.connected = worker.hook("connected")
        self.arrived = worker.hook("arrived")
        self.disconnected = worker.hook("disconnected")
        self.on_taken: Callable[[Connection], None] = lambda _c: None
        """What else is to be done when a handler takes the descriptor away; set once, by serving.py."""
        self.most_reply_bytes = worker.settings.max_buffer
        self.batch_bytes = min(BATCH_BYTES, self.most_reply_bytes)
        self.pieces_bytes = min(PIECES_BYTES, self.most_reply_bytes)
        self.sends_as_is = sends_as_is(worker.framing)
        """The framing adds nothing to replies, so a file may be one."""

    def run(self, c: Connection, most: int, me: Member) -> tuple[list[bytes], int]:
        """Answer messages of `c.queue`, at most `most`.  (replies, how many calls were made)

        Ends early when the lead is lost: a promoted call's reply is sent at once.
        """
        worker = self.worker
        roles = worker.crew.roles
        estimate = worker.estimate
        words = me.words
        queue = c.queue
        replies: list[bytes] = []
        made = 0
        size = 0
        while queue and made < most and size < self.batch_bytes:
            message = queue.popleft()
            self._announce(me)
            begun = self._begin() if worker.sample_due or estimate.blocking else None
            made += 1
            c.messages += 1
            words[me.messages] += 1
            try:
                reply = self.call(message, c) if self.wants_connection else self.call(message)
                if type(reply) is bytes and len(reply) <= self.most_reply_bytes:
                    replies.append(reply)
                    size += len(reply)
                elif reply is not None:
                    self.take(c, reply, replies, me)
                    queue = c.queue if c.source is None else None
            except BaseException as error:  # noqa: BLE001 - whatever user code raises ends here
                self.fail(c, error, me)
                queue = None
            if roles.leader is not me:
                self.end_if_forked()  # before anything is written to the scoreboard, which is the parent's
            if begun is not None:
                self._measure(begun, me)
            if roles.leader is not me:
                break
        return replies, made

    def next_pieces(self, c: Connection, most: int, me: Member) -> tuple[list[bytes], int]:
        """Go on with a reply that comes in pieces: the next one, or up to `most` that are at hand.  (replies, how many)

        `c.source` is None after the last.  To make a piece is a call of its own: it may block as any other.
        """
        worker = self.worker
        source = c.source
        assert source is not None
        assert not isinstance(source, Sending)
        most = most if type(source) in _AT_HAND else 1
        replies: list[bytes] = []
        made = size = 0
        self._announce(me)
        begun = self._begin() if worker.sample_due or worker.estimate.blocking else None
        try:
            while made < most and size < self.pieces_bytes and c.source is source:
                made += 1
                piece = next(source, _END)
                if piece is _END:
                    self._drop_source(c, me)
                elif isinstance(piece, bytes | bytearray | memoryview):
                    self.take(c, piece, replies, me)
                    size += len(piece)
                elif isinstance(piece, File):
                    self.take(c, piece, replies, me)
                else:
                    self.refuse(c, f"an iterable with {describe(piece)} in it", me)
        except BaseException as error:  # noqa: BLE001
            self.fail(c, error, me)
        self.end_if_forked()
        if begun is not None:
            self._measure(begun, me)
        return replies, made

    def send_of_file(self, c: Connection, most: int, me: Member) -> int:
        """Send a piece of the file that is the reply, at most so many bytes.  How many were sent.

        It is a call of its own: the disk may block.  Raises BlockingIOError when the peer takes nothing now, and other
        OSErrors when it is gone; what is wrong with the file is the handler's fault.
        """
        return self._of_file(c, lambda source: source.send(c.fd, most), me) or 0

    def read_of_file(self, c: Connection, most: int, me: Member) -> bytes:
        """The same where it must be encrypted first: the piece, for the caller to send."""
        return self._of_file(c, lambda source: source.read(most), me) or b""

    def _of_file(self, c: Connection, take: "Callable[[Sending], _T]", me: Member) -> "_T | None":
        source = c.source
        assert isinstance(source, Sending)
        taken = None
        self._announce(me)
        begun = self._begin() if self.worker.sample_due or self.worker.estimate.blocking else None
        try:
            if source.left:
                taken = take(source)
            if not source.left:
                c.source = source.then
                source.close()
        except FileError as error:
            self.fail(c, error, me)
        finally:
            if begun is not None:
                self._measure(begun, me)
        return taken

    def greet(self, c: Connection, me: Member) -> list[bytes]:
        """`connected` of a fresh connection, `arrived` of one from another worker; what it returns is sent."""
        c.phase = after(c.phase, Event.GREETED)
        name, hook = ("arrived", self.arrived) if c.greeted else ("connected", self.connected)
        c.greeted = True
        replies: list[bytes] = []
        if hook is not None:
            self._announce(me)
            begun = self._begin()
            try:
                self.take(c, hook(c), replies, me)
            except BaseException as error:  # noqa: BLE001
                self.fail_in(name, c, error, me)
            self.end_if_forked()
            self._measure(begun, me)
        return replies

    def farewell(self, c: Connection, me: Member) -> None:
        """The connection is about to be closed: end a reply in pieces, and call `disconnected` if it was greeted."""
        self._drop_source(c, me)
        greeted, c.greeted = c.greeted, False
        if greeted and self.disconnected is not None:
            self._announce(me)
            begun = self._begin()
            try:
                self.disconnected(c)
            except BaseException as error:  # noqa: BLE001
                self._log_hook("disconnected", error, me, f" for {c.peer}")
            self.end_if_forked()
            self._measure(begun, me)

    def hold(self, c: Connection, me: Member) -> None:
        """A whole-connection call; afterwards it is closing, or closed if the handler took the descriptor away."""
        worker = self.worker
        worker.crew.promote(me, Why.EAGER)
        words = me.words
        fd = c.fd
        held = self._socket_of(c, me)
        worker.held.add(fd)
        words[me.fd] = fd
        self._announce(me)
        wall, cpu = clock.now_ns(), clock.thread_cpu_ns()
        try:
            returned = self.call(held)
            self.end_if_forked()  # before `remove`: another thread of the parent may have held its lock
            reason = "handler"
            if returned is not None:
                worker.log.say("reply-unused", got=describe(returned), peer=c.peer)
        except BaseException as error:  # noqa: BLE001
            reason = self._fail_held(c, held, error, me)
        finally:
            words[me.fd] = 0
            if c.is_closed:
                worker.held.end_taken()
            else:
                worker.held.remove(fd)
        took = clock.now_ns() - wall
        worker.sample(me, took, max(0, took - (clock.thread_cpu_ns() - cpu)))  # that clock is read later
        if not c.is_closed:
            take_back(held)
            c.out = held.unsent or None
            c.phase = after(c.phase, Event.CLOSE)
            c.reason = reason

    def _socket_of(self, c: Connection, me: Member) -> HeldSocket:
        worker = self.worker
        settings = worker.settings
        make: Callable[..., HeldSocket] = HeldSocket
        if c.secrecy is not None:
            from paceline.worker.held_secure import SecureSocket

            plain, c.uncut = b"" if c.uncut is None else bytes(c.uncut), None
            make = partial(SecureSocket, c.secrecy, plain, lambda: worker.leaving)
        return make(
            c.fd,
            me,
            c.listener,
            settings.idle_timeout,
            settings.write_timeout,
            on_taken=lambda: self._on_taken(c),
            on_tls=lambda: worker.log.say("peer-tls", peer=c.peer, listener=c.listener),
            peer=c.known_peer,
            is_proxied=c.way_in.is_proxied,
        )

    def _on_taken(self, c: Connection) -> None:
        """The handler takes the descriptor away: off the books with it, while the number is still its own."""
        c.phase = after(c.phase, Event.LOST)
        c.reason = "handler"
        self.worker.held.take_away(c.fd)
        self.on_taken(c)

    def take(self, c: Connection, reply: Any, replies: list[bytes], me: Member) -> None:
        """A reply that is not plain bytes: add what it says to `replies`, or note how it goes on."""
        if reply is None:
            return
        if isinstance(reply, Close):
            self.end(c, "handler")
            self.take(c, reply.reply, replies, me)
        elif isinstance(reply, bytes | bytearray | memoryview):
            whole = bytes(reply)
            if len(whole) > self.most_reply_bytes:
                self._blame(c, me, "reply-too-large", bytes=f"{len(whole):,}", limit=f"{self.most_reply_bytes:,}")
            else:
                replies.append(whole)
        elif isinstance(reply, File):
            if self.sends_as_is:
                c.source = Sending(reply, c.source)
            else:
                self.refuse(c, "a File, for which the framing must send replies as they are (--framing raw)", me)
        elif isinstance(reply, str | Mapping) or not hasattr(type(reply), "__iter__"):
            self.refuse(c, describe(reply), me)
        else:
            c.source = iter(reply)

    def fail(self, c: Connection, error: BaseException, me: Member) -> None:
        """The handler raised."""
        self.end_if_forked()
        self._blame(c, me, "handler-failed", error=_said(error), detail=user_traceback(error))

    def fail_in(self, what: str, c: Connection, error: BaseException, me: Member) -> None:
        """Something else of the user's raised, a hook or the framing."""
        self.end_if_forked()
        self._log_hook(what, error, me, f" for {c.peer}; that connection is closed")
        self.break_off(c, "error", me)

    def end(self, c: Connection, reason: str) -> None:
        """Close it once what is in hand is sent; nothing more of it is read or answered."""
        c.queue = c.uncut = None
        c.phase = after(c.phase, Event.CLOSE)
        c.reason = c.reason or reason

    def break_off(self, c: Connection, reason: str, me: Member) -> None:
        """The same, and of a reply that comes in pieces nothing more is made."""
        self._drop_source(c, me)
        self.end(c, reason)

    def end_if_forked(self) -> None:
        """A process that a handler forked came back to us: it holds copies of everything, and must not go on."""
        if self.worker.forked:
            self.worker.log.say("forked-child-returned")
            os._exit(FORKED_CHILD_EXIT)

    def _announce(self, me: Member) -> None:
        """A call begins.  Its number is stored before the state that says so, for whoever reads both."""
        worker = self.worker
        leads = worker.crew.roles.leader is me
        if leads and worker.estimate.blocking:
            worker.crew.promote(me, Why.EAGER)
            leads = False
        me.words[me.calls] += 1
        if not leads:
            me.words[me.state] = _CALLING

    def refuse(self, c: Connection, got: str, me: Member) -> None:
        """The handler's reply cannot be sent; `got` says what it is."""
        self._blame(c, me, "reply-refused", got=got)

    def _blame(self, c: Connection, me: Member, event: str, **fields: object) -> None:
        """The handler is at fault for the message in hand: count it, say it, and end the connection."""
        me.words[me.errors] += 1
        self.worker.log.say(event, message=c.messages, peer=c.peer, **fields)
        self.break_off(c, "error", me)

    def _drop_source(self, c: Connection, me: Member) -> None:
        """A generator's `finally` runs now, not when somebody collects it."""
        source, c.source = c.source, None
        while isinstance(source, Sending):
            source.close()
            source = source.then
        close = getattr(source, "close", None)
        if isinstance(source, Iterator) and callable(close):
            try:
                close()
            except BaseException as error:  # noqa: BLE001
                self._log_hook("the reply's close()", error, me, f" for {c.peer}")

    def _fail_held(self, c: Connection, held: HeldSocket, error: BaseException, me: Member) -> str:
        """A whole-connection call raised.  It may only have passed on what its own socket told it about the peer."""
        self.end_if_forked()
        if held.ended_by == "timeout" and isinstance(error, TimeoutError):
            self.worker.log.say("peer-slow", peer=c.peer, why=str(error))
            return "timeout"
        if held.ended_by == "peer" and isinstance(error, OSError):
            self.worker.log.say("peer-reset", peer=c.peer)
            return "peer"
        me.words[me.errors] += 1
        self.worker.log.say("connection-failed", error=_said(error), peer=c.peer, detail=user_traceback(error))
        return "error"

    def _begin(self) -> tuple[int, int, int]:
        """Where the clocks stand before a call that is measured."""
        self.worker.sample_due = False
        return clock.now_ns(), clock.thread_cpu_ns(), voluntary_switches()

    def _measure(self, begun: tuple[int, int, int], me: Member) -> None:
        """After the call."""
        wall, cpu, switches = begun
        took = clock.now_ns() - wall
        # The thread's clock is read later, and may have run further.
        waited = max(0, took - (clock.thread_cpu_ns() - cpu)) if voluntary_switches() != switches else 0
        self.worker.sample(me, took, waited)

    def _log_hook(self, name: str, error: BaseException, me: Member, where: str) -> None:
        me.words[me.errors] += 1
        self.worker.log.say("hook-failed", hook=name, error=_said(error), where=where, detail=user_traceback(error))


def contained(worker: Worker, name: str, hook: Callable[[], Any] | None) -> bool:
    """Run a hook of the worker or a thread.  False: it raised, which was logged."""
    if hook is None:
        return True
    try:
        hook()
        if worker.forked:
            os._exit(FORKED_CHILD_EXIT)
    except BaseException as error:  # noqa: BLE001
        worker.log.say("hook-failed", hook=name, error=_said(error), where="", detail=user_traceback(error))
        return False
    return True


def _said(error: BaseException) -> str:
    try:
        text = str(error)
    except BaseException:  # noqa: BLE001 - an exception of the user's may not even be printable
        text = "(its text cannot be made)"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
