"""host/scheduling.py: waiting told apart from running."""

import threading
from time import sleep

from paceline import clock
from paceline.host import scheduling


def test_waiting_is_a_voluntary_switch() -> None:
    before = scheduling.voluntary_switches()
    sleep(0.001)  # what is measured here is a wait
    assert scheduling.voluntary_switches() > before


def spin(ns: int) -> None:
    begin = clock.now_ns()
    while clock.now_ns() - begin < ns:
        pass


def times() -> scheduling.Times:
    found = scheduling.times_of(threading.get_native_id())
    assert found is not None
    return found


def test_computing_is_running_or_queueing() -> None:
    before = times()
    spin(50_000_000)
    after = times()
    assert after.ran_ns - before.ran_ns + after.waited_ns - before.waited_ns > 20_000_000


def test_waiting_is_neither() -> None:
    before = times()
    sleep(0.05)
    after = times()
    assert after.ran_ns - before.ran_ns < 40_000_000
    assert 1 <= after.slices - before.slices < 50


def test_a_thread_that_waits_is_not_runnable() -> None:
    go = threading.Event()
    thread = threading.Thread(target=go.wait, args=(10,))
    thread.start()
    assert thread.native_id is not None
    while scheduling.is_runnable(thread.native_id):
        pass  # it ends up in the wait
    go.set()
    thread.join()
    assert scheduling.is_runnable(threading.get_native_id())


def test_a_thread_that_is_gone() -> None:
    assert scheduling.times_of(2**22 + 1) is None
    assert not scheduling.is_runnable(2**22 + 1)
