"""The seats: the places where workers sit, as descriptors of the supervisor.

A seat has an inbox, through which siblings pass connections to whoever sits there, and a memfd into which faulthandler
writes; both outlive its workers.  While a worker sits there it has two things more: our end of a control channel made
for this worker alone, and a pidfd.  All are close-on-exec and never block.
"""

import contextlib
import os
import resource
import socket
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence

from paceline.errors import HostError
from paceline.host import memory, passing
from paceline.host.descriptors import Spare
from paceline.supervisor.vocabulary import Event
from paceline.worker.messages import MOST_BYTES, Message, Nudge, decode, encode
from paceline.worker.plan import Inbox

PER_SEAT = 3
"""Descriptors that every seat has: the two ends of its inbox, and its memfd."""
MOST_AT_ONCE = 16
"""Messages taken from one worker before anybody else is heard."""

Hear = Callable[["Seat | None"], Iterator[Event]]
"""What the loop calls when a descriptor is ready."""
Sources = dict[int, tuple[int, Hear, "Seat | None"]]
"""What the loop waits for: descriptor → poll(2) mask, who hears, about which seat."""


class Seat:
    """One seat.  Used by the supervisor's loop only."""

    __slots__ = ("control", "fault_fd", "inbox", "is_deaf", "is_stuck", "messages_before", "number", "outbox",
                 "pid", "pidfd")  # fmt: skip

    def __init__(self, number: int, inbox: Inbox, fault_fd: int) -> None:
        self.number = number
        self.inbox = inbox
        self.fault_fd = fault_fd
        self.control: socket.socket | None = None
        self.pid = 0
        """0: nobody sits here."""
        self.pidfd = -1
        self.messages_before = 0
        """How many messages its rows on the board had counted when the worker sat down."""
        self.outbox: deque[Message] = deque()
        """What the channel did not take yet."""
        self.is_deaf = False
        """The worker has closed its end of the channel."""
        self.is_stuck = False
        """The inbox could not be emptied; it is tried again with the next tick."""

    @property
    def is_taken(self) -> bool:
        return self.pid != 0

    def private_fds(self) -> list[int]:
        """What only the supervisor, and whoever sits here, may have open; beside them, the reader of the inbox."""
        fds = [self.fault_fd, self.pidfd]
        fds += [self.control.fileno()] if self.control is not None else []
        return [fd for fd in fds if fd >= 0]

    def open_control(self) -> socket.socket:
        """A new control channel; returns the worker's end, which blocks.  Raises OSError, and then there is none."""
        memory.empty(self.fault_fd)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        self.control = ours
        return theirs

    def sit(self, pid: int, pidfd: int, messages_before: int = 0) -> None:
        """A worker sits here from now on."""
        self.pid, self.pidfd, self.messages_before = pid, pidfd, messages_before

    def leave(self) -> None:
        """Nobody sits here: the worker is reaped, or could not be made."""
        if self.control is not None:
            self.control.close()
        if self.pidfd >= 0:
            os.close(self.pidfd)
        self.control, self.pid, self.pidfd = None, 0, -1
        self.outbox.clear()
        self.is_deaf = self.is_stuck = False

    # The control channel

    def tell(self, message: Message) -> bool:
        """Send it as soon as the channel takes it.  False: nobody will ever read it."""
        if not (isinstance(message, Nudge) and message in self.outbox):  # one that waits says it all
            self.outbox.append(message)
        return self.flush()

    def flush(self) -> bool:
        """Send what waits, as far as the channel takes it.  False: nobody will ever read it."""
        while self.outbox:
            if self.control is None:
                return False
            try:
                self.control.send(encode(self.outbox[0]), socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
            except BlockingIOError:
                return True
            except OSError:
                self.outbox.clear()
                return False
            self.outbox.popleft()
        return True

    def hear(self, most: int = MOST_AT_ONCE) -> list[Message]:
        """What the worker has said, at most so many messages; what cannot be understood is left out."""
        heard: list[Message] = []
        for _ in range(most):
            if self.control is None or self.is_deaf:
                break
            try:
                datagram = self.control.recv(MOST_BYTES)
            except BlockingIOError:
                break
            except ConnectionResetError:
                continue  # it ended without having read all that we said; what it said itself comes after this error
            except OSError:
                datagram = b""
            if not datagram:
                self.is_deaf = True
                break
            message = decode(datagram)
            if message is not None:
                heard.append(message)
        return heard

    # The inbox

    def has_waiting(self) -> bool:
        """Connections wait for somebody to sit here, or to be moved."""
        try:
            return bool(self.inbox.reader.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
        except BlockingIOError:
            return False

    def move_inbox(self, others: Sequence["Seat"]) -> bool:
        """Pass on, unread, the connections that wait here, to the others in turn.  True: none is left.

        Raises NotAConnection (host/passing.py) when something else was in the inbox; it is dropped, and the rest waits.
        """
        if not others or not self.has_waiting():
            return not self.has_waiting()
        # The dead worker's descriptors were just given back: there is room for them, and for one connection.
        spare = Spare(passing.MOST_DESCRIPTORS)
        turn = 0
        try:
            while True:
                arrived = passing.look(self.inbox.reader, spare)
                if arrived is None:
                    return True
                order = [*others[turn % len(others) :], *others[: turn % len(others)]]
                is_passed = any(_try_pass(other, arrived) for other in order)
                arrived.close()
                if not is_passed:
                    return False
                passing.take_out(self.inbox.reader)  # nobody else reads here: it is the one that was passed on
                turn += 1
        except OSError:  # no descriptor left: the connections stay where they are
            return False
        finally:
            spare.close()

    def close(self) -> None:
        """At the end of the supervisor."""
        self.leave()
        self.inbox.reader.close()
        self.inbox.writer.close()
        memory.close(self.fault_fd)


def _try_pass(other: Seat, arrived: passing.Arrived) -> bool:
    try:
        return passing.send_connection(other.inbox.writer, *arrived)
    except OSError:
        return False


def open_seats(count: int) -> list[Seat]:
    """So many seats, all free.  Raises HostError when there are not enough descriptors; then none is left open."""
    _make_room(PER_SEAT * count)
    seats: list[Seat] = []
    try:
        for number in range(count):
            inbox = Inbox(*passing.pair())
            try:
                seats.append(Seat(number, inbox, memory.create_growing(f"paceline-faults-{number}")))
            except BaseException:
                inbox.reader.close()
                inbox.writer.close()
                raise
    except (OSError, HostError) as error:
        close_seats(seats)
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise HostError(
            f"cannot make room for the workers ({count} seats of {PER_SEAT} descriptors each): {reason}; "
            f"lower --max-workers, or raise the limit on open files (ulimit -n)"
        ) from error
    return seats


def _make_room(needed: int) -> None:
    """Raise the soft limit on descriptors by what we need ourselves, if that is more than half of it.

    On a machine with many cores the usual 1,024 would not be enough for the seats alone, and what is left is for
    connections.  Where even the hard limit does not allow it, opening them will tell.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and 2 * needed > soft:
        raised = soft + needed if hard == resource.RLIM_INFINITY else min(soft + needed, hard)
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))


def close_seats(seats: Iterable[Seat]) -> None:
    """Give all their descriptors back."""
    for seat in seats:
        with contextlib.suppress(OSError):
            seat.close()
