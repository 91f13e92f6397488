"""What a fault sees and may do: the server, its workers, clients of its own; and waiting, in which the run goes on.

Nobody here may wait by other means than `pause` and `wait_until`: meanwhile what the load process says is heard, the
log is read, the workers are looked at.  One thread.
"""

import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Self

from paceline.chaos.books import Books
from paceline.chaos.catalogue import TABLE
from paceline.chaos.crew import Crew
from paceline.chaos.judge import Wound
from paceline.chaos.plan import Plan
from paceline.chaos.rig import LATE_S, Post, Rig, wait_ended
from paceline.chaos.schedule import Step
from paceline.clock import now
from paceline.spoken import framing_of
from paceline.stats.histogram import Histogram
from paceline.wire import Broken as BrokenBytes

LOOK_S = 0.003
HALT_S = 30.0


class BrokenPromise(Exception):
    """A fault found that something is not as it must be; the text says what."""


class Interrupted(Exception):
    """Somebody wants the run to end, and what is going on would take long."""


class Caller:
    """A client of a fault's own.  Its calls wait, with a deadline; the load has its own clients."""

    def __init__(self, scene: "Scene", within_s: float = LATE_S) -> None:
        self._scene = scene
        self._framing = framing_of(scene.plan.framing, 1 << 24)
        self._rest: Any = None
        self._replies: list[bytes] = []
        self._is_over = False
        address = scene.rig.address
        try:
            self.socket = socket.create_connection((address.host, address.port), within_s)
        except OSError as error:
            raise BrokenPromise(f"nobody could connect: {error}") from None
        self.socket.setblocking(False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, *messages: bytes) -> None:
        """At once: they are short."""
        self.send_bytes(self._framing.join(messages))

    def send_bytes(self, piece: bytes) -> None:
        try:
            self.socket.send(piece)
        except OSError:
            self._is_over = True

    def try_reply(self) -> bytes | None:
        """The next reply, if it is there."""
        while not self._replies and not self._is_over:
            try:
                piece = self.socket.recv(1 << 18)
            except BlockingIOError:
                return None
            except OSError:
                piece = b""
            if not piece:
                self._is_over = True
                break
            messages, self._rest = self._framing.cut(self._rest, piece)
            self._replies += [bytes(message) for message in messages]
            if isinstance(self._rest, BrokenBytes):
                self._is_over = True
        return self._replies.pop(0) if self._replies else None

    def ask(self, message: bytes, within_s: float = LATE_S) -> bytes:
        """Raises BrokenPromise when there is no reply."""
        self.send(message)
        return self.wait_reply(within_s)

    def wait_reply(self, within_s: float = LATE_S) -> bytes:
        found: list[bytes] = []

        def look() -> bool:
            reply = self.try_reply()
            if reply is not None:
                found.append(reply)
            return bool(found) or self._is_over

        self._scene.wait_until(look, within_s, "a call was not answered")
        if not found:
            raise BrokenPromise("a connection was ended instead of answered")
        return found[0]

    def wait_over(self, within_s: float = LATE_S) -> None:
        """Until the server has ended the connection; what comes before is dropped."""

        def look() -> bool:
            while self.try_reply() is not None:
                pass
            return self._is_over

        self._scene.wait_until(look, within_s, "a connection was not ended")

    def shut(self) -> None:
        """We send no more."""
        self.socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Break off."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.socket.close()

    def who(self) -> tuple[int, int]:
        """Which process answers, and in which version: of the application in the box."""
        pid, version = self.ask(b"!who").split()
        return int(pid), int(version)


