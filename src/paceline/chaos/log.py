"""The server's log as it grows: what was said how often, when, and what nobody expected.  One thread; never waits."""

import json
import os
from collections import Counter, deque
from typing import Any

from paceline.clock import now

KEPT = 5_000
"""So many of the last events are there to look at."""


class Log:
    """A file that the server writes lines of JSON to."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._at = 0
        self._rest = b""
        self.counts: Counter[str] = Counter()
        self.others: list[str] = []
        """Lines that are no events: tracebacks of an interpreter, what somebody has printed.  The first hundred."""
        self.loud: list[dict[str, Any]] = []
        """Warnings and errors that were not taken yet."""
        self._last: deque[tuple[int, float, dict[str, Any]]] = deque(maxlen=KEPT)
        self._number = 0

    @property
    def mark(self) -> int:
        """This moment, for `since`."""
        self.look()
        return self._number

    def look(self) -> None:
        """Read what is new."""
        while piece := os.pread(self._fd, 1 << 18, self._at):
            self._at += len(piece)
            *lines, self._rest = (self._rest + piece).split(b"\n")
            for line in lines:
                self._on_line(line)

    def _on_line(self, line: bytes) -> None:
        try:
            record = json.loads(line)
            event = record["event"]
        except (ValueError, TypeError, KeyError):
            if len(self.others) < 100 and line:
                self.others.append(line.decode("utf-8", "backslashreplace"))
            return
        self._number += 1
        self.counts[event] += 1
        self._last.append((self._number, now(), record))
        if record.get("level") in ("warning", "error"):
            self.loud.append(record)

    def since(self, mark: int, *events: str) -> list[dict[str, Any]]:
        """The records of these events after that moment, oldest first."""
        self.look()
        return [record for number, _, record in self._last if number > mark and record["event"] in events]

    def take_loud(self) -> list[dict[str, Any]]:
        """The warnings and errors since the last time."""
        self.look()
        taken, self.loud = self.loud, []
        return taken

    def end_of_it(self, lines: int = 20) -> str:
        """The last lines as they were written, for an error."""
        size = os.fstat(self._fd).st_size
        text = os.pread(self._fd, 16_384, max(0, size - 16_384)).decode("utf-8", "backslashreplace")
        return "\n".join(text.splitlines()[-lines:])
