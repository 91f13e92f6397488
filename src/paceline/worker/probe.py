"""Whether the handler answers (--probe), before the worker says that it is ready.

Called on the main thread when the first thread has started and the watcher does not run yet: so nobody else can reach
this worker, and nothing is passed to a sibling.  The probe is a connection like any other, over a socket pair; what its
handler raises is logged as always, and told to whoever asked for the reload.  A greeting is no answer: what `connected`
returns is read before the message is sent.
"""

import contextlib
import errno
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from paceline import clock
from paceline.host.output import Log
from paceline.host.poller import Waiter
from paceline.scoreboard.fields import WORKER
from paceline.wire.escapes import unescaped
from paceline.worker.connection import Connection
from paceline.worker.lifecycle import State
from paceline.worker.messages import Failed
from paceline.worker.plan import Plan

if TYPE_CHECKING:
    from paceline.worker.assembly import Parts

SHARE = 0.9
"""Of the boot time-out, when the probe must be answered: the rest is for telling that it was not."""
SHORTEST_S = 0.5
END_S = 2.0
"""How long a call may go on that has seen the end of the probe's connection."""

_PACE_S = 0.002
_SHOWN = 64


class Listening:
    """Stands before the log, and keeps the traceback of what the handler raised."""

    def __init__(self, log: Log) -> None:
        self.log = log
        self.traceback = ""

    def say(self, event: str, /, **fields: object) -> None:
        if event in ("handler-failed", "connection-failed", "hook-failed"):
            self.traceback = str(fields.get("detail", ""))
        self.log.say(event, **fields)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.log, name)


@dataclass(slots=True)
class Probe:
    """One question, and what the answer must begin with; b"": anything."""

    parts: "Parts"
    name: str
    question: bytes
    wanted: bytes
    within_s: float

    def ask(self) -> Failed | None:
        """None: it was answered."""
        worker = self.parts.worker
        listening = Listening(worker.log)
        worker.log = cast("Log", listening)
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        fd = theirs.detach()
        index = min(self.parts.accepting.ways_in, default=0)
        until = clock.now() + self.within_s
        worker.count("accepted")
        if self.parts.accepting.admit(fd, index):
            worker.wakeup.wake()
        connection = worker.tables.open.get(fd)
        try:
            with ours:
                why = self._converse(ours, connection, until)
            if not why:
                self._wait_closed(connection)
        finally:
            worker.log = listening.log
        return Failed(why, listening.traceback) if why else None

    def _converse(self, ours: socket.socket, connection: Connection | None, until: float) -> str:
        """Why the answer is none; empty: it is one."""
        answer = b""
        asked = f"the probe {self.question[:_SHOWN]!r} (--probe)"
        try:
            if "connected" in self.parts.worker.handler.hooks:
                self._wait_greeted(ours, connection, until)
            ours.settimeout(max(0.001, until - clock.now()))
            ours.sendall(self.question)
            while not answer or (answer != self.wanted and self.wanted.startswith(answer)):
                ours.settimeout(max(0.001, until - clock.now()))
                piece = ours.recv(65536)
                if not piece:
                    how = f"with {answer[:_SHOWN]!r}, and closed" if answer else "but closed"
                    return f"{self.name} did not answer {asked} {how} the connection"
                answer += piece
        except TimeoutError:
            how = f", but for {answer[:_SHOWN]!r}," if answer else ""
            return f"{self.name} did not answer {asked}{how} within {self.within_s:.3g} s"
        except OSError as error:
            return f"{self.name} did not answer {asked} but ended the connection ({error.strerror})"
        if answer.startswith(self.wanted):
            return ""
        shown = answer[: max(_SHOWN, len(self.wanted))]
        return f"{self.name} answered {asked} with {shown!r} instead of {self.wanted!r} (--probe-reply)"

    def _wait_greeted(self, ours: socket.socket, connection: Connection | None, until: float) -> None:
        """Read, and drop, what `connected` returns.  Raises TimeoutError, or OSError when that ended the connection."""
        tables = self.parts.worker.tables
        ours.setblocking(False)
        while connection is not None and connection.phase in (State.FRESH, State.OPEN):
            # Looked at before what it sent is read: quiet then, it has sent all.
            is_parked = tables.parked.get(connection.fd) is connection and connection.phase is State.OPEN
            is_quiet = is_parked and connection.out is None and connection.source is None
            with contextlib.suppress(BlockingIOError):
                while ours.recv(65536):
                    pass
            if is_quiet:
                return
            if clock.now() >= until:
                raise TimeoutError
            Waiter().wait(_PACE_S)
        raise ConnectionAbortedError(errno.ECONNABORTED, "in its greeting")

    def _wait_closed(self, connection: Connection | None) -> None:
        """Nothing of it is left, unless its call does not end."""
        until = clock.now() + END_S
        while connection is not None and not self._is_gone(connection) and clock.now() < until:
            Waiter().wait(_PACE_S)

    def _is_gone(self, connection: Connection) -> bool:
        return self.parts.worker.tables.open.get(connection.fd) is not connection


def ask(plan: Plan, parts: "Parts", name: str) -> Failed | None:
    """Ask what --probe says, if it says something.  None: all is well."""
    settings = plan.settings
    if not plan.probe or settings.probe is None:
        return None
    began_s = plan.board.words[parts.worker.row + WORKER["started_ns"]] / 1e9
    left_s = began_s + SHARE * settings.boot_timeout - clock.now()
    within_s = min(settings.boot_timeout, max(SHORTEST_S, left_s))
    wanted = b"" if settings.probe_reply is None else unescaped(settings.probe_reply)
    return Probe(parts, name, unescaped(settings.probe), wanted, within_s).ask()
