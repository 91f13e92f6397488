"""The ends of processes: workers are reaped, asked about and cleared away; as PID 1, everybody else's orphans, too.

Used by the supervisor's loop, on its one thread.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from paceline.host import processes
from paceline.supervisor.seats import Seat
from paceline.supervisor.vocabulary import Event, Said, SeatEmptied

if TYPE_CHECKING:
    from paceline.supervisor.loop import Supervisor


class Burying:
    """Who looks after the dead of one server."""

    def __init__(self, supervisor: "Supervisor") -> None:
        self.supervisor = supervisor

    def on_ended(self, seat: Seat | None) -> Iterator[Event]:
        """Who sits there has ended."""
        assert seat is not None
        status = processes.reap(seat.pid) if seat.is_taken else None
        if status is not None:
            yield from self._bury(seat, status)

    def _bury(self, seat: Seat, status: int) -> Iterator[Event]:
        """A worker is dead and reaped: hear its last words, look at what it was doing, clear its seat."""
        while words := seat.hear():
            for message in words:
                yield Said(seat.number, message)
        exited = self.supervisor.inquest.inquire(seat.number, seat.fault_fd, status, self.supervisor.now())
        self.supervisor.board.leave(seat.number)
        seat.leave()
        yield exited

    def on_inbox(self, seat: Seat | None) -> Iterator[Event]:
        """Connections wait in the inbox of the dead, and may be moved."""
        assert seat is not None
        if not seat.is_taken and self.supervisor.hands.move_inbox(seat):
            yield SeatEmptied(seat.number)

    def on_orphans(self) -> Iterator[Event]:
        """As PID 1: all that has ended, workers among them."""
        while (pid := processes.find_ended()) is not None:
            status = processes.reap(pid)
            if status is None:
                return
            seat = next((seat for seat in self.supervisor.seats if seat.pid == pid), None)
            if seat is not None:
                yield from self._bury(seat, status)
            elif not self.supervisor.changing.is_rehearsed_by(pid, status):
                self.supervisor.log.say("orphan-reaped", pid=pid, cause=processes.cause_of(status))
