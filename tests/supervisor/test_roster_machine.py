"""The roster against everything that can happen, in any order, with a clock of our own (Hypothesis).

The machine plays the world: it forks or refuses, lets workers say what they like, die, hang, and lets time pass.  After
each step it holds what was promised.
"""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from paceline.settings import Settings
from paceline.supervisor.lifecycle import RESPAWN_S, State
from paceline.supervisor.posts import ABORT_S, GRACE_S, Limits, Posts, SeatState
from paceline.supervisor.roster import Roster
from paceline.supervisor.stopping import ABANDON_S
from paceline.supervisor.vocabulary import (
    Abort,
    Adopt,
    Answer,
    Command,
    DrainAsked,
    End,
    Event,
    Exited,
    Forked,
    ForkFailed,
    Kill,
    ReloadAsked,
    Said,
    ScaleAsked,
    SeatEmptied,
    Spawn,
    StopAsked,
    Tell,
    Ticked,
    TimePassed,
    Usage,
    Vacate,
)
from paceline.worker.messages import Delayed, Drain, Failed, Leaving, Nudge, Ready, Serve, Stuck, Turned

BOOT_S, DRAIN_S, HEARTBEAT_S = 5.0, 8.0, 10.0
MOST = 5
LIMITS = Limits(BOOT_S, DRAIN_S, HEARTBEAT_S, call_s=3.0, messages=1000, messages_jitter=0.5)
SETTINGS = Settings(boot_timeout=BOOT_S, drain_timeout=DRAIN_S, heartbeat=HEARTBEAT_S, timeout=3.0, max_messages=1000)
LONGEST_WAIT_S = 30.0
EPSILON = 1e-6

Word = Ready | Failed | Leaving | Turned | Delayed | Drain | Nudge | Stuck
WORDS = st.sampled_from(
    [
        Ready("message", "raw"),
        Turned(),
        Turned(leaves=True),
        Delayed(5.0),
        Failed("boom"),
        Leaving(0),
        Leaving(2),
        Drain(1.0),
        Nudge(),
        Stuck(0, 4.0, 3.0, "peer"),
    ]
)


