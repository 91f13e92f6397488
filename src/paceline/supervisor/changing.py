"""What changes the server from within: reloads and upgrades, asked for by signals, by `ctl`, by an edit with --dev.

Here is found out what a reload would serve with, before the roster hears of it; an upgrade in place is looked after by
upgrading.py, once there is one.  Used by the supervisor's loop, on its one thread.
"""

import select
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from paceline.errors import PacelineError, SettingError, UsageError
from paceline.settings import Settings
from paceline.supervisor.lifecycle import State
from paceline.supervisor.seats import Seat, Sources
from paceline.supervisor.size import size_of, why_no_room
from paceline.supervisor.vocabulary import Answer, Event, ReloadAsked
from paceline.supervisor.watching import Edits

if TYPE_CHECKING:
    from paceline.supervisor.loop import Supervisor
    from paceline.supervisor.testament import Testament
    from paceline.supervisor.upgrading import Upgrading

LookAgain = Callable[[Settings], Settings]
"""From the settings that count now to those that a reload would serve with.  Raises PacelineError: it refuses."""


class Changing:
    """The changes of one server."""

    def __init__(self, supervisor: "Supervisor", look_again: LookAgain | None) -> None:
        self.supervisor = supervisor
        self.look_again = look_again
        self.edits = Edits(supervisor.start.watched, supervisor.log)
        self.upgrading: Upgrading | None = None

    def sources(self) -> Sources:
        """What is waited for."""
        sources = self.edits.sources(self._on_edits)
        if self.upgrading is not None and self.upgrading.rehearsal is not None:
            sources[self.upgrading.rehearsal.pidfd] = (select.POLLIN, self._on_rehearsal, None)
        return sources

    @property
    def next_at(self) -> float | None:
        """When `on_time` is to be called although nothing has happened."""
        return None if self.upgrading is None else self.upgrading.next_at

    def on_time(self) -> None:
        """Time has passed."""
        if self.upgrading is not None:
            self.upgrading.step(self.supervisor.now())

    def fds(self) -> list[int]:
        """What no worker may keep."""
        return [*self.edits.fds(), *(self.upgrading.fds() if self.upgrading is not None else ())]

    def close(self) -> None:
        """At the end."""
        if self.upgrading is not None:
            self.upgrading.close()
        self.edits.close()

    def ask_reload(self, asker: int = 0) -> Iterator[Event]:
        """Find out what a reload would serve with, and ask for it."""
        server = self.supervisor
        server.bulletin.on_reload_asked()
        hands, posts = server.hands, server.roster.posts
        before = hands.settings_for(posts.generation)
        try:
            if not isinstance(hands.target, str):
                raise UsageError(
                    "the handler was given as an object, which no reload can import anew; serve it by name, as "
                    "'module:attribute'"
                )
            settings = before if self.look_again is None else self.look_again(before)
            if why := why_no_room(settings, hands.size, server.board.layout.threads):
                raise SettingError(why)
        except PacelineError as error:
            server.log.say("reload-refused", why=str(error))
            server.bulletin.on_said("reload-refused", {"why": str(error)})
            if asker:
                hands.on_answer(Answer(asker, str(error), ok=False))
            return
        workers = 0
        if settings.workers != before.workers:
            workers = min(size_of(settings, *hands.system.usable_cores()).workers, hands.size.most_workers)
        yield ReloadAsked(asker, settings, workers)

    def ask_upgrade(self, asker: int = 0) -> None:
        """Begin one."""
        from paceline.supervisor.upgrading import Upgrading  # only an upgrade pays for it

        self.upgrading = self.upgrading or Upgrading(self.supervisor)
        self.upgrading.ask(asker, self.supervisor.now())

    def is_rehearsed_by(self, pid: int, status: int) -> bool:
        """Whether this process, which somebody else has reaped (as PID 1), was the rehearsal; then it goes on."""
        if self.upgrading is None or not self.upgrading.is_rehearsed_by(pid):
            return False
        self.upgrading.step(self.supervisor.now(), status)
        return True

    def take_over(self, left: "Testament") -> Iterator[Event]:
        """The program that was in this process before has left all this to us: reload, so that the workers follow."""
        from paceline.supervisor.upgrade import settings_left

        server = self.supervisor
        hands = server.hands
        hands.ready = tuple(server.seats[worker.seat] for worker in server.roster.posts.in_state(State.READY))
        hands.publish()
        before = settings_left(left)
        if before is not None:  # with them its workers are replaced until the reload has come to something
            hands.settings_of[left.generation] = before.settings
        yield from self.ask_reload(server.control.adopt(left.asker))

    def _on_edits(self, _seat: Seat | None) -> Iterator[Event]:
        if self.edits.hear():
            yield from self.ask_reload()

    def _on_rehearsal(self, _seat: Seat | None) -> Iterator[Event]:
        self.on_time()
        yield from ()
