"""Who is let in, and how many: the networks, the places, the rate.  Pure; doorkeeper.py asks it, and acts.

An address is a number, as networks.py has it.  Everything here speaks of one worker alone.
"""

from enum import Enum

from paceline.networks import Networks


class Refusal(Enum):
    """Why somebody is not let in; the value is the cell of the scoreboard that counts it."""

    NETWORK = "refused_network"
    CROWD = "refused_crowd"


class Rules:
    """The networks that may connect, and those that may not; None: nothing was said of any."""

    __slots__ = ("allowed", "denied")

    def __init__(self, allow: tuple[str, ...] | None, deny: tuple[str, ...] | None) -> None:
        """Raises SettingError for what is no network."""
        self.allowed = None if allow is None else Networks.of(allow)
        self.denied = None if deny is None else Networks.of(deny)

    def why_not(self, address: int) -> str:
        """Why who has this address may not connect; empty: they may.  Denied wins over allowed."""
        if self.denied is not None and address in self.denied:
            return "the network is one of those of --deny"
        if self.allowed is not None and address not in self.allowed:
            return "the network is none of those of --allow"
        return ""


class Census:
    """Open connections by place.  It knows only places that have one, so that it is never larger than they are many.

    Whoever calls holds a lock: any thread may.
    """

    __slots__ = ("_counts", "_places", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._counts: dict[int, int] = {}
        self._places: dict[int, int] = {}  # by descriptor, of those that are counted

    def try_add(self, fd: int, place: int) -> bool:
        """One more at this place.  False: there are as many as may be; it is not counted."""
        if self._counts.get(place, 0) >= self.limit:
            return False
        self.add(fd, place)
        return True

    def add(self, fd: int, place: int) -> None:
        """The same for one that was let in elsewhere, and is counted in any case."""
        self.remove(fd)
        self._places[fd] = place
        self._counts[place] = self._counts.get(place, 0) + 1

    def remove(self, fd: int) -> None:
        """It is not here any more; nothing happens if it was not counted."""
        place = self._places.pop(fd, None)
        if place is None:
            return
        left = self._counts[place] - 1
        if left:
            self._counts[place] = left
        else:
            del self._counts[place]

    def count(self, place: int) -> int:
        """How many there are."""
        return self._counts.get(place, 0)

    def __len__(self) -> int:
        """At how many places there is one."""
        return len(self._counts)


class Bucket:
    """Tokens, one for each that is let in: `rate` new ones a second, and never more than come in `ROOM_S`.

    So within t seconds at most `room + rate × t` are let in.
    """

    __slots__ = ("at", "rate", "room", "tokens")

    ROOM_S = 0.1

    def __init__(self, rate: float, now: float) -> None:
        self.rate = rate
        self.room = max(1.0, rate * self.ROOM_S)
        self.tokens = self.room
        self.at = now

    def wait_s(self, now: float) -> float:
        """How long until there is a token; 0: there is one."""
        if now > self.at:
            self.tokens = min(self.room, self.tokens + (now - self.at) * self.rate)
            self.at = now
        return 0.0 if self.tokens >= 1.0 else (1.0 - self.tokens) / self.rate

    def spend(self) -> None:
        """One is let in."""
        self.tokens -= 1.0
