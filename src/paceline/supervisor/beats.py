"""Signs of life: when each watcher last ran, and who has been silent for too long.  Pure: a part of the roster.

A watcher writes the time to the scoreboard once a second; nothing but a stopped process, C code that keeps the GIL, or
a machine without processors to spare keeps it from that.  What a look at the scoreboard finds changed since the look
before counts from when it was written, but never from before that look: the clock by which it is written goes on while
everything stands still.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from paceline.supervisor.lifecycle import Worker
from paceline.supervisor.posts import UP, Posts
from paceline.supervisor.vocabulary import Ticked

SILENCE_S = 2.0
"""However short --heartbeat is (in tests): a worker gives a sign of life once a second, and may be a little late."""
LATE_S = 2.0
"""A look that comes so long after the last one is late, for there should be one a second; then what has changed is all
that can be asked for."""


@dataclass(slots=True)
class Beats:
    """Those of one server's workers."""

    posts: Posts
    looked_at: float = 0.0

    @property
    def silent_at(self) -> float | None:
        """When somebody will have been silent for too long."""
        beats = [worker.beat_at for worker in self.posts.in_state(*UP)]
        return min(beats) + self._most_s if beats else None

    @property
    def _most_s(self) -> float:
        return max(self.posts.limits.heartbeat_s, SILENCE_S)

    def look(self, event: Ticked, now: float) -> Iterator[tuple[Worker, float]]:
        """Those who have been silent for too long, and for how many seconds."""
        before, self.looked_at = self.looked_at, now
        for worker in self.posts.in_state(*UP):
            beat = event.beats.get(worker.seat, worker.beat)
            if beat != worker.beat:
                given_at = now if now - before > LATE_S else now - event.ages.get(worker.seat, 0.0)
                worker.beat, worker.beat_at = beat, max(before, given_at)
            elif now - worker.beat_at >= self._most_s:
                yield worker, now - worker.beat_at
