"""host/terminal.py: whether progress can be shown on standard error, and by what."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from paceline.host import terminal


@contextmanager
def on_terminal(kind: str) -> Iterator[None]:
    """Standard error is one of this kind.  In the test itself: pytest puts its own there before each phase."""
    ours, theirs = os.openpty()
    with pytest.MonkeyPatch.context() as patch, open(theirs, "w") as end:
        patch.setattr(sys, "stderr", end)
        patch.setenv("TERM", kind)
        yield
    os.close(ours)


def test_a_terminal_is_one_unless_it_is_dumb() -> None:
    with on_terminal("xterm"):
        assert terminal.is_there()
    with on_terminal("dumb"):
        assert not terminal.is_there()
        assert terminal.bar() is None


def test_what_is_no_terminal_or_is_closed_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    with open(os.devnull, "w") as nowhere:
        monkeypatch.setattr(sys, "stderr", nowhere)
        assert not terminal.is_there()
    assert not terminal.is_there(), "it is closed by now"
    assert terminal.bar() is None


def test_without_rich_there_is_no_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rich.console", None)
    with on_terminal("xterm"):
        assert terminal.bar() is None


def test_with_rich_there_is_one() -> None:
    pytest.importorskip("rich")
    with on_terminal("xterm"):
        assert terminal.bar() is not None
