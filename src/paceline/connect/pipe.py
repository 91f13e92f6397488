"""Standard input to the server, its replies to standard output: `paceline connect` without a terminal.

One thread and one poll(2) for three descriptors.  At most one piece is under way in each direction: the input is read
when the server has taken the last piece, replies when standard output has.  So memory stays the same however much
flows, whoever is slow slows down the others, and two who both write first do not wait for each other.

    input ends      what is left is sent, then our end (shutdown(2), SHUT_WR); replies are written until the server ends
    server ends     it may have closed one direction only, so the input is still offered to it, until nothing more of it
                    comes for half a second (or the server refuses it): then we end, too
    silence         while we wait for the server, after our end or with bytes that it does not take, and nothing moves
                    for the time-out, it has failed.  An input or an output that makes us wait may take for ever

A server that reads slowly moves something, too, though poll(2) does not tell: there is POLLOUT only when a third of the
send buffer is free.  So the kernel is asked, some times in each time-out, whether it holds less than before.

Standard input and output keep their file status flags, which they share with the shell and others: a pipe to write to
is opened anew, and of what cannot be, no more is written at once than poll(2) has promised room for.
"""

import os
import select
import socket
import stat
from contextlib import suppress

from paceline import clock
from paceline.connect import endings
from paceline.connect.translation import Inward, Outward
from paceline.errors import HostError, PacelineError, TimedOut
from paceline.host import streams

READ_BYTES = 65536
LINGER_S = 0.5
LOOKS = 10
"""In a time-out without anything to do, so often the kernel is asked what it still holds."""
_GONE = select.POLLERR | select.POLLHUP | select.POLLNVAL
_NOTHING = memoryview(b"")


