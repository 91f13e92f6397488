"""What the watcher reports of calls: those that take too long, as soon as they do; and where every thread is, if asked.

Called by the watcher, on the worker's main thread.  It reads the threads' cells and their stacks from outside and takes
no lock of theirs, so it answers while all of them hang; only C code that keeps the GIL keeps it, too, from running.

A call that is late is reported once, by a line in the log with its stack.  The supervisor is told at once of each, and
of the longest again each second while it goes on: it replaces one worker after the other, and must not forget the last.
While it does not listen (it is stopped, perhaps) nothing is said twice.  The call itself goes on; nothing can end a
thread from outside.  If it ends after all, the log says so.
"""

import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from types import FrameType

from paceline.scoreboard.fields import ThreadState
from paceline.worker import messages, stacks
from paceline.worker.crew import Member
from paceline.worker.overdue import Marks, Overdue, limit_of
from paceline.worker.plan import Plan
from paceline.worker.telling import Telling
from paceline.worker.worker import Worker

PEER_PACE_S = 0.5
"""Between two looks while calls wait for their peers: one may come back, and nobody wakes the watcher for it."""

TELL_S = 1.0
"""Between two words to the supervisor about a call that is late."""

DUMP_CHARACTERS = 32 * 1024
"""The most of a dump: it must fit into one message.  Behind it only the headings follow, and then their number."""
MOST_STACKS = 256
"""Threads whose stacks are looked at for one dump."""

_CALLING, _SERVING, _STARTING, _PEER, _POLLING, _WAITING = (
    int(state)
    for state in (
        ThreadState.CALLING,
        ThreadState.SERVING,
        ThreadState.STARTING,
        ThreadState.PEER,
        ThreadState.POLLING,
        ThreadState.WAITING,
    )
)
_IN_CALLS = frozenset({_CALLING, _SERVING, _STARTING})


