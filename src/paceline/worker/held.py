"""Whole-connection calls: the socket that the handler gets, and the table of those that are out.

`HeldSocket` is a socket.socket and works in unmodified socket code.  It differs where a plain socket would let its peer
keep a thread for ever or would pull the descriptor from under the worker:

* while it waits for the peer, the thread's state on the scoreboard says so (time in which the handler is not stuck);
* the kernel limits each wait: sending by `--write-timeout`, receiving by `--idle-timeout`, as TimeoutError; a time-out
  that the handler sets itself replaces both;
* `close` sends end-of-file, and the worker closes the descriptor after the call, without losing the last bytes;
* `detach` and ssl's wrap_socket really take the descriptor away: it is the handler's then, without our limits.
"""

import contextlib
import errno
import os
import socket
import struct
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from paceline.host import streams
from paceline.scoreboard.fields import ThreadState
from paceline.wire.hello import BEGINS as TLS_BEGINS
from paceline.worker.crew import Member

if TYPE_CHECKING:
    from paceline.wire.tls import TlsSession

_CALLING, _PEER = int(ThreadState.CALLING), int(ThreadState.PEER)

_PEER_IS_GONE = frozenset({
    errno.ECONNRESET, errno.EPIPE, errno.ECONNABORTED, errno.ENOTCONN, errno.ETIMEDOUT, errno.EHOSTUNREACH,
    errno.ENETUNREACH, errno.EHOSTDOWN, errno.ENETDOWN,
})  # fmt: skip
"""What a call of a connected socket fails with when its peer is gone (tcp(7), ip(7)): ETIMEDOUT after keepalive."""


