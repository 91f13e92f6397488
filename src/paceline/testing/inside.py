"""A server in the process of the test: one worker, made of its usual parts, without a supervisor and without a fork.

The thread `paceline-watcher` is what the main thread is in a worker's process: it makes and starts the handler,
watches, drains, cleans up.  The process stays the test's: no signal handler, no wake-up descriptor, no timer that would
end it; the switch interval is put back with the last server; prints go where they always go.

A call that never ends is the one thing that cannot be undone here: a thread cannot be killed.  Its connection is cut,
its stack is told, and whatever it holds is given back when it does end.
"""

import os
import socket
import sys
import threading
import traceback
import weakref
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import Any, TypeVar

from paceline import clock
from paceline.addresses import parse_address
from paceline.errors import HostError, PacelineError, TargetError, UsageError
from paceline.handlers import Handler
from paceline.host.listeners import Listener, close_listener, open_listener
from paceline.host.outlet import Outlet
from paceline.host.output import Log
from paceline.host.rights import file_rights
from paceline.scoreboard.board import Board
from paceline.scoreboard.fields import WORKER, WorkerState
from paceline.supervisor.sentences import crew_text, span_text
from paceline.testing.server import Server, reachable
from paceline.testing.terms import Terms
from paceline.wire import Framing, as_framing
from paceline.worker import process
from paceline.worker.assembly import Parts, assemble
from paceline.worker.calls import contained
from paceline.worker.gate import Shut
from paceline.worker.messages import Drain, encode
from paceline.worker.plan import Plan
from paceline.worker.watcher import GRACE_S

_T = TypeVar("_T")

CUT_CODE = 4
FOR_EVER_S = 1e8


class KeptLog(Outlet):
    """An outlet into memory."""

    def __init__(self) -> None:
        super().__init__(None)
        self._kept = bytearray()  # guarded by lock

    def put_nowait(self, record: bytes, by: object = None, told: int = 0) -> bool:  # noqa: ARG002 - as in Outlet
        with self.lock:
            self._kept += record
        return True

    def read(self, at: int) -> bytes:
        with self.lock:
            return bytes(memoryview(self._kept)[at:])


