"""Upgrade in place: a new Paceline, or a new Python, takes over in the supervisor's process (USR2, ctl upgrade).

    old program   `write` the state to a memfd → a rehearsal with it (rehearsal.py), while everything goes on
                  → `write` it once more, as it is now → `replace_image`: all signals blocked, what is kept made
                  inheritable, exec.  If anything fails before that, nothing has happened
    new program   `take` reads the memfd and makes close-on-exec again what was kept, before anything else is opened
                  → the settings are read as at every start → `adopt_…` → handlers, signals unblocked
                  → an ordinary reload: new workers with the new program, then the old ones leave

The process stays: its number, its children, its listeners and the files of Unix sockets, the connections that its
workers hold.  The workers notice nothing; they run the old program until the reload relieves them.

The scoreboard is kept, so the new program must mean the same by every cell of it; if it does not, the upgrade is
refused, by name, in the rehearsal.
"""

import json
import os
import re
import socket
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import NoReturn

from paceline import __version__
from paceline.errors import HostError
from paceline.host import images, memory, processes
from paceline.host.listeners import Listener
from paceline.host.unix_paths import Made
from paceline.scoreboard.board import Board
from paceline.settings import Settings
from paceline.settings.sources import File, Resolved, lay
from paceline.settings.table import BY_KEY, TABLE
from paceline.supervisor.lifecycle import State, Worker
from paceline.supervisor.posts import Limits, Posts, SeatState
from paceline.supervisor.seats import Seat, close_seats
from paceline.supervisor.size import Size, why_no_room
from paceline.supervisor.start import FD_VARIABLE, TRY_VARIABLE, Origin
from paceline.supervisor.testament import (
    MOST_BYTES,
    FileLeft,
    ListenerLeft,
    SeatLeft,
    Testament,
    TestamentError,
    WorkerLeft,
    decode,
    encode,
    fixed_changes,
)
from paceline.worker import messages
from paceline.worker.plan import Inbox


def why_not_now(posts: Posts) -> str:
    """What is in the way of an upgrade, as a clause; empty: nothing.  The caller knows of reloads and the end."""
    if not posts.is_serving:
        return "the first worker is still starting"
    if any(worker.state in (State.FORKING, State.BOOTING, State.STANDBY) for worker in posts.workers.values()):
        return "a worker is just starting"
    if any(slot.incoming is not None or slot.seat is None for slot in posts.slots):
        return "a worker is just being replaced"
    return ""


# The old program


@dataclass(frozen=True, slots=True)
class Server:
    """What the supervisor holds, as far as the next program needs it."""

    board: Board
    seats: Sequence[Seat]
    listeners: Sequence[Listener]
    posts: Posts
    settings: Settings
    started_at: float
    gap_s: float
    written_at: float = 0.0
    reloads: int = 0
    passed: Mapping[int, str] | None = None
    files: tuple[FileLeft, ...] = ()
    config: str = ""
    asker: int = -1


def testament_of(server: Server) -> Testament:
    """Its state, written down."""
    return Testament(
        pid=os.getpid(),
        start_ticks=processes.start_ticks(os.getpid()),
        paceline=__version__,
        board=server.board.fd,
        seats=tuple(_seat_left(seat, server.posts) for seat in server.seats),
        listeners=tuple(_listener_left(listener) for listener in server.listeners),
        workers=len(server.posts.slots),
        generation=server.posts.generation,
        newest=server.posts.newest,
        started_at=server.started_at,
        gap_s=server.gap_s,
        written_at=server.written_at,
        reloads=server.reloads,
        settings={row.key: json.dumps(getattr(server.settings, row.name)) for row in TABLE},
        passed={str(fd): name for fd, name in (server.passed or {}).items()},
        files=server.files,
        config=server.config,
        asker=server.asker,
    )


def fixed_of(settings: Settings) -> dict[str, str]:
    """The settings that only a restart changes, as a person would write them."""
    return {row.key: row.kind.show(getattr(settings, row.name)) for row in TABLE if row.reload == "restart"}


def write(testament: Testament) -> int:
    """A memfd with it, close-on-exec; the caller closes it.  Raises HostError."""
    fd = memory.create_growing("paceline-testament")
    try:
        text = encode(testament)
        while text:
            text = text[os.write(fd, text) :]
    except OSError as error:
        memory.close(fd)
        raise HostError(f"the state of the server cannot be written down: {error.strerror}") from error
    return fd


