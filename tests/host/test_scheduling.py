"""host/scheduling.py: waiting told apart from running."""

import threading
from time import sleep

from paceline import clock
from paceline.host import scheduling


def test_waiting_is_a_voluntary_switch() -> None:
    before = scheduling.voluntary_switches()
    sleep(0.001)  # what is measured here is a wait
    assert scheduling.voluntary_switches() > before


def test_computing_is_running() -> None:
    thread_id = threading.get_native_id()
    before, begin = scheduling.running_ns(thread_id), clock.now_ns()
    while clock.now_ns() - begin < 50_000_000:
        pass
    assert scheduling.running_ns(thread_id) - before > 20_000_000


def test_waiting_is_not_running() -> None:
    thread_id = threading.get_native_id()
    before = scheduling.running_ns(thread_id)
    sleep(0.05)
    assert scheduling.running_ns(thread_id) - before < 40_000_000


def test_a_thread_that_is_gone() -> None:
    assert scheduling.running_ns(2**22 + 1) == 0
