"""A client for tests, small and impatient."""

import socket
from typing import Self

from paceline.clock import now

PEER_S = 5.0
"""The time-out of each call: ten times and more what a test waits for takes."""


class Peer:
    """A client.  Each call has a deadline of five seconds, and AssertionError says what had arrived by then."""

    def __init__(self, place: str, timeout: float = PEER_S) -> None:
        self.timeout = timeout
        self._kept = bytearray()
        if place.startswith("unix:"):
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.settimeout(timeout)
            try:
                self.socket.connect(place.removeprefix("unix:"))
            except BaseException:
                self.socket.close()
                raise
        else:
            host, _, port = place.rpartition(":")
            host = {"[::]": "::1", "0.0.0.0": "127.0.0.1"}.get(host, host.strip("[]"))
            self.socket = socket.create_connection((host, int(port)), timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def name(self) -> str:
        """Our end, as the server's log shows it: `127.0.0.1:50312`."""
        host, port = self.socket.getsockname()[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def send(self, *pieces: bytes) -> None:
        """Each piece by its own."""
        self.socket.settimeout(self.timeout)
        for piece in pieces:
            self.socket.sendall(piece)

    def receive(self, count: int | None = None, *, until: bytes | None = None, timeout: float | None = None) -> bytes:
        """Exactly `count` bytes; or up to and with `until`; or, with neither, what comes next (b"": end-of-file)."""
        deadline = now() + (self.timeout if timeout is None else timeout)
        while (size := self._complete(count, until)) is None:
            if not self._more(deadline):
                if count is None and until is None:
                    return b""
                raise AssertionError(f"the connection ended; what had arrived: {bytes(self._kept)!r}")
        taken = bytes(self._kept[:size])
        del self._kept[:size]
        return taken

    def line(self) -> bytes:
        """The next line, with its line feed."""
        return self.receive(until=b"\n")

    def lines(self, count: int) -> list[bytes]:
        return [self.line() for _ in range(count)]

    def receive_all(self, timeout: float | None = None) -> bytes:
        """Everything up to end-of-file."""
        deadline = now() + (self.timeout if timeout is None else timeout)
        while self._more(deadline):
            pass
        taken, self._kept = bytes(self._kept), bytearray()
        return taken

    def ended(self) -> bool:
        """Whether the next that comes is the end: end-of-file or a reset."""
        try:
            return self.receive() == b""
        except ConnectionError:
            return True

    def half_close(self) -> None:
        """Send end-of-file; receiving goes on."""
        self.socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """End by a reset (RST)."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.socket.close()

    def close(self) -> None:
        self.socket.close()

    def _complete(self, count: int | None, until: bytes | None) -> int | None:
        """How many of the bytes that were kept are the answer; None: not yet."""
        if until is not None:
            at = self._kept.find(until)
            return None if at < 0 else at + len(until)
        if count is not None:
            return count if len(self._kept) >= count else None
        return len(self._kept) or None

    def _more(self, deadline: float) -> bool:
        """Receive once; False at end-of-file."""
        self.socket.settimeout(max(0.001, deadline - now()))
        try:
            piece = self.socket.recv(65536)
        except TimeoutError:
            raise AssertionError(f"nothing more came in time; what had arrived: {bytes(self._kept)!r}") from None
        self._kept += piece
        return bool(piece)