def replace_image(
    origin: Origin, testament: Testament, state_fd: int, take_received: Callable[[], Iterable[int]]
) -> NoReturn:
    """Become the new program.  Raises HostError when it cannot be executed: then nothing has changed.

    `state_fd` is from `write`; `take_received` gives the signals that have arrived and were not looked at.
    """
    environment = origin.environment(state_fd, is_rehearsal=False)
    try:
        images.execute(origin.command, environment, origin.folder, [state_fd, *testament.descriptors()], take_received)
    except OSError as error:
        raise HostError(
            f"{origin.command[0]} cannot be executed: {error.strerror}; the running version goes on"
        ) from error


def _listener_left(listener: Listener) -> ListenerLeft:
    made = listener.made
    fd, words = listener.fileno(), listener.words
    left = ListenerLeft(fd=fd, index=listener.index, text=listener.text, kind=listener.kind, words=words)
    return left if made is None else replace(left, path=made.path, device=made.device, inode=made.inode)


def _seat_left(seat: Seat, posts: Posts) -> SeatLeft:
    worker = posts.workers.get(seat.number)
    return SeatLeft(
        number=seat.number,
        reader=seat.inbox.reader.fileno(),
        writer=seat.inbox.writer.fileno(),
        faults=seat.fault_fd,
        worker=_worker_left(seat, worker, posts) if worker is not None and seat.is_taken else None,
        is_emptying=posts.seats[seat.number] is SeatState.EMPTYING,
    )


def _worker_left(seat: Seat, worker: Worker, posts: Posts) -> WorkerLeft:
    return WorkerLeft(
        pid=seat.pid,
        control=-1 if seat.control is None else seat.control.fileno(),
        slot=worker.slot,
        generation=worker.generation,
        state=worker.state.name,
        forked_at=worker.forked_at,
        ready_at=worker.ready_at,
        kill_at=worker.kill_at,
        is_current=posts.is_current(worker),
        is_deaf=seat.is_deaf,
        has_said_farewell=worker.left is not None,
        messages_before=seat.messages_before,
        outbox=tuple(messages.encode(message).decode() for message in seat.outbox),
    )


# The new program


def take(environment: MutableMapping[str, str]) -> tuple[Testament | None, bool]:
    """(what was left to us, this is only a rehearsal); None: nothing was, this is an ordinary start.

    To be called before anything is opened.  The variables are gone afterwards, and what was kept is close-on-exec.
    Raises TestamentError.
    """
    text, is_rehearsal = environment.pop(FD_VARIABLE, None), environment.pop(TRY_VARIABLE, None) is not None
    if text is None:
        return None, False
    testament = decode(_read(text))
    ours = os.getppid() if is_rehearsal else os.getpid()
    if (testament.pid, testament.start_ticks) != (ours, processes.start_ticks(ours)):
        raise TestamentError(
            f"{FD_VARIABLE} is for process {testament.pid}; Paceline sets it itself, in an upgrade; unset it"
        )
    if not is_rehearsal:
        for fd in testament.descriptors():
            try:
                os.set_inheritable(fd, False)
            except OSError as error:
                raise TestamentError(f"descriptor {fd} was not kept: {error.strerror}") from error
    return testament, is_rehearsal


def _read(text: str) -> bytes:
    if not re.fullmatch("[0-9]{1,9}", text):
        raise TestamentError(
            f"{FD_VARIABLE}={text!r} is no descriptor; Paceline sets it itself, in an upgrade; unset it"
        )
    fd = int(text)
    try:
        size = memory.size_of(fd)
        if size > MOST_BYTES:
            raise TestamentError(f"the state of the running server has {size} bytes, more than {MOST_BYTES}")
        found = memory.read(fd, 0, size)
        memory.close(fd)
    except OSError as error:
        raise TestamentError(
            f"{FD_VARIABLE}={fd}: {error.strerror}; Paceline sets it itself, in an upgrade; unset it"
        ) from error
    return found


def settings_left(testament: Testament) -> Resolved | None:
    """The settings of the generation that serves; None: not known.

    Raises SettingError for one that this version does not take, TestamentError for what is no setting at all.
    """
    if not testament.settings:
        return None
    try:
        values = {key: json.loads(text) for key, text in testament.settings.items() if key in BY_KEY}
    except ValueError as error:
        raise TestamentError(f"the settings of the running server cannot be read: {error}") from None
    return replace(lay([File(values, "the running server")]), file=testament.config)


