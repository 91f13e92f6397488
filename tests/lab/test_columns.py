"""lab/columns.py: how wide text is, and where it is broken, in both languages."""

import pytest

from paceline.lab.columns import padded, width, wrapped


def test_a_chinese_character_takes_two_columns() -> None:
    assert [width(text) for text in ("", "abc", "线程", "a线。", "e\u0301", "µ ×")] == [0, 3, 4, 5, 1, 3]
    assert padded("线程", 6) == "线程  "
    assert padded("7", 3, to_right=True) == "  7"
    assert padded("线程", 2) == "线程"


@pytest.mark.parametrize(
    ("text", "columns", "lines"),
    [
        ("", 10, []),
        ("a bc def", 4, ["a bc", "def"]),
        ("a  \n b", 10, ["a b"]),
        ("incredible it is", 5, ["incredible", "it is"]),
        ("线程和进程", 4, ["线程", "和进", "程"]),
        ("线程，进程。", 4, ["线", "程，", "进", "程。"]),
        ("用fork创建", 6, ["用fork", "创建"]),
        ("进程（fork）", 8, ["进程", "（fork）"]),
        ("a 线程 b", 5, ["a 线", "程 b"]),
    ],
)
def test_lines_are_broken_where_they_may_be(text: str, columns: int, lines: list[str]) -> None:
    assert wrapped(text, columns) == lines
