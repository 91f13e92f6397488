"""The watcher's view of the leader: who is in a call for a whole tick is promoted away, unless it computes.

A tick looks at the scoreboard, not at clocks of calls: the leader that is still in the call it was in a tick ago is
blocked, and somebody else is promoted; unless the process was busy meanwhile, for then it computes, and more threads
would only take turns.  What was measured since the last tick goes into the estimate (estimate.py).
"""

from paceline.host.scheduling import Times, is_runnable, times_of
from paceline.scoreboard.fields import THREAD, ThreadState
from paceline.worker.crew import Member
from paceline.worker.estimate import Verdict, judge
from paceline.worker.roles import Why
from paceline.worker.worker import Worker

MOST_COMPUTING = 2
"""The most threads that are out of the lead because of long calls while the process computes."""

_POLLING, _SERVING = int(ThreadState.POLLING), int(ThreadState.SERVING)


class Lookout:
    """What was seen of one worker's leader, from tick to tick; all methods are called by the watcher."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.last_leader: Member | None = None
        self.last_calls = self.last_rounds = 0
        self.last_times: Times | None = None
        self.is_timed = False
        """The last tick has asked for them; they are None where nobody can tell, too."""
        self.last_total = self._total()
        self.is_calm = False
        """The process computes, and its leader has begun a new call since the last tick: nothing is to be done soon."""
        self.computing: dict[Member, int] = {}
        """Who lost the lead because of a long call while the process computed, and the number of that call."""

    def look(self, elapsed_s: float, is_busy: bool) -> bool:
        """Promote somebody if the leader is in the same call as at the last tick, so long ago.  True: it is in one.

        `is_busy`: the process computed meanwhile.
        """
        worker = self.worker
        crew = worker.crew
        roles = crew.roles
        leader = roles.leader
        self.is_calm = is_serving = False
        if leader is None:
            if any(member.words[member.state] == _POLLING for member in roles.out.copy()):
                worker.wakeup.wake()  # it lost the lead when it had just begun to poll; it comes back, and leads
            else:
                crew.rescue()
        elif leader.words[leader.state] != _SERVING:
            leader = None
        else:
            is_serving = True
            calls, rounds = leader.words[leader.calls], leader.rounds
            # Without a new call it may still go on: it accepts, or receives the parts of long messages.
            goes_on = leader is self.last_leader and (calls, rounds) == (self.last_calls, self.last_rounds)
            self.is_calm = is_busy and not (goes_on or worker.leaving or worker.estimate.blocking)
            # Each of its system calls takes the GIL away from a thread that computes.
            was_timed, self.is_timed = self.is_timed, not self.is_calm
            times = times_of(leader.native_id) if self.is_timed else None
            if goes_on and was_timed and self._promote_for(leader, times, elapsed_s, is_busy):
                leader = None
            self.last_calls, self.last_rounds, self.last_times = calls, rounds, times
        self.last_leader = leader
        return is_serving

    def _promote_for(self, leader: Member, times: Times | None, elapsed_s: float, is_busy: bool) -> bool:
        """The leader is in one call for a whole tick.  True: it does not lead any more."""
        worker = self.worker
        verdict = judge(self.last_times, times, is_runnable(leader.native_id), elapsed_s * 1e9, is_busy)
        if verdict is Verdict.QUEUES:
            return False
        if verdict is Verdict.COMPUTES:
            if self._count_computing() >= MOST_COMPUTING:
                return False
            self.computing[leader] = self.last_calls
        worker.crew.promote(leader, Why.WATCHED)
        if verdict is Verdict.BLOCKS:
            worker.estimate.on_watched(self._total()[0])
        if leader.words[leader.state] != _SERVING:
            worker.wakeup.wake()  # its call had just ended, and it polls beside the new leader
        return True

    def _count_computing(self) -> int:
        """How many are still in the call in which they lost the lead because it computes."""
        out = self.worker.crew.roles.out
        self.computing = {
            member: calls for member, calls in self.computing.items()
            if member in out and member.words[member.calls] == calls
        }  # fmt: skip
        return len(self.computing)

    def learn(self, is_busy: bool) -> bool:
        """Feed the estimate with what was measured since the last tick, and ask for more.  True: calls have begun."""
        worker = self.worker
        samples = worker.samples
        taken = [samples.popleft() for _ in range(len(samples))]
        if taken:
            worker.estimate.on_samples(taken, is_busy)
        total = self._total()
        calls, bytes_out = total[0] - self.last_total[0], total[1] - self.last_total[1]
        self.last_total = total
        if calls:
            worker.estimate.on_traffic(calls, bytes_out)
        worker.sample_due = True
        return calls > 0

    def _total(self) -> tuple[int, int]:
        """(calls begun, bytes sent) by all threads of this worker."""
        words = self.worker.words
        calls, bytes_out = THREAD["calls"], THREAD["bytes_out"]
        total_calls = total_bytes = 0
        for row, (calls_before, bytes_before) in self.worker.rows_before.copy().items():
            total_calls += words[row + calls] - calls_before
            total_bytes += words[row + bytes_out] - bytes_before
        return total_calls, total_bytes
