"""What standard error shows while experiments run: a bar on a terminal, if rich is there; else a line at times."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from paceline.host import terminal
from paceline.lab.running import Progress
from paceline.lab.terminal import left_s, progress_text

LINE_EVERY_S = 5.0


@contextmanager
def shown(
    names: Sequence[str], expected_s: Sequence[float], at: int, *, quiet: bool, language: str
) -> Iterator[Progress | None]:
    """Gives what `measure` is to call while it measures number `at` of these, which as a rule take so long."""
    if quiet or sys.stderr is None:
        yield None
        return
    bar = terminal.bar()
    last_s = 0.0

    def text(share: float, seconds: float) -> str:
        left = left_s(expected_s, at, share, seconds)
        return progress_text(names[at], at + 1, len(names), share, left)[language]

    if bar is None:

        def on_line(_name: str, share: float, seconds: float) -> None:
            nonlocal last_s
            if seconds - last_s >= LINE_EVERY_S:
                last_s = seconds
                with suppress(OSError, ValueError):
                    print(text(share, seconds), file=sys.stderr, flush=True)

        yield on_line
        return
    total, before = sum(expected_s), sum(expected_s[:at])
    with bar:
        task = bar.add_task(text(0, 0), total=total, completed=before)

        def on_bar(_name: str, share: float, seconds: float) -> None:
            bar.update(task, description=text(share, seconds), completed=before + share * expected_s[at])

        yield on_bar
