"""A real supervisor with stub workers: real forks, real sockets, in a process of its own (troupe.py).

`Stage` is the test's side: it starts that process, waits with a deadline for the lines that it writes, and leaves
nothing behind.
"""

import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

DEADLINE_S = 10.0

TROUPE = str(Path(__file__).with_name("troupe.py"))

Line = dict[str, Any]


class Stage:
    """A supervisor in a subprocess.  `options` are settings, and what `play` in troupe.py reads beside them."""

    def __init__(self, pass_fds: Sequence[int] = (), **options: object) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-X", "faulthandler", TROUPE, json.dumps(options)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONUNBUFFERED": ""},
            pass_fds=pass_fds,
        )
        assert self.process.stdout is not None
        self.output = self.process.stdout.fileno()
        self.rest = b""
        self.lines: list[Line] = []
        self.taken = 0

    @property
    def pid(self) -> int:
        return self.process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        workers = [line["pid"] for line in self.lines if line["event"] == "worker-started"]
        self.process.kill()
        self.process.communicate()
        for pid in workers:  # their ends are the kernel's business (die_with_parent); we only see to it
            with suppress(ProcessLookupError):
                os.kill(pid, 0)
                assert _ends_soon(pid), f"worker {pid} outlives its supervisor"

    def send(self, number: int, pid: int | None = None) -> None:
        os.kill(self.pid if pid is None else pid, number)

    def wait_for(self, event: str, count: int = 1, **fields: object) -> Line:
        """The next line of this event with these fields, or the `count`-th; lines before it are passed over."""
        while True:
            line = self.next_line()
            assert line is not None, f"the supervisor ended without {event} {fields}: {self.lines}"
            if line["event"] == event and all(line.get(name) == value for name, value in fields.items()):
                count -= 1
                if not count:
                    return line

    def wait_for_total(self, event: str, total: int) -> None:
        """Until there were so many lines of this event since the beginning."""
        while len(self.all_said(event)) < total:
            assert self.next_line() is not None, f"the supervisor ended without {total} times {event}: {self.lines}"

    def next_line(self) -> Line | None:
        """The next line, or None at the end."""
        while self.taken == len(self.lines):
            if not select.select([self.output], [], [], DEADLINE_S)[0]:
                raise AssertionError(f"nothing more is said: {self.lines}")
            part = os.read(self.output, 65536)
            if not part:
                return None
            *whole, self.rest = (self.rest + part).split(b"\n")
            self.lines += [json.loads(line) for line in whole]
        self.taken += 1
        return self.lines[self.taken - 1]

    def wait_ended(self) -> int:
        """Its exit code; the rest of what it says is in `lines`."""
        while self.next_line() is not None:
            pass
        _, errors = self.process.communicate(timeout=DEADLINE_S)
        assert b"Traceback" not in errors, errors.decode()
        return self.process.returncode

    def all_said(self, event: str) -> list[Line]:
        """Of the lines that were read."""
        return [line for line in self.lines if line["event"] == event]

    def count_fds(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/fd"))


def _ends_soon(pid: int) -> bool:
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([pidfd], [], [], DEADLINE_S)[0])
    finally:
        os.close(pidfd)


def wait_gone(pid: int) -> None:
    """Until the process, of whomever, has ended."""
    assert _ends_soon(pid)


def connect(listening: Line) -> socket.socket:
    """A client of the first address in a `listening` line."""
    host, port = listening["addresses"].split(", ")[0].rsplit(":", 1)
    return socket.create_connection((host, int(port)), timeout=DEADLINE_S)


def stop(stage: Stage) -> None:
    """Stop it, and see that it ends well."""
    stage.send(signal.SIGTERM)
    assert stage.wait_ended() == 0
    (ended,) = stage.all_said("ended")
    assert ended["children"] == "none"
    assert ended["handlers"] == [True, True], "put back as they were"
    assert ended["wakeup_fd"] == -1
