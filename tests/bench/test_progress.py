"""bench/progress.py: lines, at most one a second, or nothing.  The bar is seen in tests/cli/test_bench.py."""

import sys

import pytest

from bench.loads import planned
from paceline.bench.progress import shown


def test_a_line_each_second(capsys: pytest.CaptureFixture[str]) -> None:
    with shown(planned("x:1"), quiet=False) as on_progress:
        assert on_progress is not None
        for seconds in (0.5, 1.0, 1.5, 1.9, 2.1):
            on_progress(seconds, int(seconds * 100), 0)
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["1 s · 100 replies · 100 a second · 0 errors", "2 s · 210 replies · 100 a second · 0 errors"]


def test_nothing_when_quiet_or_when_nobody_could_read_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with shown(planned("x:1"), quiet=True) as on_progress:
        assert on_progress is None
    monkeypatch.setattr(sys, "stderr", None)
    with shown(planned("x:1"), quiet=False) as on_progress:
        assert on_progress is None
