"""The clocks: which ones they are, since all others are given the time as an argument."""

import threading
import time

from paceline import clock


def test_now_is_the_monotonic_clock_in_both_units() -> None:
    before = time.monotonic_ns()
    seconds, nanoseconds = clock.now(), clock.now_ns()
    after = time.monotonic_ns()
    assert before <= seconds * 1e9 + 1_000
    assert seconds * 1e9 - 1_000 <= nanoseconds <= after
    assert time.get_clock_info("monotonic").monotonic


def test_processor_time_is_that_of_the_process_and_of_one_thread_alone() -> None:
    spent: list[int] = []

    def work() -> None:
        begun = clock.thread_cpu_ns()
        while clock.thread_cpu_ns() - begun < 20_000_000:
            pass
        spent.append(clock.thread_cpu_ns())

    process, own = clock.process_cpu(), clock.thread_cpu_ns()
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert spent[0] >= 20_000_000
    assert clock.process_cpu() - process >= 0.019
    assert clock.thread_cpu_ns() - own < 15_000_000, "the other thread's time was counted as ours"


def test_wall_time_is_seconds_since_the_epoch() -> None:
    before = time.time()
    assert before <= clock.wall_seconds() <= time.time()