class InsideServer(Server):
    """One worker on threads of this process."""

    def __init__(self, handler: object, terms: Terms) -> None:
        """Start it, and wait until it listens.  Raises as `running` says; then nothing is left, unless it is the
        handler's own construction or `start` that does not end: that goes on in its thread."""
        super().__init__(terms)
        self.handler = handler
        self.name = _name_of(handler)
        self.kept = KeptLog()
        self._plan: Plan | None = None  # set once, before _ready
        self._parts: Parts | None = None  # set once, before _ready
        self._spoken: Framing | None = None  # set once, before _ready
        self._wrong: BaseException | None = None  # set once, before _ready or _over
        self._result = 0  # set once, before _over
        self._ready, self._over = threading.Event(), threading.Event()
        self._asked = threading.Event()
        self._far, control = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._thread = threading.Thread(target=self._live, args=(control,), name="paceline-watcher", daemon=True)
        _running.add(self)
        try:
            self._thread.start()
        except RuntimeError as error:
            control.close()
            self._far.close()
            raise HostError(f"no thread can be made for the server: {error}") from error
        try:
            in_time = self._ready.wait(terms.start_timeout_s)
        except BaseException:
            self._abandon()
            raise
        if self._wrong is not None:
            self._abandon()
            raise self._told()
        if not in_time:
            stack = self._stacks([self._thread])
            self._abandon()
            raise HostError(
                f"{self.name} was not ready within {terms.start_timeout_s:g} s (start_timeout); its thread cannot be "
                f"killed and goes on:\n{stack}"
            )

    @property
    def pid(self) -> int:
        raise UsageError(
            f"{self.name} is served in the process of the test, which is no process to send signals to; a handler at "
            f"the top of a module, or a text, is served by processes"
        )

    def stop(self) -> int:
        self._ask()
        within_s = self.terms.stop_timeout_s
        if not self._over.wait(within_s):
            raise HostError(
                f"the server did not stop within {within_s:g} s (stop_timeout), and threads cannot be killed:\n"
                f"{self._stacks(self._threads() + [self._thread] * self._thread.is_alive())}"
            )
        if self._result != CUT_CODE:
            self._thread.join(within_s)
        if self._wrong is not None:
            raise self._told()
        return self._result

    # Its life, on its own thread

    def _live(self, control: socket.socket) -> None:
        try:
            with ExitStack() as stack:
                stack.callback(control.close)
                self._serve(control, stack)
        except BaseException as error:  # noqa: BLE001 - it is raised again on the thread of the test
            self._wrong = error
        finally:
            self._ready.set()
            self._over.set()

    def _serve(self, control: socket.socket, stack: ExitStack) -> None:
        settings = self.terms.settings
        log = Log("worker 0", settings.log_format, outlet=self.kept)
        front = stack.enter_context(ExitStack())  # what others see of it
        listeners: list[Listener] = []
        files = file_rights(settings.socket_mode, settings.socket_owner)
        for index, text in enumerate(settings.bind):
            listener = open_listener(parse_address(text), index, settings.backlog, settings.keepalive, files)
            front.callback(close_listener, listener)
            listeners.append(listener)
        board = Board.create(1, settings.threads)
        stack.callback(board.close)
        board.sit(0, pid=os.getpid(), slot=0, generation=1, now_ns=clock.now_ns())
        no_signals = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)  # nobody writes to it
        stack.callback(os.close, no_signals)
        self._plan = Plan.alone(settings, self.handler, listeners, board, control)
        certificates = process.certificates_of(settings, dict(os.environ))
        handler, self._spoken = self._load(self._plan)
        if "start" in handler.hooks:
            self._of_the_user(handler.hooks["start"])
        front.enter_context(_SwitchInterval(settings.switch_interval))
        self._parts = parts = assemble(self._plan, log, handler, self._spoken, no_signals, certificates)
        stack.callback(_give_back, parts)
        if not parts.start():
            raise TargetError(f"{self.name}.thread_start() raised; the log says what")
        parts.worker.gauge("state", WorkerState.READY)
        parts.worker.gate.open(Shut.STARTING)
        self.addresses = tuple(reachable(listener.text) for listener in listeners)
        crew = f"{crew_text(1, settings.threads)} in this process"
        is_encrypted = certificates is not None
        places = ", ".join(listener.spoken(is_encrypted=is_encrypted) for listener in listeners)
        addresses = ", ".join(self.addresses)
        log.say("listening", addresses=addresses, places=places, crew=crew, pid=os.getpid())
        began = clock.now()
        self._ready.set()
        self._leave(parts, log, parts.watcher.run(), front)
        log.say("stopped", uptime=span_text(clock.now() - began), calls=board.snapshot().calls)

    def _load(self, plan: Plan) -> tuple[Handler, Framing]:
        """The handler, built, and its framing."""
        given = self.terms.framing
        handler, framing = self._of_the_user(lambda: process.load(plan))
        if given is None:
            return handler, framing
        if handler.holds:
            raise TargetError(
                f"{self.name} is a {handler.kind} handler, which reads the bytes itself: a framing has no meaning for "
                f"it; leave it out, or serve a message handler"
            )
        return handler, as_framing(given, plan.settings.max_message)

    def _of_the_user(self, code: "Callable[[], _T]") -> "_T":
        """Run what may raise anything.  Raises TargetError for what it raises, but for our own errors."""
        try:
            return code()
        except PacelineError:
            raise
        except BaseException as error:
            what = f"{self.name} raised {type(error).__name__} when it was made or started"
            raise TargetError(f"{what}: {error}" if str(error) else what) from error

    def _leave(self, parts: Parts, log: Log, cut: int, front: ExitStack) -> None:
        """After the drain: the stop hooks.

        Whoever is still in a call then is waited for when all else is told, and keeps only what it may still touch:
        the poller, the board, its descriptors.
        """
        worker = parts.worker
        is_empty = parts.watcher.stop_threads(clock.now() + (0.0 if cut else GRACE_S))
        if is_empty:
            process.say_farewell(worker)
        if cut:
            log.say("cut", cut=cut, why=f"the drain time-out ({self.terms.settings.drain_timeout:g} s)")
        contained(worker, "stop", worker.hook("stop"))
        if cut or not is_empty:
            _cut_off(parts)
            front.close()
            self._result = CUT_CODE
            self._over.set()

    def _ask(self) -> None:
        self._asked.set()
        if not self._over.is_set():
            with suppress(OSError):  # it has ended
                self._far.send(encode(Drain(self.terms.settings.drain_timeout)))

    def _abandon(self) -> None:
        """It does not serve, or is not wanted: let it end when it can."""
        self._far.close()
        self._thread.join(self.terms.stop_timeout_s if self._ready.is_set() else GRACE_S)

    # What the base asks for

    def _logged(self, at: int) -> bytes:
        return self.kept.read(at)

    def _code(self) -> int | None:
        return self._result if self._over.is_set() else None

    def _is_asked(self) -> bool:
        return self._asked.is_set()

    def _is_over(self) -> bool:
        return not self._thread.is_alive()

    def _wait_until_over(self, timeout_s: float) -> None:
        self._thread.join(timeout_s)

    def _framing(self) -> object:
        return self._spoken

    def _give_back(self) -> None:
        self._far.close()

    def _why_not_clean(self, code: int) -> str:
        threads = self._threads()
        if not threads:
            return super()._why_not_clean(code)
        return (
            f"{super()._why_not_clean(code)}\nThreads cannot be killed; this is where those calls still are:\n"
            f"{self._stacks(threads)}"
        )

    def _threads(self) -> list[threading.Thread]:
        """Those that serve."""
        members = [] if self._parts is None else list(self._parts.worker.crew.members.values())
        return [member.thread for member in members if member.thread is not None]

    def _stacks(self, threads: list[threading.Thread]) -> str:
        frames = sys._current_frames()
        told = []
        for thread in threads:
            frame = frames.get(thread.ident or 0)
            lines = traceback.format_stack(frame) if frame is not None else ["  it has just ended\n"]
            told.append(f"Thread {thread.name}:\n{''.join(lines)}")
        return "".join(told)

    def _told(self) -> PacelineError:
        """What went wrong on its thread, to be raised on the test's."""
        error = self._wrong
        if not isinstance(error, PacelineError):
            bug = PacelineError(f"a bug in Paceline: {error!r}")
            bug.__cause__ = error
            error = bug
        self.annotate(error)
        return error

    def _on_forked_child(self) -> None:
        """In a process that the test or the handler has forked: it serves nobody, and nobody waits for it.

        Clients see the end of their connections although the child lives.  One that the handler has forked keeps them,
        as it does in a worker's process, for it may be about to serve one.
        """
        self._far.close()
        if self._parts is not None:
            self._parts.worker.on_forked_child()
            if threading.current_thread() not in self._threads():
                _let_go_of(list(self._parts.worker.tables.open))
        if self._plan is not None:
            self._plan.control.close()
            for listener in self._plan.listeners:
                listener.socket.close()


