"""The main thread of a worker: it watches the others and never runs user code once serving.

One loop: wait (signal, control, inbox, somebody's wake-up, time) → `tick`: is the leader blocked (lookout.py), is the
worker saturated (relief.py), which calls and connections are late (reports.py, timing.py)?

**Arming.**  It ticks every 5 ms while the worker was active in the last 250 ms (every 20 ms while the process computes
and its calls come and go), else once a second.  Before a long sleep it sets `watch_asleep` and looks at the leader once
more; the leader, back from each poll, says that it serves, then looks at `watch_asleep`.  Whichever of the two comes
first, one sees the other.

**The end.**  Draining begins with a Drain from the supervisor, or when it is gone.  SIGTERM to this worker alone is a
wish: the supervisor is told of it once a second, starts another worker and then says Drain, however long that takes;
draining before would leave the connections to nobody.  Nothing new is taken in a drain.  Connections are handed over to
those who stay, or each is closed once what it had sent is answered (draining.py); whole-connection calls see
end-of-file.  It is over when no connection is open and nobody is in a call, or when the time is up.
"""

import os
import signal
from functools import partial
from typing import TYPE_CHECKING

from paceline import clock
from paceline.host.poller import Waiter
from paceline.host.scheduling import quick_turns
from paceline.host.wakeup import Wakeup
from paceline.scoreboard.fields import WORKER, ThreadState, WorkerState
from paceline.worker import last_resort, messages
from paceline.worker.draining import Draining
from paceline.worker.gate import Shut
from paceline.worker.giving import Giving
from paceline.worker.lookout import Lookout
from paceline.worker.plan import Plan
from paceline.worker.receiving import LATER_S, Receiving
from paceline.worker.relief import Relief
from paceline.worker.reports import Reports
from paceline.worker.serving import Serving
from paceline.worker.shedding import Shedding
from paceline.worker.worker import Worker

if TYPE_CHECKING:
    from paceline.worker.securing import Renewing

TICK_S = 0.005
CALM_TICK_S = 0.02
"""While the process computes and its calls come and go: each tick takes the GIL away from them."""
ACTIVE_S = 0.25
REST_S = 1.0
"""The longest sleep: the heartbeat, and the deadlines of connections, are looked at this often."""

LOOK_S = 0.5
"""The same while somebody owes something in a certain time: whoever does not do it is found within two looks."""

DRAINING_REST_S = 0.1

BUSY = 0.8
"""The share of one core above which the process computes rather than blocks."""
LATE = 1.4
"""A tick so many times as long as it should be: the machine is short of processors."""
LATE_S = 1.0
"""Woken later than that, the process was stopped, or had no processor: so had those to whom connections could go."""
GRACE_S = 1.0
"""At the end of a drain: for the threads' stop hooks."""

_PROMOTIONS = ("eager", "watched", "reclaimed", "starved")
_SERVING = int(ThreadState.SERVING)