class Reports:
    """The calls of one worker, as the watcher sees them."""

    def __init__(self, worker: Worker, plan: Plan) -> None:
        self.worker = worker
        self.limit = limit_of(plan.settings, worker.handler)
        self.telling = Telling(plan.control)
        self.has_supervisor = plan.supervisor_pid > 0
        self.overdue: Overdue[Member] = Overdue(self.limit.seconds)
        self.next_at = 0.0
        self._peers: dict[Member, str] = {}
        """Of the calls that were reported and go on: for whom they are."""
        self._tell_at = 0.0
        self._within_s = 0.0
        """How soon the watcher must look again: the pace, while somebody is in a call."""

    def tick(self, now: float) -> None:
        """The watcher is awake: look, if it is time to."""
        self.telling.flush()
        if now >= self.next_at:
            self.look(now)

    def until(self, now: float, longest_s: float) -> float:
        """How long the watcher may sleep, at most `longest_s`."""
        return min(longest_s, max(0.0, self.next_at - now)) if self._within_s else longest_s

    def look(self, now: float) -> None:
        """Find who is late, and report it."""
        self.next_at = now + self.overdue.pace_s
        members = self._members()
        found = self.overdue.look(now, ((member, marks_of(member)) for member in members))
        self._within_s = self.overdue.pace_s if self.overdue.seen else 0.0
        if not self._within_s and any(member.words[member.state] == _PEER for member in members):
            self._within_s = PEER_PACE_S
            self.next_at = now + PEER_PACE_S
        for member, seconds in found.ended:
            self._peers.pop(member, None)
            self.worker.log.say("call-ended-late", thread=member.index, seconds=seconds)
        if found.late:
            self._report(found.late)
            self._tell_at = now + TELL_S
        if self._peers and now >= self._tell_at and not (self.worker.leaving or self.telling.is_behind):
            self._tell_at = now + TELL_S
            self._tell_longest()

    def late(self) -> set[Member]:
        """Those whose calls have become late and still go on, at this moment."""
        words = self.worker.words
        return {
            member
            for member in self._members()
            if words[member.state] != _STARTING and self.overdue.is_late(member, marks_of(member))
        }

    def say_turned(self, *, leaves: bool = False) -> None:
        """The answer to Serve and to Drain."""
        self.telling.say(messages.Turned(leaves))

    def say_delayed(self, seconds: float) -> None:
        """The drain takes so much longer."""
        self.telling.say(messages.Delayed(seconds))

    def say_terminated(self) -> None:
        """Somebody wants this worker to leave."""
        self.telling.say(messages.Terminated())

    def dump(self, asker: int) -> None:
        """Tell whoever asked where every thread is."""
        self.telling.say(messages.Dumped(asker, self.describe()))

    def describe(self) -> str:
        """A paragraph for each thread, those in the longest calls first, the watcher last; equal stacks once."""
        frames = stacks.frames_now()
        members = sorted(self._members(), key=lambda member: member.index)
        found = [self._sight(member, frames) for member in members]
        found += _others(frames, {member.thread.ident for member in members if member.thread is not None})
        found.sort(key=lambda sight: (sight.rank, -sight.seconds))
        return _paragraphs(found)

    def _members(self) -> list[Member]:
        return list(self.worker.crew.members.copy().values())

    def _report(self, late: list[tuple[Member, float]]) -> None:
        frames = stacks.frames_now()
        shown: dict[str, int] = {}
        for member, seconds in late:
            walked = stacks.walk(_frame_of(member, frames))
            stack, peer = stacks.text_of(walked), _peer_of(walked)
            if not self.overdue.is_late(member, marks_of(member)):
                continue  # it has just ended: what was seen may be another call
            if stack in shown:
                detail = f"  the same as that of thread {shown[stack]} above"
            else:
                shown[stack] = member.index
                detail = stack
            limit_s = self.limit.seconds or 0.0
            self.worker.log.say(
                "call-stuck",
                call=_call_of(member, peer),
                thread=member.index,
                seconds=seconds,
                limit=f"{limit_s:g} s",
                said_by=self.limit.said_by,
                peer=peer,
                next=self._next(),
                detail=detail,
            )
            self._peers[member] = peer
            self.telling.say(messages.Stuck(member.index, seconds, limit_s, peer))

    def _tell_longest(self) -> None:
        """The supervisor hears of the call that has been late for the longest."""
        marks = {member: marks_of(member) for member in self._peers}
        ages = {member: self.overdue.age_s(member, now) or 0.0 for member, now in marks.items() if now is not None}
        if not ages:
            return  # they have just ended
        member = max(ages, key=ages.__getitem__)
        if ages[member]:
            limit_s = self.limit.seconds or 0.0
            self.telling.say(messages.Stuck(member.index, ages[member], limit_s, self._peers[member]))

    def _next(self) -> str:
        if self.worker.leaving:
            return "this worker is leaving already"
        if not self.has_supervisor:
            return "it goes on, for nobody can replace the process it runs in"
        told = "the supervisor is told as long as it does, and replaces this worker when its turn comes"
        return f"it goes on; {told}, one at a time; other calls may finish"

    def _sight(self, member: Member, frames: stacks.Frames) -> "_Sight":
        """What one of the crew does."""
        marks = marks_of(member)
        state = member.words[member.state]
        walked = stacks.walk(_frame_of(member, frames))
        peer = _peer_of(walked)
        age = None if marks is None else self.overdue.age_s(member, marks)
        leads = self.worker.crew.roles.leader is member
        match state:
            case ThreadState.WAITING | ThreadState.NONE:
                return _Sight(5, "waits for the lead" if state == _WAITING else "begins or ends", walked, member.index)
            case ThreadState.POLLING:
                return _Sight(4, "leads, and waits for something to happen", walked, member.index)
            case ThreadState.PEER:
                what, rank = "in a call that waits for its peer", 2
            case ThreadState.STARTING:
                what, rank = "in thread_start", 1
            case ThreadState.SERVING if leads:
                what, rank = "leads, and is in a call or between two", 3
            case _:
                what, rank = "in a call", 1
        what += f" for {age:.1f} s" if age else ""
        what += f" · peer {peer}" if peer else ""
        if self.overdue.is_late(member, marks):
            what, rank = f"{what} · stuck", 0
        return _Sight(rank, what, walked, member.index, age or 0.0)