class HeldSocket(socket.socket):
    """The connection of one whole-connection call; for its thread, until the call returns."""

    __slots__ = ("_fd", "_is_first", "_is_named", "_is_proxied", "_listener", "_me", "_on_taken", "_on_tls",
                 "_receive_s", "_send_s", "_text", "ended_by")  # fmt: skip

    def __init__(
        self,
        fd: int,
        me: Member,
        listener: str,
        receive_s: float | None,
        send_s: float | None,
        on_taken: Callable[[], None] = lambda: None,
        on_tls: Callable[[], None] = lambda: None,
        peer: str = "",
        *,
        is_proxied: bool = False,
    ) -> None:
        """`on_taken`: called when the handler takes the descriptor away, while its number is still ours.

        `on_tls`: called when what is received first begins as TLS does.

        `peer`: who it is, as text, if that is known already, as of one for whom a proxy has connected (`is_proxied`).
        """
        super().__init__(fileno=fd)
        self._on_taken = on_taken
        self._on_tls = on_tls
        self._is_first = True
        self._fd = fd
        self._me = me
        self._listener = listener
        self._receive_s = receive_s
        self._send_s = send_s
        self._text = peer or None
        self._is_named = bool(peer)
        self._is_proxied = is_proxied
        self.ended_by: Literal["", "peer", "timeout"] = ""
        """"peer" when a call of this socket found the peer gone, "timeout" when one of our limits passed."""
        self.settimeout(None)
        self._limit(receive_s, send_s)

    @property
    def peer(self) -> str:
        """Who is at the other end, as text: `192.0.2.7:50312`."""
        if self._text is None:
            self._text = streams.peer_text(self._fd)
        return self._text

    @property
    def peer_address(self) -> Any:
        """The same in the shape of getpeername; of one for whom a proxy has connected, the address that it says."""
        host, _, port = self.peer.rpartition(":")
        if not self._is_named or not port.isdecimal():
            return self.getpeername()
        return (host.strip("[]"), int(port), 0, 0) if host.startswith("[") else (host, int(port))

    @property
    def credentials(self) -> streams.Credentials | None:
        """Whose process the peer is.  None: it came by TCP, it is for a proxy to say who it is, or the handler has
        taken the descriptor away.
        """
        fd = self._fd
        found = None if self._is_proxied or fd < 0 else streams.peer_credentials(fd)
        return found if self._fd == fd else None

    @property
    def listener(self) -> str:
        """The address it came in by, as text."""
        return self._listener

    @property
    def tls(self) -> "TlsSession | None":
        """What was agreed in the TLS handshake; None: it is not encrypted."""
        return None

    @property
    def unsent(self) -> bytes:
        """What the handler has sent and the worker must still put on the wire."""
        return b""

    def give_back(self) -> int:
        """The descriptor, which is no longer this object's.  -1: the handler took it with `detach`."""
        fd, self._fd = self._fd, -1
        return self._let_go() if self.fileno() >= 0 else fd

    def detach(self) -> int:
        """The descriptor, which is the caller's from now on, and without our time limits."""
        if self.fileno() >= 0:
            self._on_taken()
            self._me.words[self._me.state] = _PEER  # nobody will know when it waits: no limit counts from here on
        self._fd = -1
        return self._let_go()

    def _let_go(self) -> int:
        with contextlib.suppress(OSError):
            self._limit(None, None)
        return super().detach()

    def dup(self) -> socket.socket:  # type: ignore[override]  # a plain socket: the limits and the thread are this one's
        copy = socket.socket(self.family, self.type, self.proto, fileno=os.dup(self.fileno()))
        copy.settimeout(self.gettimeout())
        return copy

    def _real_close(self) -> None:  # what socket.close calls when no file object uses it any more
        if self.fileno() >= 0:
            kept = super().detach()
            streams.end_output(kept)

    def _limit(self, receive_s: float | None, send_s: float | None) -> None:
        for option, limit in ((socket.SO_RCVTIMEO, receive_s), (socket.SO_SNDTIMEO, send_s)):
            self.setsockopt(socket.SOL_SOCKET, option, _timeval(limit))

    def _waiting(self, verb: Callable[..., Any], limit_s: float | None, what: str, flags: int, *arguments: Any) -> Any:
        me = self._me
        words = me.words
        me.waits += 1
        words[me.state] = _PEER
        try:
            return verb(*arguments)
        except BlockingIOError:
            # A blocking socket only says this when SO_RCVTIMEO or SO_SNDTIMEO passed (socket(7)), or when asked to.
            if limit_s is None or self.gettimeout() is not None or flags & socket.MSG_DONTWAIT:
                raise
            self._time_out(what, limit_s)
        except OSError as error:
            self._note(error)
            raise
        finally:
            words[me.state] = _CALLING

    def _time_out(self, what: str, limit_s: float) -> NoReturn:
        self.ended_by = "timeout"
        raise TimeoutError(f"{what} for {limit_s:g} s") from None

    def _note(self, error: OSError) -> None:
        if error.errno in _PEER_IS_GONE:
            self.ended_by = "peer"

    def _receiving(self, verb: Callable[..., Any], flags: int, *arguments: Any) -> Any:
        return self._waiting(verb, self._receive_s, "it sent nothing (--idle-timeout)", flags, *arguments)

    def _sending(self, verb: Callable[..., Any], flags: int, *arguments: Any) -> Any:
        return self._waiting(verb, self._send_s, _TOOK_NOTHING, flags, *arguments)

    def recv(self, bufsize: int, flags: int = 0, /) -> bytes:
        data: bytes = self._receiving(super().recv, flags, bufsize, flags)
        self._count_in(len(data))
        if self._is_first and data:
            self._see_first(data)
        return data

    def recv_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> int:
        n: int = self._receiving(super().recv_into, flags, buffer, nbytes, flags)
        self._count_in(n)
        if self._is_first and n:
            self._see_first(bytes(memoryview(buffer).cast("B")[: min(n, len(TLS_BEGINS))]))
        return n

    def recvfrom(self, bufsize: int, flags: int = 0, /) -> tuple[bytes, Any]:
        data, address = self._receiving(super().recvfrom, flags, bufsize, flags)
        self._count_in(len(data))
        return data, address

    def recvfrom_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> tuple[int, Any]:
        n, address = self._receiving(super().recvfrom_into, flags, buffer, nbytes, flags)
        self._count_in(n)
        return n, address

    def recvmsg(self, bufsize: int, ancbufsize: int = 0, flags: int = 0, /) -> Any:
        received = self._receiving(super().recvmsg, flags, bufsize, ancbufsize, flags)
        self._count_in(len(received[0]))
        return received

    def recvmsg_into(self, buffers: Any, ancbufsize: int = 0, flags: int = 0, /) -> Any:
        received = self._receiving(super().recvmsg_into, flags, buffers, ancbufsize, flags)
        self._count_in(received[0])
        return received

    def send(self, data: Any, flags: int = 0, /) -> int:
        sent: int = self._sending(super().send, flags, data, flags)
        self._count_out(sent)
        return sent

    def sendall(self, data: Any, flags: int = 0, /) -> None:
        self._sending(super().sendall, flags, data, flags)
        self._count_out(memoryview(data).nbytes)

    def sendto(self, data: Any, *flags_and_address: Any) -> int:
        flags = flags_and_address[0] if len(flags_and_address) > 1 else 0
        sent: int = self._sending(super().sendto, flags, data, *flags_and_address)
        self._count_out(sent)
        return sent

    def sendmsg(self, buffers: Any, ancillary: Any = (), flags: int = 0, address: Any = None, /) -> int:
        sent: int = self._sending(super().sendmsg, flags, buffers, ancillary, flags, address)
        self._count_out(sent)
        return sent

    def sendfile(self, file: Any, offset: int = 0, count: int | None = None) -> int:
        before = self._me.words[self._me.bytes_out]
        own_limit = self.gettimeout()
        if own_limit is None:
            # socket.sendfile takes what SO_SNDTIMEO makes of sendfile(2) for "not yet" and would wait for ever; a
            # time-out of Python's limits each wait.
            self.settimeout(self._send_s)
        try:
            sent: int = self._sending(super().sendfile, 0, file, offset, count)
        except TimeoutError as error:
            if own_limit is None and self._send_s is not None and error.errno is None:
                self._time_out(_TOOK_NOTHING, self._send_s)
            raise
        finally:
            if own_limit is None:
                self.settimeout(None)
        if self._me.words[self._me.bytes_out] == before:  # else `send` did it, and has counted
            self._count_out(sent)
        return sent

    def shutdown(self, how: int, /) -> None:
        try:
            super().shutdown(how)
        except OSError as error:
            self._note(error)
            raise

    def getpeername(self) -> Any:
        try:
            return super().getpeername()
        except OSError as error:
            self._note(error)
            raise

    def _see_first(self, first: bytes) -> None:
        self._is_first = False
        if first.startswith(TLS_BEGINS):
            self._on_tls()

    def _count_in(self, received: int) -> None:
        me = self._me
        me.words[me.bytes_in] += received
        me.words[me.messages] += received > 0

    def _count_out(self, sent: int) -> None:
        me = self._me
        me.words[me.bytes_out] += sent


