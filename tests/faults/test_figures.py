"""What the server must withstand: each figure of docs/reliability.md in its short form.

Each test is a run of `paceline chaos` (src/paceline/chaos), with its own server, clients and oracles: every message is
answered once and in order, or its loss is explained by what was done to the process that had it; nothing is left.  The
long form is the same command with a larger count.  Counts, order and states are asserted; times only with ten times the
room of the figure.
"""

import shutil

import pytest

from faultbed import suffer
from paceline.chaos.target import BROKEN

pytestmark = [pytest.mark.usefixtures("nothing_left"), pytest.mark.timeout(240)]


def test_reloads_under_load() -> None:
    """Nobody is disconnected, nothing is lost."""
    result = suffer("reload", 20, connections=500)
    assert (result.lost, sum(result.books.cut_by.values())) == (0, 0)
    assert result.tally.versions == 21
    assert result.most_generations <= 2
    assert result.books.counts["reload"].worst_stall_s < 2.5


def test_reloads_to_broken_code() -> None:
    """In each way in which code can be broken; nobody notices, and the old workers stay."""
    result = suffer("broken", len(BROKEN) + 2)
    assert (result.lost, sum(result.books.cut_by.values())) == (0, 0)


def test_a_thousand_reloads_within_a_second() -> None:
    result = suffer("storm", 1)
    assert (result.lost, sum(result.books.cut_by.values())) == (0, 0)
    assert result.most_generations <= 2


def test_workers_are_killed() -> None:
    """Only what the victims had is lost, and others serve in their place at once."""
    result = suffer("kill segv abort", 100, pause_s=0.02)
    took = [count.took(percent) for count in result.books.counts.values() for percent in (50, 99)]
    assert all(took_s is not None and took_s < 2.5 for took_s in took)
    assert result.unexplained() == 0


def test_all_workers_are_killed_at_the_same_moment() -> None:
    suffer("massacre", 5)


@pytest.mark.skipif(shutil.which("strace") is None, reason="there is no strace(1) to make fork fail with")
def test_no_process_can_be_made() -> None:
    result = suffer("fork", 20)
    worst_s = result.books.counts["fork"].took(100)
    assert worst_s is not None
    assert worst_s < 10


def test_the_supervisor_is_killed() -> None:
    """At rest, while a worker is born, while it reloads."""
    result = suffer("supervisor", 20)
    worst_s = result.books.counts["supervisor"].took(100)
    assert worst_s is not None
    assert worst_s < 10
    assert result.servers == 21


@pytest.mark.parametrize("fault", ["stop", "gil", "hang"])
def test_a_worker_or_a_call_hangs(fault: str) -> None:
    result = suffer(fault, 1)
    if fault == "hang":
        assert (result.lost, sum(result.books.cut_by.values())) == (0, 0)


def test_workers_are_recycled() -> None:
    """One at a time; nobody notices."""
    result = suffer("recycle", 10)
    assert (result.lost, sum(result.books.cut_by.values())) == (0, 0)


def test_there_are_more_and_fewer_workers() -> None:
    result = suffer("scale", 10)
    assert (result.lost, sum(result.books.cut_by.values())) == (0, 0)


def test_upgrades_in_place() -> None:
    """Half of them to broken code; the Unix socket is never missing."""
    result = suffer("upgrade", 10)
    assert (result.lost, sum(result.books.cut_by.values())) == (0, 0)
    assert result.servers == 1


def test_a_worker_is_saturated() -> None:
    """Its clients are served by its sibling."""
    result = suffer("saturate", 2)
    assert (result.lost, sum(result.books.cut_by.values())) == (0, 0)
    assert result.books.counts["saturate"].worst_stall_s < 0.5


def test_random_signals() -> None:
    result = suffer("signals", 20)
    worst_s = result.books.counts["signals"].took(100)
    assert worst_s is not None
    assert worst_s < 10


def test_it_is_stopped_while_calls_run_and_hang() -> None:
    result = suffer("drain twice", 20)
    assert all((count.took(100) or 0) < 10 for count in result.books.counts.values())


def test_clients_that_misbehave_and_machines_that_lack_something() -> None:
    result = suffer("reset half slow memory descriptors pause", 15)
    assert (result.lost, sum(result.books.cut_by.values())) == (0, 0)


def test_everything_in_turn() -> None:
    suffer("kill segv reload broken scale recycle upgrade reset half memory descriptors pause", 25)
