"""A client of the control socket for tests, bare: what is sent and received is in the test's hand."""

import json
import os
import socket
from typing import Any, Self

from paceline.host import runtime
from testbed import Server

TIMEOUT_S = 10.0

Answer = dict[str, Any]


def found(server: Server) -> runtime.Running:
    """The server as its runtime file describes it."""
    (one,) = [running for running in runtime.running() if running.pid == server.pid]
    return one


class Asker:
    """One connection."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(TIMEOUT_S)
        self.socket.connect(os.fspath(path))
        self._lines = self.socket.makefile("rb")

    @classmethod
    def of(cls, server: Server) -> Self:
        path = found(server).control
        assert path is not None
        return cls(path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._lines.close()
        self.socket.close()

    def send(self, line: bytes) -> None:
        self.socket.sendall(line)

    def answer(self) -> Answer:
        """The next line; AssertionError when there is none."""
        line = self._lines.readline()
        assert line, "the server has ended the conversation"
        found: Answer = json.loads(line)
        assert found["version"] == 1
        return found

    def answers(self) -> list[Answer]:
        """Until the last one."""
        found = [self.answer()]
        while not found[-1]["is_last"]:
            found.append(self.answer())
        return found

    def ask(self, do: str, **fields: object) -> Answer:
        """The last answer."""
        self.send(json.dumps({"do": do, **fields}).encode() + b"\n")
        return self.answers()[-1]

    def is_heard(self) -> bool:
        """It is one of those whom the server listens to: a ping is answered."""
        try:
            return bool(self.ask("ping")["ok"])
        except (BrokenPipeError, ConnectionResetError):
            return False

    def is_ended(self) -> bool:
        """The server has closed it; nothing more was said."""
        try:
            return self._lines.readline() == b""
        except ConnectionResetError:  # it has not read all that was sent
            return True