class Pipe:
    """One run.  `connection` is a connected socket; it becomes non-blocking, and stays the caller's to close."""

    def __init__(
        self,
        connection: socket.socket,
        peer: str,
        outward: Outward,
        inward: Inward,
        *,
        timeout_s: float | None,
        input_fd: int = 0,
        output_fd: int = 1,
    ) -> None:
        connection.setblocking(False)
        self._connection = connection
        self._peer = peer
        self._outward, self._inward = outward, inward
        self._timeout_s = timeout_s
        self._input_fd = input_fd
        self._output = _Output(output_fd)
        self._unsent = _NOTHING
        self._unwritten = _NOTHING
        self._has_input = True
        self._server_may_read = True
        self._server_may_write = True
        self._our_end_sent = False
        self._failure: PacelineError | None = None
        """What is raised when all that came before it is written."""
        self._still_since: float | None = None
        """Since when nothing has moved, while that is bounded."""
        self._held = 0
        """What the kernel held for the server at that time."""

    def run(self) -> str:
        """Until the server ends.  Returns a note for the user, or nothing.

        Raises ConnectionClosed, ConnectionReset, Truncated, MessageTooLarge, BadFrame, TimedOut; UsageError for input
        that cannot be sent; BrokenPipeError when nobody reads standard output, HostError when it cannot be written.
        """
        try:
            while self._goes_on():
                self._step()
            self._finish()
        finally:
            self._output.close()
        if self._failure is not None:
            raise self._failure
        if self._outward.kept:
            raise endings.closed_inside_a_line(self._peer, self._outward.kept)
        if self._has_input:
            return f"{self._peer} closed the connection before standard input ended; nothing read from it is unsent"
        return ""

    @property
    def _left(self) -> int:
        """How many bytes of the input were read and not sent."""
        return len(self._unsent) + self._outward.kept

    @property
    def _waits_for_server(self) -> bool:
        """There is nothing to be done before it takes or sends something, or ends."""
        return bool(self._unsent) or self._our_end_sent

    def _goes_on(self) -> bool:
        return self._server_may_write or self._server_may_read

    def _step(self) -> None:
        """Wait, and move what can be moved."""
        poll = select.poll()
        to_server = select.POLLOUT if self._unsent and self._server_may_read else 0
        from_server = select.POLLIN if self._server_may_write and not self._unwritten else 0
        lingers = not self._server_may_write and not self._unwritten  # and only a reset is heard of from it
        if to_server or from_server or lingers:  # else a connection that is gone would wake us again and again
            poll.register(self._connection, to_server | from_server)
        if self._has_input and self._server_may_read and not self._unsent:
            poll.register(self._input_fd, select.POLLIN)
        poll.register(self._output.fd, select.POLLOUT if self._unwritten else 0)  # always tells of a reader that left
        events = dict(poll.poll(self._patience_ms()))
        if not events:
            self._on_silence()
        at_output = events.get(self._output.fd, 0)
        if at_output & _GONE:
            raise BrokenPipeError
        if at_output:
            self._write()
        at_server = events.get(self._connection.fileno(), 0)
        if at_server & ~select.POLLOUT and from_server:
            self._receive()
        if at_server & ~select.POLLIN and to_server:
            self._send()
        elif at_server & _GONE and lingers:
            self._look_for_a_reset()
            self._server_may_read = False
        if events.get(self._input_fd):
            self._read_input()

    def _patience_ms(self) -> int | None:
        """How long to wait."""
        limit_s = self._limit_s()
        if limit_s is None:
            self._still_since = None
            return None
        now = clock.now()
        if self._still_since is None:
            self._still_since = now
            self._held = streams.unsent_bytes(self._connection.fileno())
        left_s = self._still_since + limit_s - now
        if self._waits_for_server:
            left_s = min(left_s, limit_s / LOOKS)
        return max(0, int(left_s * 1000) + 1)

    def _limit_s(self) -> float | None:
        """How long nothing may move: None, unless it is the server that we wait for, or it has sent its end."""
        if self._unwritten:
            return None
        if self._waits_for_server:
            return self._timeout_s
        return None if self._server_may_write else LINGER_S

    def _on_silence(self) -> None:
        limit_s = self._limit_s()
        if limit_s is None or self._still_since is None:
            return
        if self._waits_for_server and streams.unsent_bytes(self._connection.fileno()) < self._held:
            self._still_since = None
            return
        if clock.now() - self._still_since < limit_s:
            return
        if self._unsent:
            raise self._last(endings.not_read(self._peer, limit_s, len(self._unsent)))
        if self._our_end_sent:
            raise self._last(endings.silent(self._peer, limit_s, rest=self._inward.rest))
        self._server_may_read = False

    def _last(self, error: TimedOut) -> PacelineError:
        """Write what was held back of a reply, before this is raised; what went wrong first counts."""
        self._write_all(self._inward.end())
        return self._failure or error

    def _read_input(self) -> None:
        try:
            piece = os.read(self._input_fd, READ_BYTES)
        except BlockingIOError:  # somebody else was quicker
            return
        except OSError as error:
            raise HostError(f"standard input cannot be read: {error.strerror}; give it another source") from None
        self._still_since = None
        self._offer(self._outward.feed(piece) if piece else self._outward.end())
        if self._outward.broken is not None:
            self._failure = self._failure or self._outward.broken
        if not piece or self._outward.broken is not None:
            self._has_input = False
            if not self._unsent:
                self._send_our_end()

    def _offer(self, wire: bytes) -> None:
        self._unsent = memoryview(wire)
        if wire:
            self._send()

    def _send(self) -> None:
        try:
            sent = self._connection.send(self._unsent)
        except BlockingIOError:
            return
        except OSError as error:
            self._on_not_taken(error)
            return
        self._unsent = self._unsent[sent:]
        self._still_since = None
        if not self._unsent and not self._has_input:
            self._send_our_end()

    def _on_not_taken(self, error: OSError) -> None:
        """The server reads no more; what it had sent before can still be there."""
        self._server_may_read = False
        self._failure = self._failure or endings.broken_off(self._peer, error, self._left)
        self._unsent = _NOTHING

    def _send_our_end(self) -> None:
        self._our_end_sent = True
        self._still_since = None
        with suppress(OSError):  # gone: receiving says how
            self._connection.shutdown(socket.SHUT_WR)
        self._server_may_read = False

    def _look_for_a_reset(self) -> None:
        """A server that has closed, and not only ended its direction, answers what we send with a reset."""
        number = self._connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if number:
            error = OSError(number, os.strerror(number))
            self._failure = self._failure or endings.broken_off(self._peer, error, self._left)

    def _receive(self) -> None:
        try:
            piece = self._connection.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            self._server_may_write = self._server_may_read = False
            self._failure = self._failure or endings.broken_off(self._peer, error, self._left)
            return
        self._still_since = None
        if not piece:
            self._server_may_write = False
            self._failure = self._failure or endings.ended(self._peer, self._inward.rest)
            return
        self._unwritten = memoryview(self._inward.feed(piece))
        if self._inward.broken is not None:
            self._server_may_write = self._server_may_read = False
            self._failure = self._failure or self._inward.broken
        if self._unwritten:
            self._write()

    def _write(self) -> None:
        self._unwritten = self._unwritten[self._output.write_nowait(self._unwritten) :]

    def _write_all(self, wire: bytes) -> None:
        """What is left, with all the time that the reader wants."""
        poll = select.poll()
        poll.register(self._output.fd, select.POLLOUT)
        for piece in (self._unwritten, memoryview(wire)):
            self._unwritten = piece
            while self._unwritten:
                if poll.poll()[0][1] & _GONE:
                    raise BrokenPipeError
                self._write()

    def _finish(self) -> None:
        self._look_for_a_reset()
        self._write_all(self._inward.end())


class _Output:
    """Standard output, without waiting."""

    def __init__(self, fd: int) -> None:
        mode = os.fstat(fd).st_mode
        self._most = READ_BYTES if stat.S_ISREG(mode) else select.PIPE_BUF
        self.fd = fd
        self._is_own = False
        if stat.S_ISFIFO(mode):
            # EACCES: another user's; ENXIO: nobody reads it, which the first look at the old one tells as well.
            with suppress(OSError):
                self.fd = os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
                self._is_own, self._most = True, READ_BYTES

    def write_nowait(self, wire: memoryview) -> int:
        """How many bytes were taken.  Raises BrokenPipeError: nobody reads; HostError."""
        try:
            return os.write(self.fd, wire[: self._most])
        except BlockingIOError:
            return 0
        except BrokenPipeError:
            raise
        except OSError as error:
            raise HostError(
                f"standard output cannot be written: {error.strerror}; give it another place to go"
            ) from None

    def close(self) -> None:
        if self._is_own:
            os.close(self.fd)
