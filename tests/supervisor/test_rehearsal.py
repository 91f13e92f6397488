"""A rehearsal: whatever is wrong with the new program costs a child, and nobody waits."""

import os
import select
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from leftovers import wait_gone
from paceline import clock
from paceline.host import processes
from paceline.supervisor import rehearsal as rehearsals
from paceline.supervisor.rehearsal import Outcome, Rehearsal
from paceline.supervisor.start import FD_VARIABLE, TRY_VARIABLE, Origin

pytestmark = pytest.mark.usefixtures("nothing_left")

DEADLINE_S = 20.0


@contextmanager
def rehearsed(
    source: str, folder: Path, within_s: float = DEADLINE_S, python: str = sys.executable
) -> Iterator[Rehearsal]:
    origin = Origin((python, "-c", source), str(folder), {"NOTIFY_SOCKET": "/n"})
    state_fd, board_fd = os.memfd_create("state"), os.memfd_create("board")
    os.write(state_fd, b"the state")
    try:
        running = Rehearsal.begin(origin, state_fd, board_fd, within_s, clock.now())
    finally:
        os.close(state_fd)
        os.close(board_fd)
    try:
        yield running
    finally:
        running.close()


def outcome(running: Rehearsal) -> Outcome:
    """Wait as the supervisor's loop does."""
    while True:
        poll = select.poll()
        poll.register(running.pidfd, select.POLLIN)
        poll.poll(max(0.0, min(running.ends_at - clock.now(), DEADLINE_S)) * 1000)
        found = running.try_finish(clock.now())
        if found is not None:
            return found


SHOW = f"""
import os
state = int(os.environ["{FD_VARIABLE}"])
print(os.pread(state, 99, 0).decode(), os.environ["{TRY_VARIABLE}"], os.environ["PWD"] == os.getcwd(),
      "NOTIFY_SOCKET" in os.environ)
"""


def test_it_is_given_the_state_and_told_that_it_is_only_tried(tmp_path: Path) -> None:
    with rehearsed(SHOW, tmp_path) as running:
        assert outcome(running) == Outcome(True, "", "the state 1 True False")


@pytest.mark.parametrize(
    ("source", "why", "detail"),
    [
        ("raise ValueError('boom')", "exited with code 1", "ValueError: boom"),
        ("import sys; sys.exit(3)", "exited with code 3", ""),
        ("import no_such_module", "exited with code 1", "No module named 'no_such_module'"),
        ("import os; os.kill(os.getpid(), 11)", "was killed by SIGSEGV", ""),
    ],
)
def test_what_is_wrong_with_the_new_program_is_shown(tmp_path: Path, source: str, why: str, detail: str) -> None:
    with rehearsed(source, tmp_path) as running:
        found = outcome(running)
        assert not found.ok
        assert found.why.startswith(f"the new version, when it was tried, {why}")
        assert detail in found.detail


def test_an_interpreter_that_is_not_there(tmp_path: Path) -> None:
    with rehearsed("", tmp_path, python="/no/python") as running:
        found = outcome(running)
        assert (found.ok, found.detail) == (False, "/no/python: No such file or directory")
        assert found.why == "the new version, when it was tried, exited with code 127"


def test_one_that_hangs_is_given_up_with_all_that_it_started(tmp_path: Path) -> None:
    source = "import os, time; print(os.getpid(), os.fork(), flush=True); time.sleep(100)"
    with rehearsed(source, tmp_path, within_s=0.5) as running:
        found = outcome(running)
        assert (found.ok, found.why) == (False, "the new version has not ended after 0.5 s")
    wait_gone([int(word) for word in found.detail.split() if word != "0"])


def _is_dead(pid: int) -> bool:
    return processes.run_state(pid) in ("", "Z", "X")


def test_one_that_writes_without_end_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rehearsals, "MOST_OUTPUT_BYTES", 1 << 20)
    source = "import sys\nwhile True: sys.stdout.write('x' * 65536)"
    with rehearsed(source, tmp_path) as running:
        poll = select.poll()
        poll.register(running.pidfd, select.POLLIN)
        while (found := running.try_finish(clock.now())) is None:
            poll.poll(10)
        assert found.why == "the new version writes more than 1 MiB"
        assert len(found.detail) <= rehearsals.SHOWN_BYTES


def test_somebody_else_may_reap_it_as_process_1_does(tmp_path: Path) -> None:
    with rehearsed("import sys; sys.exit(3)", tmp_path) as running:
        status = processes.reap_soon(running.pid)
        assert running.on_reaped(status).why.endswith("exited with code 3")
        assert running.pid == 0


def test_it_is_ended_with_the_server(tmp_path: Path) -> None:
    with rehearsed("import time; time.sleep(100)", tmp_path) as running:
        assert running.try_finish(clock.now()) is None
        pid = running.pid
    assert _is_dead(pid)


def test_no_process_can_be_made(tmp_path: Path) -> None:
    def refuse() -> int:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    with pytest.raises(BlockingIOError):
        Rehearsal.begin(Origin((sys.executable,), str(tmp_path), {}), 1, 2, 1.0, clock.now(), refuse)
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == set()
