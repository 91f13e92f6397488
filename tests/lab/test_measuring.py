"""lab/measuring.py: what the process says through its pipe, and how it ends."""

import json
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from paceline.errors import HostError
from paceline.lab import measuring
from paceline.lab.catalogue import experiment_of
from paceline.lab.study import Study

pytestmark = pytest.mark.usefixtures("nothing_left")


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """Both ends."""
    readable, writable = os.pipe()
    yield readable, writable
    for fd in (readable, writable):
        try:
            os.close(fd)
        except OSError:
            continue


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch, pipe: tuple[int, int]) -> Iterator[Callable[..., Any]]:
    """`said(measure)`: the exit code of a process that measures so, and what it said; both in this process."""
    before = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(measuring, "die_with_parent", lambda *_: True)

    def said(measure: Callable[[Study], None]) -> tuple[int, list[Any]]:
        monkeypatch.setattr(measuring, "experiment_of", lambda name: replace(experiment_of(name), measure=measure))
        readable, writable = pipe
        code = measuring.main("creation", writable, True, 7, os.getppid())
        os.close(writable)
        return code, [json.loads(line) for line in os.read(readable, 1 << 16).splitlines()]

    yield said
    signal.signal(signal.SIGINT, before)


def test_samples_and_progress_are_lines(said: Callable[..., Any]) -> None:
    def measure(study: Study) -> None:
        assert (study.quick, study.seed, study.machine.cores > 0) == (True, 7, True)
        study.note("a", 1, took_s=1.0)
        study.progress(1)

    assert said(measure) == (0, [{"sample": {"case": "a", "round": 1, "took_s": 1.0}}, {"progress": 1.0}])


def test_what_failed_on_purpose_is_said_in_a_line(said: Callable[..., Any], capfd: pytest.CaptureFixture[str]) -> None:
    def measure(study: Study) -> None:
        study.note("a", 1)
        raise HostError("no memory left")

    assert said(measure) == (1, [{"sample": {"case": "a", "round": 1}}, {"failed": "no memory left"}])
    assert capfd.readouterr().err == ""


def test_a_mistake_is_said_and_shown(said: Callable[..., Any], capfd: pytest.CaptureFixture[str]) -> None:
    assert said(lambda _study: [][0]) == (1, [{"failed": "IndexError: list index out of range"}])
    assert "Traceback" in capfd.readouterr().err


def test_an_interrupt_ends_it_without_a_word(
    said: Callable[..., Any], capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measuring, "_on_interrupt", signal.default_int_handler)  # ours closes standard error
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # as for a job that a shell has put into the background
    assert said(lambda _study: signal.raise_signal(signal.SIGINT)) == (130, [])
    assert capfd.readouterr() == ("", "")


def test_when_nobody_reads_it_ends_without_a_word(
    said: Callable[..., Any], pipe: tuple[int, int], capfd: pytest.CaptureFixture[str]
) -> None:
    readable, _ = pipe

    def measure(study: Study) -> None:
        os.close(readable)
        study.note("a", 1)

    with pytest.raises(OSError, match="Bad file descriptor"):  # of this test, which reads
        said(measure)
    assert capfd.readouterr() == ("", "")


def test_without_a_parent_nothing_is_measured(said: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "die_with_parent", lambda *_: False)
    assert said(lambda study: study.note("a", 1)) == (130, [])


def test_where_a_quota_feeds_fewer_cores_no_more_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[tuple[int, list[int]]] = []
    monkeypatch.setattr("os.sched_getaffinity", lambda _pid: {5, 1, 3})
    monkeypatch.setattr("os.sched_setaffinity", lambda pid, cores: used.append((pid, cores)))
    measuring._keep_to(2)
    assert used == [(0, [1, 3])]


def test_what_is_measured_by_is_said_too(said: Callable[..., Any]) -> None:
    code, lines = said(lambda study: study.settings(clients=16))
    assert (code, lines) == (0, [{"settings": {"clients": 16}}])
