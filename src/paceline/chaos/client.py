"""One client of the load: its connection, what it has sent and waits for, what it makes of what comes.

The loop (load.py) calls it when its socket is ready or its time has come, on one thread; nothing here waits.  A client
that stays keeps its connection and notices when it is ended; one that comes anew makes a connection for each message.
Messages go out whole, byte by byte, in two halves with a pause between them, or several at once.
"""

import errno
import random
import select
import socket
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from enum import Enum
from typing import Any

from paceline.chaos.judge import How, Loss
from paceline.chaos.messages import Reply, Wrong, message_of, read_echo, read_ours
from paceline.chaos.plan import Plan
from paceline.chaos.tally import LONG_NS, Tally
from paceline.clock import now
from paceline.stats.histogram import Histogram
from paceline.wire import Broken, Framing, Raw

_READ = select.EPOLLIN | select.EPOLLRDHUP
_WRITE = select.EPOLLOUT
AGAIN_S = 0.05
LONGEST_AGAIN_S = 0.5
"""After a failure the next connection is tried so much later, at most: longer after each further one."""
LONGEST = 2_000
"""Bytes of the longest messages."""


class State(Enum):
    """`IDLE`: connected, and nothing under way.  `SENDING`: a part is to follow.  `WAITING`: for replies."""

    DOWN = "down"
    DIALLING = "dialling"
    IDLE = "idle"
    SENDING = "sending"
    WAITING = "waiting"


