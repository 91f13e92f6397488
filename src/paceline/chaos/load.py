"""The main of the load process: all clients in one loop, one thread.  crew.py starts it, and reaps it.

    to it    {"plan": …}                     once, first
             {"places": […], "server": pid, "folder": path}  where the server is: (family, address) each
             {"halt": true}                  the clients finish what is under way, hang up, and wait for the next place
             {"mark": true}                  a stretch of time ends, and the next one begins
             {"stop": true}                  the end
    from it  {"loss": …}, {"wrong": …}, {"stall": [from, to]}   as they happen
             {"progress": {"sent", "answered", "connected"}}    four times a second
             {"halted": true}
             {"stretch": cells}              how long the replies of the stretch were waited for, a histogram
             {"result": tally}               after "stop"; nothing follows

When the socket ends, whoever started us has died without a word: then we are the one who still knows of the server, and
end it, and remove its folder.
"""

import gc
import heapq
import json
import os
import select
import shutil
import signal
import socket
import sys
from contextlib import suppress
from typing import Any

from paceline.chaos.client import Client, Shared, State
from paceline.chaos.plan import Plan
from paceline.clock import now
from paceline.spoken import framing_of

FRESH = 5
"""One client of so many comes anew for each message."""
TOLD_EVERY_S = 0.25
MOST_MESSAGE = 1 << 20


class Load:
    """The loop."""

    def __init__(self, control: socket.socket) -> None:
        self.control = control
        self.kept = b""
        self.outbox = bytearray()
        self.server = 0
        self.folder = ""
        self.is_over = self.is_halting = False
        self.timers: list[tuple[float, int]] = []
        plan = Plan.from_json(self._first()["plan"])
        self.shared = Shared(plan, framing_of(plan.framing, MOST_MESSAGE), self.tell)
        self.clients = [Client(number, number % FRESH != FRESH - 1, self.shared) for number in range(plan.connections)]
        self.told_s = 0.0
        self.shared.epoll.register(control.fileno(), select.EPOLLIN)
        control.setblocking(False)

    def run(self) -> None:
        epoll, by_fd, control_fd = self.shared.epoll, self.shared.by_fd, self.control.fileno()
        self._on_lines()  # they may have come with the first one
        while not self.is_over:
            at_s = now()
            self._on_time(at_s)
            wait_s = TOLD_EVERY_S if not self.timers else max(0.0, min(self.timers[0][0] - at_s, TOLD_EVERY_S))
            for fd, flags in epoll.poll(wait_s, 256):
                if fd == control_fd:
                    self._on_control(flags)
                elif (client := by_fd.get(fd)) is not None:  # else it has hung up since
                    due_s = client.due_s
                    client.on_event(flags, now())
                    self._schedule(client, due_s)
            if self.is_halting:
                self._halt()
            self._report(now())
        self._flush(wait=True)

    # Time

    def _on_time(self, at_s: float) -> None:
        timers = self.timers
        while timers and timers[0][0] <= at_s:
            due_s, number = heapq.heappop(timers)
            client = self.clients[number]
            if client.due_s == due_s:  # else it was put off, or has come earlier
                client.due_s = 0.0
                client.on_time(now())  # not `at_s`: those before it took their time
                self._schedule(client, 0.0)

    def _schedule(self, client: Client, before_s: float) -> None:
        if client.due_s != before_s and client.due_s:
            heapq.heappush(self.timers, (client.due_s, client.number))

    def _report(self, at_s: float) -> None:
        if at_s - self.told_s >= TOLD_EVERY_S:
            self.told_s = at_s
            tally = self.shared.tally
            up = sum(client.state not in (State.DOWN, State.DIALLING) for client in self.clients)
            self.tell(progress={"sent": tally.sent, "answered": tally.answered, "connected": up})

    # The parent

    def _first(self) -> dict[str, Any]:
        while b"\n" not in self.kept:
            self._receive()
        return self._next()

    def _next(self) -> dict[str, Any]:
        line, _, self.kept = self.kept.partition(b"\n")
        heard: dict[str, Any] = json.loads(line)
        return heard

    def _receive(self) -> None:
        try:
            piece = self.control.recv(1 << 16)
        except BlockingIOError:
            return
        except OSError:
            piece = b""
        if not piece:
            self._bury()
        self.kept += piece

    def _on_control(self, flags: int) -> None:
        if flags & select.EPOLLOUT:
            self._flush()
        if flags & ~select.EPOLLOUT:
            self._receive()
            self._on_lines()

    def _on_lines(self) -> None:
        while b"\n" in self.kept:
            told = self._next()
            if "places" in told:
                places = told["places"]
                self.shared.places = [(family, tuple(at) if isinstance(at, list) else at) for family, at in places]
                self.server, self.folder = told["server"], told["folder"]
                self._begin(now())
            elif "halt" in told:
                self.is_halting = True
            elif "mark" in told:
                self.tell(stretch=list(self.shared.take_stretch().cells))
            elif "stop" in told:
                self.tell(result=self.shared.tally.to_json())
                self.is_over = True

    def _begin(self, at_s: float) -> None:
        for client in self.clients:
            client.due_s = at_s + client.chance.uniform(0, min(0.5, self.shared.pause_s))
            self._schedule(client, 0.0)

    def _halt(self) -> None:
        """Whoever has nothing under way hangs up; told when these are all."""
        for client in self.clients:
            if not client.is_busy:
                client.hang_up()
                client.due_s = 0.0
        if not any(client.is_busy for client in self.clients):
            self.timers.clear()
            self.is_halting = False
            self.tell(halted=True)

    def tell(self, **message: Any) -> None:
        """Say it to the parent, as soon as that takes it."""
        self.outbox += json.dumps(message).encode() + b"\n"
        self._flush()

    def _flush(self, *, wait: bool = False) -> None:
        had = bool(self.outbox)
        self.control.setblocking(wait)
        try:
            while self.outbox:
                del self.outbox[: self.control.send(self.outbox)]
        except BlockingIOError:
            pass
        except OSError:
            self._bury()
        if had and not self.is_over:
            with suppress(OSError, FileNotFoundError):  # not in the set yet
                mask = select.EPOLLIN | (select.EPOLLOUT if self.outbox else 0)
                self.shared.epoll.modify(self.control.fileno(), mask)

    def _bury(self) -> None:
        """Nobody is left who would end the server."""
        if self.server:
            with suppress(OSError):
                os.killpg(self.server, signal.SIGKILL)
            shutil.rmtree(self.folder, ignore_errors=True)
        os._exit(0)


def main(fd: int) -> int:
    """Until the parent says so."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gc.freeze()
    with socket.socket(fileno=fd) as control:
        Load(control).run()
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
