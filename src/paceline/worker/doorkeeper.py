"""The one who asks who is coming, where a setting wants to know: --allow, --deny, and the limits on connections.

A worker without such a setting has none, and accepting costs what it does without.  What is decided stands in
admission.py.  The address of a fresh connection comes with accept(2), so that asking costs no system call; of one that
a sibling gave us the kernel is asked, if it has to be counted.  Of a proxy's connection (--proxy-protocol) nobody
asks here; for whom it connects is judged when it has said so (naming.py).

`wait_s`, `lets_in`, `takes` and `spend` are the leader's, for fresh connections, and the watcher's, for those that it
has accepted while nobody led (shedding.py); `takes` and `counts` the watcher's, for those from the inbox; `takes_named`
its owner's; `left` is called by whoever ends or gives away a connection (tables.py).  The lock is a leaf.  Between
`wait_s` and `spend` the watcher may let one in: that one the others wait for afterwards.
"""

import threading
from collections.abc import Callable

from paceline.host import streams
from paceline.host.output import Log
from paceline.networks import UNIX, Networks, of_text, site_of, text_of_site
from paceline.settings import Settings
from paceline.worker.admission import Bucket, Census, Refusal, Rules


class Doorkeeper:
    """That of one worker."""

    def __init__(self, settings: Settings, log: Log, count: Callable[[str], None], now: float) -> None:
        has_rules = settings.allow is not None or settings.deny is not None
        limit, rate = settings.max_connections_per_address, settings.max_connection_rate
        self.proxies = Networks.of(settings.proxy_protocol)
        self.rules = Rules(settings.allow, settings.deny) if has_rules else None
        self.census = None if limit is None else Census(limit)  # guarded by lock
        self.bucket = None if rate is None else Bucket(rate, now)  # guarded by lock
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
        if self.bucket is None:
            return 0.0
        with self.lock:
            return self.bucket.wait_s(now)

    def spend(self) -> None:
        """One was let in, here or at a sibling's."""
        if self.bucket is not None:
            with self.lock:
                self.bucket.spend()

    def lets_in(self, fd: int, address: streams.Peer) -> bool:
        """By the networks.  False: the connection is reset and its descriptor given back."""
        if self.rules is None:
            return True
        if why := self.rules.why_not(number_of(address)):
            self._refuse(streams.text_of(address) or streams.peer_text(fd), Refusal.NETWORK, why)
            streams.abort(fd)
        return not why

    def takes(self, fd: int, address: streams.Peer) -> bool:
        """By the number of those that are here, with which it is counted.  False: as above."""
        if why := self._crowd(fd, number_of(address)):
            self._refuse(streams.text_of(address), Refusal.CROWD, why)
            streams.abort(fd)
        return not why

    def takes_named(self, fd: int, peer: str) -> bool:
        """The one for whom a proxy has connected, by both.  False: it is said and counted; its end is the caller's."""
        number = of_text(peer)
        why, refusal = self.rules.why_not(number) if self.rules is not None else "", Refusal.NETWORK
        if not why:
            why, refusal = self._crowd(fd, number), Refusal.CROWD
        if why:
            self._refuse(peer, refusal, why)
        return not why

    def counts(self, fd: int, peer: str) -> None:
        """One that was let in by another worker, maybe long ago; `peer`: as it was noted, if it was."""
        number = number_of(streams.peer_address(fd))
        if number in self.proxies:
            named = of_text(peer) if peer else number
            number = UNIX if named == number else named
        if self.census is not None and (place := site_of(number)):
            with self.lock:
                self.census.add(fd, place)

    def left(self, fd: int) -> None:
        """It is not on our books any more.  Before its descriptor is closed."""
        if self.census is not None:
            with self.lock:
                self.census.remove(fd)

    def _crowd(self, fd: int, number: int) -> str:
        """Count it; or why it may not stay."""
        if self.census is None or not (place := site_of(number)):
            return ""
        with self.lock:
            if self.census.try_add(fd, place):
                return ""
            there = self.census.count(place)
        return f"{there} from {text_of_site(place)} are open here, the limit of --max-connections-per-address"

    def _refuse(self, peer: str, refusal: Refusal, why: str) -> None:
        self.count("refused")
        self.count(refusal.value)
        self.log.say("peer-refused", peer=peer, why=why)


def number_of(address: streams.Peer) -> int:
    """An address as networks.py has it; of nobody whom the kernel knows, and of a Unix socket: `UNIX`."""
    return UNIX if address is None else streams.number_of(address)