class Scene:
    """The run as faults see it.

    rig      the server; another one after a fault that ended it
    workers  how many there are to be
    """

    def __init__(self, plan: Plan, crew: Crew, books: Books, on_look: Callable[[], None]) -> None:
        self.plan, self.crew, self.books = plan, crew, books
        self._on_look = on_look
        self.began_s = now()
        self.progress: dict[str, int] = {"sent": 0, "answered": 0, "connected": 0}
        self.most_generations = 0
        self.result: dict[str, Any] | None = None
        self.interrupts: list[int] = []
        """Signals by which somebody has asked for the end of the run."""
        self.may_end = False
        """The server may end now: somebody has seen to that."""
        self._is_halted = False
        self._stretch: Histogram | None = None
        self.open_server()

    # The server

    def open_server(self, version: int = 1) -> None:
        """A new server, and the load goes there."""
        self.rig = Rig(self.plan, version)
        self.workers = self.plan.workers
        self._wait_first()
        self.rig.note_base()
        address = self.rig.address
        family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        places = [[int(family), [address.host, address.port]], [int(socket.AF_UNIX), self.rig.path]]
        self.crew.tell(places=places, server=self.rig.pid, folder=self.rig.folder)
        self.is_loaded = True

    def _wait_first(self) -> None:
        """It listens; its board says a moment later that all workers serve."""
        until_s = now() + LATE_S
        while len(self.rig.serving()) < self.workers and not self.rig.has_ended() and now() < until_s:
            self.rig.pause(LOOK_S)

    def halt(self) -> None:
        """All clients of the load hang up."""
        if self.is_loaded:
            self._is_halted = False
            self.crew.tell(halt=True)
            self.wait_until(lambda: self._is_halted, self.plan.patience_s + HALT_S, "the load process did not halt")
            self.is_loaded = False

    def stretch(self) -> Histogram:
        """How long the load has waited for each reply since the last time that this was asked."""
        self._stretch = None
        self.crew.tell(mark=True)
        self.wait_until(lambda: self._stretch is not None, LATE_S, "the load process did not say how long it waited")
        assert self._stretch is not None
        return self._stretch

    # Waiting

    def look(self, wait_s: float = 0.0) -> None:
        """Hear the load process, for so long at most; look at the log, and at the workers."""
        for message in self.crew.wait_heard(wait_s):
            if "progress" in message:
                self.progress = message["progress"]
            elif "result" in message:
                self.result = message["result"]
            elif "halted" in message:
                self._is_halted = True
            elif "stretch" in message:
                self._stretch = Histogram(message["stretch"])
            else:
                self.books.on_heard(message, self.began_s)
        self.rig.log.look()
        self._look_at_workers()
        self._on_look()

    def _look_at_workers(self) -> None:
        at_s, posts = now(), self.rig.posts()
        generations = {post.generation for post in posts}
        self.most_generations = max(self.most_generations, len(generations))
        self.books.on_here({post.pid for post in posts if post.state != "draining"}, at_s)

    def pause(self, seconds: float) -> None:
        until_s = now() + seconds
        while (left_s := until_s - now()) > 0:
            self.look(min(left_s, 0.02))

    def wait_until(self, check: Callable[[], object], within_s: float, what: str) -> float:
        """Wait until the check is true; gives how long that took.  Raises BrokenPromise when the time is up."""
        begun_s = now()
        while not check():
            if not self.may_end and self.rig.has_ended():
                raise BrokenPromise(f"{what}: the server has ended with {self.rig.exit_code}")
            if now() - begun_s > within_s:
                raise BrokenPromise(f"{what} within {within_s:g} s")
            self.look(LOOK_S)
        return now() - begun_s

    # Workers

    def choose(self, step_chance: Any, count: int = 1) -> list[Post]:
        """Some workers that serve.  Raises BrokenPromise when there are not so many in time."""
        self.wait_full()
        posts = self.rig.serving()
        chosen: list[Post] = step_chance.sample(posts, min(count, len(posts)))
        return chosen

    def wait_full(self, gone: Sequence[int] = (), within_s: float = LATE_S) -> None:
        """Until all workers serve, and none of those is among them."""

        def look() -> bool:
            posts = self.rig.serving()
            return len(posts) == self.workers and not any(post.pid in gone for post in posts)

        try:
            self.wait_until(look, within_s, f"{self.workers} workers did not serve")
        except BrokenPromise as broken:
            there = ", ".join(f"{post.pid} {post.state} (generation {post.generation})" for post in self.rig.posts())
            raise BrokenPromise(f"{broken}; there is {there or 'nobody'}") from None

    def wait_still(self, within_s: float = LATE_S) -> None:
        """Until all serve, of one generation, and nobody else is there."""

        def look() -> bool:
            posts = self.rig.posts()
            return len(posts) == self.workers == len(self.rig.serving())

        self.wait_until(look, within_s, f"there were not just {self.workers} workers")

    def wait_gone(self, pids: Sequence[int], within_s: float = LATE_S) -> None:
        """Until these processes have ended."""
        left = wait_ended(list(pids), within_s, self.look)
        if left:
            raise BrokenPromise(f"process {', '.join(map(str, left))} did not end within {within_s:g} s")

    @contextmanager
    def wounding(self, step: Step, pids: Sequence[int] = ()) -> Iterator[None]:
        """What is lost meanwhile, and by whom, is by this fault; what it may lose stands in its row.

        `pids` may grow until the end.
        """
        begun_s = now()
        row = TABLE[step.fault.name]
        self.books.wounds.append(Wound(row.name, step.number, row.loses, tuple(pids), begun_s, float("inf")))
        try:
            yield
        finally:
            self.books.wounds.pop()
            self.books.wounds.append(Wound(row.name, step.number, row.loses, tuple(pids), begun_s, now()))

    @contextmanager
    def callers(self, count: int) -> Iterator[list[Caller]]:
        """So many clients, gone at the end."""
        with ExitStack() as stack:
            yield [stack.enter_context(Caller(self)) for _ in range(count)]

    def stop_server_after(self, within_s: float) -> int:
        """It was asked for its end; the exit code."""
        self.wait_until(self.rig.has_ended, within_s, "the server did not end")
        assert self.rig.exit_code is not None
        return self.rig.exit_code
