"""lab/machine.py: what predictions depend on, and that it comes back from what was kept."""

import json
import os

import pytest

from paceline import __version__
from paceline.lab import machine


def test_this_machine_comes_back_as_it_was_kept() -> None:
    here = machine.look()
    assert here.cores == len(os.sched_getaffinity(0))
    assert here.facts["paceline"] == __version__
    assert {"kernel", "python", "build", "switch_interval_s", "free_threaded_build"} <= here.facts.keys()
    assert machine.machine_of(json.loads(json.dumps(dict(here.facts)))) == here


@pytest.mark.parametrize("enabled", [True, False])
def test_a_python_without_the_gil_says_so(enabled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys._is_gil_enabled", lambda: enabled, raising=False)
    assert machine.look().has_gil is enabled
