"""Whole-connection calls: the socket that the handler gets, and the table of those that are out.

`HeldSocket` is a socket.socket and works in unmodified socket code.  It differs where a plain socket would let its peer
keep a thread for ever or would pull the descriptor from under the worker:

* while it waits for the peer, the thread's state on the scoreboard says so (time in which the handler is not stuck);
* the kernel limits each wait: sending by `--write-timeout`, receiving by `--idle-timeout`, as TimeoutError; a time-out
  that the handler sets itself replaces both;
* `close` sends end-of-file, and the worker closes the descriptor after the call, without losing the last bytes.
"""

import os
import socket
import struct
import threading
from collections.abc import Callable
from typing import Any, Literal

from paceline.host import streams
from paceline.scoreboard.fields import ThreadState
from paceline.worker.crew import Member

_CALLING, _PEER = int(ThreadState.CALLING), int(ThreadState.PEER)


class HeldSocket(socket.socket):
    """The connection of one whole-connection call; for its thread, until the call returns."""

    __slots__ = ("_fd", "_listener", "_me", "_receive_s", "_send_s", "_text", "ended_by")

    def __init__(self, fd: int, me: Member, listener: str, receive_s: float | None, send_s: float | None) -> None:
        super().__init__(fileno=fd)
        self._fd = fd
        self._me = me
        self._listener = listener
        self._receive_s = receive_s
        self._send_s = send_s
        self._text: str | None = None
        self.ended_by: Literal["", "peer", "timeout"] = ""
        """"peer" when a call of this socket found the connection reset, "timeout" when one of our limits passed."""
        self.settimeout(None)
        for option, limit in ((socket.SO_RCVTIMEO, receive_s), (socket.SO_SNDTIMEO, send_s)):
            self.setsockopt(socket.SOL_SOCKET, option, _timeval(limit))

    @property
    def peer(self) -> str:
        """Who is at the other end, as text: `192.0.2.7:50312`."""
        if self._text is None:
            self._text = streams.peer_text(self._fd)
        return self._text

    @property
    def listener(self) -> str:
        """The address it came in by, as text."""
        return self._listener

    def give_back(self) -> int:
        """The descriptor, which is no longer this object's.  -1: the handler took it with `detach`."""
        return self.detach() if self.fileno() >= 0 else self._fd

    def detach(self) -> int:
        fd = super().detach()
        self._fd = -1
        return fd

    def dup(self) -> socket.socket:  # type: ignore[override]  # a plain socket: the limits and the thread are this one's
        return socket.socket(self.family, self.type, self.proto, fileno=os.dup(self.fileno()))

    def _real_close(self) -> None:  # what socket.close calls when no file object uses it any more
        if self.fileno() >= 0:
            kept = super().detach()
            streams.end_output(kept)

    def _waiting(self, verb: Callable[..., Any], limit_s: float | None, what: str, *arguments: Any) -> Any:
        me = self._me
        words = me.words
        words[me.state] = _PEER
        try:
            return verb(*arguments)
        except BlockingIOError:
            # A blocking socket only says this when SO_RCVTIMEO or SO_SNDTIMEO passed (socket(7)).
            if self.gettimeout() is not None:
                raise
            self.ended_by = "timeout"
            raise TimeoutError(f"{what} for {limit_s:g} s") from None
        except ConnectionError:
            self.ended_by = "peer"
            raise
        finally:
            words[me.state] = _CALLING

    def _receiving(self, verb: Callable[..., Any], *arguments: Any) -> Any:
        return self._waiting(verb, self._receive_s, "it sent nothing (--idle-timeout)", *arguments)

    def _sending(self, verb: Callable[..., Any], *arguments: Any) -> Any:
        return self._waiting(verb, self._send_s, "it took nothing (--write-timeout)", *arguments)

    def recv(self, bufsize: int, flags: int = 0, /) -> bytes:
        data: bytes = self._receiving(super().recv, bufsize, flags)
        self._count_in(len(data))
        return data

    def recv_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> int:
        n: int = self._receiving(super().recv_into, buffer, nbytes, flags)
        self._count_in(n)
        return n

    def recvfrom(self, bufsize: int, flags: int = 0, /) -> tuple[bytes, Any]:
        data, address = self._receiving(super().recvfrom, bufsize, flags)
        self._count_in(len(data))
        return data, address

    def recvmsg(self, bufsize: int, ancbufsize: int = 0, flags: int = 0, /) -> Any:
        return self._receiving(super().recvmsg, bufsize, ancbufsize, flags)

    def send(self, data: Any, flags: int = 0, /) -> int:
        sent: int = self._sending(super().send, data, flags)
        self._count_out(sent)
        return sent

    def sendall(self, data: Any, flags: int = 0, /) -> None:
        self._sending(super().sendall, data, flags)
        self._count_out(memoryview(data).nbytes)

    def sendmsg(self, *arguments: Any) -> int:
        sent: int = self._sending(super().sendmsg, *arguments)
        self._count_out(sent)
        return sent

    def _count_in(self, received: int) -> None:
        me = self._me
        me.words[me.bytes_in] += received
        me.words[me.messages] += received > 0

    def _count_out(self, sent: int) -> None:
        me = self._me
        me.words[me.bytes_out] += sent


class HeldTable:
    """The descriptors of whole-connection calls that run now."""

    __slots__ = ("_fds", "_lock")

    def __init__(self) -> None:
        self._fds: set[int] = set()  # guarded by _lock
        self._lock = threading.Lock()

    def add(self, fd: int) -> None:
        with self._lock:
            self._fds.add(fd)

    def remove(self, fd: int) -> None:
        with self._lock:
            self._fds.discard(fd)

    def end_input(self) -> None:
        """Let every call that waits for its peer see end-of-file, after what has arrived."""
        with self._lock:  # held across shutdown(2): no descriptor may be closed, and its number used again, meanwhile
            for fd in self._fds:
                streams.end_input(fd)

    def __len__(self) -> int:
        return len(self._fds)


def take_back(held: HeldSocket) -> int:
    """After the call: its descriptor, non-blocking again and without time limits; -1 when the handler kept it."""
    fd = held.give_back()
    if fd >= 0:
        os.set_blocking(fd, False)
    return fd


def _timeval(limit_s: float | None) -> bytes:
    """A `struct timeval` (socket(7), SO_RCVTIMEO); zero is no limit."""
    whole = int(limit_s or 0)
    return struct.pack("@ll", whole, int(((limit_s or 0) - whole) * 1e6))