class World(RuleBasedStateMachine):
    @initialize(workers=st.integers(1, 4), random=st.floats(0, 1))
    def start(self, workers: int, random: float) -> None:
        self.roster = Roster(Posts.of(workers, 2 * MOST + 2, LIMITS), MOST, lambda: random)
        self.now = 1000.0
        self.may_fork = True
        self.leaves_connections = False
        self.was_ready: set[int] = set()
        """Seats whose worker has been ready, so that siblings may have passed connections to it."""
        self.alive: dict[int, int] = {}
        """Seat → slot."""
        self.healthy: set[int] = set()
        """Seats whose worker is ready, has said nothing since, and shows itself."""
        self.dirty: set[int] = set()
        self.last_fork: dict[int, float] = {}
        self.beat = 0
        self.asked = 0
        self.ever_ready = False
        self.asking: set[int] = set()
        """Those who wait for an answer."""
        self.answered = 0
        self.stop_by: float | None = None
        self.code: int | None = None
        self.tell(TimePassed())

    def tell(self, event: Event) -> None:
        todo = [event]
        while todo:
            commands = self.roster.on(todo.pop(0), self.now)
            assert sum(isinstance(command, Spawn) for command in commands) <= 1
            for command in commands:
                answer = self.obey(command)
                if answer is not None:
                    todo.append(answer)

    def obey(self, command: Command) -> Event | None:
        assert self.code is None, "nothing is done after the end"
        match command:
            case Spawn(slot, seat):
                assert self.stop_by is None, "nobody is born into a stop"
                assert seat not in self.alive
                assert seat not in self.dirty, "a seat is free again only when its inbox is empty"
                assert self.ever_ready or slot == 0, "seat 0 boots first"
                assert self.ever_ready or not self.roster.posts.workers[seat].rises
                if not self.may_fork:
                    return ForkFailed(seat, "no room")
                assert self.now - self.last_fork.get(slot, -1.0) >= RESPAWN_S - EPSILON
                self.last_fork[slot] = self.now
                self.alive[seat] = slot
                return Forked(seat, 2000 + seat)
            case Abort(seat) | Kill(seat):
                assert seat in self.alive
                assert seat not in self.healthy or self.stop_by is not None, "the healthy are left alone"
                self.healthy.discard(seat)
            case Tell(seat, Drain(_, hand_over)):
                assert seat in self.alive
                assert hand_over is (self.stop_by is None)
                if hand_over and seat in self.healthy:
                    self.has_a_successor(seat)
                self.healthy.discard(seat)
            case Tell(seat, message):
                assert seat in self.alive
                assert isinstance(message, Nudge | Serve)
            case Adopt(generation, _, serving):
                assert generation > serving
                alive = {worker.generation for worker in self.roster.posts.workers.values() if worker.pid}
                assert alive <= {serving}, "at most two generations are alive"
            case Answer(asker, _, _, _, is_last):
                assert asker in self.asking, "whoever asked is told once how it went, and nothing afterwards"
                if is_last:
                    self.asking.discard(asker)
            case Vacate(seat):
                assert seat not in self.alive
                somebody_takes_them = bool(self.was_ready - {seat})
                if somebody_takes_them or seat not in self.was_ready or not self.leaves_connections:
                    self.was_ready.discard(seat)
                    return SeatEmptied(seat)
                self.was_ready.discard(seat)
                self.dirty.add(seat)
            case End(code):
                assert self.stop_by is not None or not self.ever_ready, "after a healthy start only a signal ends it"
                self.code = code
        return None

    def has_a_successor(self, seat: int) -> None:
        """A healthy worker is asked to leave only when another one has its place, or the place is gone."""
        posts = self.roster.posts
        worker = posts.workers[seat]
        if worker.state is State.DRAINING and worker.slot < len(posts.slots):
            successor = posts.current(posts.slots[worker.slot])
            is_rising = worker.rises and worker.generation != posts.generation
            assert is_rising or (successor is not None and successor.state is State.READY)

    @property
    def is_over(self) -> bool:
        return self.code is not None

    # What can happen

    @precondition(lambda self: self.alive and not self.is_over)
    @rule(pick=st.integers(0, 100), word=WORDS)
    def a_worker_speaks(self, pick: int, word: Word) -> None:
        self.speak(sorted(self.alive)[pick % len(self.alive)], word)

    @precondition(lambda self: not self.is_over and self.roster.posts.in_state(State.BOOTING))
    @rule()
    def all_who_boot_get_ready(self) -> None:
        for worker in self.roster.posts.in_state(State.BOOTING):
            if worker.state is State.BOOTING:
                self.speak(worker.seat, Ready("message", "raw"))
            if worker.state is State.READY:
                self.speak(worker.seat, Turned())

    def speak(self, seat: int, word: Word) -> None:
        booting = self.roster.posts.workers[seat].state is State.BOOTING
        if isinstance(word, Ready) and booting:
            self.ever_ready = True
            self.healthy.add(seat)
            self.was_ready.add(seat)
        if isinstance(word, Leaving):
            self.healthy.discard(seat)
        self.tell(Said(seat, word))
        while self.dirty and self.was_ready and not self.is_over:  # somebody takes what the dead have left
            self.tell(SeatEmptied(self.dirty.pop()))

    @precondition(lambda self: self.alive and not self.is_over)
    @rule(pick=st.integers(0, 100), code=st.sampled_from([None, 0, 1, 3, 4]), calls=st.integers(0, 2))
    def a_worker_dies(self, pick: int, code: int | None, calls: int) -> None:
        seat = sorted(self.alive)[pick % len(self.alive)]
        del self.alive[seat]
        self.healthy.discard(seat)
        self.tell(
            Exited(seat, "was killed by SIGKILL" if code is None else f"exited with code {code}", code, calls=calls)
        )

    @precondition(lambda self: self.alive and not self.is_over)
    @rule()
    def all_die_at_once(self) -> None:
        for seat in sorted(self.alive):
            if self.is_over:
                return
            del self.alive[seat]
            self.healthy.discard(seat)
            self.tell(Exited(seat, "was killed by SIGKILL", None))

    @precondition(lambda self: not self.is_over)
    @rule(workers=st.sampled_from([0, 0, 1, 3]))
    def somebody_wants_a_reload(self, workers: int) -> None:
        self.tell(ReloadAsked(self.new_asker(), SETTINGS, workers))

    @precondition(lambda self: not self.is_over)
    @rule(workers=st.integers(0, MOST + 1), by=st.sampled_from([-1, 0, 0, 1]))
    def somebody_wants_more_or_fewer(self, workers: int, by: int) -> None:
        self.tell(ScaleAsked(self.new_asker(), workers, by))

    @precondition(lambda self: not self.is_over)
    @rule(slot=st.integers(-1, MOST))
    def somebody_wants_another_worker(self, slot: int) -> None:
        self.tell(DrainAsked(self.new_asker(), slot))

    def new_asker(self) -> int:
        self.answered += 1
        self.asking.add(self.answered)
        return self.answered

    @precondition(lambda self: self.healthy and not self.is_over)
    @rule(pick=st.integers(0, 100))
    def a_worker_has_served_enough(self, pick: int) -> None:
        seat = sorted(self.healthy)[pick % len(self.healthy)]
        self.beat += 1
        self.tell(Ticked((), dict.fromkeys(self.healthy, self.beat), {seat: Usage(1000, 0)}))

    @rule(may=st.booleans())
    def the_limit_on_processes_changes(self, may: bool) -> None:
        self.may_fork = may

    @rule(leaves=st.booleans())
    def the_last_one_to_die_leaves_connections(self, leaves: bool) -> None:
        self.leaves_connections = leaves

    @precondition(lambda self: not self.is_over)
    @rule(seconds=st.floats(0.001, 40.0))
    def time_passes(self, seconds: float) -> None:
        """The loop calls when the roster wants it, and every second; the watchers of the healthy go on."""
        until = self.now + seconds
        for _ in range(20_000):
            if self.is_over:
                return
            at = self.roster.next_at
            tick_at = float(int(self.now) + 1)
            if (at is None or at > until) and tick_at > until:
                self.now = until
                return
            if at is not None and at <= tick_at:
                self.now = max(self.now, at)
                self.tell(TimePassed())
            else:
                self.now = tick_at
                self.beat += 1
                self.tell(Ticked((0,) if self.beat % 3 else (), dict.fromkeys(self.healthy, self.beat)))
        raise AssertionError("it wants to be asked all the time")

    @precondition(lambda self: not self.is_over)
    @rule(at_once=st.booleans())
    def a_signal_asks_for_the_end(self, at_once: bool) -> None:
        patience = 1.0 if at_once or self.stop_by is not None else DRAIN_S + GRACE_S + ABORT_S + ABANDON_S
        by = self.now + patience
        self.stop_by = by if self.stop_by is None else min(by, self.stop_by)
        self.healthy.clear()
        self.asked += 1
        # One and the same twice within a moment would count once.
        name = "SIGQUIT" if at_once else ("SIGTERM", "SIGINT")[self.asked % 2]
        self.tell(StopAsked(name, at_once))

    # What always holds

    @invariant()
    def seats_and_slots_agree(self) -> None:
        if self.is_over:
            return
        roster = self.roster
        posts = roster.posts
        assert set(posts.workers) == set(self.alive)
        for slot in posts.slots:
            for seat in (slot.seat, slot.incoming):
                assert seat is None or posts.workers[seat].slot == slot.number
            assert slot.seat is None or slot.seat != slot.incoming
        assert len({worker.generation for worker in posts.workers.values()}) <= 2
        assert len(posts.slots) <= MOST
        waits = {worker.seat for worker in posts.in_state(State.STANDBY)}
        assert not waits or roster.reloading.running is not None, "in standby for nothing"
        taken = [seat for seat, state in enumerate(posts.seats) if state is SeatState.TAKEN]
        assert taken == sorted(self.alive)
        assert {seat for seat, state in enumerate(posts.seats) if state is SeatState.EMPTYING} == self.dirty

    @invariant()
    def no_slot_is_forgotten(self) -> None:
        if self.is_over or self.stop_by is not None:
            return
        for slot in self.roster.posts.slots:
            if slot.seat is None and (self.ever_ready or slot.number == 0):
                assert slot.fork_at <= self.now + LONGEST_WAIT_S
                assert SeatState.FREE in self.roster.posts.seats, "there are seats enough"
                assert self.roster.next_at is not None

    @invariant()
    def whoever_is_not_healthy_has_a_deadline(self) -> None:
        for worker in self.roster.posts.workers.values():
            if worker.state in (State.BOOTING, State.DRAINING, State.LEAVING, State.ABORTING):
                assert worker.kill_at is not None
            else:
                assert worker.kill_at is None

    @invariant()
    def the_end_comes_in_time(self) -> None:
        if self.stop_by is not None and not self.is_over:
            assert self.now <= self.stop_by + EPSILON

    @invariant()
    def who_asked_is_answered(self) -> None:
        """A reload, or a worker that boots, may keep them waiting; nothing else."""
        roster = self.roster
        if self.is_over or roster.stopping.urgency is not None:
            assert not self.asking
        elif roster.posts.is_serving and self.asking:
            asked = {wanted.asker for wanted in roster.replacing.wanted.values()}
            asked |= {*roster.reloading.askers, *roster.reloading.waiting_askers}
            asked |= {event.asker for event in roster.scaling.waiting}
            assert self.asking <= asked

    @invariant()
    def the_exit_code_is_one_of_ours(self) -> None:
        assert self.code in (None, 0, 3, 4)
        if self.code == 3:
            assert self.stop_by is None


World.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestRoster = World.TestCase
