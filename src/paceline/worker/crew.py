"""The threads of a worker.  roles.py decides who leads; here they wait, wake, are made and retire.

A follower waits on its own `turn`, a lock used as a binary semaphore: whoever promotes it releases that lock, after the
crew's lock was released, and it alone wakes.  Threads are made on demand, up to the limit; a follower that was not
needed for `idle_s` ends.  The crew's lock is a leaf: nothing is called while it is held but roles.py.

When a thread cannot be made, or its `thread_start` fails (a database refuses one more connection), the crew makes do
with those it has, and tries again after a pause that doubles each time: not before each call.
"""

import threading
from collections import deque
from collections.abc import Callable

from paceline import clock
from paceline.scoreboard.fields import THREAD, ThreadState
from paceline.worker.roles import Roles, Why

FOLLOWER_IDLE_S = 10.0

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.05, 1.0
"""Without new threads, after one could not be made."""

_NONE, _STARTING, _WAITING = int(ThreadState.NONE), int(ThreadState.STARTING), int(ThreadState.WAITING)


class Member:
    """One thread and its cells on the scoreboard; the cells are written by this thread only."""

    __slots__ = ("bytes_in", "bytes_out", "calls", "errors", "fd", "histogram", "index", "messages", "native_id",
                 "rounds", "sampled", "state", "thread", "turn", "waits", "words")  # fmt: skip

    def __init__(self, index: int, words: "memoryview[int]", row: int, histogram: int) -> None:
        self.index = index
        self.words = words
        self.histogram = histogram
        self.turn = threading.Lock()
        self.turn.acquire()
        self.thread: threading.Thread | None = None
        self.native_id = 0
        """The kernel's number of the thread, as soon as it runs."""
        self.rounds = 0
        """How often it has polled.  Written by this thread, read by the watcher: it moves on although no call does."""
        self.waits = 0
        """How often it has waited for a peer.  Written by this thread, read by the watcher as well."""
        self.state = row + THREAD["state"]
        self.calls = row + THREAD["calls"]
        self.messages = row + THREAD["messages"]
        self.errors = row + THREAD["errors"]
        self.bytes_in = row + THREAD["bytes_in"]
        self.bytes_out = row + THREAD["bytes_out"]
        self.fd = row + THREAD["fd"]
        self.sampled = row + THREAD["sampled"]


