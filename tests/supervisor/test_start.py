"""How the server was started, and how it is started once more."""

import os
import sys

import pytest

from paceline.cli.launch import UPGRADE_VARIABLES
from paceline.supervisor.start import FD_VARIABLE, TRY_VARIABLE, VARIABLES, Origin, Start, origin_of_this_process


def test_the_command_is_that_of_this_process_with_the_interpreter_by_its_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/venv/bin/python")
    monkeypatch.setattr(sys, "orig_argv", ["python", "-P", "-m", "paceline", "serve"])
    origin = origin_of_this_process("/srv", {"A": "b"})
    assert origin == Origin(("/venv/bin/python", "-P", "-m", "paceline", "serve"), "/srv", {"A": "b"})


@pytest.mark.parametrize(
    ("executable", "arguments"), [("", ["python", "x"]), ("/python", []), ("/python", ["/python"])]
)
def test_a_command_that_nobody_knows(monkeypatch: pytest.MonkeyPatch, executable: str, arguments: list[str]) -> None:
    monkeypatch.setattr(sys, "executable", executable)
    monkeypatch.setattr(sys, "orig_argv", arguments)
    assert "does not know by which command it was started" in str(origin_of_this_process("/srv", {}))


def test_the_environment_of_the_next_program() -> None:
    origin = Origin(("/python",), "/srv", {"NOTIFY_SOCKET": "/n"})
    real = origin.environment(7, is_rehearsal=False)
    assert (real["PWD"], real[FD_VARIABLE], real["NOTIFY_SOCKET"]) == ("/srv", "7", "/n")
    assert TRY_VARIABLE not in real
    assert real["PATH"] == os.environ["PATH"]
    tried = origin.environment(7, is_rehearsal=True)
    assert tried[TRY_VARIABLE] == "1"
    assert "NOTIFY_SOCKET" not in tried, "it does not speak in our name"


def test_both_places_know_the_same_variables() -> None:
    assert frozenset(UPGRADE_VARIABLES) == VARIABLES
    assert UPGRADE_VARIABLES[0] == FD_VARIABLE


def test_a_server_that_nobody_manages() -> None:
    start = Start()
    assert isinstance(start.origin, str)
    assert start.manager.send("READY=1")
    assert start.testament is None
