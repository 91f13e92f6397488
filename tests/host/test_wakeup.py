"""Waking a poll: never too late, never into a descriptor of somebody else's."""

import os
import select
import threading

import pytest

from paceline.host.wakeup import Wakeup

pytestmark = pytest.mark.usefixtures("nothing_left")


def is_readable(fd: int) -> bool:
    return bool(select.select([fd], [], [], 0)[0])


def test_it_is_readable_from_wake_to_clear() -> None:
    wakeup = Wakeup()
    assert not is_readable(wakeup.fd)
    wakeup.wake()
    wakeup.wake()
    assert is_readable(wakeup.fd)
    assert wakeup.clear() is True
    assert wakeup.clear() is False
    assert not is_readable(wakeup.fd)
    wakeup.close()


def test_each_wake_is_an_edge_though_nobody_reads() -> None:
    wakeup = Wakeup()
    with select.epoll() as poller:
        poller.register(wakeup.fd, select.EPOLLIN | select.EPOLLET)
        for _ in range(3):
            wakeup.wake()
            assert poller.poll(0) == [(wakeup.fd, select.EPOLLIN)]
            assert poller.poll(0) == []
    wakeup.close()


def test_it_wakes_a_thread_that_waits() -> None:
    wakeup = Wakeup()
    woken = []
    thread = threading.Thread(target=lambda: woken.append(select.select([wakeup.fd], [], [], 5)[0]))
    thread.start()
    wakeup.wake()
    thread.join()
    assert woken == [[wakeup.fd]]
    wakeup.close()


def test_a_full_counter_neither_blocks_nor_raises() -> None:
    wakeup = Wakeup()
    os.eventfd_write(wakeup.fd, 2**64 - 2)
    wakeup.wake()
    assert wakeup.clear()
    wakeup.close()


def test_closed_it_does_nothing() -> None:
    wakeup = Wakeup()
    wakeup.close()
    wakeup.close()
    assert wakeup.fd == -1
    wakeup.wake()
    assert wakeup.clear() is False


def test_a_wake_that_comes_late_does_not_write_to_whoever_has_the_number_now() -> None:
    wakeup = Wakeup()
    held = wakeup._held  # as a thread has it that is stopped inside `wake`
    assert held is not None
    wakeup.close()
    stranger = os.eventfd(0, os.EFD_NONBLOCK)
    assert stranger != held.fd
    os.write(held.fd, bytes(7) + b"\1")
    assert not is_readable(stranger)
    number = held.fd
    del held
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(number)
    os.close(stranger)


def test_a_child_does_not_inherit_it_by_exec() -> None:
    wakeup = Wakeup()
    assert not os.get_inheritable(wakeup.fd)
    wakeup.close()


def test_waking_and_closing_from_many_threads() -> None:
    for _ in range(50):
        wakeup = Wakeup()
        start = threading.Barrier(4)

        def wake(wakeup: Wakeup = wakeup, start: threading.Barrier = start) -> None:
            start.wait()
            for _ in range(20):
                wakeup.wake()

        threads = [threading.Thread(target=wake) for _ in range(3)]
        for thread in threads:
            thread.start()
        start.wait()
        wakeup.close()
        for thread in threads:
            thread.join()
