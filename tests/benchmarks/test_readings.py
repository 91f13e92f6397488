"""What the kernel says: the texts of proc(5), and the real thing about ourselves."""

import os
import time

import pytest

from benchmarks import readings
from benchmarks.readings import TICKS_PER_S, busy_s_in, stat_fields_in, tree_in, value_in


def test_a_process_may_have_any_name() -> None:
    assert stat_fields_in("17 (a) R (b c) S 4 17 9 0\n") == (4, 17, "S")


def test_a_tree_has_all_that_descend() -> None:
    assert tree_in({2: 1, 3: 2, 4: 3, 5: 1, 6: 9}, 2) == [2, 3, 4]
    assert tree_in({}, 2) == [2]


def test_values_by_their_key() -> None:
    text = "Name:\tx\nThreads:\t12\nPss:      345 kB\n"
    assert value_in(text, "Threads") == 12
    assert value_in(text, "Pss") == 345
    with pytest.raises(KeyError):
        value_in(text, "Rss")


def test_a_core_is_busy_when_it_is_neither_idle_nor_waiting_for_a_disk() -> None:
    stat = "cpu  9 9 9 9 9 9 9 9 0 0\ncpu0 1 2 4 1000 1000 8 16 32 64 64\ncpu1 5 0 0 7 7 0 0 0 0 0\nintr 1\n"
    assert busy_s_in(stat, {0}) * TICKS_PER_S == 63
    assert busy_s_in(stat, {0, 1}) * TICKS_PER_S == pytest.approx(68)


def test_the_clock_of_a_process_is_that_process_s() -> None:
    assert readings.cpu_s([os.getpid()]) == pytest.approx(time.process_time(), abs=1)


def test_about_ourselves() -> None:
    own = os.getpid()
    assert readings.tree(own)[0] == own
    assert own in readings.tree(os.getppid())
    assert own in readings.group_members(os.getpgid(0))
    assert readings.threads([own]) >= 1
    own_kib, rss_kib = readings.memory_kib([own])
    assert 0 < own_kib <= rss_kib
    assert readings.busy_s(os.sched_getaffinity(0)) > 0


def test_a_process_that_is_gone() -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    with pytest.raises(FileNotFoundError):
        readings.threads([pid])
    with pytest.raises(OSError, match=r"Errno 22|Errno 3"):
        readings.cpu_s([pid])
