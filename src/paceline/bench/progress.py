"""What is shown on standard error while a run lasts: a bar on a terminal, if rich is there; else a line each second."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from paceline.bench.plan import Plan
from paceline.bench.report import progress_text
from paceline.bench.run import Progress
from paceline.host import terminal

LINE_EVERY_S = 1.0


@contextmanager
def shown(plan: Plan, *, quiet: bool) -> Iterator[Progress | None]:
    """Gives what `measure` is to call."""
    if quiet or sys.stderr is None:
        yield None
        return
    bar = terminal.bar()
    if bar is None:
        yield _lines()
        return
    total = plan.duration_s if plan.count is None else plan.count
    with bar:
        task = bar.add_task("connecting and warming up", total=None)

        def on_progress(seconds: float, answered: int, errors: int) -> None:
            text = progress_text(seconds, answered, answered / seconds if seconds > 0 else 0, errors)
            bar.update(task, description=text, total=total, completed=seconds if plan.count is None else answered)

        yield on_progress


def _lines() -> Progress:
    last_s = 0.0

    def on_progress(seconds: float, answered: int, errors: int) -> None:
        nonlocal last_s
        if seconds - last_s >= LINE_EVERY_S:
            last_s = seconds
            with suppress(OSError, ValueError):
                print(progress_text(seconds, answered, answered / seconds, errors), file=sys.stderr, flush=True)

    return on_progress
