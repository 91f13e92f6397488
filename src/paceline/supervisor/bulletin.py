"""The bulletin: how the server is, told to the service manager.  Used by the supervisor's loop, on its one thread.

It reads the books, makes a `Situation` of them (systemd.py decides what follows), and sends that (host/notify.py).
Where nobody wants to be told, all of it costs one comparison.
"""

import os
from collections.abc import Iterable, Mapping

from paceline.host.notify import ServiceManager
from paceline.scoreboard.board import Board
from paceline.scoreboard.fields import WORKER
from paceline.supervisor.lifecycle import State
from paceline.supervisor.roster import Roster
from paceline.supervisor.systemd import Phase, Situation, Systemd, serving_text


class Bulletin:
    """What is told, and what it is made of besides the books."""

    def __init__(self, manager: ServiceManager, now: float, fresh_s: float, reloads: int = 0) -> None:
        self.manager = manager
        self.systemd = Systemd(os.getpid(), now, manager.watchdog_s, fresh_s)
        self.reloads = reloads
        """How many were asked for."""
        self.trouble = ""
        """What came of the last reload or upgrade, if it failed."""

    def next_at(self, gap_s: float) -> float | None:
        """When `look` is to be called although nothing has happened, by a clock that is behind by so much."""
        at = self.systemd.next_at() if self.manager.address else None
        return None if at is None else at - gap_s

    def on_reload_asked(self) -> None:
        """Somebody asks for a reload; called before anything can come of it."""
        self.reloads += 1
        self.trouble = ""

    def on_said(self, event: str, fields: Mapping[str, object]) -> None:
        """The log says this."""
        if event in _TROUBLES:
            self.trouble = f"{_TROUBLES[event]}: {fields.get('why', '')}"
        elif event in ("reloaded", "upgraded"):
            self.trouble = ""

    def look(self, roster: Roster, board: Board, addresses: Iterable[str], now: float) -> None:
        """Tell what is new; `now` is CLOCK_MONOTONIC, whatever the steady clock has left out.  Never waits."""
        if not self.manager.address:
            return
        situation = self._situation(roster, board, addresses)
        due = self.systemd.due(situation, now)
        if all(self.manager.send(text) for text in due):
            self.systemd.on_told(situation, now)

    def _situation(self, roster: Roster, board: Board, addresses: Iterable[str]) -> Situation:
        posts, reloading = roster.posts, roster.reloading
        ready = posts.in_state(State.READY)
        words, cell = board.words, WORKER["heartbeat_ns"]
        beats = [words[board.layout.worker_index(worker.seat) + cell] / 1e9 for worker in ready]
        if roster.stopping.urgency is not None:
            left = len(posts.workers)
            phase, status = Phase.STOPPING, f"stopping, {left} worker{' is' if left == 1 else 's are'} finishing calls"
        elif not posts.is_serving or roster.announce_by is not None:
            phase, status = Phase.STARTING, "starting"
        else:
            status = serving_text(", ".join(addresses), len(ready), posts.generation)
            is_reloading = reloading.running is not None or reloading.waiting is not None
            phase = Phase.RELOADING if is_reloading else Phase.SERVING
            if is_reloading:
                status = f"reloading; {status}"
            elif self.trouble:
                status = f"{status}; {self.trouble}"
        return Situation(phase, status, self.reloads, max(beats, default=None))


_TROUBLES = {"reload-failed": "reload failed", "reload-refused": "reload refused", "upgrade-failed": "upgrade failed"}
"""Events after which the last thing that somebody asked for is not so."""
