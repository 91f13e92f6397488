"""A conversation with a supervisor over its control socket (supervisor/requests.py says what can be asked).

It blocks, for a bounded time where one is given.  Before anything is asked, the other side is greeted: one that is
stopped, or is no server of Paceline, shall not be waited for.
"""

import contextlib
import json
import select
from collections.abc import Iterator, Mapping
from typing import Self

from paceline import clock
from paceline.ctl.finding import NoServerError, Server, connected
from paceline.errors import PacelineError, PeerError
from paceline.host import processes, strangers

GREETING_S = 5.0
"""How long a server may take to answer at all."""
VERSION = 1
"""Of what is spoken."""
_MOST_BYTES = 64 * 1024 * 1024
_PIECE_BYTES = 256 * 1024

Answer = Mapping[str, object]
"""version, ok, is_last, text, detail, and what the command answers besides."""


class BrokenOffError(PeerError):
    """The server hung up before its last answer, or what it says is none."""


class DeclinedError(NoServerError):
    """It answers, and does not want to talk."""


class TooLateError(PacelineError):
    """What was asked goes on, and nobody waits for it any more."""


class Conversation:
    """A connection on which one thing is asked at a time.  Closed with `close`, or at the end of `with`."""

    def __init__(self, server: Server, patience_s: float | None = None) -> None:
        """Raises NoServerError when nobody answers: within GREETING_S, or `patience_s` if that is less.

        Raises BrokenOffError when it hangs up, or is no server of Paceline.
        """
        assert server.control is not None
        self.server = server
        self._kept = bytearray()
        self._connection = connected(server.control)
        self._watched: int | None = None
        """Readable when the server's process has ended."""
        try:
            self.greeting = self._greet(GREETING_S if patience_s is None else min(patience_s, GREETING_S))
            self._watched = strangers.watch(server.pid) if server.pid else None
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def is_foreign(self) -> bool:
        """It speaks another version than ours."""
        return self.greeting.get("version") != VERSION

    def close(self) -> None:
        self._connection.close()
        if self._watched is not None:
            strangers.close(self._watched)
            self._watched = None

    def ask(self, request: Mapping[str, object], until: float | None = None) -> Iterator[Answer]:
        """The answers, as they come; the last one has `is_last`.

        Raises TooLateError at `until` (clock.now), BrokenOffError.
        """
        self._say(request)
        while True:
            answer = self._hear(until)
            yield answer
            if answer.get("is_last", True):
                return

    def wait_for_end(self, until: float | None = None) -> None:
        """Wait until the server is gone.  Raises TooLateError at `until`.

        It is gone when its process is; where that cannot be seen (another process namespace), when it hangs up, which
        is the last thing it does.
        """
        poll = select.poll()
        poll.register(self._connection if self._watched is None else self._watched, select.POLLIN)
        while True:
            left_s = None if until is None else until - clock.now()
            if left_s is not None and left_s <= 0:
                raise TooLateError("the server stops, and is not gone yet; stop --now does not wait for its calls")
            ready = poll.poll(None if left_s is None else left_s * 1000)
            if ready and (self._watched is not None or self._is_hung_up()):
                return

    def _greet(self, wait_s: float) -> Answer:
        until = clock.now() + wait_s
        try:
            self._say({"do": "ping"})
            answer = self._hear(until)
        except TooLateError:
            raise NoServerError(self._why_silent(wait_s)) from None
        if not answer.get("ok", False):
            raise DeclinedError(f"the server does not talk to us: {answer.get('text', '')}")
        return answer

    def _why_silent(self, wait_s: float) -> str:
        pid, works = self.server.pid, "paceline ctl status and health need no answer"
        if pid and processes.run_state(pid) in ("T", "t"):
            return (
                f"the server (pid {pid}) is stopped, by SIGSTOP or a debugger, and answers nobody; kill -CONT {pid} "
                f"lets it go on; {works}"
            )
        return f"the server (pid {pid}) does not answer within {wait_s:g} s; {works}"

    def _say(self, request: Mapping[str, object]) -> None:
        self._connection.settimeout(GREETING_S)
        with contextlib.suppress(OSError):  # it has hung up; why, it may have said before
            self._connection.sendall(json.dumps(request).encode() + b"\n")

    def _hear(self, until: float | None) -> Answer:
        while b"\n" not in self._kept:
            if len(self._kept) > _MOST_BYTES:
                raise self._not_ours("an answer without an end")
            left_s = None if until is None else until - clock.now()
            if left_s is not None and left_s <= 0:
                raise TooLateError("it goes on, but the time to wait for it is up; paceline ctl status shows what is")
            self._connection.settimeout(left_s)
            try:
                piece = self._connection.recv(_PIECE_BYTES)
            except TimeoutError:
                continue
            except OSError as error:
                raise self._broken_off() from error
            if not piece:
                raise self._broken_off()
            self._kept += piece
        line, _, rest = bytes(self._kept).partition(b"\n")
        self._kept = bytearray(rest)
        try:
            answer = json.loads(line)
        except (ValueError, RecursionError):
            raise self._not_ours("what it says is no JSON") from None
        if not isinstance(answer, dict) or not isinstance(answer.get("text"), str):
            raise self._not_ours("what it says is no answer")
        return answer

    def _is_hung_up(self) -> bool:
        self._connection.settimeout(0)
        try:
            return not self._connection.recv(_PIECE_BYTES)
        except BlockingIOError:
            return False
        except OSError:
            return True

    def _broken_off(self) -> BrokenOffError:
        return BrokenOffError("the server has hung up before its last answer: it has ended, or was killed")

    def _not_ours(self, what: str) -> BrokenOffError:
        return BrokenOffError(
            f"{self.server.control}: {what}, so this is no server of Paceline; give another --control"
        )


def is_answering(server: Server, wait_s: float) -> bool:
    """Whether the supervisor says anything at its control socket within the time."""
    try:
        Conversation(server, wait_s).close()
    except DeclinedError:
        return True
    except (NoServerError, BrokenOffError):
        return False
    return True
