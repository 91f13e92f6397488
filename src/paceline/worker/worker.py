"""What the threads of one worker share: wired once in process.py, before the first thread exists.

Nothing is decided here.  Each attribute says who may write to it; all else about them stands where they come from.
"""

import threading
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from paceline import clock
from paceline.handlers import Handler
from paceline.host import streams
from paceline.host.output import Log
from paceline.host.poller import Poller
from paceline.host.wakeup import Wakeup
from paceline.networks import Networks
from paceline.scoreboard.fields import WORKER
from paceline.settings import Settings
from paceline.stats import histogram
from paceline.wire import Framing
from paceline.worker.crew import Crew, Member
from paceline.worker.doorkeeper import Doorkeeper, number_of
from paceline.worker.estimate import Estimate
from paceline.worker.gate import Gate
from paceline.worker.held import HeldTable
from paceline.worker.lifecycle import State
from paceline.worker.pushing import Pushing
from paceline.worker.tables import Tables

if TYPE_CHECKING:
    from paceline.host.certificates import Certificates


class Worker:
    """One worker, as its threads see it."""

    def __init__(
        self,
        *,
        settings: Settings,
        handler: Handler,
        framing: Framing,
        log: Log,
        words: "memoryview[int]",
        row: int,
        most_connections: int,
        listener_fds: tuple[int, ...],
        certificates: "Certificates | None" = None,
    ) -> None:
        self.settings = settings  # all of these: set once
        self.handler = handler
        self.framing = framing
        self.log = log
        self.words = words
        self.row = row
        self.most_connections = most_connections
        self.certificates = certificates
        """For TLS, which is spoken on TCP wherever there are some; None: nothing is encrypted."""
        self.holds = handler.holds
        """Calls are whole connections."""
        self.holds_at_once = self.holds and (settings.start or handler.marks.start or "accept") == "accept"
        self.proxies = Networks.of(settings.proxy_protocol)
        """From where connections begin with a header of the PROXY protocol."""
        self.greets = any(self.hook(name) is not None for name in ("connected", "arrived", "disconnected"))
        """Each connection passes through the user's hooks."""
        self.asks_for_peer = self.greets or handler.wants_connection
        """The handler may want to know who the peer is when that is gone."""
        self.times_all = settings.first_byte_timeout is not None or settings.idle_timeout is not None
        """Even a quiet connection has a deadline."""
        self._counts_lock = threading.Lock()
        self.doorkeeper = Doorkeeper.hired(settings, log, self.count, clock.now())
        """None: no setting asks who it is that connects."""
        self.tables = Tables(self.doorkeeper.left if self.doorkeeper and self.doorkeeper.counts_places else None)
        self.held = HeldTable()
        self.poller = Poller()
        self.wakeup = Wakeup()
        """Wakes whoever polls."""
        self.poller.add_wakeup(self.wakeup.fd)
        self.pushing = Pushing(self.tables, self.wakeup.wake, settings.max_buffer)
        self.gate = Gate(self.poller, listener_fds)
        self.estimate = Estimate()
        self.crew: Crew  # set once, by process.py, because its members run the loop that is made of this object
        self.rows_before: dict[int, tuple[int, int]] = {}
        """By thread row: calls and bytes of earlier occupants of the seat.  Set once each, before the thread begins."""
        self.samples: deque[tuple[int, int]] = deque(maxlen=4096)  # any thread appends, the watcher takes
        self.sample_due = True  # the watcher sets it, the leader takes it: measure a call
        self.wait_due = False  # the watcher sets it, the leader takes it: see how long a fresh connection has waited
        self.fresh_waited_s: float | None = None  # the leader's answer, which the watcher takes
        self.shed_after_s: float | None = None  # written by the watcher: what has waited longer is not served now
        self.watch_asleep = False  # set by the watcher, taken by the leader
        self.wake_watcher: Callable[[], None] = lambda: None  # set once, by the watcher
        self.leaving = False  # written by the watcher: a drain has begun
        self.draining = False  # written by the watcher: what is quiet is closed
        self.hands_over = False  # written by the watcher: what is quiet is not read any more, but given to a sibling
        self.unread: set[int] = set()  # any thread adds a connection that it left unread; the watcher sees to it
        self.stays: set[int] = set()  # written by the watcher: what cannot be given away, and is read as ever
        self.resume_accepting_at: float | None = (
            None  # written by the leader when accepting pauses, by the watcher after
        )
        self.forked = False
        """True only in a process that a handler forked: it must not go on as if it were us."""

    def count(self, cell: str, more: int = 1) -> None:
        """Add to a counter that several threads write to.  Not for the fast path: it takes a lock."""
        index = self.row + WORKER[cell]
        with self._counts_lock:
            self.words[index] += more

    def cell(self, cell: str) -> int:
        """What the worker's row has there."""
        return self.words[self.row + WORKER[cell]]

    def gauge(self, cell: str, value: int) -> None:
        """Store a value of the worker's row; the last writer wins."""
        self.words[self.row + WORKER[cell]] = value

    def sample(self, me: Member, took_ns: int, blocked_ns: int) -> None:
        """A call of `me` took so long, and waited so long for something else than a processor."""
        words = me.words
        histogram.record(words, me.histogram, took_ns)
        words[me.sampled] += 1
        self.samples.append((took_ns, blocked_ns))

    def on_forked_child(self) -> None:
        """In a process that a handler forked (os.register_at_fork): whatever it does, it serves nobody.

        Its copies of our descriptors would keep the epoll set reporting and the listeners open.  No lock may be taken
        here: another thread may have held it when the process was forked.
        """
        self.forked = self.pushing.forked = True
        self.crew.roles.leader = None  # a call that returns into our loop goes the slow way, which looks at `forked`
        self.poller.close()
        self.wakeup.close()

    def is_proxy(self, address: streams.Peer) -> bool:
        """Whether who connects from there says first for whom; None: by a Unix socket."""
        return bool(self.proxies) and number_of(address) in self.proxies

    @property
    def first_state(self) -> State:
        """Of a connection that nothing has been read of, by no proxy."""
        return State.FRESH if self.greets else State.OPEN

    def hook(self, name: str) -> Callable[..., Any] | None:
        return self.handler.hooks.get(name)
