"""The threads of a worker.  roles.py decides who leads; here they wait, wake, are made and retire.

A follower waits on its own `turn`, a lock used as a binary semaphore: whoever promotes it releases that lock, after the
crew's lock was released, and it alone wakes.  Threads are made on demand, up to the limit; a follower that was not
needed for `idle_s` ends.  The crew's lock is a leaf: nothing is called while it is held but roles.py.
"""

import threading
from collections.abc import Callable

from paceline.scoreboard.fields import THREAD, ThreadState
from paceline.worker.roles import Roles, Why

FOLLOWER_IDLE_S = 10.0

_NONE, _STARTING, _WAITING = int(ThreadState.NONE), int(ThreadState.STARTING), int(ThreadState.WAITING)


class Member:
    """One thread and its cells on the scoreboard; the cells are written by this thread only."""

    __slots__ = ("bytes_in", "bytes_out", "calls", "errors", "fd", "histogram", "index", "messages", "native_id",
                 "prepared", "sampled", "state", "thread", "turn", "words")  # fmt: skip

    def __init__(self, index: int, words: "memoryview[int]", row: int, histogram: int) -> None:
        self.index = index
        self.words = words
        self.histogram = histogram
        self.turn = threading.Lock()
        self.turn.acquire()
        self.thread: threading.Thread | None = None
        self.native_id = 0
        """The kernel's number of the thread, as soon as it runs."""
        self.prepared = False
        """thread_start has run."""
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
    ) -> None:
        self.lock = threading.Lock()
        self.roles: Roles[Member] = Roles(limit, make)  # guarded by lock; `leader` is read without it
        self.stopping = False  # guarded by lock
        self.members: dict[int, Member] = {}  # guarded by lock, by index: those whose thread exists
        self.most = 0  # guarded by lock: the most that existed at once
        self.lead = lead
        self.prepare = prepare
        self.dismiss = dismiss
        self.on_refused = on_refused
        self.idle_s = idle_s

    def start(self) -> bool:
        """Hire a member; it leads when it has started, if nobody does.  False: no vacancy, or no thread to be had."""
        with self.lock:
            if self.stopping:
                return False
            hired = self.roles.hire()
        return hired is not None and self._start_thread(hired)

    def promote(self, leader: Member, why: Why) -> None:
        """Somebody else leads from now on, or will soon, because `leader` is in a call or about to be.

        If nobody can, nobody leads.  Nothing happens when `leader` has lost the lead already.
        """
        with self.lock:
            if self.stopping:
                return
            chosen, new = self.roles.promote(leader, why)
        if chosen is None:
            return
        if new:
            self._start_thread(chosen)
        else:
            chosen.turn.release()

    def rescue(self) -> None:
        """Nobody leads though somebody could (a thread could not be made, or its start failed): try again.

        Called by the watcher.  Nothing happens while there is a leader, or one is being made.
        """
        with self.lock:
            roles = self.roles
            if self.stopping or roles.leader is not None or roles.hired or roles.is_saturated:
                return
            follower = roles.leader = roles.followers.pop() if roles.followers else None
            roles.leads += follower is not None
        if follower is not None:
            follower.turn.release()
        else:
            self.start()

    def stop(self) -> None:
        """Nobody leads any more; followers end now, the others when they come back.  The caller wakes the poller."""
        with self.lock:
            self.stopping = True
            followers, self.roles.followers = self.roles.followers, []
            self.roles.out.update(followers)
            self.roles.leader = None
        for follower in followers:
            follower.turn.release()

    def join(self, until: float, now: Callable[[], float]) -> bool:
        """After `stop`: wait for all threads to end; False when some have not ended by `until`."""
        while True:
            with self.lock:
                threads = [member.thread for member in self.members.values() if member.thread is not None]
            if not threads:
                return True
            threads[0].join(max(0.0, until - now()))
            if threads[0].is_alive():
                return False

    def _start_thread(self, member: Member) -> bool:
        thread = threading.Thread(target=self._run, args=(member,), name=f"paceline-{member.index}", daemon=True)
        member.thread = thread
        with self.lock:
            self.members[member.index] = member
            self.most = max(self.most, len(self.members))
        try:
            thread.start()
        except (RuntimeError, MemoryError) as error:  # "can't start new thread": EAGAIN of clone(2)
            self._leave(member)
            self.on_refused(error)
            return False
        return True

    def _run(self, member: Member) -> None:
        try:
            member.native_id = threading.get_native_id()
            member.words[member.state] = _STARTING
            if not self.prepare(member):
                return
            member.prepared = True
            while self._come_back(member) or self._wait_for_lead(member):
                self.lead(member)
        finally:
            if member.prepared:
                self.dismiss(member)
            member.words[member.state] = _NONE
            self._leave(member)

    def _leave(self, member: Member) -> None:
        with self.lock:
            self.members.pop(member.index, None)
            self.roles.leave(member, member.index)

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
