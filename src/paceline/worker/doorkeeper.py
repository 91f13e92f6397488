"""The one who asks who is coming, where a setting wants to know: --allow, --deny, and the limits on connections.

A worker without such a setting has none, and accepting costs what it does without.  What is decided stands in
admission.py.  The address of a fresh connection comes with accept(2), so that asking costs no system call; of one that
a sibling gave us the kernel is asked, if it has to be counted.

`wait_s`, `lets_in`, `takes` and `spend` are the leader's, for fresh connections; `takes` and `counts` the watcher's,
for those from the inbox; `left` is called by whoever ends or gives away a connection (tables.py).  The lock is a leaf.
"""

import threading
from collections.abc import Callable

from paceline.host import streams
from paceline.host.output import Log
from paceline.networks import UNIX, site_of, text_of_site
from paceline.settings import Settings
from paceline.worker.admission import Bucket, Census, Refusal, Rules


class Doorkeeper:
    """That of one worker."""

    def __init__(self, settings: Settings, log: Log, count: Callable[[str], None], now: float) -> None:
        has_rules = settings.allow is not None or settings.deny is not None
        limit, rate = settings.max_connections_per_address, settings.max_connection_rate
        self.rules = Rules(settings.allow, settings.deny) if has_rules else None
        self.census = None if limit is None else Census(limit)  # guarded by lock
        self.bucket = None if rate is None else Bucket(rate, now)  # the leader's
        self.log = log
        self.count = count
        self.lock = threading.Lock()

    @classmethod
    def hired(cls, settings: Settings, log: Log, count: Callable[[str], None], now: float) -> "Doorkeeper | None":
        """One, if any setting has something for it to do."""
        keeper = cls(settings, log, count, now)
        return keeper if keeper.rules or keeper.counts_places or keeper.bucket else None

    @property
    def counts_places(self) -> bool:
        return self.census is not None

    def wait_s(self, now: float) -> float:
        """How long nobody may be let in; 0: somebody may."""
        return 0.0 if self.bucket is None else self.bucket.wait_s(now)

    def spend(self) -> None:
        """One was let in, here or at a sibling's."""
        if self.bucket is not None:
            self.bucket.spend()

    def lets_in(self, fd: int, address: streams.Peer) -> bool:
        """By the networks.  False: the connection is reset and its descriptor given back."""
        if self.rules is None or not (why := self.rules.why_not(number_of(address))):
            return True
        self._turn_away(fd, address, Refusal.NETWORK, why)
        return False

    def takes(self, fd: int, address: streams.Peer) -> bool:
        """By the number of those that are here, with which it is counted.  False: as above."""
        if self.census is None or not (place := site_of(number_of(address))):
            return True
        with self.lock:
            if self.census.try_add(fd, place):
                return True
            there = self.census.count(place)
        why = f"{there} from {text_of_site(place)} are open here, the limit of --max-connections-per-address"
        self._turn_away(fd, address, Refusal.CROWD, why)
        return False

    def counts(self, fd: int, address: streams.Peer) -> None:
        """One that was let in by another worker, maybe long ago."""
        if self.census is not None and (place := site_of(number_of(address))):
            with self.lock:
                self.census.add(fd, place)

    def left(self, fd: int) -> None:
        """It is not on our books any more.  Before its descriptor is closed."""
        if self.census is not None:
            with self.lock:
                self.census.remove(fd)

    def _turn_away(self, fd: int, address: streams.Peer, refusal: Refusal, why: str) -> None:
        self.count("refused")
        self.count(refusal.value)
        self.log.say("peer-refused", peer=streams.text_of(address) or streams.peer_text(fd), why=why)
        streams.abort(fd)


def number_of(address: streams.Peer) -> int:
    """An address as networks.py has it; of nobody whom the kernel knows, and of a Unix socket: `UNIX`."""
    return UNIX if address is None else streams.number_of(address)
