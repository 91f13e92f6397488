"""What the watcher tells the supervisor while the worker serves.

The control channel may be full, when the supervisor is busy or stopped; the watcher must not wait for it.  What it does
not take now is kept, up to a bound, and tried again at the next tick.  Ready, Failed and Leaving go another way
(process.py): they are said by who has nothing else to do.
"""

import contextlib
import socket
from collections import deque

from paceline.worker.messages import Message, encode

MOST_KEPT = 256


class Telling:
    """One worker's end of its control channel; used by the watcher only."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._kept: deque[bytes] = deque(maxlen=MOST_KEPT)

    @property
    def is_behind(self) -> bool:
        """Something is kept that the channel has not taken."""
        return bool(self._kept)

    def say(self, message: Message) -> None:
        """Send it as soon as the channel takes it."""
        self._kept.append(encode(message))
        self.flush()

    def flush(self) -> None:
        """Send what was kept, as far as the channel takes it."""
        with contextlib.suppress(BlockingIOError):
            while self._kept:
                try:
                    self._control.send(self._kept[0], socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
                except BlockingIOError:
                    raise
                except OSError:  # the supervisor is gone; the watcher finds out
                    self._kept.clear()
                    return
                self._kept.popleft()
