"""The load processes: started, told, listened to, and gone at the end.  By the one thread of the command.

Each is a fresh interpreter (`python -c …`, no fork: whoever starts us may have threads), on a socket of its own.  One
that ends without its result is named, with how it ended; on the way out, all that still run are killed and reaped.
"""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import Any, Self

from paceline.bench.plan import Plan
from paceline.clock import now
from paceline.errors import HostError, UsageError
from paceline.host.poller import Waiter
from paceline.host.processes import cause_of, reap_soon

_BOOT = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from paceline.bench.member import main; "
    "sys.exit(main(int(sys.argv[2]), int(sys.argv[3])))"
)
SILENT_S = 30.0
"""Each process says something twice a second while it measures; without a word for so long it is given up."""


class _Seat:
    """One process, as seen from here."""

    def __init__(self, number: int, of: int) -> None:
        self.name = f"load process {number + 1} of {of}"
        self.socket, theirs = socket.socketpair()
        with theirs:
            theirs.set_inheritable(True)
            try:
                self.process = subprocess.Popen(
                    [sys.executable, "-c", _BOOT, json.dumps(sys.path), str(theirs.fileno()), str(os.getpid())],
                    stdin=subprocess.DEVNULL,
                    pass_fds=[theirs.fileno()],
                )
            except OSError as error:
                self.socket.close()
                raise HostError(
                    f"{self.name} could not be started: {error.strerror}; fewer --processes, or a higher limit on "
                    "processes (ulimit -u)"
                ) from None
        self.kept = b""
        self.heard_at = now()

    def tell(self, **message: Any) -> None:
        try:
            self.socket.sendall(json.dumps(message).encode() + b"\n")
        except OSError:
            raise self.gone() from None

    def hear(self) -> list[dict[str, Any]]:
        """What has come; it is readable."""
        try:
            piece = self.socket.recv(1 << 20)
        except ConnectionError:
            piece = b""
        if not piece:
            raise self.gone()
        self.heard_at = now()
        *lines, self.kept = (self.kept + piece).split(b"\n")
        return [json.loads(line) for line in lines]

    def gone(self) -> HostError:
        """The error for one that has ended, or hangs, without a result."""
        pid = self.process.pid
        self.process.kill() if now() - self.heard_at > SILENT_S else None
        status = reap_soon(pid)
        self.process.returncode = os.waitstatus_to_exitcode(status) if status >= 0 else 0
        return HostError(
            f"{self.name} (pid {pid}) {cause_of(status)} before it had a result, so there is none; what it wrote to "
            "standard error, or the kernel's log (dmesg: out of memory?), should say why"
        )

    def end(self) -> None:
        self.socket.close()  # on which it ends by itself, if it has not yet
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()


class Crew:
    """All of them.  Raises HostError when one cannot be started, or ends too early."""

    def __init__(self, plan: Plan, place: tuple[int, Any]) -> None:
        self._seats: list[_Seat] = []
        self._waiter = Waiter()
        try:
            for number in range(plan.processes):
                seat = _Seat(number, plan.processes)
                self._seats.append(seat)
                self._waiter.add(seat.socket.fileno())
            for number, seat in enumerate(self._seats):
                seat.tell(plan=plan.to_json(), process=number, place=place)
        except BaseException:
            self.end()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def tell_all(self, **message: Any) -> None:
        """One message to each."""
        for seat in self._seats:
            seat.tell(**message)

    def wait_heard(self, timeout_s: float) -> Iterator[tuple[int, dict[str, Any]]]:
        """(process, message) of what comes within the time, perhaps nothing.

        Raises HostError when one has ended, or is silent for too long; UsageError when it cannot do what it was told.
        """
        ready = set(self._waiter.wait(timeout_s))
        for number, seat in enumerate(self._seats):
            if seat.socket.fileno() in ready:
                for message in seat.hear():
                    if "usage" in message:
                        raise UsageError(message["usage"])
                    yield number, message
            elif now() - seat.heard_at > SILENT_S:
                raise seat.gone()

    def dismiss(self, number: int) -> None:
        """Its work is done: that it ends now is no trouble."""
        self._waiter.remove(self._seats[number].socket.fileno())
        self._seats[number].heard_at = float("inf")

    @property
    def pids(self) -> list[int]:
        """The processes, in order."""
        return [seat.process.pid for seat in self._seats]

    def end(self) -> None:
        """Nothing is left of them."""
        for seat in self._seats:
            seat.end()
        self._seats.clear()
