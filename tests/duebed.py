"""Peers that know what is their due, and check each thing that they receive; for tests that go on for long.

The workers are those of staffbed.py, whose handlers answer with `answer`.  A peer may send its bytes in pieces that are
cut anywhere; `SecureClient` does so with the records of TLS.
"""

import select
import socket
import ssl
from collections import deque
from contextlib import suppress
from math import ceil

from staffbed import Staff
from workerbed import reset

LONG = 40_000
PIECES = 3
MOST_UNSENT = 300


def replies_to(line: bytes, number: int) -> list[bytes]:
    """`l…`: a reply larger than the buffers of a socket; `p…`: an iterable."""
    reply = b"r%d %s" % (number, line)
    if line.startswith(b"l"):
        return [reply + b"." * LONG]
    if line.startswith(b"p"):
        return [b"%s %d" % (reply, piece) for piece in range(PIECES)]
    return [reply]


def answer(line: bytes, number: int) -> object:
    replies = replies_to(line, number)
    return replies[0] if len(replies) == 1 else iter(replies)


class Client:
    """A peer, and what is its due."""

    is_bound = False
    """Its connection can move no more."""

    def __init__(self, stream: socket.socket) -> None:
        stream.settimeout(10)
        self.stream = stream
        self.name = "{}:{}".format(*stream.getsockname())
        self.said = b""
        self.unsent = bytearray()
        """As it goes over the wire."""
        self.carried = 0
        self.unfinished = b""
        """What it has sent of its next line."""
        self.lines = 0
        self.due: list[bytes] = []
        self.pushed: list[bytes] = []
        """What `send` has taken."""
        self.surely_pushed = 0
        """How many of these before its end."""
        self.number: int | None = None
        """Where it is in the book, as it was greeted."""
        self.torn = b""
        self.replies = self.pushes = self.arrivals = 0
        self.heard = 0
        self.is_half_closed = False
        """It sends no more."""
        self.is_over = False
        """It has gone."""
        self.is_ended = False
        """End-of-file has come."""

    @property
    def has_finished(self) -> bool:
        """It has said that it sends no more, and may have gone."""
        return self.is_half_closed or self.is_over

    @property
    def may_say(self) -> bool:
        return not self.has_finished and len(self.unsent) < MOST_UNSENT

    @property
    def is_quiet(self) -> bool:
        """Nothing has come from it, nor goes to it."""
        return not self.carried and not self.has_finished and not self.pushed

    @property
    def is_owed_all(self) -> bool:
        """It was understood, to its end."""
        return True

    @property
    def may_be_cut(self) -> bool:
        """It made no sense."""
        return False

    # What it sends

    def say(self, plain: bytes) -> None:
        """To be sent."""
        self.said += plain
        self.unsent += plain

    def carry(self, share: float = 1.0) -> None:
        """Send so much of it, if there is room."""
        if self.is_half_closed or self.is_over or not self.unsent:
            return
        self.stream.setblocking(False)
        try:
            sent = self.stream.send(self.unsent[: ceil(share * len(self.unsent))])
        except BlockingIOError:
            return  # it does not read, so it is not read from
        except ConnectionError:
            assert self.may_be_cut
            return
        finally:
            self.stream.settimeout(10)
        piece = bytes(self.unsent[:sent])
        del self.unsent[:sent]
        self.carried += sent
        self._on_carried(piece)

    def _on_carried(self, piece: bytes) -> None:
        self.on_sent(piece)

    def on_sent(self, plain: bytes) -> None:
        """The other end can have it."""
        *lines, self.unfinished = (self.unfinished + plain).split(b"\n")
        for line in lines:
            self.lines += 1
            self.due += replies_to(line, self.lines)

    def half_close(self) -> None:
        if not self.is_half_closed and not self.is_over:
            self.is_half_closed = True
            self.unsent.clear()
            try:
                self.stream.shutdown(socket.SHUT_WR)
            except OSError:
                assert self.may_be_cut

    def leave(self, *, by_reset: bool) -> None:
        if not self.is_over:
            self.is_over = True
            if by_reset:
                reset(self.stream)
            self.stream.close()

    def finish(self) -> None:
        """Say what is left to say, and the end."""
        self.carry()
        if not self.unsent:
            self.half_close()

    # What it receives

    def read(self, most: int = 10**7) -> None:
        """What has arrived."""
        while most > 0 and not self.is_over and not self.is_ended and select.select([self.stream], [], [], 0)[0]:
            try:
                piece = self.stream.recv(min(most, 65536))
            except ConnectionResetError:
                assert self.may_be_cut
                piece = b""
            self.is_ended = not piece
            most -= len(piece)
            self.heard += len(piece)
            *lines, self.torn = (self.torn + self.opened(piece)).split(b"\n")
            for line in lines:
                self._take(line)
            assert not self.torn or any(line.startswith(self.torn) for line in self._next()), "torn by something else"
        assert not self.is_ended or self.has_finished or self.may_be_cut, "nobody has ended it"

    def opened(self, piece: bytes) -> bytes:
        return piece

    def _next(self) -> list[bytes]:
        """What may come now."""
        if self.number is None:
            return [self.torn if self.torn[:1] == b"h" else b"h"]
        arrival = b"a%d" % self.arrivals
        return [arrival, *self.due[self.replies :][:1], *self.pushed[self.pushes :][:1]]

    def _take(self, line: bytes) -> None:
        kind = line[:1]
        if self.number is None:
            assert kind == b"h", "it is greeted first"
            self.number = int(line[1:])
            return
        assert line in self._next(), f"{line[:100]!r} is not its due, or not yet"
        self.replies += kind == b"r"
        self.pushes += kind == b"b"
        self.arrivals += kind == b"a"

    def check_all(self, staff: Staff) -> None:
        """At its end."""
        if not self.is_owed_all:
            return
        assert self.number is not None
        assert (self.replies, self.torn) == (len(self.due), b"")
        assert self.surely_pushed <= self.pushes <= len(self.pushed)
        assert self.arrivals == staff.book.arrivals(self.number)