def examine(testament: Testament, settings: Settings) -> None:
    """Whether this program can go on from there, with these settings.  Raises HostError, which says why not."""
    before = settings_left(testament)
    changes = fixed_changes(fixed_of(before.settings), fixed_of(settings)) if before is not None else []
    if changes:
        raise HostError(f"{'; '.join(changes)}: only a restart can change that; take it back, or restart the server")
    board = Board.attach(os.dup(testament.board))
    try:
        if not board.is_current:
            raise HostError(
                f"the scoreboard of the running server (Paceline {testament.paceline}) has another layout than that of "
                f"this version ({__version__}); an upgrade in place cannot change it, restart the server instead"
            )
        if board.layout.seats < len(testament.seats):
            raise HostError(
                f"the scoreboard of the running server has {board.layout.seats} seats, and its state speaks of "
                f"{len(testament.seats)}; restart the server instead"
            )
        size = Size(testament.workers, len(testament.seats), cores=0, why_cores="")
        if why := why_no_room(settings, size, board.layout.threads):
            raise HostError(why)
    finally:
        board.close()


@contextmanager
def adopted(testament: Testament) -> Iterator[tuple[Board, list[Seat]]]:
    """The scoreboard and the seats; given back at the end."""
    board = Board.attach(testament.board)
    seats = adopt_seats(testament, board)
    try:
        yield board, seats
    finally:
        close_seats(seats)
        board.close()


def adopt_listeners(testament: Testament) -> list[Listener]:
    """The listeners, in their order."""
    return [
        Listener(
            socket.socket(fileno=left.fd),
            left.text,
            left.kind,
            left.index,
            Made(left.path, left.device, left.inode, os.getpid()) if left.path else None,
            left.words,
        )
        for left in sorted(testament.listeners, key=lambda left: left.index)
    ]


def adopt_seats(testament: Testament, board: Board) -> list[Seat]:
    """The seats, with those workers in them that are still children of ours: dead ones are reaped as always."""
    return [_adopt_seat(left, board) for left in testament.seats]


def _adopt_seat(left: SeatLeft, board: Board) -> Seat:
    reader, writer = socket.socket(fileno=left.reader), socket.socket(fileno=left.writer)
    for end in (reader, writer):
        end.setblocking(False)
    seat = Seat(left.number, Inbox(reader, writer), left.faults)
    worker = left.worker
    if worker is None:
        return seat
    if worker.control >= 0:
        seat.control = socket.socket(fileno=worker.control)
        seat.control.setblocking(False)
    if not processes.is_child(worker.pid):
        seat.leave()
        board.leave(seat.number)
        return seat
    seat.sit(worker.pid, processes.open_pidfd(worker.pid), worker.messages_before)
    seat.is_deaf = worker.is_deaf
    seat.outbox = deque(message for text in worker.outbox if (message := messages.decode(text.encode())) is not None)
    return seat


def adopt_posts(testament: Testament, seats: Sequence[Seat], limits: Limits, now: float) -> Posts:
    """The books: who sits where.  A seat whose worker could not be adopted is emptied, and its slot filled again.

    What is there is judged by its own settings; `limits` are for a server that has not written them down.
    """
    before = settings_left(testament)
    posts = Posts.of(testament.workers, len(seats), limits if before is None else Limits.of(before.settings))
    posts.generation, posts.newest, posts.is_serving = testament.generation, testament.newest, True
    for left, seat in zip(testament.seats, seats, strict=True):
        if left.is_emptying or (left.worker is not None and not seat.is_taken):
            posts.seats[seat.number] = SeatState.EMPTYING
        if left.worker is not None and seat.is_taken:
            posts.seats[seat.number] = SeatState.TAKEN
            posts.workers[seat.number] = _adopt_worker(left.worker, seat.number, now)
            slot = posts.slots[left.worker.slot] if left.worker.is_current else None
            if slot is not None:
                slot.seat, slot.forked_at = seat.number, left.worker.forked_at
                posts.forked_at[slot.number] = left.worker.forked_at
    return posts


def _adopt_worker(left: WorkerLeft, seat: int, now: float) -> Worker:
    worker = Worker(left.slot, seat, left.generation)
    worker.state = State.__members__.get(left.state, State.READY)
    worker.pid, worker.forked_at, worker.ready_at, worker.kill_at = (
        left.pid,
        left.forked_at,
        left.ready_at,
        left.kill_at,
    )
    worker.left = messages.Leaving(0) if left.has_said_farewell else None
    worker.beat_at = now
    return worker
