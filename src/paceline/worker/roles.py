"""Who leads, who is next.  Pure: it decides, crew.py wakes and makes threads.

One member of the crew leads: it polls and runs what it finds.  Followers wait, last in, first out, so that the warmest
stack is used and the others grow old and retire.  A member that stopped leading because it is in a call is *out*.  One
that is being made is *hired*: its thread starts, and the user's `thread_start` runs, before it can lead, so that a slow
start never keeps the lead.  When all are out nobody leads: the worker is saturated, and whoever comes back first leads.
While `may_hire` is false (the last thread could not be made) the crew makes do with the members it has.

Called under the crew's lock, except `leader`, which the leader itself compares with itself after every call: a plain
load of one reference, written only under the lock.

Every outcome is counted: `eager` (before a call that will block), `watched` (the watcher found the leader inside a long
call), `reclaimed` (who came back found nobody leading), `starved` (nobody was left to promote).
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Generic, TypeVar

M = TypeVar("M")


class Why(IntEnum):
    """Why somebody else has to lead."""

    EAGER = 0
    WATCHED = 1


@dataclass(slots=True)
class Roles(Generic[M]):
    """The roles of one crew.  `limit` members at the most; `make` gives the member for a free index."""

    limit: int
    make: Callable[[int], M]
    leader: M | None = None
    followers: list[M] = field(default_factory=list)
    out: set[M] = field(default_factory=set)
    hired: set[M] = field(default_factory=set)
    vacant: list[int] = field(default_factory=list)
    """Free indices, the smallest last."""
    may_hire: bool = True
    leads: int = 0
    """How often somebody got the lead: unchanged while nobody leads."""
    eager: int = 0
    watched: int = 0
    reclaimed: int = 0
    starved: int = 0

    def __post_init__(self) -> None:
        self.vacant.extend(range(self.limit - 1, -1, -1))

    @property
    def members(self) -> int:
        """How many there are, whatever they do."""
        return (self.leader is not None) + len(self.followers) + len(self.out) + len(self.hired)

    @property
    def is_saturated(self) -> bool:
        """Everybody is inside a call, and nobody else can be made."""
        return self.leader is None and not (self.followers or self.hired or (self.vacant and self.may_hire))

    def hire(self) -> M | None:
        """A new member, whose thread is to be started; None when there is no vacancy, or none may be made now."""
        if not (self.vacant and self.may_hire):
            return None
        member = self.make(self.vacant.pop())
        self.hired.add(member)
        return member

    def promote(self, leader: M, why: Why) -> tuple[M | None, bool]:
        """`leader` is in a call, or about to be: somebody else leads.  (whom to wake or start, must it be started?)

        A follower leads from this moment.  Without one a member is hired, one at a time: it leads when it has started,
        unless somebody came back earlier.  Names nobody when `leader` lost the lead already, and changes nothing then.
        """
        if self.leader is not leader:
            return None, False
        self.out.add(leader)
        self.leader = None
        chosen: M | None = None
        new = False
        if self.followers:
            chosen = self.leader = self.followers.pop()
            self.leads += 1
        elif not self.hired:
            chosen, new = self.hire(), True
            if chosen is None:
                self.starved += 1
                return None, False
        if why is Why.EAGER:
            self.eager += 1
        else:
            self.watched += 1
        return chosen, new

    def appoint(self) -> M | None:
        """Nobody leads, though a follower could, because a leader's thread has ended: the one to wake, which leads."""
        if self.leader is not None or not self.followers:
            return None
        self.leader = self.followers.pop()
        self.leads += 1
        return self.leader

    def come_back(self, member: M) -> bool:
        """A member is back from its call, or has started.  True: nobody leads, so it does.  False: it follows."""
        if self.leader is member:
            return True
        if member in self.hired:
            self.hired.discard(member)
        else:
            self.out.discard(member)
            self.reclaimed += self.leader is None
        if self.leader is None:
            self.leader = member
            self.leads += 1
            return True
        self.followers.append(member)
        return False

    def retire(self, member: M) -> bool:
        """A follower has waited long enough.  False: it was chosen to lead in the same moment, and must."""
        if member not in self.followers:
            return False
        self.followers.remove(member)
        self.out.add(member)
        return True

    def dissolve(self) -> list[M]:
        """Nobody leads or follows any more, all are out; those that waited, to be woken."""
        waiting, self.followers = self.followers, []
        self.out.update(waiting)
        if self.leader is not None:
            self.out.add(self.leader)
            self.leader = None
        return waiting

    def leave(self, member: M, index: int) -> None:
        """A member's thread is ending (or could not be made); its index is free again."""
        self.out.discard(member)
        self.hired.discard(member)
        if self.leader is member:
            self.leader = None
        if member in self.followers:
            self.followers.remove(member)
        self.vacant.append(index)
        self.vacant.sort(reverse=True)
