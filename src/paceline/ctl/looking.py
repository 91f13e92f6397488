"""Two looks at a server, and what the kernel says of its processes.  It blocks for the time between the looks.

Nothing that is shown is asked for: the scoreboard is memory, the rest is read from /proc.  So it works whatever the
server is stuck in.  Only whether the supervisor answers, `look_at` tries, for ANSWER_S at most.
"""

import select
from dataclasses import replace

from paceline import clock
from paceline.ctl.asking import is_answering
from paceline.ctl.finding import Server, open_board
from paceline.ctl.picture import UNKNOWN, Look, Picture, Process, workers_of
from paceline.host import processes, strangers
from paceline.scoreboard.board import Board

OVER_S = 0.2
"""Between the looks, when nobody says otherwise."""
ANSWER_S = 2.0
"""How long the supervisor may take for a greeting before it counts as silent."""
SATURATED_S = 1.0
"""So long none of the calls must have ended before a server counts as too full to be healthy."""


def look_at(server: Server, over_s: float = OVER_S) -> Picture:
    """What it is like.  Raises HostError when its scoreboard cannot be had, NoServerError when it has just ended."""
    board = open_board(server)
    try:
        before = _look(board)
        _pause(over_s)
        picture = _picture(server, board, before)
    finally:
        board.close()
    if server.control is not None and picture.supervisor == "running" and not is_answering(server, ANSWER_S):
        return replace(picture, supervisor="silent")
    return picture


def examine(server: Server) -> Picture:
    """The same, for its health, at once, and nobody is asked; only a server that is full is looked at for a while."""
    board = open_board(server)
    try:
        before = _look(board)
        picture = _picture(server, board, before)
        while picture.is_full_and_still and picture.over_s < SATURATED_S:
            _pause(OVER_S)
            picture = _picture(server, board, before)
        return picture
    finally:
        board.close()


def _look(board: Board) -> Look:
    return Look(clock.now_ns(), board.snapshot())


def _pause(seconds: float) -> None:
    select.poll().poll(seconds * 1000)


def _picture(server: Server, board: Board, before: Look) -> Picture:
    after = _look(board)
    is_nearby = strangers.is_nearby(server.pid)
    seats = after.snapshot.occupied
    found = {seat.index: _process(seat.worker.get("pid", 0)) if is_nearby else UNKNOWN for seat in seats}
    counters = after.snapshot.counters()
    return Picture(
        pid=server.pid,
        addresses=server.addresses,
        words=server.words,
        target=server.target,
        paceline=server.paceline,
        control=server.control,
        started=server.started,
        supervisor=_SUPERVISOR.get(processes.run_state(server.pid), "running"),
        uptime_s=(after.at_ns - board.header.created_ns) / 1e9 if board.header.created_ns else 0.0,
        over_s=(after.at_ns - before.at_ns) / 1e9,
        workers=workers_of(before, after, found),
        moved=sum(after.snapshot.total(name) - before.snapshot.total(name) for name in ("calls", "messages")),
        counters=counters,
    )


_SUPERVISOR = {"T": "stopped", "t": "stopped", "": "gone", "Z": "gone", "X": "gone"}


def _process(pid: int) -> Process:
    return Process(processes.run_state(pid), processes.resident_bytes(pid) or None)
