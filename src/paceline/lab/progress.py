"""What standard error shows while experiments run: a bar on a terminal, if rich is there; else a line at times."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from paceline.host import terminal
from paceline.lab.running import Progress
from paceline.lab.terminal import left_s, progress_text

LINE_EVERY_S = 5.0


@contextmanager
def shown(names: Sequence[str], expected_s: Sequence[float], at: int, *, quiet: bool) -> Iterator[Progress | None]:
    """Gives what `measure` is to call while it measures number `at` of these, which as a rule take so long."""
    if quiet or sys.stderr is None:
        yield None
        return
    bar = terminal.bar()
    known, last_s = 0.0, 0.0

    def text(share: float, seconds: float) -> str:
        nonlocal known
        known = max(known, share)
        return progress_text(names[at], at + 1, len(names), known, left_s(expected_s, at, known, seconds))

    if bar is None:

        def on_line(_name: str, share: float, seconds: float) -> None:
            nonlocal last_s
            line = text(share, seconds)
            if seconds - last_s >= LINE_EVERY_S:
                last_s = seconds
                with suppress(OSError, ValueError):
                    print(line, file=sys.stderr, flush=True)

        yield on_line
        return
    total, before = sum(expected_s), sum(expected_s[:at])
    with bar:
        task = bar.add_task(text(0, 0), total=total, completed=before)

        def on_bar(_name: str, share: float, seconds: float) -> None:
            line = text(share, seconds)
            bar.update(task, description=line, completed=before + known * expected_s[at])

        yield on_bar