class Client:
    """`number`: of this client; `stays`: it keeps its connection.  `due_s`: when `on_time` is to be called."""

    def __init__(self, number: int, stays: bool, shared: "Shared") -> None:
        self.number, self.stays, self.shared = number, stays, shared
        self.chance = random.Random(f"{shared.plan.seed}/{number}")
        self.next_number = 1
        self.failures = 0
        """One after the other."""
        self.due_s = 0.0
        self.state = State.DOWN
        self.socket: socket.socket | None = None
        self._clear()

    def _clear(self) -> None:
        self.rest: Any = None
        self.out = b""
        self.pieces: deque[tuple[float, bytes]] = deque()
        self.expected: deque[tuple[bytes, int]] = deque()
        self.count = 0
        self.is_fresh = True
        self.pid = 0
        self.begun_s = self.well_s = self.asked_s = 0.0

    # What the loop calls

    def on_time(self, at_s: float) -> None:
        match self.state:
            case State.DOWN:
                self.dial(at_s)
            case State.DIALLING:
                self.lose(How.NO_CONNECTION, at_s)
            case State.IDLE:
                self.begin(at_s)
            case State.SENDING:
                self.go_on(at_s)
            case State.WAITING:
                self.lose(How.TIME_OUT, at_s)

    def on_event(self, flags: int, at_s: float) -> None:
        if self.socket is None:
            return
        if self.state is State.DIALLING:
            number = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if number:
                self.lose(How.REFUSED if number == errno.ECONNREFUSED else How.NO_CONNECTION, at_s)
            elif flags & _WRITE:
                self.on_connected(at_s)
            return
        if flags & ~_WRITE:
            self.receive(at_s)
        if flags & _WRITE and self.socket is not None and self.out:
            self.flush(at_s)

    # Connecting

    def dial(self, at_s: float) -> None:
        # One in three by the second way; whoever comes anew is each fifth, so that these use both ways.
        family, place = self.shared.places[-1 if self.number % 3 == 0 else 0]
        self._clear()
        self.begun_s = self.well_s = self.asked_s = at_s
        self.socket = socket.socket(family, socket.SOCK_STREAM)
        self.socket.setblocking(False)
        if family != socket.AF_UNIX:
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.state = State.DIALLING
        self.due_s = at_s + self.shared.plan.patience_s
        number = self.socket.connect_ex(place)
        if number in (0, errno.EINPROGRESS, errno.EAGAIN):
            if number == errno.EAGAIN:  # a Unix socket whose queue is full says so at once (connect(2))
                self.give_up(at_s)
                return
            self.shared.watch(self, _READ if number == 0 else _READ | _WRITE)
            if number == 0:
                self.on_connected(at_s)
        else:
            self.lose(How.REFUSED if number in (errno.ECONNREFUSED, errno.ENOENT) else How.NO_CONNECTION, at_s)

    def on_connected(self, at_s: float) -> None:
        self.shared.tally.connections += 1
        self.shared.rewatch(self, _READ)
        self.state = State.IDLE
        self.well_s = at_s
        # Who comes anew begins at once; who stays is quiet for a while first.
        self.due_s = at_s + self.chance.uniform(0, self.shared.pause_s) if self.stays else at_s
        if not self.stays:
            self.begin(at_s)

    # Sending

    def begin(self, at_s: float) -> None:
        """The next message, or several."""
        if self.stays:
            self.begun_s = self.asked_s = at_s
        chance = self.chance
        style = chance.random()
        how_many = chance.randrange(2, 5) if style < 0.05 and self.shared.is_cut and self.stays else 1
        whole = b""
        for _ in range(how_many):
            message = self.make_message(at_length=style)
            self.count += 1
            self.expected.append((message, self.count))
            self.shared.tally.sent += 1
            whole += self.shared.framing.join([message])
        if not self.shared.is_cut or style < 0.7:
            pieces = [(0.0, whole)]
        elif style < 0.8:
            pieces = [(0.0, whole[at : at + 1]) for at in range(len(whole))][: 60 - 1]
            pieces.append((0.0, whole[len(pieces) :]))
        else:
            cut = chance.randrange(1, len(whole))
            pieces = [
                (0.0, whole[:cut]),
                (self.shared.pause_s * chance.random() if style < 0.99 else chance.uniform(0, 0.5), whole[cut:]),
            ]
        self.pieces.extend(pieces)
        self.state = State.SENDING
        self.go_on(at_s)

    def make_message(self, at_length: float) -> bytes:
        plan = self.shared.plan
        number, self.next_number = self.next_number, self.next_number + 1
        if not plan.is_ours and not plan.echo:
            return plan.message
        length = self.chance.randrange(LONGEST) if 0.6 < at_length < 0.7 and plan.is_ours else 0
        message = message_of(self.number, number, self.chance.randrange(1 << 32), length)
        return message if plan.is_ours else plan.message + message

    def go_on(self, at_s: float) -> None:
        """Send what is due of the message."""
        while self.pieces and self.state is State.SENDING:
            delay_s, piece = self.pieces[0]
            if delay_s:
                self.pieces[0] = (0.0, piece)
                self.asked_s += delay_s  # for that it waits by itself
                self.due_s = at_s + delay_s
                return
            self.pieces.popleft()
            self.out += piece
            if not self.flush(at_s) or self.out:
                return

    def flush(self, at_s: float) -> bool:
        """False: the connection is lost."""
        assert self.socket is not None
        try:
            sent = self.socket.send(self.out)
        except BlockingIOError:
            sent = 0
        except OSError:
            self.receive(at_s)  # what came before it broke counts; most often it is there that the end is seen
            if self.socket is not None and self.state is State.SENDING:
                self.lose(How.RESET_BEFORE, at_s)
            return False
        self.out = self.out[sent:]
        self.shared.rewatch(self, _READ | _WRITE if self.out else _READ)
        if not self.out and not self.pieces and self.state is State.SENDING:
            self.state = State.WAITING
            self.due_s = at_s + self.shared.plan.patience_s
        elif self.out:
            self.due_s = at_s + self.shared.plan.patience_s
        return True

    # Receiving

    def receive(self, at_s: float) -> None:
        assert self.socket is not None
        try:
            data = self.socket.recv(1 << 16)
        except BlockingIOError:
            return
        except OSError:
            self.lose(self._how(How.RESET_AFTER), at_s)
            return
        if not data:
            self.lose(self._how(How.CLOSED), at_s)
            return
        if not self.shared.is_cut and self.shared.plan.echo and self.expected:
            data = (self.rest or b"") + data
            self.rest = None
            if len(data) < len(self.expected[0][0]):
                self.rest = data
                return
        replies, self.rest = self.shared.framing.cut(self.rest, data)
        for reply in replies:
            if not self.on_reply(bytes(reply), at_s):
                return
        if isinstance(self.rest, Broken):
            self.is_wrong(Wrong.GARBLED, at_s)

    def _how(self, when_sent: How) -> How:
        if not self.expected:
            return How.PARKED
        if self.rest:
            return How.TRUNCATED
        return when_sent if self.state is State.WAITING else How.RESET_BEFORE

    def on_reply(self, reply: bytes, at_s: float) -> bool:
        """False: it was wrong, or the connection is over."""
        plan = self.shared.plan
        if not self.expected:
            if not plan.is_ours and not plan.echo:
                return True  # a greeting, or more than one reply: nothing can be said of that
            return self.is_wrong(Wrong.DUPLICATE if self.count else Wrong.GARBLED, at_s)
        expected, count = self.expected[0]
        found: Reply | Wrong = Reply()
        if plan.is_ours:
            found = read_ours(reply, self.number, expected, count)
        elif plan.echo:
            found = read_echo(reply, self.number, expected, plan.message)
        if isinstance(found, Wrong):
            return self.is_wrong(found, at_s)
        self.expected.popleft()
        self.failures = 0
        self.pid, self.is_fresh, self.well_s = found.pid, False, at_s
        self.shared.on_answer(self, max(0, int((at_s - self.asked_s) * 1e9)), at_s)
        self.shared.tally.versions = max(self.shared.tally.versions, found.version)
        if self.expected or self.pieces or self.out:
            return True
        if self.stays:
            self.state = State.IDLE
            self.due_s = at_s + self.chance.uniform(0.5, 1.5) * self.shared.pause_s
            return True
        self.hang_up()
        self.due_s = at_s + self.chance.uniform(0.5, 1.5) * self.shared.pause_s
        return False

    def is_wrong(self, wrong: Wrong, at_s: float) -> bool:
        self.shared.on_wrong(self, wrong)
        self.failures = min(self.failures + 1, 10)
        self.hang_up()
        self.due_s = at_s + min(LONGEST_AGAIN_S, AGAIN_S * 1.5**self.failures)
        return False

    # The end

    def lose(self, how: How, at_s: float) -> None:
        """The connection is lost, or could not be made."""
        since_s = self.begun_s if self.expected or self.state is State.DIALLING else max(self.well_s, at_s - 1.0)
        messages = len(self.expected)
        # `at_s` was read before the system call that told of it: the kill may lie in between.
        self.shared.on_loss(Loss(how, self.number, messages, self.is_fresh, self.pid, since_s, now()))
        self.failures = min(self.failures + 1, 10)
        self.hang_up()
        self.due_s = at_s + self.chance.uniform(0, min(LONGEST_AGAIN_S, AGAIN_S * 1.5**self.failures))

    def give_up(self, at_s: float) -> None:
        """Not connected for now; no loss."""
        self.hang_up()
        self.due_s = at_s + AGAIN_S

    @property
    def is_busy(self) -> bool:
        """A message of it is under way."""
        return bool(self.expected)

    def hang_up(self) -> None:
        if self.socket is not None:
            self.shared.forget(self)
            with suppress(OSError):
                self.socket.close()
        self.socket = None
        self.state = State.DOWN
        self._clear()


