"""What faulthandler wrote about a process, made readable.  Pure.

It writes every thread, the newest first, down to the first frame.  Who reads the log wants the thread that crashed, and
the user's lines.  So that thread comes first; of each stack the part is dropped that led to the user's code; threads at
the same place share a paragraph; and what is left out, by us or by faulthandler, is said.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

ENOUGH = 32 * 1024
"""Characters of a report; about two hundred threads at different places."""

_CURRENT, _ALONE = "Current thread 0x", "Stack ("
"""How the heading of the thread that crashed begins, among others and if it is the only one that was asked for."""
_HEADINGS = ("Thread 0x", _CURRENT, _ALONE)
_BEHIND = " (most recent call first):"
_MORE = "..."
"""What stands for the threads beyond the hundredth (MAX_NTHREADS of Python/traceback.c)."""
_SAID = "faulthandler shows no more than 100 threads; there were others"
_NOT_AMONG = ", and the one that crashed is among those"
_ONLY = "only the thread that crashed is shown, because there were too many: faulthandler shows no more than 100"


@dataclass(slots=True)
class _Place:
    """Threads that are at the same place."""

    frames: list[str]
    threads: list[str] = field(default_factory=list)
    """Their headings."""

    @property
    def text(self) -> str:
        first, *others = self.threads
        if others:
            name, _, _ = first.partition(_BEHIND)
            first = f"{name} and {len(others)} more{_BEHIND}"
        return "\n".join([first, *self.frames])


def readable(text: str, led_there: Iterable[str], births: Iterable[str] = (), most: int = ENOUGH) -> str:
    """The report, at most about so many characters.

    `led_there` are beginnings of names of files: the frames of those at the bottom of a stack, below somebody else's,
    are dropped.  `births` are files at whose frames a stack ends in any case.
    """
    ours, ends = tuple(f'  File "{name}' for name in led_there), tuple(f'  File "{name}"' for name in births)
    before: list[str] = []
    after: list[str] = []
    places: dict[tuple[bool, tuple[str, ...]], _Place] = {}
    for paragraph in text.strip("\n").split("\n\n"):
        heading, *frames = paragraph.split("\n")
        if heading == _MORE:
            after.append(_SAID)
        elif not heading.startswith(_HEADINGS):
            (after if places else before).append(paragraph)
        else:
            kept = _top(frames, ours, ends)
            is_current = heading.startswith((_CURRENT, _ALONE))
            places.setdefault((is_current, tuple(kept)), _Place(kept)).threads.append(heading)
            after += [_ONLY] if heading.startswith(_ALONE) else []
    crashed = [place for (is_current, _), place in places.items() if is_current]
    others = [place for (is_current, _), place in places.items() if not is_current]
    if before and not crashed:
        after = [part + _NOT_AMONG if part == _SAID else part for part in after]
    return _bounded([*before, *(place.text for place in crashed)], [place.text for place in others], after, most)


def _top(frames: list[str], ours: tuple[str, ...], ends: tuple[str, ...]) -> list[str]:
    """The frames above those that led there; all of them, if there is nothing above."""
    end = next((at for at, frame in enumerate(frames) if frame.startswith(ends)), len(frames)) if ends else len(frames)
    frames = frames[:end]
    while end and frames[end - 1].startswith(ours):
        end -= 1
    return frames[:end] or frames


def _bounded(first: list[str], others: list[str], last: list[str], most: int) -> str:
    text = "\n\n".join(first)[:most]
    room = most - len(text) - sum(len(part) + 2 for part in last)
    left_out = 0
    for part in others:
        if left_out or len(part) + 2 > room:
            left_out += 1
            continue
        room -= len(part) + 2
        text += "\n\n" + part
    if left_out:
        last = [*last, f"… threads at {left_out} other places are left out"]
    return "\n\n".join([text, *last])[: most + 100].strip("\n")
