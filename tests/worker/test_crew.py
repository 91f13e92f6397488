"""worker/crew.py with real threads: who leads when, and every way in which a thread comes and goes.

The rig: whoever leads takes the next action from one queue and does it.  So the test decides what the leader does, and
what happens afterwards tells who leads.
"""

import queue
import threading
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from leftovers import eventually
from paceline import clock
from paceline.scoreboard.fields import THREAD_FIELDS, ThreadState
from paceline.worker.crew import FIRST_PAUSE_S, LONGEST_PAUSE_S, Crew, Member
from paceline.worker.roles import Why
from workerbed import DEADLINE_S, Gate

pytestmark = pytest.mark.usefixtures("nothing_left")

ROW = len(THREAD_FIELDS)
LIMIT = 8


class Rig:
    """A crew, and what its threads do."""

    def __init__(self, limit: int = LIMIT, **arguments: Any) -> None:
        self.words = memoryview(array("Q", [0] * ROW * limit))
        self.actions: queue.SimpleQueue[Callable[[Member], None]] = queue.SimpleQueue()
        self.time = 100.0
        self.refused: list[BaseException] = []
        self.dismissed: list[int] = []
        self.prepares: Callable[[Member], bool] = lambda _member: True
        self.makes: Callable[[Member], None] = lambda _member: None
        self.crew = Crew(
            limit,
            self.make,
            self.lead,
            prepare=lambda member: self.prepares(member),
            dismiss=lambda member: self.dismissed.append(member.index),
            on_refused=self.refused.append,
            now=lambda: self.time,
            **arguments,
        )

    def make(self, index: int) -> Member:
        member = Member(index, self.words, index * ROW, 0)
        self.makes(member)
        return member

    def lead(self, me: Member) -> None:
        self.words[me.state] = ThreadState.SERVING
        while self.crew.roles.leader is me:
            self.actions.get(timeout=DEADLINE_S)(me)

    def state(self, index: int) -> ThreadState:
        return ThreadState(self.words[index * ROW])

    def who_leads(self) -> int:
        """The index of the one that takes an action now."""
        answer: queue.SimpleQueue[int] = queue.SimpleQueue()
        self.actions.put(lambda me: answer.put(me.index))
        return answer.get(timeout=DEADLINE_S)

    def block_leader(self) -> Gate:
        """The leader goes into a call, and comes back when the gate opens."""
        gate = Gate()

        def call(me: Member) -> None:
            self.crew.promote(me, Why.EAGER)
            gate.wait()

        self.actions.put(call)
        gate.wait_entered()
        return gate

    def grow(self, count: int) -> None:
        """`count` threads exist, and all but the leader wait."""
        gates = [self.block_leader() for _ in range(count - 1)]
        self.wait_leader()
        for waiting, gate in enumerate(gates, 1):
            gate.open()
            self.wait_followers(waiting)

    def wait_leader(self) -> None:
        eventually(lambda: self.crew.roles.leader is not None)

    def wait_followers(self, count: int) -> None:
        eventually(lambda: len(self.crew.roles.followers) == count)

    def wait_threads(self, count: int) -> None:
        eventually(lambda: len(self.crew.members) == count)

    def stop(self) -> None:
        self.crew.stop()
        self.actions.put(lambda _me: None)  # the one that led

    def join(self, within_s: float = DEADLINE_S) -> bool:
        return self.crew.join(clock.now() + within_s, clock.now)


@contextmanager
def rig(limit: int = LIMIT, **arguments: Any) -> Iterator[Rig]:
    made = Rig(limit, **arguments)
    try:
        assert made.crew.start()
        yield made
    finally:
        made.stop()
        assert made.join(), "a thread did not end"
    assert all(made.state(index) is ThreadState.NONE for index in range(limit))


def test_the_first_thread_leads_and_no_other_exists() -> None:
    with rig() as crew:
        assert crew.who_leads() == 0
        assert len(crew.crew.members) == crew.crew.most == 1


def test_a_thread_is_made_when_the_leader_blocks() -> None:
    with rig() as crew:
        gate = crew.block_leader()
        assert crew.who_leads() == 1
        gate.open()
        crew.wait_followers(1)
        assert crew.state(0) is ThreadState.WAITING
        assert crew.who_leads() == 1  # who came back leads no more


def test_the_follower_that_waited_least_is_reused() -> None:
    with rig() as crew:
        crew.grow(3)
        assert crew.who_leads() == 2
        assert [member.index for member in crew.crew.roles.followers] == [0, 1]
        for _ in range(5):
            gate = crew.block_leader()
            assert crew.who_leads() == 1
            gate.open()
            crew.wait_followers(2)
            gate = crew.block_leader()
            assert crew.who_leads() == 2
            gate.open()
            crew.wait_followers(2)
        assert len(crew.crew.members) == crew.crew.most == 3
        assert crew.state(0) is ThreadState.WAITING