def _give_back(parts: Parts) -> None:
    """The threads, then what they used; in this order, for a number that is closed may be another's at once."""
    worker = parts.worker
    worker.crew.stop()
    worker.wakeup.wake()
    worker.crew.join(clock.now() + FOR_EVER_S, clock.now)
    for fd in list(worker.tables.open):
        os.close(fd)
    worker.words[worker.row + WORKER["state"]] = WorkerState.GONE
    worker.poller.close()
    worker.wakeup.close()
    parts.watcher.close()


def _cut_off(parts: Parts) -> None:
    """End the connections that calls still have; their descriptors are those calls' to close."""
    opened = parts.worker.tables.open
    for fd, connection in opened.copy().items():
        with suppress(OSError):
            copy = socket.socket(fileno=os.dup(fd))
            with copy:
                if opened.get(fd) is connection:  # off the books before it is closed: so the copy is of this one
                    copy.shutdown(socket.SHUT_RDWR)


def _let_go_of(fds: list[int]) -> None:
    """Make them nobody's connections.  The numbers stay taken: some object may close its own later."""
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for fd in fds:
        os.dup2(null, fd, inheritable=False)
    os.close(null)


def _name_of(handler: object) -> str:
    name: Any = getattr(handler, "__qualname__", type(handler).__qualname__)
    return name if isinstance(name, str) and name else repr(type(handler))


class _SwitchInterval:
    """sys.setswitchinterval while servers run here; the last one puts back what was there before the first."""

    _lock = threading.Lock()
    _before: float | None = None  # guarded by _lock
    _servers = 0  # guarded by _lock

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def __enter__(self) -> None:
        kind = _SwitchInterval
        with kind._lock:
            if not kind._servers:
                kind._before = sys.getswitchinterval()
            kind._servers += 1
            sys.setswitchinterval(self.seconds)

    def __exit__(self, *_: object) -> None:
        kind = _SwitchInterval
        with kind._lock:
            kind._servers -= 1
            if not kind._servers and kind._before is not None:
                sys.setswitchinterval(kind._before)


_running: "weakref.WeakSet[InsideServer]" = weakref.WeakSet()


def _let_go() -> None:
    for server in list(_running):
        server._on_forked_child()


os.register_at_fork(after_in_child=_let_go)
