"""bench/crew.py: load processes are started, named when they end too early, and gone at the end."""

import os
import signal
import socket
import sys

import pytest

from bench.loads import planned
from paceline.bench.crew import Crew
from paceline.errors import HostError, UsageError

pytestmark = pytest.mark.usefixtures("nothing_left")
HERE = (socket.AF_INET, ("127.0.0.1", 1))  # nobody listens there, and nothing is sent before they are told


def wait_message(crew: Crew) -> tuple[int, dict[str, object]]:
    for _ in range(100):
        for found in crew.wait_heard(0.1):
            return found
    raise AssertionError("nothing was heard")


def wait_for_all(crew: Crew) -> None:
    for _ in range(100):
        wait_message(crew)


def test_they_say_what_they_met() -> None:
    with Crew(planned("x:1"), HERE) as crew:
        assert wait_message(crew) == (0, {"failed": "refused", "made": 0})


def test_one_that_is_killed_is_named_with_how_it_ended() -> None:
    with Crew(planned("x:1", new_connection=True, processes=3), HERE) as crew:
        os.kill(crew.pids[1], signal.SIGKILL)
        with pytest.raises(HostError, match=r"load process 2 of 3 \(pid \d+\) was killed by SIGKILL before it had a"):
            wait_for_all(crew)


def test_one_that_cannot_be_started_is_the_machine_s_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(HostError, match="load process 1 of 1 could not be started: No such file"):
        Crew(planned("x:1"), HERE)


def test_what_a_process_cannot_do_is_the_users_mistake() -> None:
    with (
        Crew(planned("x:1", framing="nowhere.py:framing"), HERE) as crew,
        pytest.raises(UsageError, match=r"nowhere\.py"),
    ):
        wait_message(crew)


def test_they_are_gone_at_the_end_whatever_they_do() -> None:
    with Crew(planned("x:1", new_connection=True, processes=2), HERE) as crew:
        pids = crew.pids
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