def test_at_the_limit_the_first_that_is_back_leads() -> None:
    with rig(limit=2) as crew:
        first = crew.block_leader()
        second = crew.block_leader()
        assert crew.crew.roles.is_saturated
        second.open()
        assert crew.who_leads() == 1
        first.open()
        crew.wait_followers(1)
        roles = crew.crew.roles
        assert (roles.eager, roles.starved, roles.reclaimed) == (1, 1, 1)


def test_a_follower_that_is_not_needed_retires() -> None:
    with rig(idle_s=0.02) as crew:
        gates = [crew.block_leader() for _ in range(3)]
        crew.wait_leader()
        for gate in gates:
            gate.open()
        crew.wait_threads(1)
        assert sorted(crew.dismissed) == [0, 1, 2]
        assert crew.who_leads() == 3
        assert [crew.state(index) for index in range(3)] == [ThreadState.NONE] * 3
        # The row that is free again is the first one.
        gate = crew.block_leader()
        assert crew.who_leads() == 0
        gate.open()
        assert crew.crew.most == 4


class Turn:
    """Stands where a member's `turn` stands: a wait with a time-out ends when the test says so, by its time-out."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.lock.acquire()
        self.waits = threading.Semaphore(0)
        self.times_out = threading.Semaphore(0)
        self.is_given = False
        """A wait with a time-out ends with the turn instead, which has been given meanwhile."""
        self.waits_on = threading.Event()
        """The wait without a time-out has begun, or is about to."""
        self.before_release: Callable[[], object] = lambda: None

    def acquire(self, timeout: float = -1) -> bool:
        if timeout < 0:
            self.waits_on.set()
            return self.lock.acquire(timeout=DEADLINE_S)
        self.waits.release()
        assert self.times_out.acquire(timeout=DEADLINE_S)
        return self.is_given and self.lock.acquire(blocking=False)

    def release(self) -> None:
        self.before_release()
        self.lock.release()


@contextmanager
def follower_about_to_time_out() -> Iterator[tuple[Rig, Turn]]:
    """0 leads; 1 waits, and its time-out comes when the test says so."""
    turn = Turn()

    def give_turn(member: Member) -> None:
        if member.index == 1:
            member.turn = turn  # type: ignore[assignment]

    made = Rig()
    made.makes = give_turn
    try:
        assert made.crew.start()
        gate = made.block_leader()
        made.wait_leader()
        other = made.block_leader()  # 1 is out, and 2 is hired
        made.wait_leader()
        gate.open()
        made.wait_followers(1)
        last = made.block_leader()  # 0 leads again
        made.wait_leader()
        other.open()
        assert turn.waits.acquire(timeout=DEADLINE_S)
        last.open()
        made.wait_followers(2)
        # 1 is chosen next.
        made.crew.roles.followers.sort(key=lambda member: member.index == 1)
        yield made, turn
    finally:
        for _ in range(10):
            turn.times_out.release()
        made.stop()
        assert made.join()


def test_a_follower_whose_time_is_up_while_it_is_chosen_leads() -> None:
    """promote chose it; then its wait ends without its turn."""
    with follower_about_to_time_out() as (crew, turn):
        gate = crew.block_leader()
        assert turn.lock.acquire(blocking=False)  # its turn was given …
        turn.lock.release()
        turn.times_out.release()
        assert turn.waits_on.wait(DEADLINE_S)  # … and is taken after the time-out
        assert crew.who_leads() == 1
        assert not crew.dismissed
        gate.open()


def test_its_turn_may_still_be_on_the_way() -> None:
    """The same, with the promoter stopped between its choice and giving the turn."""
    with follower_about_to_time_out() as (crew, turn):

        def time_out_first() -> None:
            assert not crew.crew.lock.locked()  # others are woken after unlocking
            turn.times_out.release()
            assert turn.waits_on.wait(DEADLINE_S)

        turn.before_release = time_out_first
        gate = crew.block_leader()
        assert crew.who_leads() == 1
        gate.open()


def test_a_follower_that_retired_first_is_not_chosen() -> None:
    with follower_about_to_time_out() as (crew, turn):
        turn.times_out.release()
        eventually(lambda: crew.dismissed == [1])
        gate = crew.block_leader()
        assert crew.who_leads() != 1
        gate.open()


def test_a_follower_whose_time_is_up_in_a_stop_ends() -> None:
    with follower_about_to_time_out() as (crew, turn):
        crew.stop()
        assert not crew.join(0.0)
        turn.times_out.release()
        assert crew.join()


def test_a_lead_that_is_lost_before_its_thread_woke_is_no_lead() -> None:
    """Chosen, and relieved before it ran: it wakes, leads nothing and follows again."""
    with follower_about_to_time_out() as (crew, turn):
        turn.is_given = True
        gate = crew.block_leader()
        chosen = crew.crew.roles.leader
        assert chosen is not None
        assert chosen.index == 1
        crew.crew.promote(chosen, Why.WATCHED)
        crew.crew.promote(chosen, Why.WATCHED)  # it has lost the lead already
        assert crew.crew.roles.watched == 1
        assert crew.who_leads() != 1
        turn.times_out.release()
        assert turn.waits.acquire(timeout=DEADLINE_S)  # it waits again
        assert crew.who_leads() != 1
        assert chosen in crew.crew.roles.followers
        gate.open()


def test_the_lead_is_not_kept_for_a_thread_that_starts_slowly() -> None:
    door = Gate()
    with rig() as crew:
        crew.prepares = behind(door)
        gate = crew.block_leader()
        door.wait_entered()
        assert crew.state(1) is ThreadState.STARTING
        gate.open()
        assert crew.who_leads() == 0
        again = crew.block_leader()  # no third one is made beside it
        assert len(crew.crew.members) == 2
        door.open()
        assert crew.who_leads() == 1
        again.open()


def test_a_thread_that_cannot_be_made_leaves_the_others_in_peace(monkeypatch: pytest.MonkeyPatch) -> None:
    with rig() as crew:
        with monkeypatch.context() as machine:
            machine.setattr(threading.Thread, "start", refuse)
            gate = crew.block_leader()
            assert [str(error) for error in crew.refused] == ["can't start new thread"]
            assert crew.crew.roles.leader is None
            gate.open()
            assert crew.who_leads() == 0
            # Not again at once, however often the leader blocks.
            for _ in range(3):
                crew.block_leader().open()
                assert crew.who_leads() == 0
            crew.crew.rescue()
            assert len(crew.refused) == 1
            assert len(crew.crew.members) == crew.crew.most == 1
        crew.time += FIRST_PAUSE_S
        gate = crew.block_leader()
        assert crew.who_leads() == 1
        gate.open()


def behind(door: Gate) -> Callable[[Member], bool]:
    """A thread_start that takes until the door opens."""

    def prepare(_member: Member) -> bool:
        door.wait()
        return True

    return prepare


def refuse(_thread: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


def test_the_watcher_tries_again_while_nobody_leads(monkeypatch: pytest.MonkeyPatch) -> None:
    with rig() as crew:
        with monkeypatch.context() as machine:
            machine.setattr(threading.Thread, "start", refuse)
            gate = crew.block_leader()
            pauses: list[float] = []
            for _ in range(7):
                before = crew.time
                while len(crew.refused) == 1 + len(pauses):
                    crew.time += 0.01
                    crew.crew.rescue()
                pauses.append(round(crew.time - before, 2))
        assert pauses == [0.05, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0]
        assert crew.crew.roles.is_saturated
        crew.time += LONGEST_PAUSE_S
        crew.crew.rescue()
        assert crew.who_leads() == 1
        assert crew.crew.pause_s == FIRST_PAUSE_S
        gate.open()


def test_a_start_hook_that_fails_is_not_called_before_every_call() -> None:
    tried: list[int] = []

    def fail(member: Member) -> bool:
        tried.append(member.index)
        return False

    with rig() as crew:
        crew.prepares = fail
        gate = crew.block_leader()
        crew.wait_threads(1)
        assert crew.state(1) is ThreadState.NONE
        gate.open()
        for _ in range(5):
            crew.block_leader().open()
            assert crew.who_leads() == 0
        assert tried == [1]
        assert crew.dismissed == []  # thread_stop only after thread_start
        crew.time += FIRST_PAUSE_S
        gate = crew.block_leader()
        crew.wait_threads(1)
        assert tried == [1, 1]
        crew.prepares = lambda member: True
        crew.time += 2 * FIRST_PAUSE_S
        crew.crew.rescue()
        assert crew.who_leads() == 1
        gate.open()


def test_who_waits_leads_even_in_a_pause() -> None:
    with rig() as crew:
        crew.grow(2)  # 1 leads, 0 follows
        crew.prepares = lambda member: False
        first = crew.block_leader()
        second = crew.block_leader()  # 2 is tried in vain
        crew.wait_threads(2)
        first.open()
        assert crew.who_leads() == 1
        second.open()
        crew.wait_followers(1)
        third = crew.block_leader()
        assert crew.who_leads() == 0
        third.open()


def test_rescue_does_nothing_while_somebody_leads_or_starts() -> None:
    door = Gate()
    with rig() as crew:
        crew.crew.rescue()
        assert len(crew.crew.members) == 1
        crew.prepares = behind(door)
        gate = crew.block_leader()
        crew.crew.rescue()
        assert len(crew.crew.members) == 2
        door.open()
        gate.open()


def test_a_leader_that_dies_of_a_bug_is_followed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()
    monkeypatch.setattr(threading, "excepthook", lambda arguments: seen.put(arguments.exc_value))

    def die(_me: Member) -> None:
        raise ZeroDivisionError

    with rig() as crew:
        crew.grow(2)
        crew.actions.put(die)
        assert isinstance(seen.get(timeout=DEADLINE_S), ZeroDivisionError)
        assert crew.who_leads() == 0
        assert crew.dismissed == [1]
        crew.actions.put(die)  # the last one
        seen.get(timeout=DEADLINE_S)
        crew.wait_threads(0)
        crew.crew.rescue()
        assert crew.who_leads() == 0


def test_a_stop_hook_that_raises_does_not_keep_the_place(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: queue.SimpleQueue[object] = queue.SimpleQueue()
    monkeypatch.setattr(threading, "excepthook", lambda arguments: seen.put(arguments.exc_type))

    def fail(_member: Member) -> None:
        raise ZeroDivisionError

    with rig(idle_s=0.02) as crew:
        crew.crew.dismiss = fail
        crew.block_leader().open()
        crew.wait_threads(1)
        assert seen.get(timeout=DEADLINE_S) is ZeroDivisionError
        assert len(crew.crew.roles.vacant) == LIMIT - 1


def test_a_stop_while_members_are_in_calls() -> None:
    with rig() as crew:
        crew.grow(3)
        gates = [crew.block_leader() for _ in range(2)]
        crew.wait_leader()
        crew.stop()
        eventually(lambda: len(crew.crew.members) == 2)
        assert not crew.join(0.0)
        gates[0].open()
        eventually(lambda: len(crew.crew.members) == 1)
        gates[1].open()
        assert crew.join()
        assert sorted(crew.dismissed) == [0, 1, 2]
        assert not crew.crew.start()
        crew.crew.rescue()
        assert not crew.crew.members


def test_a_call_that_blocks_in_a_stop_promotes_nobody() -> None:
    with rig() as crew:
        gate, stopped = Gate(), Gate()

        def call(me: Member) -> None:
            gate.wait()
            crew.crew.promote(me, Why.EAGER)
            stopped.wait()

        crew.actions.put(call)
        gate.wait_entered()
        crew.crew.stop()
        gate.open()
        stopped.wait_entered()
        assert len(crew.crew.members) == 1
        stopped.open()


def test_a_thread_that_starts_in_a_stop_ends_without_having_led() -> None:
    door = Gate()
    with rig() as crew:
        crew.prepares = behind(door)
        gate = crew.block_leader()
        door.wait_entered()
        crew.crew.stop()
        gate.open()
        assert not crew.join(0.0)
        door.open()
        assert crew.join()
        assert crew.crew.roles.leads == 1
        assert sorted(crew.dismissed) == [0, 1]


def test_join_waits_for_a_thread_that_has_not_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stop comes while a leader is making a thread: it is known, and cannot be joined yet."""
    door = Gate()
    start = threading.Thread.start

    def start_late(thread: threading.Thread) -> None:
        if thread.name == "paceline-1":
            door.wait()
        start(thread)

    with rig() as crew:
        monkeypatch.setattr(threading.Thread, "start", start_late)
        crew.actions.put(lambda me: crew.crew.promote(me, Why.EAGER))
        door.wait_entered()
        crew.crew.stop()
        assert not crew.join(0.0)
        door.open()
        assert crew.join()
        assert crew.dismissed.count(1) == 1


