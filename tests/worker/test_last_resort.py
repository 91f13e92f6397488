"""worker/last_resort.py: C code ends a process that cannot run Python, and nobody whom a pause has held up."""

import faulthandler
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from paceline.settings import Settings
from paceline.worker import last_resort

HOLDS = """
import ctypes, sys
from paceline.settings import Settings
from paceline.worker import last_resort
last_resort.HEARTBEATS = 0
last_resort.wind_up(Settings(target="echo", drain_timeout=600.0), 2)
last_resort.wind_up(Settings(target="echo", drain_timeout=0.1), 2)  # the later one counts
def hold():
    ctypes.PyDLL(None).sleep(600)  # which keeps the GIL
hold()
"""


@pytest.fixture
def armed(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """How the timer was wound up, each time; it does not run."""
    calls: list[dict[str, Any]] = []

    def note(within_s: float, **options: Any) -> None:
        calls.append({"within_s": within_s, **options})

    monkeypatch.setattr(faulthandler, "dump_traceback_later", note)
    monkeypatch.setattr(faulthandler, "is_enabled", lambda: False)
    return calls


def test_who_holds_the_gil_for_ever_shows_its_stack_and_ends(tmp_path: Path) -> None:
    program = tmp_path / "holds.py"
    program.write_text(HOLDS)
    path = {"PYTHONPATH": ":".join(place for place in sys.path if place)}
    ended = subprocess.run([sys.executable, str(program)], env=path, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 1, ended.stderr
    assert ended.stderr.startswith("Timeout (")
    assert "in hold" in ended.stderr


def test_a_pause_of_ten_minutes_ends_nobody(armed: list[dict[str, Any]]) -> None:
    """Its clock goes on in a pause, and the watcher, who would wind it up, wakes at the same moment as its thread."""
    last_resort.wind_up(Settings(target="echo"), 2)
    assert armed == [{"within_s": 630.0, "exit": True, "file": 2}]


def test_nor_one_in_which_it_boots(armed: list[dict[str, Any]]) -> None:
    last_resort.begin(Settings(target="echo", boot_timeout=45.0), 2)
    assert armed == [{"within_s": 645.0, "exit": True, "file": 2}]


def test_it_is_longer_than_a_drain_may_last(armed: list[dict[str, Any]]) -> None:
    last_resort.wind_up(Settings(target="echo", drain_timeout=3600.0, heartbeat=3.0), 2)
    assert armed[0]["within_s"] == 3600.0 + 180.0


def test_a_process_that_is_not_the_workers_own_is_never_ended(armed: list[dict[str, Any]]) -> None:
    last_resort.wind_up(Settings(target="echo"), -1)
    assert armed == []


def test_no_thread_for_it_does_no_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("unable to start watchdog thread")

    monkeypatch.setattr(faulthandler, "is_enabled", lambda: False)
    monkeypatch.setattr(faulthandler, "dump_traceback_later", refuse)
    last_resort.begin(Settings(target="echo"), 2)
    last_resort.wind_up(Settings(target="echo"), 2)


@pytest.mark.parametrize(("threads", "all_of_them"), [(99, True), (100, False)])
def test_of_very_many_threads_a_crash_shows_the_one_that_crashed(
    armed: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, threads: int, all_of_them: bool
) -> None:
    enabled: list[tuple[int, bool]] = []
    monkeypatch.setattr(faulthandler, "is_enabled", lambda: True)
    monkeypatch.setattr(faulthandler, "enable", lambda fd, all_threads: enabled.append((fd, all_threads)))
    monkeypatch.setattr(threading, "active_count", lambda: threads)
    last_resort.wind_up(Settings(target="echo"), 2)
    assert enabled == [(2, all_of_them)]
    assert len(armed) == 1
