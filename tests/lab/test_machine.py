"""lab/machine.py: what predictions depend on, and that it comes back from what was kept."""

import json

import pytest

from paceline import __version__
from paceline.errors import HostError
from paceline.host.cpu import usable_cores
from paceline.lab import machine


def test_this_machine_comes_back_as_it_was_kept() -> None:
    here = machine.look()
    assert (here.cores, here.facts["cores_why"]) == usable_cores()
    assert here.facts["paceline"] == __version__
    assert {"kernel", "python", "build", "switch_interval_s", "free_threaded_build"} <= here.facts.keys()
    assert machine.machine_of(json.loads(json.dumps(dict(here.facts)))) == here


@pytest.mark.parametrize("enabled", [True, False])
def test_a_python_without_the_gil_says_so(enabled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys._is_gil_enabled", lambda: enabled, raising=False)
    assert machine.look().has_gil is enabled


def test_a_quota_counts_as_so_many_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("paceline.host.cpu.usable_cores", lambda: (1, "a CPU quota of 1.5 cores (control group)"))
    here = machine.look()
    assert (here.cores, here.facts["cores_why"]) == (1, "a CPU quota of 1.5 cores (control group)")


@pytest.mark.parametrize(("is_free", "enabled", "flags"), [(0, True, []), (1, True, ["gil=1"]), (1, False, ["gil=0"])])
def test_another_python_is_as_this_one(
    is_free: int, enabled: bool, flags: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys._is_gil_enabled", lambda: enabled, raising=False)
    monkeypatch.setattr("sysconfig.get_config_var", lambda _name: is_free)
    _, safe, *rest = machine.fresh_python()
    assert (safe, rest[1:]) == ("-P", flags)
    monkeypatch.setattr("sys.executable", "")
    with pytest.raises(HostError, match=r"does not know its own program \(sys\.executable\)"):
        machine.fresh_python()


def test_the_folder_of_a_prompt_is_not_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.path", ["", "/a"])
    assert machine.module_path() == ["/a"]
