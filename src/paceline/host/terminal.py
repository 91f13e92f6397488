"""The terminal behind standard error, if there is one: where progress is shown."""

import os
import sys
from contextlib import suppress
from typing import Any


def is_there() -> bool:
    """Whether standard error is a terminal on which a line can change."""
    with suppress(OSError, ValueError):
        return os.isatty(sys.stderr.fileno()) and os.environ.get("TERM") != "dumb"
    return False


def bar() -> Any:
    """A rich.progress.Progress for it, gone at its end; None where there is no such terminal, or no rich."""
    if not is_there():
        return None
    try:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn
    except ImportError:
        return None
    # Drawn seldom: what is drawn takes time from what is measured, which may share the core.
    return Progress(
        BarColumn(bar_width=30),
        TextColumn("{task.description}"),
        console=Console(stderr=True),
        transient=True,
        refresh_per_second=2,
    )