def marks_of(member: Member) -> Marks | None:
    """What changes with each call of this thread; None: it is in none, or waits for its peer."""
    words = member.words
    if words[member.state] not in _IN_CALLS:
        return None
    return words[member.calls], member.rounds, member.waits


def _call_of(member: Member, peer: str) -> str:
    if member.words[member.state] == _STARTING:
        return "thread_start"
    return f"a call for {peer}" if peer else "a call"


def _frame_of(member: Member, frames: stacks.Frames) -> FrameType | None:
    thread = member.thread
    return None if thread is None or thread.ident is None else frames.get(thread.ident)


def _peer_of(walked: list[FrameType]) -> str:
    connection = stacks.connection_of(walked)
    return "" if connection is None else connection.peer


@dataclass(slots=True)
class _Sight:
    """One thread, as it is shown."""

    rank: int
    """Among the others: those in calls come first."""
    what: str
    frames: list[FrameType]
    index: int | None = None
    """Of the crew's thread; the others have their names in `what`."""
    seconds: float = 0.0


@dataclass(slots=True)
class _Paragraph:
    """Threads that are at the same place."""

    stack: str
    sights: list[_Sight] = field(default_factory=list)

    def headings(self) -> Iterator[str]:
        """`thread 3 · in a call for 12.4 s · peer 127.0.0.1:5000 · stuck`; threads that do the same on one line."""
        by_what: dict[str, list[int]] = {}
        for sight in self.sights:
            if sight.index is None:
                yield sight.what
            else:
                by_what.setdefault(sight.what, []).append(sight.index)
        for what, indices in by_what.items():
            yield f"{'thread' if len(indices) == 1 else 'threads'} {ranges(indices)} · {what}"


def _others(frames: stacks.Frames, of_crew: set[int | None]) -> list[_Sight]:
    """The user's own threads, and this one."""
    me = threading.get_ident()
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    found = []
    for ident, frame in frames.items():
        if ident == me:
            found.append(_Sight(7, "the watcher · it wrote this", stacks.walk(frame)))
        elif ident not in of_crew:
            found.append(_Sight(6, f"a thread of the user's code · {names.get(ident, ident)}", stacks.walk(frame)))
    return found


def _paragraphs(sights: Iterable[_Sight]) -> str:
    """Bounded: when there is no more room for stacks the headings go on, and then their number."""
    by_place: dict[tuple[object, ...], _Paragraph] = {}
    for number, sight in enumerate(sights):
        place: tuple[object, ...] = (number,)
        if number < MOST_STACKS:
            place = (sight.rank >= 4, *((frame.f_code, frame.f_lineno) for frame in sight.frames))
        if place not in by_place:
            stack = stacks.text_of(sight.frames) if number < MOST_STACKS and sight.frames else ""
            by_place[place] = _Paragraph(stack)
        by_place[place].sights.append(sight)
    text, left_out = "", 0
    for paragraph in by_place.values():
        headings = "".join(f"{heading}\n" for heading in paragraph.headings())
        if len(text) + len(headings) + len(paragraph.stack) <= DUMP_CHARACTERS:
            text += headings + paragraph.stack + "\n"
        elif len(text) + len(headings) <= DUMP_CHARACTERS:
            text += headings + "  (no room for its stack)\n\n"
        else:
            left_out += len(paragraph.sights)
    return text + (f"… and {left_out} more threads\n" if left_out else "")


def ranges(numbers: Iterable[int]) -> str:
    """`1-3, 5`."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(f"{first}" if first == last else f"{first}-{last}" for first, last in runs)