class Crew:
    """The threads of one worker.

    lead      called on a member's thread each time it has the lead; returns when it has lost it, or in a stop
    prepare   on a new thread, before it can lead: the user's thread_start.  False: it failed, the thread ends
    dismiss   on a prepared thread that ends: the user's thread_stop
    on_refused  a thread could not be made, for this reason
    """

    def __init__(
        self,
        limit: int,
        make: Callable[[int], Member],
        lead: Callable[[Member], None],
        *,
        prepare: Callable[[Member], bool] = lambda _member: True,
        dismiss: Callable[[Member], None] = lambda _member: None,
        on_refused: Callable[[BaseException], None] = lambda _error: None,
        idle_s: float = FOLLOWER_IDLE_S,
        now: Callable[[], float] = clock.now,
    ) -> None:
        self.lock = threading.Lock()
        self.roles: Roles[Member] = Roles(limit, make)  # guarded by lock; `leader` is read without it
        self.stopping = False  # guarded by lock
        self.members: dict[int, Member] = {}  # guarded by lock, by index: those whose thread exists, or is just made
        self.most = 0  # guarded by lock: the most that could lead at once; the indices of all that ever did are below
        self.left = threading.Condition(self.lock)  # one of `members` has left, in a stop
        self.ended: deque[threading.Thread] = deque(maxlen=limit)  # guarded by lock: the last ones, not yet joined
        self.pause_s = FIRST_PAUSE_S  # guarded by lock
        self.hire_at = 0.0  # guarded by lock: when the pause is over, while there is one
        self.lead = lead
        self.prepare = prepare
        self.dismiss = dismiss
        self.on_refused = on_refused
        self.idle_s = idle_s
        self.now = now

    def start(self) -> bool:
        """Hire a member; it leads when it has started, if nobody does.  False: no vacancy, or no thread to be had."""
        with self.lock:
            if self.stopping:
                return False
            hired = self.roles.hire()
        return hired is not None and self._start_thread(hired)

    def promote(self, leader: Member, why: Why) -> None:
        """Somebody else leads from now on, or will soon, because `leader` is in a call or about to be.

        If nobody can, nobody leads.  Nothing happens when `leader` has lost the lead already, as it has in a stop.
        """
        with self.lock:
            if not self.roles.may_hire:
                self._end_pause()
            chosen, new = self.roles.promote(leader, why)
        self._set_going(chosen, new)

    def rescue(self) -> None:
        """Nobody leads though somebody could (a thread could not be made, or its start failed): try again.

        Called by the watcher.  Nothing happens while there is a leader, or one is being made, or in a pause.
        """
        with self.lock:
            roles = self.roles
            if self.stopping or roles.leader is not None:
                return
            chosen, new = roles.appoint(), False
            if chosen is None and not roles.hired:
                self._end_pause()
                chosen, new = roles.hire(), True
        self._set_going(chosen, new)

    def stop(self) -> None:
        """Nobody leads any more; followers end now, the others when they come back.  The caller wakes the poller."""
        with self.lock:
            self.stopping = True
            waiting = self.roles.dissolve()
        for member in waiting:
            member.turn.release()

    def join(self, until: float, now: Callable[[], float]) -> bool:
        """After `stop`: wait for all threads to end; False when some have not ended by `until`."""
        with self.left:
            # A thread is started by a member, which leaves later: so nobody is missed who is not in `members` yet.
            if not self.left.wait_for(lambda: not self.members, max(0.0, until - now())):
                return False
            ended = list(self.ended)
        for thread in ended:
            thread.join(max(0.0, until - now()))
        return not any(thread.is_alive() for thread in ended)

    def _set_going(self, chosen: Member | None, new: bool) -> None:
        """Start whoever was hired, wake whoever was appointed.  Without the lock: others are woken after it is free."""
        if chosen is None:
            return
        if new:
            self._start_thread(chosen)
        else:
            chosen.turn.release()

    def _start_thread(self, member: Member) -> bool:
        thread = threading.Thread(target=self._run, args=(member,), name=f"paceline-{member.index}", daemon=True)
        with self.lock:
            self.members[member.index] = member
        try:
            thread.start()
        except (RuntimeError, MemoryError) as error:  # "can't start new thread": EAGAIN of clone(2)
            self._leave(member)
            self.on_refused(error)
            return False
        return True

    def _run(self, member: Member) -> None:
        member.thread = threading.current_thread()
        member.native_id = threading.get_native_id()
        try:
            member.words[member.state] = _STARTING
            if self.prepare(member):
                self._serve(member)
        finally:
            member.words[member.state] = _NONE
            self._leave(member)

    def _serve(self, member: Member) -> None:
        with self.lock:
            self.roles.may_hire = True
            self.pause_s = FIRST_PAUSE_S
            self.most = max(self.most, member.index + 1)  # the smallest free index is taken first
        try:
            while self._come_back(member) or self._wait_for_lead(member):
                self.lead(member)
        finally:
            self.dismiss(member)

    def _leave(self, member: Member) -> None:
        """Its thread ends, or could not be made.  If it had the lead, which only a bug explains, a follower has it."""
        with self.lock:
            roles = self.roles
            if member in roles.hired:
                roles.may_hire = False
                self.hire_at = self.now() + self.pause_s
                self.pause_s = min(2 * self.pause_s, LONGEST_PAUSE_S)
            self.members.pop(member.index, None)
            roles.leave(member, member.index)
            chosen = None if self.stopping else roles.appoint()
            if member.thread is not None:
                self.ended.append(member.thread)
            self.left.notify_all()
        if chosen is not None:
            chosen.turn.release()

    def _end_pause(self) -> None:
        assert self.lock.locked()
        if not self.roles.may_hire and self.now() >= self.hire_at:
            self.roles.may_hire = True

    def _come_back(self, member: Member) -> bool:
        with self.lock:
            return not self.stopping and self.roles.come_back(member)

    def _wait_for_lead(self, member: Member) -> bool:
        """False: the thread ends."""
        member.words[member.state] = _WAITING
        with self.lock:
            if self.stopping:
                return False
        if not member.turn.acquire(timeout=self.idle_s):
            with self.lock:
                if self.stopping or self.roles.retire(member):
                    return False
            member.turn.acquire()  # chosen in the same moment: the release is on its way
        with self.lock:
            return not self.stopping