class Shared:
    """What all clients of the process have in common: the plan, where the server is, the epoll set, the books."""

    def __init__(self, plan: Plan, framing: Framing, tell: Callable[..., None]) -> None:
        self.plan, self.framing, self.tell = plan, framing, tell
        self.is_cut = not isinstance(framing, Raw)
        """A message does not depend on how its bytes arrive."""
        self.pause_s = plan.connections / plan.rate
        """Between the messages of one client."""
        self.places: list[tuple[int, Any]] = []
        self.epoll = select.epoll()
        self.by_fd: dict[int, Client] = {}
        self.flags: dict[int, int] = {}
        self.tally = Tally()
        self._before = Histogram()
        """The waits of the tally when the present stretch began."""

    def take_stretch(self) -> Histogram:
        """How long was waited for what was answered since the last time."""
        stretch = self.tally.waits.since(self._before)
        self._before = Histogram(self.tally.waits.cells)
        return stretch

    def watch(self, client: Client, flags: int) -> None:
        assert client.socket is not None
        fd = client.socket.fileno()
        self.by_fd[fd], self.flags[fd] = client, flags
        self.epoll.register(fd, flags)

    def rewatch(self, client: Client, flags: int) -> None:
        assert client.socket is not None
        fd = client.socket.fileno()
        if self.flags[fd] != flags:
            self.flags[fd] = flags
            self.epoll.modify(fd, flags)

    def forget(self, client: Client) -> None:
        assert client.socket is not None
        fd = client.socket.fileno()
        if self.by_fd.pop(fd, None) is not None:
            del self.flags[fd]
            self.epoll.unregister(fd)

    def on_answer(self, client: Client, waited_ns: int, at_s: float) -> None:
        self.tally.on_answer(client.number, waited_ns)
        if waited_ns > LONG_NS:
            self.tell(stall=[at_s - waited_ns / 1e9, at_s])

    def on_wrong(self, client: Client, wrong: Wrong) -> None:
        self.tally.wrong[wrong] += 1
        self.tell(wrong=wrong, client=client.number, at_s=now(), pid=client.pid)

    def on_loss(self, loss: Loss) -> None:
        self.tell(loss=loss.to_json())
