"""lab/progress.py: a line now and then where there is no terminal; nothing when nobody wants it."""

import os
import sys
from contextlib import suppress

import pytest

from paceline.lab.progress import shown
from paceline.lab.running import Progress


def fed(on_progress: Progress | None) -> None:
    assert on_progress is not None
    for seconds, share in ((0.1, 0.0), (5.1, 0.25), (5.2, 0.3), (11.0, 0.5)):
        on_progress("b", share, seconds)


def test_a_line_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    with shown(["a", "b"], [10.0, 20.0], 1, quiet=False, language="en") as on_progress:
        fed(on_progress)
    assert capsys.readouterr() == ("", "b (2 of 2): 25 %, about 0:15 left\nb (2 of 2): 50 %, about 0:11 left\n")


def test_in_chinese(capsys: pytest.CaptureFixture[str]) -> None:
    with shown(["a", "b"], [10.0, 20.0], 1, quiet=False, language="zh") as on_progress:
        fed(on_progress)
    assert capsys.readouterr().err.splitlines()[-1] == "b（第 2 个，共 2 个）：50 %，大约还需 0:11"


def test_nothing_when_nobody_wants_it_or_could_see_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with shown(["a"], [1.0], 0, quiet=True, language="en") as on_progress:
        assert on_progress is None
    monkeypatch.setattr(sys, "stderr", None)
    with shown(["a"], [1.0], 0, quiet=False, language="en") as on_progress:
        assert on_progress is None


@pytest.mark.parametrize("has_rich", [True, False])
def test_on_a_terminal_there_is_a_bar_if_rich_is_there(has_rich: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if has_rich:
        pytest.importorskip("rich")
    else:
        monkeypatch.setitem(sys.modules, "rich.console", None)
    ours, theirs = os.openpty()
    monkeypatch.setenv("TERM", "xterm")
    with open(theirs, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        with shown(["a", "b"], [10.0, 20.0], 1, quiet=False, language="en") as on_progress:
            fed(on_progress)
        monkeypatch.undo()
    seen = b""
    with suppress(OSError):  # so a terminal ends whose other side is closed (pty(7))
        while piece := os.read(ours, 1 << 16):
            seen += piece
    os.close(ours)
    assert b"b (2 of 2): 50 %, about 0:11 left" in seen
    assert (b"\x1b[" in seen) is has_rich
