"""A server as a test sees it: where it listens, clients for it, what it has logged, its end.

`Server` is what both kinds have in common (process.py, inside.py).  All methods are for one thread, but `log` and
`wait_for_log` are for any.
"""

import codecs
import os
import re
import textwrap
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from paceline import clock
from paceline.addresses import UNIX_PATH_BYTES, parse_address
from paceline.errors import HostError, UsageError
from paceline.testing.terms import Terms

if TYPE_CHECKING:
    from paceline.client import Client

LOOK_S = 0.005
"""How often the log is looked at by who waits for a line of it."""
_NOTE = "The server's log"
NOTE_CHARACTERS = 16 * 1024
"""The most of the log that an exception carries: its end."""


class Server(ABC):
    """A server that runs, or has run.

    addresses  where it listens, in the order of `bind`, ports resolved: ("127.0.0.1:40123", "unix:/tmp/x.sock")
    """

    def __init__(self, terms: Terms) -> None:
        self.terms = terms
        self.addresses: tuple[str, ...] = ()
        self._clients: list[Client] = []
        self._maker = os.getpid()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} at {', '.join(self.addresses) or 'no address'}>"

    @property
    def address(self) -> str:
        """The first one: `127.0.0.1:40123`, as every address of Paceline is written."""
        return self.addresses[0]

    @property
    def host(self) -> str:
        """Of the first TCP address: `127.0.0.1`.  Raises UsageError if there is none."""
        return self._tcp()[0]

    @property
    def port(self) -> int:
        """Of the first TCP address.  Raises UsageError if there is none."""
        return self._tcp()[1]

    @property
    @abstractmethod
    def pid(self) -> int:
        """The supervisor's process.  Raises UsageError when the handler is served in the process of the test."""

    @property
    def log(self) -> str:
        """All that it has logged so far; of processes, what they have printed, too.  It stays after the end."""
        return self._logged(0).decode("utf-8", "backslashreplace")

    def client(self, **keywords: Any) -> "Client":
        """A new `paceline.Client` with the server's framing and limit on messages; closed at the end, at the latest.

        `keywords` are those of `paceline.Client`, which override that; `address` is another one of the addresses.
        Raises as it does; UsageError when only the server knows the framing.
        """
        from paceline.client import Client

        address = keywords.pop("address", self.address)
        if "framing" not in keywords:
            keywords["framing"] = self._framing()
        keywords.setdefault("max_message", self.terms.settings.max_message)
        client = Client(address, **keywords)
        self._clients = [kept for kept in self._clients if kept.socket.fileno() >= 0]  # the closed ones are forgotten
        self._clients.append(client)
        return client

    def wait_for_log(self, text: str | re.Pattern[str], timeout: float = 10.0, *, since: int = 0) -> str:
        """Wait for a line of the log that has this text, or in which the pattern is found; returns the line.

        `timeout` is in seconds.  `since` leaves out so many characters of the log: `len(server.log)` of an earlier
        moment.  Raises AssertionError when the time is up, or the server has ended without such a line.
        """
        deadline = clock.now() + timeout
        decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")
        at, rest = 0, ""
        while True:
            is_over = self._is_over()  # before it is read: what was written until then is in it
            piece = self._logged(at)
            at += len(piece)
            new = decoder.decode(piece, is_over)
            since, new = max(0, since - len(new)), new[since:]
            *lines, rest = (rest + new).split("\n")
            for line in [*lines, rest] if is_over else lines:
                if text in line if isinstance(text, str) else text.search(line):
                    return line
            left = deadline - clock.now()
            if is_over or left <= 0:
                why = "the server has ended" if is_over else f"{timeout:g} s have passed"
                sought = repr(text if isinstance(text, str) else text.pattern)
                error = AssertionError(f"{why}, and the log has no line with {sought}")
                self.annotate(error)
                raise error
            self._wait_until_over(min(LOOK_S, left))

    @abstractmethod
    def stop(self) -> int:
        """Ask it to end, and wait until it has; returns its exit code: 0, 4 if calls were cut, -9 killed by SIGKILL.

        May be called again.  Raises HostError when it did not end within stop_timeout, and was killed.
        """

    def close(self) -> None:
        """The end of the `with`: clients, server, descriptors.  Raises HostError if it did not end as it should."""
        if self._maker != os.getpid():
            return  # a process that the test has forked: nothing of it is its own
        was_stopped = self._code() is not None and self._is_asked()
        try:
            while self._clients:
                self._clients.pop().close()
            code = self.stop()
        finally:
            self._give_back()
        if code and not was_stopped:
            raise HostError(self._why_not_clean(code))

    def note(self) -> str:
        """The log, or its end, for an exception."""
        text = self.log
        if len(text) > NOTE_CHARACTERS:
            text = f"… ({len(text) - NOTE_CHARACTERS} characters before this)\n{text[-NOTE_CHARACTERS:]}"
        return f"{_NOTE}:\n{textwrap.indent(text, '    ')}" if text else f"{_NOTE} is empty."

    def annotate(self, error: BaseException) -> None:
        """Give the exception the log as a note, if it has none yet."""
        if not any(note.startswith(_NOTE) for note in getattr(error, "__notes__", ())):
            error.add_note(self.note())

    def _tcp(self) -> tuple[str, int]:
        for text in self.addresses:
            if not text.startswith("unix:"):
                found = parse_address(text)
                return found.host, found.port
        raise UsageError(f"the server listens at {self.address}, which has no host and no port; use server.address")

    def _why_not_clean(self, code: int) -> str:
        limit = f"{self.terms.settings.drain_timeout:g} s"
        if code == 4:
            return (
                f"the server had to cut calls that still ran {limit} after it was asked to stop (drain_timeout); if "
                f"the test is about that, end it with server.stop(), which returns 4"
            )
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        return f"the server {how}; if the test is about that, end it with server.stop(), which returns {code}"

    @abstractmethod
    def _logged(self, at: int) -> bytes:
        """What was logged, from this byte on."""

    @abstractmethod
    def _code(self) -> int | None:
        """The exit code, as soon as it is known."""

    @abstractmethod
    def _is_asked(self) -> bool:
        """`stop` was called."""

    @abstractmethod
    def _is_over(self) -> bool:
        """Nothing will be logged any more."""

    @abstractmethod
    def _wait_until_over(self, timeout_s: float) -> None:
        """Wait until it has ended, or so long."""

    @abstractmethod
    def _framing(self) -> object:
        """What its clients speak, as a text or an object."""

    @abstractmethod
    def _give_back(self) -> None:
        """What belongs to the process of the test."""


def reachable(address: str, folder: str = "") -> str:
    """A Unix socket's address from wherever the test goes, if that is not too long for one; others as they are.

    `folder` is where a relative path begins, itself relative to the current directory.
    """
    path = address.removeprefix("unix:")
    if path == address or path.startswith("@"):  # of the kernel's own names, not a file
        return address
    absolute = os.path.abspath(os.path.join(folder, path))
    return f"unix:{absolute}" if len(os.fsencode(absolute)) <= UNIX_PATH_BYTES else address