_TOOK_NOTHING = "it took nothing (--write-timeout)"


class HeldTable:
    """The descriptors of whole-connection calls that run now."""

    __slots__ = ("_inodes", "_lock", "taken")

    def __init__(self) -> None:
        self.taken = 0  # guarded by _lock
        """Calls that go on without a connection of ours: their handler has taken the descriptor away."""
        self._inodes: dict[int, int] = {}  # guarded by _lock
        """By descriptor: of what.  A handler that took it away may have closed it, and the number be another's."""
        self._lock = threading.Lock()

    def add(self, fd: int) -> None:
        inode = os.fstat(fd).st_ino
        with self._lock:
            self._inodes[fd] = inode

    def remove(self, fd: int) -> None:
        with self._lock:
            self._inodes.pop(fd, None)

    def take_away(self, fd: int) -> None:
        """The handler takes the descriptor: from now on its number may be another's."""
        with self._lock:
            self._inodes.pop(fd, None)
            self.taken += 1

    def end_taken(self) -> None:
        """A call is over whose handler took the descriptor."""
        with self._lock:
            self.taken -= 1

    def end_input(self) -> None:
        """Let every call that waits for its peer see end-of-file, after what has arrived."""
        with self._lock:  # held across shutdown(2): none of ours may be closed, and its number used again, meanwhile
            for fd, inode in self._inodes.items():
                with contextlib.suppress(OSError):
                    if os.fstat(fd).st_ino == inode:
                        streams.end_input(fd)

    def __len__(self) -> int:
        return len(self._inodes)


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
