"""How the parts of a worker are put together.  Called once, on the main thread; nothing moves before `start`."""

import sys
import threading
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from paceline.handlers import Handler
from paceline.host import descriptors, signal_stacks
from paceline.host.output import Log
from paceline.scoreboard.fields import THREAD
from paceline.wire import Framing
from paceline.worker.accepting import Accepting
from paceline.worker.calls import contained
from paceline.worker.connection import Connection
from paceline.worker.crew import Crew, Member
from paceline.worker.giving import Giving
from paceline.worker.loop import Loop, listener_event
from paceline.worker.plan import Plan
from paceline.worker.receiving import Receiving
from paceline.worker.requests import RequestCall
from paceline.worker.serving import Serving
from paceline.worker.watcher import Watcher
from paceline.worker.worker import Worker

if TYPE_CHECKING:
    from paceline.host.certificates import Certificates

MOST_CONNECTIONS = 10_000
OTHER_DESCRIPTORS = 64
"""Left for everything but connections: files of the user, databases, our own."""


class FirstThread:
    """Whether the first thread could start: without it there is no worker."""

    __slots__ = ("_is_told", "_is_up")

    def __init__(self) -> None:
        self._is_told = threading.Event()
        self._is_up = False  # set once, before _is_told

    def tell(self, is_up: bool) -> None:
        """A thread has run its `thread_start`; what the first one says stands."""
        if not self._is_told.is_set():
            self._is_up = is_up
            self._is_told.set()

    def wait(self) -> bool:
        self._is_told.wait()
        return self._is_up


@dataclass(slots=True)
class Parts:
    """One worker, assembled."""

    worker: Worker
    serving: Serving
    accepting: Accepting
    loop: Loop
    watcher: Watcher
    first: "FirstThread"

    def start(self) -> bool:
        """Make the first thread, which leads.  False: its `thread_start` raised, which was logged."""
        crew = self.worker.crew
        if not crew.start():
            raise RuntimeError("the first thread could not be started")
        return self.first.wait()


def assemble(
    plan: Plan,
    log: Log,
    handler: Handler,
    framing: Framing,
    signal_fd: int,
    certificates: "Certificates | None" = None,
) -> Parts:
    """Everything `plan` names, ready to start."""
    if certificates is not None:
        from paceline.host.certificates import hush_strange_names

        hush_strange_names()  # only now: the user's import may have set a hook of its own
    worker = _worker(plan, log, handler, framing, certificates)
    serving = Serving(worker)
    has_siblings = bool(plan.inboxes)
    giving = Giving(worker, plan.board, plan.inboxes, plan.seat, plan.generation) if has_siblings else None
    listeners = {listener.socket.fileno(): listener for listener in plan.listeners}
    accepting = Accepting(worker, listeners, giving)
    loop = Loop(worker, serving, accepting.accept, [listener_event(fd) for fd in listeners])
    first = FirstThread()
    worker.crew = _crew(plan, worker, loop, first)

    def enter(connection: Connection) -> None:
        if accepting.enter(connection):
            worker.wakeup.wake()

    inbox = plan.inboxes[plan.seat] if has_siblings else None
    receiving = Receiving(worker, inbox, plan.generation, enter, accepting.way_in) if inbox is not None else None
    watcher = Watcher(worker, serving, plan, receiving, giving, signal_fd, accepting.shedding)
    return Parts(worker, serving, accepting, loop, watcher, first)


def _worker(plan: Plan, log: Log, handler: Handler, framing: Framing, certificates: "Certificates | None") -> Worker:
    settings = plan.settings
    if handler.kind == "socketserver":
        handler = replace(handler, call=RequestCall(handler.call, plan.listeners[0].socket))
    room = max(1, descriptors.limit() - OTHER_DESCRIPTORS - len(plan.inboxes))
    most = min(MOST_CONNECTIONS, room) if settings.max_connections is None else settings.max_connections
    worker = Worker(
        settings=settings,
        handler=handler,
        framing=framing,
        log=log,
        words=plan.board.words,
        row=plan.board.layout.worker_index(plan.seat),
        most_connections=most,
        listener_fds=tuple(listener.socket.fileno() for listener in plan.listeners),
        certificates=certificates,
    )
    worker.gauge("connections_limit", most)
    worker.gauge("threads_limit", settings.threads)
    return worker


def _crew(plan: Plan, worker: Worker, loop: Loop, first: FirstThread) -> Crew:
    layout, words, seat = plan.board.layout, plan.board.words, plan.seat

    def make(index: int) -> Member:
        row = layout.thread_index(seat, index)
        worker.rows_before.setdefault(row, (words[row + THREAD["calls"]], words[row + THREAD["bytes_out"]]))
        return Member(index, words, row, layout.histogram_index(seat, index))

    def prepare(_member: Member) -> bool:
        signal_stacks.provide()
        prepared = contained(worker, "thread_start", worker.hook("thread_start"))
        if not prepared:
            worker.count("thread_failures")
        first.tell(prepared)
        return prepared

    def dismiss(_member: Member) -> None:
        contained(worker, "thread_stop", worker.hook("thread_stop"))
        sys.stdout.flush()  # the beginning of a line that this thread printed
        sys.stderr.flush()

    def on_refused(error: BaseException) -> None:
        worker.count("thread_failures")
        worker.log.say("thread-refused", error=error, threads=len(worker.crew.members))

    return Crew(plan.settings.threads, make, loop.lead, prepare=prepare, dismiss=dismiss, on_refused=on_refused)
