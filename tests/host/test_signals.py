"""Signals as bytes in a pipe.  Handlers, mask and wake-up descriptor are put back after each test."""

import os
import select
import signal
from collections.abc import Iterator

import pytest

from paceline.host import signals

HUP, TERM, USR1, USR2 = signal.SIGHUP, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2
DEADLINE_MS = 10_000

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
"""The test runner has a thread for its time limit; the supervisor has none."""


@pytest.fixture
def pipe() -> Iterator[int]:
    """The reading end of an installed wake-up pipe."""
    reader, writer = signals.open_wakeup_pipe()
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    handlers = {number: signal.getsignal(number) for number in (HUP, TERM, USR1, USR2)}
    before = signals.install_wakeup_fd(writer)
    yield reader
    signals.install_wakeup_fd(before)
    for number, handler in handlers.items():
        signal.signal(number, handler)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    os.close(reader)
    os.close(writer)


def me(number: int) -> None:
    """To this thread: one sent to the process might be taken by a thread of the test runner, which blocks nothing."""
    signal.raise_signal(number)


def test_signals_come_as_numbers_in_their_order(pipe: int) -> None:
    signals.deliver_to_wakeup(HUP, TERM, USR1)
    for number in (USR1, HUP, TERM, HUP):
        me(number)
    assert signals.take_received(pipe) == [USR1, HUP, TERM, HUP]
    assert signals.take_received(pipe) == []


def test_many_signals_are_all_there(pipe: int) -> None:
    signals.deliver_to_wakeup(USR1)
    for _ in range(5000):  # more than one read takes
        me(USR1)
    assert signals.take_received(pipe) == [USR1] * 5000


def test_a_full_pipe_neither_blocks_nor_complains(pipe: int, capfd: pytest.CaptureFixture[str]) -> None:
    signals.deliver_to_wakeup(USR1)
    writer = os.open(f"/proc/self/fd/{pipe}", os.O_WRONLY | os.O_NONBLOCK)
    try:
        for _ in range(16):
            os.write(writer, bytes(4096))
        with pytest.raises(BlockingIOError):
            os.write(writer, bytes(4096))
        me(USR1)
    finally:
        os.close(writer)
    assert len(signals.take_received(pipe)) == 65536
    assert capfd.readouterr().err == ""


def test_the_pipe_ends_in_us(pipe: int) -> None:
    assert not os.get_inheritable(pipe)
    assert not os.get_blocking(pipe)


def test_blocked_signals_come_afterwards(pipe: int) -> None:
    signals.deliver_to_wakeup(TERM)
    with signals.blocked():
        me(TERM)
        assert signals.take_received(pipe) == []
        assert TERM in signal.sigpending()
    assert signals.take_received(pipe) == [TERM]


def test_blocked_keeps_what_was_blocked_before(pipe: int) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, [USR2])
    with signals.blocked():
        assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) >= {HUP, TERM, USR1, USR2, signal.SIGCHLD}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    assert USR2 in mask
    assert TERM not in mask


def test_unblock_all_ends_also_what_was_inherited(pipe: int) -> None:
    signals.deliver_to_wakeup(USR2)
    signal.pthread_sigmask(signal.SIG_BLOCK, [USR2])
    me(USR2)
    signals.unblock_all()
    assert signals.take_received(pipe) == [USR2]
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == set()


def test_a_child_forked_while_blocked_writes_nothing_into_its_parents_pipe(pipe: int) -> None:
    signals.deliver_to_wakeup(TERM)
    with signals.blocked():
        pid = os.fork()
        if pid == 0:
            signals.install_wakeup_fd(-1)
            signals.reset(TERM)
            signals.unblock_all()  # delivered here at the latest
            signal.pause()
            os._exit(0)
        os.kill(pid, TERM)  # before it could do anything, or after
    assert os.waitpid(pid, 0)[1] == TERM
    assert signals.take_received(pipe) == []


def test_ignored_signals_are_dropped(pipe: int) -> None:
    before = signals.ignore(HUP)
    me(HUP)
    assert signals.take_received(pipe) == []
    signals.restore(before)
    assert signal.getsignal(HUP) == before[HUP]


def test_restore_puts_back_what_was_there(pipe: int) -> None:
    seen: list[int] = []
    signal.signal(USR1, lambda number, frame: seen.append(number))
    before = signals.deliver_to_wakeup(USR1, USR2)
    me(USR1)
    assert seen == []
    signals.restore(before)
    me(USR1)
    assert seen == [USR1]


def test_restore_of_what_python_did_not_install_is_the_default(pipe: int) -> None:
    signals.ignore(USR2)
    signals.restore({USR2: None})
    assert signal.getsignal(USR2) == signal.SIG_DFL


def test_the_first_one_is_noted_and_the_second_one_interrupts(pipe: int) -> None:
    with signals.noted(TERM, USR1) as seen:
        signal.raise_signal(TERM)
        assert seen == [TERM]
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(USR1)
    assert signal.getsignal(TERM) is signal.SIG_DFL


def test_as_ctrl_c_unless_somebody_has_said_what_it_does(pipe: int) -> None:
    signal.signal(USR1, signal.SIG_IGN)
    with signals.interrupting(TERM, USR1):
        signal.raise_signal(USR1)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(TERM)
        with signals.noted(TERM, USR1) as seen:
            signal.raise_signal(TERM)
            signal.raise_signal(USR1)
        assert seen == [TERM]
    assert signal.getsignal(TERM) is signal.SIG_DFL


def test_a_waiting_loop_wakes_up(pipe: int) -> None:
    signals.deliver_to_wakeup(signal.SIGALRM)
    before = signal.getsignal(signal.SIGALRM)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        poll = select.poll()
        poll.register(pipe, select.POLLIN)
        assert poll.poll(DEADLINE_MS)
        assert signals.take_received(pipe) == [signal.SIGALRM]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before if before is not signals._do_nothing else signal.SIG_DFL)


@pytest.mark.parametrize(
    ("number", "name"),
    [
        (TERM, "SIGTERM"),
        (signal.SIGSEGV, "SIGSEGV"),
        (signal.SIGRTMIN, "SIGRTMIN"),
        (signal.SIGRTMIN + 3, "SIGRTMIN+3"),
        (signal.SIGRTMAX, "SIGRTMAX"),
        (77, "signal 77"),
        (32, "signal 32"),
    ],
)
def test_names(number: int, name: str) -> None:
    assert signals.name_of(number) == name