class SecureClient(Client):
    """One inside TLS."""

    def __init__(self, stream: socket.socket, context: ssl.SSLContext) -> None:
        super().__init__(stream)
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname="localhost")
        self.is_shaken = False
        self.is_shaken_at = 0
        """So much must have been carried for the handshake."""
        self.said_goodbye = self.told_goodbye = self.is_spoilt = False
        self.records: deque[tuple[int, bytes]] = deque()
        """(where its end is on the wire, what is in it) of those that were not carried yet."""
        self._shake()

    @property
    def is_bound(self) -> bool:  # type: ignore[override]
        return self.heard > 0

    @property
    def has_finished(self) -> bool:
        return super().has_finished or self.said_goodbye

    @property
    def may_say(self) -> bool:
        return super().may_say and self.is_shaken and not self.is_spoilt

    @property
    def is_owed_all(self) -> bool:
        return self.is_shaken and self.carried >= self.is_shaken_at and not self.is_spoilt

    @property
    def may_be_cut(self) -> bool:
        return self.is_spoilt

    def _shake(self) -> None:
        try:
            self.tls.do_handshake()
            self.is_shaken = True
        except ssl.SSLWantReadError:
            pass
        if sealed := self._outgoing.read():
            self.is_shaken_at = self.carried + len(self.unsent) + len(sealed)
            self.lay(sealed)

    def lay(self, sealed: bytes, plain: bytes = b"") -> None:
        """To be sent, if it still can be; it is understood when all of it has come."""
        if not self.is_half_closed and not self.is_spoilt:
            self.unsent += sealed
            self.records.append((self.carried + len(self.unsent), plain))

    def has_shaken(self) -> bool:
        """Whether it is done; everything has been done for it."""
        self.carry()
        self.read()
        return self.is_shaken

    def say(self, plain: bytes) -> None:
        self.said += plain
        self.tls.write(plain)
        self.lay(self._outgoing.read(), plain)

    def say_goodbye(self) -> None:
        """close_notify."""
        if self.may_say:
            self.said_goodbye = True
            with suppress(ssl.SSLWantReadError):  # for the other one's
                self.tls.unwrap()
            self.lay(self._outgoing.read())

    def spoil(self, where: float) -> None:
        """Some of what is to be sent is damaged; or no TLS is spoken at all."""
        if self.is_half_closed or self.is_over or self.is_spoilt:
            return
        if not self.carried:
            self.unsent[:] = b"GET / HTTP/1.1\r\n\r\n"
            self.records.clear()
        elif self.unsent and self.is_shaken:
            place = int(where * (len(self.unsent) - 1))
            self.unsent[place] ^= 1
            while self.records and self.records[-1][0] > self.carried + place:
                self.records.pop()
        else:
            return
        self.is_spoilt = True

    def _on_carried(self, piece: bytes) -> None:
        while self.records and self.records[0][0] <= self.carried:
            self.on_sent(self.records.popleft()[1])

    def opened(self, piece: bytes) -> bytes:
        self._incoming.write(piece)
        plain = bytearray()
        try:
            if not self.is_shaken:
                self._shake()
            while self.is_shaken and not self.told_goodbye:
                read = self.tls.read(65536)
                plain += read
                self.told_goodbye = not read  # ssl.SSLZeroReturnError, before ours is said
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self.told_goodbye = True
        except ssl.SSLError:
            assert self.is_spoilt, "it was damaged on its way"
        assert not self.is_ended or self.told_goodbye or not self.is_owed_all, "it ended without close_notify"
        return bytes(plain)

    def finish(self) -> None:
        """Politely, where that can be; then it is for the worker to end the connection."""
        if self.is_shaken and not self.is_spoilt and not self.is_half_closed:
            self.say_goodbye()
            self.carry()
        else:
            self.half_close()
