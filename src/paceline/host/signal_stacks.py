"""A stack for signal handlers, for the calling thread (sigaltstack(2)).

A thread that has used up its own stack (C code that recurses: a deep repr, a parser, a comparison) is ended by SIGSEGV,
whose handler needs a stack to run on.  faulthandler has one for the thread that enabled it, and without one in the
other threads the process would end without a report.
"""

import ctypes
import mmap
import os
import threading

SS_DISABLE = 2  # signal.h of Linux
BYTES = 64 * 1024
"""Reserved; memory is taken by a crash only.  faulthandler itself asks for less."""


class _Stack(ctypes.Structure):
    """`stack_t` of sigaltstack(2)."""

    _fields_ = (("sp", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


_sigaltstack = ctypes.CDLL(None, use_errno=True).sigaltstack
_sigaltstack.argtypes = [ctypes.POINTER(_Stack), ctypes.POINTER(_Stack)]
_sigaltstack.restype = ctypes.c_int

_of_thread = threading.local()


class _Own:
    """Lives and ends with its thread, which drops its locals itself."""

    def __init__(self) -> None:
        self.memory = mmap.mmap(-1, BYTES)
        start = ctypes.addressof(ctypes.c_char.from_buffer(self.memory))
        if _sigaltstack(_Stack(start, 0, BYTES), None) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

    def __del__(self) -> None:
        _sigaltstack(_Stack(None, SS_DISABLE, 0), None)


def provide() -> bool:
    """Give the calling thread one, until it ends.  False: it cannot be had, and a crash there may go unreported."""
    try:
        _of_thread.own = _Own()
    except (OSError, ValueError):
        return False
    return True


def has_one() -> bool:
    """The calling thread has a stack for signal handlers."""
    now = _Stack()
    return _sigaltstack(None, now) == 0 and not now.flags & SS_DISABLE
