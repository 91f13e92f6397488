"""Signals as bytes in a pipe.  One verb per function, no policy.

A signal that we want to hear gets a Python handler that does nothing and, through the wake-up descriptor
(signal.set_wakeup_fd), one byte with its number in a pipe: the one place where a loop waits finds it beside its other
sources.  Two signals of a kind in quick succession may be one byte, because the kernel keeps only one pending.

Main thread only, where it changes handlers or the wake-up descriptor: Python allows it nowhere else.
"""

import ctypes
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

Handler = Callable[[int, FrameType | None], Any] | int | None
"""What signal.signal takes and returns."""

_READ_BYTES = 4096
_SIGNALFD_BYTES = 128
"""sizeof(struct signalfd_siginfo), whose first member is the number (signalfd(2))."""

_signalfd = ctypes.CDLL(None, use_errno=True).signalfd
_signalfd.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_int]
_signalfd.restype = ctypes.c_int


@contextmanager
def blocked() -> Iterator[None]:
    """All signals wait meanwhile; those that came are delivered at the end.  The mask is the calling thread's.

    Used around a fork: a signal to the newborn would otherwise run our C handler, which writes into the wake-up pipe it
    still shares with its parent.  The child is born with the mask and ends it with `unblock_all`.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


FAULTS = (signal.SIGSEGV, signal.SIGFPE, signal.SIGABRT, signal.SIGBUS, signal.SIGILL)
"""What faulthandler reports: a process makes them itself as it crashes, or is sent SIGABRT to show its stacks."""


STACKS = signal.SIGRTMIN + 1
"""What faulthandler of a worker answers with all its stacks, in C code: also while no Python can run there."""


def unblock(*numbers: int) -> None:
    """These are not blocked any more in the calling thread.

    A crash while its signal is blocked ends the process without its handler: nothing would be reported.
    """
    signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)


def unblock_all() -> None:
    """Nothing is blocked any more in the calling thread, whatever the parent process had blocked."""
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def unblock_all_but(*numbers: int) -> None:
    """Only these are blocked in the calling thread."""
    signal.pthread_sigmask(signal.SIG_SETMASK, numbers)


def open_wakeup_pipe() -> tuple[int, int]:
    """(read, write): non-blocking and close-on-exec; 65,536 signals may wait in it (pipe(7)).  Raises OSError."""
    return os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)


def install_wakeup_fd(fd: int) -> int:
    """Each handled signal writes its number as one byte to `fd`; -1 ends that.  Returns the descriptor before.

    A full pipe drops the byte in silence: it is full of wake-ups anyway.
    """
    return signal.set_wakeup_fd(fd, warn_on_full_buffer=False)


def open_signalfd(*numbers: int) -> int:
    """A descriptor that tells of these signals, which are blocked in the calling thread from now on (signalfd(2)).

    For those that the kernel sends a background process which writes to its terminal (SIGTTOU with `stty tostop`): it
    writes undisturbed while the signal is blocked, and with a handler its write would be tried again for ever.
    Non-blocking and close-on-exec.  Raises OSError.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    mask = sum(1 << (number - 1) for number in numbers)
    # sigset_t is larger in C libraries than in the kernel; signals 1 to 64 are its first eight bytes on Linux.
    fd = int(_signalfd(-1, mask.to_bytes(8, sys.byteorder) + bytes(120), os.O_CLOEXEC | os.O_NONBLOCK))
    if fd < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return fd


def take_signalfd(fd: int) -> list[int]:
    """The numbers of all signals that wait there.  Never blocks."""
    numbers: list[int] = []
    while True:
        try:
            part = os.read(fd, 32 * _SIGNALFD_BYTES)
        except BlockingIOError:
            return numbers
        starts = range(0, len(part), _SIGNALFD_BYTES)
        numbers += [int.from_bytes(part[at : at + 4], sys.byteorder) for at in starts]


def take_received(fd: int) -> list[int]:
    """The numbers of all signals in the wake-up pipe, in the order in which they came.  Never blocks."""
    numbers = bytearray()
    while True:
        try:
            part = os.read(fd, _READ_BYTES)
        except BlockingIOError:
            break
        numbers += part
        if len(part) < _READ_BYTES:
            break
    return list(numbers)


def deliver_to_wakeup(*numbers: int) -> dict[int, Handler]:
    """These signals do nothing but reach the wake-up descriptor.  Returns what was installed before, for `restore`.

    System calls that they interrupt are repeated by Python (PEP 475), so that no caller sees EINTR.
    """
    return _install(numbers, _do_nothing)


def ignore(*numbers: int) -> dict[int, Handler]:
    """The kernel drops these signals.  Children inherit that, even through exec (signal(7)).  Returns as above."""
    return _install(numbers, signal.SIG_IGN)


def reset(*numbers: int) -> dict[int, Handler]:
    """These signals do again what the kernel does by default.  Returns as above."""
    return _install(numbers, signal.SIG_DFL)


def restore(before: dict[int, Handler]) -> None:
    """Install again what one of the above replaced."""
    for number, handler in before.items():
        # None: it was installed by somebody who is not Python, and cannot be put back from here.
        signal.signal(number, signal.SIG_DFL if handler is None else handler)


@contextmanager
def interrupting(*numbers: int) -> Iterator[None]:
    """Each of these signals is as Ctrl-C, unless somebody has said what it does."""
    with _unclaimed(numbers, signal.default_int_handler):
        yield


@contextmanager
def noted(*numbers: int) -> Iterator[list[int]]:
    """The first of these signals is only noted, in the list, lest it tear something apart; the next is as Ctrl-C."""
    seen: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        if seen:
            raise KeyboardInterrupt
        seen.append(number)

    with _unclaimed(numbers, note):
        yield seen


def name_of(number: int) -> str:
    """`SIGTERM`; real-time signals by their distance, `SIGRTMIN+3`; what has no name as `signal 77`."""
    try:
        return signal.Signals(number).name
    except ValueError:
        if signal.SIGRTMIN < number < signal.SIGRTMAX:
            return f"SIGRTMIN+{number - signal.SIGRTMIN}"
        return f"signal {number}"


def _install(numbers: Iterable[int], handler: Handler) -> dict[int, Handler]:
    return {number: signal.signal(number, handler) for number in numbers}


@contextmanager
def _unclaimed(numbers: Iterable[int], handler: Handler) -> Iterator[None]:
    """The handler is that of those signals that have none but the default.

    One that is ignored (Ctrl-C for a job in the background), or that somebody else handles, stays so; and off the main
    thread nothing changes.
    """
    before: dict[int, Handler] = {}
    if threading.current_thread() is threading.main_thread():
        defaults = (signal.SIG_DFL, signal.default_int_handler)
        before = _install([number for number in numbers if signal.getsignal(number) in defaults], handler)
    try:
        yield
    finally:
        restore(before)


def _do_nothing(number: int, frame: FrameType | None) -> None:
    """The work was done before: the C handler has written the number to the wake-up descriptor."""
