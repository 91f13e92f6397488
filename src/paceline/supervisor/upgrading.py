"""An upgrade, as the supervisor's loop sees it: asked for, rehearsed, done or refused.  Used on its one thread.

asked       one at a time; who asks during one is told so
rehearsed   a child tries the new program (rehearsal.py); the loop waits for its `pidfd` and calls `step`
waits       for a moment in which no worker is starting or being replaced, and no reload runs
done        the new program takes over in this process (upgrade.py): `step` does not return
refused     at whichever step: the log and whoever asked hear why, and the server goes on as if nothing had been
given up    when the server is asked to stop: whoever asked hears that
"""

from contextlib import suppress
from typing import TYPE_CHECKING

from paceline.errors import PacelineError, SettingError
from paceline.host import memory, signals
from paceline.supervisor.rehearsal import Rehearsal
from paceline.supervisor.sentences import span_text
from paceline.supervisor.start import Origin
from paceline.supervisor.testament import FileLeft, Testament
from paceline.supervisor.upgrade import Server, replace_image, testament_of, why_not_now, write
from paceline.supervisor.vocabulary import Answer

if TYPE_CHECKING:
    from paceline.supervisor.loop import Supervisor

MOMENT_S = 60.0
"""How long a moment without starting workers is waited for."""
MORE_S = 15.0
"""What a rehearsal may take beyond --boot-timeout: starting Python, importing Paceline, on a busy machine."""


class Upgrading:
    """The upgrade that runs, if one does."""

    def __init__(self, supervisor: "Supervisor") -> None:
        self.supervisor = supervisor
        self.say = supervisor.log.say
        self.rehearsal: Rehearsal | None = None
        self.give_up_at: float | None = None
        """The rehearsal went well, and the moment is waited for until then."""
        self.asker = 0

    @property
    def is_running(self) -> bool:
        return self.rehearsal is not None or self.give_up_at is not None

    def is_rehearsed_by(self, pid: int) -> bool:
        """The process in which the new program is tried is this one, which somebody else has reaped (as PID 1)."""
        return self.rehearsal is not None and self.rehearsal.pid == pid

    def fds(self) -> list[int]:
        """What belongs to the rehearsal: no worker may keep it."""
        return self.rehearsal.fds() if self.rehearsal is not None else []

    @property
    def _server_stops(self) -> bool:
        return self.supervisor.roster.stopping.urgency is not None

    @property
    def next_at(self) -> float | None:
        """When `step` is to be called although nothing has happened."""
        return self.rehearsal.ends_at if self.rehearsal is not None else self.give_up_at

    def ask(self, asker: int, now: float) -> None:
        """Begin one.  `asker` is who is answered; 0: nobody, a signal asked."""
        origin = self.supervisor.start.origin
        if self.is_running:
            self._answer(asker, "an upgrade runs already; its outcome is in the log", ok=False)
            return
        if self._server_stops:
            self._answer(asker, "the server stops", ok=False)
            return
        self.asker = asker
        if isinstance(origin, str):
            self._refuse(origin)
            return
        try:
            testament = self._testament()
            state_fd = write(testament)
            try:
                self.rehearsal = Rehearsal.begin(origin, state_fd, testament.board, self._boot_s() + MORE_S, now)
            finally:
                memory.close(state_fd)
        except OSError as error:
            self._refuse(f"no process can be made to try the new version in: {error.strerror}")
        except PacelineError as error:
            self._refuse(str(error))
        else:
            self.say("upgrade-rehearsed", pid=self.rehearsal.pid)
            self._answer(asker, "the new version is tried in a process of its own", is_last=False)

    def _boot_s(self) -> float:
        """How long the new program has by its own settings; if they are wrong, it is the one to say so."""
        ahead = self.supervisor.start.boot_timeout
        if ahead is not None:
            with suppress(SettingError):
                return ahead()
        return self.supervisor.roster.posts.limits.boot_s

    def step(self, now: float, status: int | None = None) -> None:
        """Go on, if it can.  `status` is the rehearsal's wait status, where somebody else has reaped it (as PID 1)."""
        if self._server_stops:
            if self.rehearsal is not None and status is not None:
                self.rehearsal.on_reaped(status)
            self.close()
        if self.rehearsal is not None:
            outcome = self.rehearsal.try_finish(now) if status is None else self.rehearsal.on_reaped(status)
            if outcome is None:
                return
            self.rehearsal.close()
            self.rehearsal = None
            if not outcome.ok:
                self._refuse(outcome.why, outcome.detail)
                return
            self.give_up_at = now + MOMENT_S
        if self.give_up_at is None:
            return
        why_not = self._why_not_now()
        if not why_not:
            self.give_up_at = None
            self._replace(self.supervisor.start.origin)
        elif now >= self.give_up_at:
            self.give_up_at = None
            self._refuse(f"for {span_text(MOMENT_S)} there was no moment for it: {why_not}")

    def close(self) -> None:
        """At the end, as soon as that is asked for."""
        if self.is_running:
            self._answer(self.asker, "the server stops", ok=False)
        if self.rehearsal is not None:
            self.rehearsal.close()
        self.rehearsal = self.give_up_at = None

    def _replace(self, origin: Origin | str) -> None:
        assert isinstance(origin, Origin), "there was a rehearsal"
        wake_fd = self.supervisor.hands.signal_fds[0]
        try:
            testament = self._testament()
            state_fd = write(testament)
            try:
                self.say("upgrading", command=" ".join(origin.command))
                self._answer(self.asker, "the new version was tried and takes over now", is_last=False)
                self.supervisor.changing.edits.close()  # the next program has a process of its own for that
                self.supervisor.control.part(self.asker)
                replace_image(origin, testament, state_fd, lambda: signals.take_received(wake_fd))
            finally:  # only after an error
                memory.close(state_fd)
        except (PacelineError, OSError) as error:
            self._refuse(str(error))
            self.supervisor.changing.edits.begin()

    def _testament(self) -> Testament:
        is_ = self.supervisor
        pid = is_.hands.pid_file
        file = FileLeft(role="pid", path=pid.path, fd=pid.fd, device=pid.device, inode=pid.inode) if pid else None
        return testament_of(
            Server(
                board=is_.board,
                seats=is_.seats,
                listeners=is_.hands.listeners,
                posts=is_.roster.posts,
                settings=is_.hands.settings_for(is_.roster.posts.generation),
                started_at=is_.started_at,
                gap_s=is_.steady.gap_s,
                written_at=is_.hands.system.now(),
                reloads=is_.bulletin.reloads,
                passed=is_.start.passed,
                files=((file,) if file else ()) + is_.hands.presence.files_left(),
                config=is_.start.config(),
                asker=is_.control.fd_of(self.asker),
            )
        )

    def _why_not_now(self) -> str:
        roster = self.supervisor.roster
        if roster.reloading.running is not None:
            return "a reload runs"
        if roster.is_awaited:
            return "somebody waits for what comes before it"
        if self.supervisor.control.is_dumping:
            return "stacks are being collected"
        return why_not_now(roster.posts)

    def _refuse(self, why: str, detail: str = "") -> None:
        self.say("upgrade-failed", why=why, detail=detail)
        self._answer(self.asker, why, detail, ok=False)

    def _answer(self, asker: int, text: str, detail: str = "", *, ok: bool = True, is_last: bool = True) -> None:
        if asker:
            self.supervisor.hands.on_answer(Answer(asker, text, detail, ok, is_last))
