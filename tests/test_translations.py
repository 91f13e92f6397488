"""A page in Chinese says what the English one says, as far as a program can tell: code, commands, links, headings."""

import ast
import re
from pathlib import Path

import pytest

from paceline.lab import NAMES
from test_links import links_of
from walkthrough import Block, sections_of

ROOT = Path(__file__).parents[1]
SUFFIX = ".zh-CN.md"
TRANSLATED = sorted([*ROOT.glob(f"*{SUFFIX}"), *(ROOT / "docs").rglob(f"*{SUFFIX}")])
LESSON = [ROOT / "docs" / "lab" / name for name in ("README.md", "servers.md")]


def original_of(page: Path) -> Path:
    return page.with_name(page.name.removesuffix(SUFFIX) + ".md")


def without_comments(block: Block) -> str:
    """What a block does; a comment may be translated, but for one that names a file."""
    if block.language == "python":
        return f"{block.name}\n{ast.unparse(ast.parse(block.text))}"
    return re.sub(r"[ ]+# .*", "", block.text)


def code_of(text: str) -> list[tuple[str, str, str]]:
    """Of each block: the number of its section, its language, what it does."""
    return [
        (str(number), block.language, without_comments(block))
        for number, section in enumerate(sections_of(text))
        for block in section.blocks
    ]


def commands_of(text: str) -> list[str]:
    """What is indented because it is not run, without the choice of a language."""
    found = re.findall(r"^    ((?:paceline|python3|bash) .*)$", text, re.MULTILINE)
    return [command.replace(" --lang zh", "") for command in found]


def headings_of(text: str) -> list[str]:
    """Of each heading its level and its number, if it has one."""
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"^(#+ (?:\d+\. \w+)?)", prose, re.MULTILINE | re.ASCII)


def test_the_readme_and_the_lesson_are_there_in_chinese() -> None:
    assert {original_of(page) for page in TRANSLATED} >= {ROOT / "README.md", *LESSON}


@pytest.mark.parametrize("page", TRANSLATED, ids=lambda page: str(page.relative_to(ROOT)))
def test_both_languages_say_the_same(page: Path) -> None:
    here, there = page.read_text("utf-8"), original_of(page).read_text("utf-8")
    assert headings_of(here) == headings_of(there)
    assert code_of(here) == code_of(there)
    assert commands_of(here) == commands_of(there)
    assert {link.replace(SUFFIX, ".md") for link in links_of(here)} == {
        link.replace(SUFFIX, ".md") for link in links_of(there)
    }


@pytest.mark.parametrize("page", TRANSLATED, ids=lambda page: str(page.relative_to(ROOT)))
def test_each_language_leads_to_the_other_one_at_the_top(page: Path) -> None:
    original = original_of(page)
    for one, other in ((page, original), (original, page)):
        _, _, line, *_ = one.read_text("utf-8").splitlines()
        assert links_of(line)[0] == other.name


def test_the_lesson_goes_through_the_experiments_in_their_order() -> None:
    text = "".join(page.read_text("utf-8") for page in LESSON)
    sections = re.findall(r"^## \d+\. (\w+): ", text, re.MULTILINE)
    measured = re.findall(r"^    paceline lab run (\w+) --quick$", text, re.MULTILINE)
    assert list(dict.fromkeys(measured)) == sections
    assert sections == list(NAMES)


# how it is done


def test_only_comments_may_differ() -> None:
    one = "# a.py: one\nx = 1  # one\n"
    assert without_comments(Block("python", one, 1)) == without_comments(
        Block("python", "# a.py：一\nx = 1  # 一\n", 1)
    )
    assert without_comments(Block("python", one, 1)) != without_comments(Block("python", "# b.py: one\nx = 1\n", 1))
    assert without_comments(Block("pycon", ">>> f()  # in seconds\n5\n", 1)) == ">>> f()\n5\n"


def test_commands_and_headings_are_found() -> None:
    text = "# A\n## 1. turns: x\n    paceline lab list --lang zh\n\n    clients ── x\n```python\n# b.py\n```\n### C\n"
    assert commands_of(text) == ["paceline lab list"]
    assert headings_of(text) == ["# ", "## 1. turns", "### "]
