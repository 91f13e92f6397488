"""spoken.py and wire/contained.py: a framing in the box, or one's own."""

from pathlib import Path

import pytest

from paceline.errors import SettingError, TargetError, UsageError
from paceline.spoken import framing_of, is_ours
from paceline.wire import Lines


@pytest.mark.parametrize("text", ["raw", "line", "length:4", "delimiter:a:b", "fixed:3", "netstring", "lin"])
def test_in_the_box(text: str) -> None:
    assert is_ours(text)


def test_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PWD", str(tmp_path))
    (tmp_path / "spoken_here.py").write_text("from paceline.wire import Lines\nmine = Lines(limit=7)\nnone = 3\n")
    assert not is_ours("spoken_here.py:mine")
    framing = framing_of("spoken_here.py:mine", 100)
    assert isinstance(framing, Lines)
    assert framing.limit == 7
    with pytest.raises(SettingError, match="no method cut"):
        framing_of("spoken_here.py:none", 100)
    with pytest.raises(TargetError):
        framing_of("spoken_here.py:nobody", 100)


BROKEN = """
class Mine:
    def cut(self, rest, data):
        return 1 / 0
    def join(self, replies):
        return "text"

mine = Mine()
"""


def test_ones_own_that_raises_is_at_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PWD", str(tmp_path))
    (tmp_path / "broken_here.py").write_text(BROKEN)
    (tmp_path / "broken_there.py").write_text("1 / 0\n")
    framing = framing_of("broken_here.py:mine", 100)
    with pytest.raises(UsageError, match=r"framing broken_here\.py:mine is at fault: its cut raised ZeroDivisionError"):
        framing.cut(None, b"x")
    with pytest.raises(UsageError, match="its join raised TypeError"):
        framing.join([b"x"])
    with pytest.raises(UsageError, match="its import raised ZeroDivisionError"):
        framing_of("broken_there.py:mine", 100)


def test_no_such_word() -> None:
    with pytest.raises(SettingError, match="did you mean line"):
        framing_of("lin", 100)
