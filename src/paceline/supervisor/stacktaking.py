"""The stacks of all workers for whoever asks on the control socket.  Used by control.py, on the loop's one thread.

One question runs at a time (dumping.py), because two would read each other's signals' answers out of the memory of a
seat; whoever asks meanwhile shares the next one, which begins after he has asked.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from paceline.supervisor.dumping import Dumping
from paceline.supervisor.requests import fitting
from paceline.supervisor.seats import Seat
from paceline.worker.messages import Dumped

if TYPE_CHECKING:
    from paceline.supervisor.loop import Supervisor

MOST_BYTES = 768 * 1024
"""What the stacks of all workers may take in one answer: less than a client may leave unread (clients.py)."""

Entry = dict[str, object]
"""A worker: slot, pid, seat, generation, state, text."""


class Stacktaking:
    """The dump that runs, and who waits for it and for the next."""

    def __init__(self, server: "Supervisor") -> None:
        self.server = server
        self._dumping: Dumping | None = None
        self._askers: list[int] = []
        self._waiting: list[int] = []
        self._entries: dict[int, Entry] = {}
        """By seat; an entry has a text when its worker has answered."""

    def ask(self, asker: int) -> None:
        self._waiting.append(asker)

    @property
    def next_at(self) -> float | None:
        """When `step` is to be called; None: nobody waits for anything."""
        if self._dumping is not None and not self._dumping.is_over:
            return self._dumping.next_at
        return self.server.now() if self._waiting or self._dumping is not None else None

    def on_message(self, seat: Seat, message: Dumped) -> None:
        if self._dumping is not None:
            self._dumping.on_message(seat, message)

    def step(self, now: float) -> Iterator[tuple[int, list[Entry]]]:
        """Go on; whoever's answer is complete, with it."""
        if self._dumping is None and self._waiting:
            self._begin()
        if self._dumping is None:
            return
        for seat, text in self._dumping.on_time(now):
            if seat.number in self._entries:
                self._entries[seat.number]["text"] = text
        if self._dumping.is_over:
            found = sorted(self._entries.values(), key=lambda entry: (str(entry["slot"]).zfill(9), str(entry["pid"])))
            texts = fitting([str(entry.get("text", "")) for entry in found], MOST_BYTES)
            answer = [{**entry, "text": text} for entry, text in zip(found, texts, strict=True)]
            askers, self._askers, self._dumping = self._askers, [], None
            for asker in askers:
                yield asker, answer

    def _begin(self) -> None:
        self._askers, self._waiting = self._waiting, []
        workers = self.server.roster.posts.workers
        self._entries = {
            number: {
                "slot": worker.slot,
                "pid": worker.pid,
                "seat": number,
                "generation": worker.generation,
                "state": worker.state.name.lower(),
            }
            for number, worker in workers.items()
            if self.server.seats[number].is_taken
        }
        self._dumping = Dumping(self.server.now)
        self._dumping.begin(self._askers[0], (self.server.seats[number] for number in self._entries))