class Watcher:
    """The watcher of one worker; all methods are called on the main thread."""

    def __init__(
        self,
        worker: Worker,
        serving: Serving,
        plan: Plan,
        receiving: Receiving | None,
        giving: Giving | None,
        signal_fd: int,
        shedding: Shedding,
    ) -> None:
        self.worker = worker
        self.serving = serving
        self.plan = plan
        self.receiving = receiving
        self.giving = giving
        self.signal_fd = signal_fd
        self.alarm = Wakeup()
        worker.wake_watcher = self.alarm.wake
        plan.control.setblocking(False)
        self.control_fd = plan.control.fileno()
        self.inbox_fd = receiving.reader.fileno() if receiving is not None else -1
        self.waiter = Waiter(signal_fd, self.control_fd, self.alarm.fd)
        self.hears_inbox = False
        self.take_in_at: float | None = None
        """When it looks into the inbox although that does not wake it."""
        self._hear_inbox(receiving is not None)
        now = clock.now()
        self.active_until = now + ACTIVE_S
        self.next_rest = now
        self.last_tick = now
        self.last_cpu = clock.process_cpu()
        self.paced_s = TICK_S
        self.lookout = Lookout(worker)
        self.promotions_before = {name: worker.words[worker.row + WORKER[name]] for name in _PROMOTIONS}
        """Counters continue where the last occupant of the seat left them."""
        self.draining = Draining(worker, serving.ending.timing, giving)
        self.drain_until: float | None = None
        self.is_terminated = False
        """SIGTERM came, and no Drain yet."""
        self.relief = Relief(worker, plan, giving)
        self.shedding = shedding
        shedding.ending = serving.ending
        self.renewing = _renewing(worker, plan)
        self.reports = Reports(worker, plan)
        self.draining.late = self.reports.late
        self.draining.on_turned = partial(self.reports.say_turned, leaves=True)

    def run(self) -> int:
        """Watch until the worker has drained; returns how many calls were cut."""
        while True:
            begun = clock.now()
            pace = self.pace(begun)
            readable = self.waiter.wait(pace)
            self.worker.watch_asleep = False
            self.allow_for(clock.now() - begun - pace)
            if self.alarm.fd in readable:
                self.alarm.clear()
            if self.signal_fd in readable:
                self.on_signals()
            if self.control_fd in readable:
                self.on_control()
            if self.inbox_fd in readable:
                self.take_in()
            now = clock.now()
            if self.drain_until is not None and now >= self.drain_until:
                return self.end()
            self.tick(now)
            if self.drain_until is not None and self.draining.is_over():
                self.take_in()  # what was given before the others saw that we leave
                if self.draining.is_over():
                    return self.end()

    def allow_for(self, late_s: float) -> None:
        """It is woken so much later than it should be: where everything stood still, no drain goes on meanwhile.

        Where C code held the GIL it does: this process has computed then.
        """
        if late_s > LATE_S and self.drain_until is not None and clock.process_cpu() - self.last_cpu < late_s / 2:
            self.drain_until += late_s
            self.draining.began_at += late_s
            self.reports.say_delayed(late_s)

    def pace(self, now: float) -> float:
        """How long to sleep."""
        if now < self.active_until or self.worker.leaving:
            self.paced_s = CALM_TICK_S if self.lookout.is_calm and not self.shedding.overload.is_on else TICK_S
            return self.paced_s
        self.paced_s = TICK_S
        if self.shedding.must_look or (self.giving is not None and self.worker.crew.roles.is_saturated):
            return TICK_S
        until = self.next_rest - now
        if self.worker.resume_accepting_at is not None:
            until = min(until, self.worker.resume_accepting_at - now)
        if self.take_in_at is not None:
            until = min(until, self.take_in_at - now)
        until = self.reports.until(now, until)
        self.worker.watch_asleep = True
        leader = self.worker.crew.roles.leader
        if leader is not None and leader.words[leader.state] == _SERVING:
            self.worker.watch_asleep = False
            return TICK_S
        return max(0.0, until)

    def tick(self, now: float) -> None:
        """Look at everything."""
        worker = self.worker
        words = worker.words
        words[worker.row + WORKER["tick"]] += 1
        leader = worker.crew.roles.leader
        words[worker.row + WORKER["leader"]] = 0 if leader is None else leader.index + 1
        elapsed = now - self.last_tick
        if elapsed >= 0.8 * TICK_S:  # woken early, it must not take what has just begun for blocked
            cpu = clock.process_cpu()
            is_busy = cpu - self.last_cpu >= BUSY * elapsed
            is_serving = self.lookout.look(elapsed, is_busy)
            self.relief.look()
            self.shedding.look(elapsed)
            # Woken late, it had to queue for a processor or the GIL, and so had the calls that were measured.
            has_served = self.lookout.learn(is_busy or LATE * self.paced_s <= elapsed < REST_S / 2)
            if is_serving or has_served:
                self.active_until = now + ACTIVE_S
            self.last_tick, self.last_cpu = now, cpu
        if worker.resume_accepting_at is not None and now >= worker.resume_accepting_at:
            worker.resume_accepting_at = None
            worker.gate.open(Shut.PAUSED)
        if self.take_in_at is not None and now >= self.take_in_at:
            self.take_in()
        if self.drain_until is not None:
            with quick_turns():
                self.draining.push(now, self.drain_until)
        self.reports.tick(now)
        if worker.tables.timed:
            self.next_rest = min(self.next_rest, now + LOOK_S)
        if now >= self.next_rest:
            self.next_rest = now + (DRAINING_REST_S if worker.leaving else REST_S)
            self.rest(now)

    def rest(self, now: float) -> None:
        """Once a second, and twice while deadlines run."""
        worker = self.worker
        words, row = worker.words, worker.row
        roles = worker.crew.roles
        words[row + WORKER["heartbeat_ns"]] = clock.now_ns()
        words[row + WORKER["connections"]] = len(worker.tables.open)
        words[row + WORKER["threads"]] = len(worker.crew.members)
        words[row + WORKER["threads_max"]] = worker.crew.most
        words[row + WORKER["waiting"]] = self.relief.waiting() if not worker.leaving else 0
        words[row + WORKER["blocking"]] = worker.estimate.blocking
        words[row + WORKER["blocked_mean_ns"]] = int(worker.estimate.mean_blocked_ns)
        words[row + WORKER["logs_dropped"]] = worker.log.dropped
        if Shut.FULL in worker.gate.reasons and len(worker.tables.open) < worker.most_connections:
            worker.gate.open(Shut.FULL)
        self.rearm_dead_man()
        if self.is_terminated and not (worker.leaving or self.reports.telling.is_behind):
            # Again: it may have been in standby, or the supervisor has become another program since.
            self.reports.say_terminated()
        self.serving.ending.timing.look(now)
        if self.renewing is not None and not worker.leaving:  # who leaves rests often, and greets nobody new
            self.renewing.look(now)
        for name, before in self.promotions_before.items():
            words[row + WORKER[name]] = before + getattr(roles, name)

    def rearm_dead_man(self) -> None:
        """If this process cannot run Python for long, C code ends it."""
        last_resort.wind_up(self.plan.settings, self.plan.fault_fd)

    def take_in(self) -> None:
        """What siblings have given us: also in a drain, to be handed on, or answered and closed."""
        if self.receiving is not None:
            with quick_turns():  # connections wait there for what this takes
                heard = self.receiving.receive()
            self._hear_inbox(heard)
            self.take_in_at = None if heard else clock.now() + LATER_S

    def _hear_inbox(self, wanted: bool) -> None:
        """Whether connections in the inbox wake us.  What is not taken from there would wake us again and again."""
        if wanted is not self.hears_inbox:
            self.hears_inbox = wanted
            (self.waiter.add if wanted else self.waiter.remove)(self.inbox_fd)

    def on_signals(self) -> None:
        """SIGTERM to this worker alone: the supervisor is asked for another one, and says when to drain."""
        if signal.SIGTERM in os.read(self.signal_fd, 512) and not (self.worker.leaving or self.is_terminated):
            self.is_terminated = True
            self.next_rest = clock.now()  # then it is said

    def on_control(self) -> None:
        while True:
            try:
                datagram = self.plan.control.recv(messages.MOST_BYTES)
            except BlockingIOError:
                return
            except OSError:
                datagram = b""
            if not datagram:
                self.waiter.remove(self.control_fd)
                self.control_fd = -1
                self.worker.log.say("supervisor-gone")
                self.drain(self.plan.settings.drain_timeout, hand_over=False)
                return
            match messages.decode(datagram):
                case messages.Drain(within_s, hand_over):
                    self.drain(within_s, hand_over=hand_over)
                case messages.Serve():
                    self._serve()
                case messages.Nudge():
                    self.worker.gate.nudge()
                case messages.Dump(asker):
                    self.reports.dump(asker)
                case messages.Reopen():
                    self.worker.log.reopen()

    def _serve(self) -> None:
        """It was started in standby, and now it is its turn."""
        if not self.worker.leaving:
            self.worker.gauge("state", WorkerState.READY)
            self.worker.gate.open(Shut.STANDBY)
            self.reports.say_turned()

    def drain(self, within_s: float, *, hand_over: bool) -> None:
        """Take nothing new, finish what runs, leave; hand over what is parked, or close it."""
        worker = self.worker
        now = clock.now()
        until = now + within_s
        self.drain_until = until if self.drain_until is None else min(until, self.drain_until)
        if worker.leaving:
            if not hand_over:
                self.draining.stop_handing_over()
            return
        self.next_rest = min(self.next_rest, now + DRAINING_REST_S)
        self.shedding.end()  # before it is asked whether anybody is left
        self.draining.begin(now, hand_over=hand_over)
        worker.gate.shut(Shut.DRAINING)
        for listener in self.plan.listeners:
            listener.socket.close()
        worker.gauge("state", WorkerState.DRAINING)
        worker.log.say("draining", connections=len(worker.tables.open), calls=self.draining.in_hand())

    def end(self) -> int:
        """The drain is over: how many calls are cut."""
        self.draining.tell()
        return self.draining.in_hand()

    def stop_threads(self, until: float) -> bool:
        """After the drain.  False: some are still inside calls."""
        self.worker.crew.stop()
        self.worker.wakeup.wake()
        return self.worker.crew.join(until, clock.now)

    def close(self) -> None:
        """Give its descriptors back: for a worker that does not end with its process."""
        self.alarm.close()
        if self.receiving is not None:
            self.receiving.spare.close()


def _renewing(worker: Worker, plan: Plan) -> "Renewing | None":
    """Whoever sees that certificates have changed; None: there are none."""
    if worker.certificates is None:
        return None
    from paceline.worker.securing import Renewing

    return Renewing(worker, worker.certificates, is_first=plan.slot == 0)
