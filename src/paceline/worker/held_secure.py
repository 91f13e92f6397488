"""The socket of a whole-connection call where the connection is encrypted: it sends and receives what is inside TLS.

It is used as a plain one.  What differs is what differs with `ssl.SSLSocket`, too:

* `fileno` may be waited for by `select`, but what has been decrypted already makes no event: see `pending`;
* ancillary data, out-of-band data and a duplicate of the socket make no sense, and are refused;
* what `send` has taken may not be sent yet: the next call goes on with it, `shutdown`, or the worker after the call;
* an end without close_notify, which somebody between us and the peer could have made, is no end-of-file but an error
  (ConnectionResetError); in a drain it is we who end the input, and then it is one.

One thread may read while another one writes, as with any socket.
"""

import errno
import os
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NoReturn

from paceline import clock
from paceline.wire.tls import Tls, TlsError, TlsSession
from paceline.worker.held import HeldSocket

MOVED_BYTES = 64 * 1024
"""So much is received at once, and so much sealed."""

RETIRE_S = 1.0
"""So long the end of a call waits for a thread of the handler's that is still sending."""

_KNOWN = socket.MSG_PEEK | socket.MSG_WAITALL | socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL


class SecureSocket(HeldSocket):
    """The connection of one whole-connection call, inside TLS."""

    __slots__ = ("_is_deaf", "_is_leaving", "_is_retired", "_plain", "_reading", "_sealed", "_sealing", "_secrecy",
                 "_writing")  # fmt: skip

    def __init__(
        self, secrecy: Tls, plain: bytes, is_leaving: Callable[[], bool], *arguments: Any, **options: Any
    ) -> None:
        """`plain`: what was decrypted already.  `is_leaving`: whether the worker does.  All else: see HeldSocket."""
        super().__init__(*arguments, **options)
        self._secrecy = secrecy  # guarded by _sealing
        self._plain = bytearray(plain)  # guarded by _reading
        self._sealed = b""  # guarded by _writing: sealed, and not sent yet
        self._is_leaving = is_leaving
        self._is_first = self._is_deaf = self._is_retired = False
        self._reading, self._writing, self._sealing = threading.Lock(), threading.Lock(), threading.Lock()

    @property
    def tls(self) -> TlsSession:
        return self._secrecy.session

    @property
    def unsent(self) -> bytes:
        return self._sealed

    def give_back(self) -> int:
        """The descriptor.  A thread of the handler's that still uses this socket finds it closed from now on."""
        has_all = self._writing.acquire(timeout=RETIRE_S)
        with self._sealing:
            self._is_retired = True
            if not has_all:  # it waits for a peer that does not read, and what it has sent of that nobody knows
                self._secrecy.is_ended = True
                self._sealed = b""
        if has_all:
            self._writing.release()
        return super().give_back()

    # Receiving

    def pending(self) -> int:
        """How many bytes have been decrypted and wait to be received."""
        return len(self._plain)

    def recv(self, bufsize: int, flags: int = 0, /) -> bytes:
        _require_known(flags)
        if bufsize < 0:
            raise ValueError("negative buffersize in recv")
        wanted = bufsize if flags & socket.MSG_WAITALL else min(bufsize, 1)
        with self._reading:
            plain = self._plain
            begun, before = clock.now(), len(plain)
            while len(plain) < wanted and self._receive_more(flags & socket.MSG_DONTWAIT):
                if len(plain) > before:
                    begun, before = clock.now(), len(plain)
                else:
                    self._require_in_time(begun)
            taken = bytes(plain[:bufsize])
            if not flags & socket.MSG_PEEK:
                del plain[:bufsize]
        return taken

    def recv_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> int:
        with memoryview(buffer) as view, view.cast("B") as room:
            if nbytes > len(room):
                raise ValueError("nbytes is greater than the length of the buffer")
            received = self.recv(nbytes or len(room), flags)
            room[: len(received)] = received
        return len(received)

    def recvfrom(self, bufsize: int, flags: int = 0, /) -> tuple[bytes, Any]:
        return self.recv(bufsize, flags), None

    def recvfrom_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> tuple[int, Any]:
        return self.recv_into(buffer, nbytes, flags), None

    def recvmsg(self, bufsize: int, ancbufsize: int = 0, flags: int = 0, /) -> Any:  # noqa: ARG002 - there is none
        return self.recv(bufsize, flags), [], 0, None

    def recvmsg_into(self, *_: Any) -> NoReturn:
        _refuse("recvmsg_into")

    def _receive_more(self, flags: int) -> bool:
        """Wait for something to decrypt.  False: the peer has said that nothing more comes."""
        secrecy = self._secrecy
        if secrecy.is_over:
            return False
        if secrecy.error is not None:
            self._give_up(secrecy.error)
        received = super().recv(MOVED_BYTES, flags)
        if not received:
            if self._is_deaf or self._is_leaving():
                return False
            self.ended_by = "peer"
            raise ConnectionResetError(
                errno.ECONNRESET, "the connection ended without the end of TLS (close_notify): it may have been cut"
            )
        with self._sealing:
            self._require_ours()
            self._plain += secrecy.open(received)
            is_odd = secrecy.is_odd
        # Else it goes along with what is being written.
        if (is_odd or self._sealed) and self._writing.acquire(blocking=False):
            try:
                with self._sealing:
                    self._sealed += secrecy.take_out()
                self._send_at_once()
            finally:
                self._writing.release()
        if secrecy.error is not None and not self._plain:
            self._give_up(secrecy.error)
        return True

    def _require_in_time(self, begun: float) -> None:
        """What comes in parts of a record does not prolong the time of one call.  Raises TimeoutError."""
        own_s = self.gettimeout()
        limit_s = self._receive_s if own_s is None else own_s
        if limit_s and clock.now() - begun >= limit_s:
            if own_s is None:
                self._time_out("it sent nothing whole (--idle-timeout)", limit_s)
            raise TimeoutError("timed out")

    # Sending

    def send(self, data: Any, flags: int = 0, /) -> int:
        """What is sealed counts as sent: when there is no room for all of it, the rest goes with the next call."""
        _require_known(flags)
        with memoryview(data) as view, view.cast("B") as content, self._writing:
            self._require_ours()
            self._send_sealed(flags)
            piece = bytes(content[:MOVED_BYTES])
            if piece:
                self._seal(piece)
                with suppress(BlockingIOError, TimeoutError):
                    self._send_sealed(flags)
                if self.ended_by == "timeout":
                    self.ended_by = ""  # it is the next call that has waited for too long, if there is one
            return len(piece)

    def sendall(self, data: Any, flags: int = 0, /) -> None:
        _require_known(flags)
        begun, own_s = clock.now(), self.gettimeout()
        with memoryview(data) as view, view.cast("B") as content, self._writing:
            self._require_ours()
            for at in range(0, len(content), MOVED_BYTES):
                self._send_sealed(flags)
                if own_s and clock.now() - begun >= own_s:
                    raise TimeoutError("timed out")
                self._seal(bytes(content[at : at + MOVED_BYTES]))
            self._send_sealed(flags)

    def sendto(self, *_: Any) -> NoReturn:
        raise OSError(errno.EISCONN, os.strerror(errno.EISCONN))

    def sendmsg(self, buffers: Any, ancillary: Any = (), flags: int = 0, address: Any = None, /) -> int:
        if ancillary or address is not None:
            _refuse("sendmsg with ancillary data or an address")
        return self.send(b"".join(bytes(part) for part in buffers), flags)

    def sendfile(self, file: Any, offset: int = 0, count: int | None = None) -> int:
        if self.gettimeout() == 0:
            raise ValueError("non-blocking sockets are not supported")
        if count is not None and count <= 0:
            raise ValueError(f"count must be a positive integer (got {count!r})")
        if offset:
            file.seek(offset)
        sent = 0
        while count is None or sent < count:
            piece = file.read(MOVED_BYTES if count is None else min(MOVED_BYTES, count - sent))
            if not piece:
                break
            self.sendall(piece)
            sent += len(piece)
        return sent

    def _seal(self, piece: bytes) -> None:
        with self._sealing:
            self._require_ours()
            if self._secrecy.is_ended:
                raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
            self._sealed += self._secrecy.seal(piece)
            error = self._secrecy.error
        if error is not None:
            self._give_up(error)

    def _send_sealed(self, flags: int) -> None:
        while self._sealed:
            sent = super().send(self._sealed, flags)
            self._sealed = self._sealed[sent:]

    def _send_at_once(self) -> None:
        with suppress(OSError):  # later, or never
            self._send_sealed(socket.MSG_DONTWAIT)

    # The end

    def shutdown(self, how: int, /) -> None:
        """As of a plain socket; what was sent before is sent first, within --write-timeout."""
        if how != socket.SHUT_RD and self._writing.acquire(blocking=False):  # else somebody is to be woken up
            try:
                self._seal_end()
                own_s = self.gettimeout()
                if own_s is not None:
                    self.settimeout(self._send_s)
                try:
                    self._send_sealed(0)
                finally:
                    if own_s is not None:
                        self.settimeout(own_s)
            finally:
                self._writing.release()
        if how != socket.SHUT_WR:
            self._is_deaf = True  # before whoever waits for the peer sees an end that is not the peer's
        super().shutdown(how)

    def _real_close(self) -> None:
        if self.fileno() >= 0 and self._writing.acquire(blocking=False):
            try:
                self._seal_end()
                self._send_at_once()
                if self._sealed:  # the worker sends the rest, and then our end
                    self._let_go()
            finally:
                self._writing.release()
        super()._real_close()

    def _seal_end(self) -> None:
        with self._sealing:
            if not (self._is_retired or self._secrecy.is_ended):
                self._sealed += self._secrecy.end()

    def _give_up(self, error: TlsError) -> NoReturn:
        self.ended_by = "peer"
        raise ConnectionAbortedError(errno.ECONNABORTED, str(error))

    def _require_ours(self) -> None:
        if self._is_retired or self.fileno() < 0:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))

    def detach(self) -> NoReturn:
        """Raises OSError: nobody could go on with the descriptor alone."""
        _refuse("detach")

    def dup(self) -> NoReturn:
        _refuse("dup")

    # As ssl.SSLSocket has it

    def version(self) -> str | None:
        return self.tls.version or None

    def cipher(self) -> tuple[str, str, int] | None:
        return self._secrecy.cipher

    def selected_alpn_protocol(self) -> str | None:
        return self.tls.alpn

    def getpeercert(self, binary_form: bool = False) -> Any:
        return self.tls.peer_certificate_der if binary_form else self.tls.peer_certificate or {}


def _require_known(flags: int) -> None:
    if flags & ~_KNOWN:
        raise ValueError(f"flags {flags:#x} make no sense inside TLS: MSG_PEEK, MSG_WAITALL and MSG_DONTWAIT do")


def _refuse(what: str) -> NoReturn:
    raise OSError(errno.EOPNOTSUPP, f"{what} makes no sense inside TLS")
