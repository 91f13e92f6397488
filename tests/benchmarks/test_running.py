"""Programs are started where they should run, listened to, and certainly ended."""

import os
import signal
import subprocess
import sys
import time
from typing import Any

import pytest

from benchmarks import running
from benchmarks.readings import group_members
from benchmarks.running import Interrupts, MeasurementError, Program, on_cores

CORES = frozenset({min(os.sched_getaffinity(0))})
WAIT_S = 30
STUBBORN = """
import os, signal, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork() == 0:
    sys.stdout.write("child\\n"); sys.stdout.flush()
    signal.pause()
os._exit(0)
"""


def python(text: str) -> Program:
    return Program([sys.executable, "-c", text], CORES)


def test_it_runs_on_its_cores_and_we_stay_on_ours() -> None:
    before = os.sched_getaffinity(0)
    with python("import os; print(os.sched_getaffinity(0))") as program:
        assert program.output.wait_line(WAIT_S) == str(set(CORES))
    assert os.sched_getaffinity(0) == before


def test_cores_are_given_back_after_an_error() -> None:
    before = os.sched_getaffinity(0)
    with pytest.raises(ZeroDivisionError), on_cores(CORES):
        raise ZeroDivisionError
    assert os.sched_getaffinity(0) == before


def test_it_does_not_see_our_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PACELINE_THREADS", "1")
    with python("import os; print([name for name in os.environ if name.startswith('PACELINE')])") as program:
        assert program.output.wait_line(WAIT_S) == "[]"


def test_lines_are_waited_for_until_there_are_no_more() -> None:
    with python("print('one'); print('two', end='')") as program:
        assert program.output.wait_line(WAIT_S) == "one"
        assert program.output.wait_line(WAIT_S) is None
        assert program.output.ended


def test_a_line_that_does_not_come_is_not_waited_for_longer() -> None:
    with python("import signal; signal.pause()") as program:
        assert program.output.wait_line(0.01) is None
        assert not program.output.ended


def test_a_program_is_ended_and_leaves_nothing() -> None:
    with python("import signal; print('up', flush=True); signal.pause()") as program:
        assert program.output.wait_line(WAIT_S) == "up"
        assert program.end() == 0
    assert program.process.returncode == -signal.SIGTERM
    assert group_members(program.pid) == []


def test_what_outlives_its_program_is_counted_and_killed() -> None:
    with python(STUBBORN) as program:
        assert program.output.wait_line(WAIT_S) == "child"
        assert program.end() == 1
    deadline = time.monotonic() + WAIT_S
    while group_members(program.pid):
        assert time.monotonic() < deadline


def test_an_exit_code_that_is_not_0_is_an_error_that_says_what_the_program_said() -> None:
    with (
        python("import sys; sys.exit('no luck')") as program,
        pytest.raises(MeasurementError, match=r"ended with 1\nno luck"),
    ):
        program.wait_exit(WAIT_S)


def test_a_program_that_does_not_end_in_time() -> None:
    with (
        python("import signal; signal.pause()") as program,
        pytest.raises(MeasurementError, match="has not ended"),
    ):
        program.wait_exit(0.01)


def test_the_first_signal_interrupts_and_the_second_does_not() -> None:
    interrupts = Interrupts()
    with pytest.raises(KeyboardInterrupt):
        interrupts.on_signal(signal.SIGINT, None)
    interrupts.on_signal(signal.SIGINT, None)


def test_a_signal_waits_for_the_end_of_an_uninterrupted_block() -> None:
    interrupts = Interrupts()
    done = []

    def start_something() -> None:
        with interrupts.uninterrupted():
            interrupts.on_signal(signal.SIGTERM, None)
            done.append("the rest of the block")

    with pytest.raises(KeyboardInterrupt):
        start_something()
    assert done == ["the rest of the block"]
    with interrupts.uninterrupted():
        pass  # a later block, while everything is being ended, is not interrupted again


def test_a_program_that_was_interrupted_in_its_start_is_ended_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    interrupts = Interrupts()
    started: list[subprocess.Popen[bytes]] = []
    real = subprocess.Popen

    def start_and_signal(*words: Any, **options: Any) -> "subprocess.Popen[bytes]":
        started.append(real(*words, **options))
        interrupts.on_signal(signal.SIGINT, None)
        return started[0]

    monkeypatch.setattr(running, "interrupts", interrupts)
    monkeypatch.setattr(subprocess, "Popen", start_and_signal)
    with pytest.raises(KeyboardInterrupt):
        python("import signal; signal.pause()")
    running.end_all()
    assert started[0].returncode == -signal.SIGTERM


def test_standard_error_is_read_in_the_background() -> None:
    with python("import sys; sys.stderr.write('x' * 1_000_000 + '\\nlast\\n'); print('through')") as program:
        program.log_in_background()
        assert program.output.wait_line(WAIT_S) == "through", "a full pipe would have held it"
        program.end()
        assert program.last_said[-1] == "last"
