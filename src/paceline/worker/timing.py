"""The limits of time of one worker's connections: the watcher finds out who is late, a serving thread judges.

The watcher calls `look`; closing is left to a serving thread, because that may call the handler.  `expired` is called
by the thread that owns the connection, after it has looked at what arrived meanwhile (serving.py).  `Connection.watch`
is written by the watcher only.
"""

from paceline.worker import deadlines
from paceline.worker.connection import Connection
from paceline.worker.lifecycle import State
from paceline.worker.tables import EXPIRED
from paceline.worker.worker import Worker


class Timing:
    """Who has waited for whom, and since when."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        settings = worker.settings
        self.limits = deadlines.Limits(
            first_byte_s=settings.first_byte_timeout,
            message_s=settings.message_timeout,
            min_rate=settings.min_rate,
            write_s=settings.write_timeout,
            idle_s=settings.idle_timeout,
            header_s=settings.proxy_timeout,
            handshake_s=settings.handshake_timeout,
            kept_bytes=settings.max_buffered,
        )
        self.crowding: dict[int, Connection] = {}
        """Those that are to go because too much is kept for all together; written by the watcher, as a whole."""
        self.looked_at = 0.0
        """When the watcher last looked; written by the watcher."""
        self.is_led = True
        """Somebody led then; the watcher's."""

    def look(self, now: float) -> None:
        """Find the connections whose time is up.

        While it is our turn the peer's clock stands: it starts anew when the connection is seen waiting for the peer.
        (Not where a time is given in all: a little now and then must not prolong it.  But while all threads are in
        calls it stands for those, too: nobody does our part.)
        """
        worker = self.worker
        tables = worker.tables
        was_led, self.is_led = self.is_led, worker.crew.roles.leader is not None
        stood = 0.0 if was_led and self.is_led else now - self.looked_at  # since some moment in between
        self.looked_at = now
        found: list[tuple[int, int]] = []
        kept = 0
        for fd, c in tables.timed.copy().items():  # one step; an iteration could meet a change
            owes = c.owes
            kept += c.kept_bytes
            if tables.open.get(fd) is not c or (owes is deadlines.Owes.NOTHING and not worker.times_all):
                c.watch = None
                self._stop(fd)
            elif owes not in deadlines.IN_ALL and fd not in tables.parked:
                continue  # in a call, after which its progress is another; or a byte is read, which buys no time
            elif owes not in deadlines.IN_ALL and c.out is None and (c.phase is State.FRESH or has_work(c)):
                c.watch = None
            else:
                c.watch = deadlines.look(c.watch, owes, c.progress, c.received, now)
                if stood and owes in deadlines.IN_ALL:
                    c.watch = deadlines.later(c.watch, stood, now)
                due = deadlines.due_at(c.watch, c.received, self.limits)
                if due is not None and due <= now:
                    found.append((fd, EXPIRED))
        found += self._find_crowding(kept)
        if found:
            queued = set(tables.ready)  # of earlier looks, while nobody led
            tables.ready.extend(entry for entry in found if entry not in queued)
            worker.wakeup.wake()

    def _find_crowding(self, kept: int) -> list[tuple[int, int]]:
        """Those for whom the most is kept, until what is kept for the others is not too much."""
        most = self.limits.kept_bytes
        crowding: dict[int, Connection] = {}
        if most is not None and kept > most:
            tables = self.worker.tables
            sizes = [(c.kept_bytes, fd, c) for fd, c in tables.timed.copy().items() if tables.parked.get(fd) is c]
            for size, fd, c in sorted(sizes, key=lambda each: each[0], reverse=True):
                if kept <= most or not size:
                    break
                kept -= size
                crowding[fd] = c
        self.crowding = crowding
        return [(fd, EXPIRED) for fd in crowding]

    def _stop(self, fd: int) -> None:
        """It owes nothing, or is closed; unless its owner has just noted the contrary."""
        tables = self.worker.tables
        tables.timed.pop(fd, None)
        c = tables.open.get(fd)
        if c is not None and (self.worker.times_all or c.owes is not deadlines.Owes.NOTHING):
            tables.timed[fd] = c

    def expired(self, c: Connection) -> deadlines.Watch | None:
        """The deadline that the watcher saw passing, if it is still passed; or that it is to go for its size."""
        if self.crowding.get(c.fd) is c and c.kept_bytes:
            return deadlines.Watch(deadlines.Owes.ROOM, c.progress, self.looked_at, c.received)
        watch = c.watch  # once: the watcher may forget it at any moment
        if watch is None or c.is_closed or watch.owes != c.owes or watch.progress != c.progress:
            return None
        due = deadlines.due_at(watch, c.received, self.limits)
        return watch if due is not None and due <= self.looked_at else None


def has_work(c: Connection) -> bool:
    """Something has arrived, or is to be replied, that nobody but us keeps waiting."""
    return bool(c.queue) or c.source is not None or c.uncut is not None or c.pushed is not None
