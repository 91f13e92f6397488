"""Looks at a scoreboard that a test has written, without memory and processes."""

from paceline.ctl.picture import Look, Picture, Process, workers_of
from paceline.scoreboard.fields import THREAD_STATES, WORKER_STATES
from paceline.scoreboard.layout import Layout
from paceline.scoreboard.snapshot import Snapshot

LAYOUT = Layout(6, 8)
Cells = dict[int, int]
SECOND = 1_000_000_000
NOW = 1000 * SECOND


def seated(seat: int, state: str = "ready", slot: int | None = None, **cells: int) -> Cells:
    row = LAYOUT.worker_index(seat)
    slot = seat if slot is None else slot
    age = {"heartbeat_ns": NOW - SECOND // 2, "started_ns": NOW - 90 * SECOND}
    given = {"state": WORKER_STATES[state], "slot": slot, "pid": 100 + seat, "generation": 1, "threads_limit": 8}
    return {row + LAYOUT.worker_cell[name]: value for name, value in {**given, **age, **cells}.items()}


def thread(seat: int, index: int, state: str = "waiting", **cells: int) -> Cells:
    row = LAYOUT.thread_index(seat, index)
    cells = {"state": THREAD_STATES[state], **cells}
    return {row + LAYOUT.thread_cell[name]: value for name, value in cells.items()}


def look(at_ns: int, *written: Cells) -> Look:
    words = {index: value for cells in written for index, value in cells.items()}
    return Look(at_ns, Snapshot.of(LAYOUT, [(index, [words[index]]) for index in sorted(words)]))


def pictured(
    before: list[Cells],
    after: list[Cells] | None = None,
    states: dict[int, str] | None = None,
    supervisor: str = "running",
    rss_bytes: int | None = 21 << 20,
) -> Picture:
    """Two looks, half a second apart; `states` of the processes by seat, those that do not sleep."""
    first, second = look(NOW - SECOND // 2, *before), look(NOW, *(before if after is None else after))
    found = {seat: Process((states or {}).get(seat, "S"), rss_bytes) for seat in range(LAYOUT.seats)}
    return Picture(
        pid=99,
        addresses=("127.0.0.1:8888",),
        target="app.py:answer",
        paceline="1.0",
        control="/run/paceline/99.sock",
        started=0.0,
        supervisor=supervisor,
        uptime_s=185.0,
        over_s=0.5,
        workers=workers_of(first, second, found),
        moved=sum(second.snapshot.total(name) - first.snapshot.total(name) for name in ("calls", "messages")),
        counters=second.snapshot.counters(),
    )
