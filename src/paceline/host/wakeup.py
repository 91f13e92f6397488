"""Waking a thread that waits in a poll, by an eventfd (eventfd(2)).

No lock: `wake` may be called from any thread, from a signal handler, and in a forked child, where a lock could be held
by a thread that is not there.  What keeps a late `wake` from writing into a descriptor that has become somebody else's
is the reference that it holds while it writes: the number is given back only when nobody has one.
"""

import contextlib
import os

_ONE = (1).to_bytes(8, "little")


class Wakeup:
    """Give `fd` to a poll set.  Edge-triggered, every `wake` reports it anew, and `clear` is not needed."""

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held: _Held | None = _Held()

    @property
    def fd(self) -> int:
        """The descriptor, or -1 when it is closed."""
        held = self._held
        return -1 if held is None else held.fd

    def wake(self) -> None:
        """Make the descriptor readable.  Never waits; does nothing when it is closed."""
        held = self._held
        if held is not None:
            with contextlib.suppress(BlockingIOError):  # the counter is full: it is readable as it can be
                os.write(held.fd, _ONE)

    def clear(self) -> bool:
        """Make it unreadable; whether it was readable.  Look for what you were woken for after this, not before."""
        held = self._held
        if held is not None:
            with contextlib.suppress(BlockingIOError):
                return bool(os.read(held.fd, 8))
        return False

    def close(self) -> None:
        """Any number of times.  The descriptor is given back when no `wake` is under way."""
        self._held = None


class _Held:
    """A descriptor that is closed with its last reference."""

    __slots__ = ("fd",)

    def __init__(self) -> None:
        self.fd = -1
        self.fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def __del__(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
