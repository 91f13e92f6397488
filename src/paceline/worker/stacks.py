"""Where the threads of this process are: their Python stacks as text, and whose connection each has in hand.

Read from outside, by another thread, while they go on: a stack is what it was at one moment, or a little torn.  Whoever
reports it looks before and after whether the call is still the same one.

Nothing here waits for a thread.  What is shown is bounded: of a deep recursion the two ends.
"""

import sys
import traceback
from collections.abc import Mapping
from itertools import dropwhile
from os import path
from types import FrameType

import paceline
from paceline.worker.connection import Connection

MOST_WALKED = 2_000
"""Frames that are looked at; what lies below them, in a recursion without end, is not."""
MOST_OUTER, MOST_INNER = 12, 28
"""Frames that are shown of a deep stack: where it began, and where it is."""

_OURS = path.join(path.dirname(paceline.__file__), "")
_WORKER = path.join(_OURS, "worker", "")
_THREADING = ("threading.py",)
_NAMES = ("c", "connection")
"""What our functions call the connection that they have in hand."""

Frames = Mapping[int, FrameType]


def frames_now() -> Frames:
    """The innermost frame of every thread, by `threading.get_ident` of it."""
    return sys._current_frames()


def walk(frame: FrameType | None) -> list[FrameType]:
    """The frames of a thread, innermost first, at most `MOST_WALKED`."""
    frames: list[FrameType] = []
    while frame is not None and len(frames) < MOST_WALKED:
        frames.append(frame)
        frame = frame.f_back
    return frames


def text_of(frames: list[FrameType]) -> str:
    """A stack as in a traceback, the most recent call last, without what led to the user's first line.

    Where no line of the user's is in it, it is shown from its beginning.
    """
    is_whole = len(frames) < MOST_WALKED
    outermost_first = frames[::-1]
    if is_whole:
        outermost_first = list(dropwhile(_led_there, outermost_first)) or outermost_first
    left_out = len(outermost_first) - MOST_OUTER - MOST_INNER
    if left_out <= 0:
        return _format(outermost_first)
    outer, inner = outermost_first[:MOST_OUTER], outermost_first[-MOST_INNER:]
    many = f"{left_out}" if is_whole else f"{left_out} or more"
    return f"{_format(outer)}  … {many} frames left out …\n{_format(inner)}"


def connection_of(frames: list[FrameType]) -> Connection | None:
    """The connection that a thread has in hand, if it has one and is seen to.

    It is that of our innermost frame: those further out may still name the one that they had before (loop.py).
    """
    for frame in frames:
        code = frame.f_code
        if code.co_filename.startswith(_WORKER):
            for name in _NAMES:
                if name in code.co_varnames and isinstance(found := frame.f_locals.get(name), Connection):
                    return found
    return None


def _led_there(frame: FrameType) -> bool:
    """Ours, or the standard library's beginning of a thread."""
    name = frame.f_code.co_filename
    return name.startswith(_OURS) or path.basename(name) in _THREADING


def _format(outermost_first: list[FrameType]) -> str:
    pairs = [(frame, frame.f_lineno or 0) for frame in outermost_first]
    return "".join(traceback.StackSummary.extract(iter(pairs), lookup_lines=True).format())
