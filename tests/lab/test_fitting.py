"""lab/fitting.py: limits that the system names, and threads that are made and gone."""

import threading

import pytest

from paceline.lab.fitting import STEPS, limits, make_as_many


def test_this_system_names_limits() -> None:
    found = limits()
    assert found["kernel.threads-max"] > 0
    assert all(isinstance(count, int) and count > 0 for count in found.values())


def test_limits_of_the_user_and_of_the_control_group_count(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = {"/proc/sys/vm/max_map_count": "65530", "/a/b/pids.max": "max", "/a/pids.max": "700", "/pids.max": "900"}
    monkeypatch.setattr("paceline.host.cgroups.read_text", texts.get)
    monkeypatch.setattr("paceline.host.cgroups.read_own", lambda: ("", ""))
    folders = [(2, "/a/b"), (2, "/a"), (2, "")]
    monkeypatch.setattr("paceline.host.cgroups.folders", lambda _controller, _own, _mounts: folders)
    monkeypatch.setattr("resource.getrlimit", lambda _what: (4096, 8192))
    assert limits() == {"vm.max_map_count": 32765, "RLIMIT_NPROC": 4096, "pids.max": 700}


def test_threads_are_made_in_steps_and_gone() -> None:
    before = threading.active_count()
    steps, made, why = make_as_many(STEPS * 2)
    assert (made, why) == (STEPS * 2, "")
    assert [count for count, _, _ in steps] == list(range(2, STEPS * 2 + 1, 2))
    assert all(0 < rss <= size for _, rss, size in steps)
    assert threading.active_count() == before