def test_a_storm_of_promotions_and_retirements() -> None:
    """Every leader blocks a little, a watcher relieves whoever it finds, followers retire at once: nothing is lost."""
    calls = 3000
    begun = threading.Semaphore(calls)
    done = threading.Event()
    twice: list[int] = []
    inside: set[int] = set()

    def lead(me: Member) -> None:
        if me.index in inside:
            twice.append(me.index)
        inside.add(me.index)
        while made.crew.roles.leader is me:
            if not begun.acquire(blocking=False):
                done.set()
                made.crew.promote(me, Why.WATCHED)
                break
            if me.index % 3:
                made.crew.promote(me, Why.EAGER)
        inside.discard(me.index)

    made = Rig(limit=4, idle_s=0.0)
    made.crew.lead = lead
    made.crew.now = clock.now
    assert made.crew.start()
    try:
        until = clock.now() + DEADLINE_S
        while not done.is_set():
            assert clock.now() < until, "the crew stands still"
            leader = made.crew.roles.leader
            if leader is None:
                made.crew.rescue()
            else:
                made.crew.promote(leader, Why.WATCHED)
    finally:
        made.crew.stop()
        assert made.join()
    assert not twice
    assert made.crew.most <= 4
    assert not made.refused
    roles = made.crew.roles
    assert roles.members == 0
    assert roles.vacant == [3, 2, 1, 0]
