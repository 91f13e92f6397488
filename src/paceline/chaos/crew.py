"""Processes of our own as the run sees them: started, told, listened to, gone at the end.  One thread."""

import json
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from paceline.chaos.plan import Plan
from paceline.errors import HostError
from paceline.host.processes import cause_of_code

_BOOT = (
    "import importlib, json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "sys.exit(importlib.import_module(sys.argv[2]).main(int(sys.argv[3])))"
)


class Child:
    """A process of ours with a loop of its own, `main` of that module, to which we talk in lines of JSON.

    `what` it is, for people; `first` is told first.  Raises HostError when it cannot be started, or ends too early.
    """

    def __init__(self, module: str, what: str, **first: Any) -> None:
        self._what = what
        self._socket, theirs = socket.socketpair()
        with theirs:
            try:
                self._process = subprocess.Popen(
                    [sys.executable, "-c", _BOOT, json.dumps(sys.path), module, str(theirs.fileno())],
                    stdin=subprocess.DEVNULL,
                    pass_fds=[theirs.fileno()],
                    process_group=0,  # Ctrl-C is for us: it is told what to do
                )
            except OSError as error:
                self._socket.close()
                raise HostError(
                    f"{what} could not be started: {error.strerror}; raise the limit on processes (ulimit -u)"
                ) from None
        self._kept = b""
        self._is_done = False
        self._poll = select.poll()
        self._poll.register(self._socket, select.POLLIN)
        try:
            self.tell(**first)
        except BaseException:
            self.close()
            raise

    def tell(self, **message: Any) -> None:
        try:
            self._socket.sendall(json.dumps(message).encode() + b"\n")
        except OSError:
            raise self._gone() from None

    def wait_heard(self, timeout_s: float) -> Iterator[dict[str, Any]]:
        """What it says within the time, perhaps nothing; waits so long only when there is nothing."""
        timeout_ms = max(0.0, timeout_s * 1000)
        while not self._is_done and self._poll.poll(timeout_ms):
            timeout_ms = 0.0
            try:
                piece = self._socket.recv(1 << 20)
            except ConnectionError:
                piece = b""
            if not piece:
                raise self._gone()
            *lines, self._kept = (self._kept + piece).split(b"\n")
            for line in lines:
                message = json.loads(line)
                self._is_done = self._is_done or "result" in message  # that it ends then is no trouble
                yield message

    def _gone(self) -> HostError:
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(5)
        code = self._process.poll()
        how = "hangs" if code is None else cause_of_code(code)
        return HostError(
            f"{self._what} (pid {self._process.pid}) {how} before the end, so there is no result; what it wrote to "
            f"standard error, or the kernel's log (dmesg: out of memory?), should say why"
        )

    def close(self) -> None:
        """Nothing is left of it."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        self._socket.close()


class Crew(Child):
    """The process with all clients of the load."""

    def __init__(self, plan: Plan) -> None:
        super().__init__("paceline.chaos.load", "the load process", plan=plan.to_json())
