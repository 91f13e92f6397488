"""What the documentation shows can be run, and does what it says there.  How, is in walkthrough.py."""

import re
from pathlib import Path

import pytest

import walkthrough
from walkthrough import LANGUAGES, Block, Section, is_server, is_word_of, pattern_of, sections_of, steps_of, walking

ROOT = Path(__file__).parents[1]
PAGES = [*sorted(ROOT.glob("*.md")), ROOT / "benchmarks" / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
SOURCE = ROOT / "src" / "paceline"
READING_LINES = 900

pytestmark = pytest.mark.usefixtures("nothing_left")


def sections() -> list[object]:
    """Every section that has something to run, with the files of Python that the page has shown before it."""
    found: list[object] = []
    for page in PAGES:
        files: dict[str, str] = {}
        for section in sections_of(page.read_text("utf-8")):
            if section.blocks:
                title = re.sub(r"[^\w ]", "", section.title).strip() or "top"
                found.append(pytest.param(section, dict(files), id=f"{page.relative_to(ROOT)}: {title}"))
            files |= {block.name: block.text for block in section.blocks if block.name and block.language == "python"}
    return found


@pytest.mark.parametrize(("section", "files"), sections())
def test_what_a_section_shows_is_what_happens(section: Section, files: dict[str, str]) -> None:
    with walking(files) as walk:
        walk.through(section.blocks)


# docs/architecture.md

ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text("utf-8")
TO_READ = re.findall(r"^\| \d+ \| \[([\w/.]+)\]\(\.\./src/paceline/[\w/.]+\) \| (\d+) \|", ARCHITECTURE, re.MULTILINE)


def test_what_is_to_be_read_first_is_read_in_an_hour() -> None:
    lengths = {name: len((SOURCE / name).read_text("utf-8").splitlines()) for name, _ in TO_READ}
    assert len(lengths) > 5
    assert sum(lengths.values()) <= READING_LINES
    wrong = {name: lengths[name] for name, said in TO_READ if abs(int(said) - lengths[name]) > lengths[name] / 10}
    assert not wrong, "the page says something else"


def test_every_file_that_the_page_names_is_there() -> None:
    named = set(re.findall(r"`((?:\w+/)*\w+\.py|\w+/)`", ARCHITECTURE))
    assert len(named) > 20
    assert [name for name in sorted(named) if not ((SOURCE / name).exists() or (ROOT / name).exists())] == []


def test_every_promise_of_the_page_is_held_by_a_test() -> None:
    promises = (ROOT / "tests" / "test_promises.py").read_text("utf-8")
    numbers = re.findall(r"^\| (\d) \| [^\[]", ARCHITECTURE, re.MULTILINE)
    assert [number for number in numbers if f"def test_{number}_" not in promises] == ["8"], "whose test is elsewhere"


# how it is done

PAGE = """\
# Title

```python
# app.py: what a reader types
x = 1
```

## One

    $ not run

```console
the log
$ printf a \\
  b
a…
…
```

## Two & three
"""


def test_a_page_is_cut_into_sections_and_blocks() -> None:
    assert sections_of(PAGE) == [
        Section("", [Block("python", "# app.py: what a reader types\nx = 1\n", 4)]),
        Section("One", [Block("console", "the log\n$ printf a \\\n  b\na…\n…\n", 13)]),
        Section("Two & three", []),
    ]


def test_a_block_that_has_no_end_is_named() -> None:
    with pytest.raises(AssertionError, match="the block that begins in line 2 has no end"):
        sections_of("```python\nx = 1\n")


@pytest.mark.parametrize(
    ("language", "first", "name"),
    [
        ("python", "# app.py", "app.py"),
        ("python", "# a/b_c.py: more", "a/b_c.py"),
        ("toml", "# paceline.toml", "paceline.toml"),
        ("python", "# of app.py", None),
        ("python", "import app", None),
        ("console", "# app.py", None),
    ],
)
def test_a_block_may_be_a_file(language: str, first: str, name: str | None) -> None:
    assert Block(language, f"{first}\n", 1).name == name


def test_a_console_has_a_log_and_commands() -> None:
    before, (step,) = steps_of(sections_of(PAGE)[1].blocks[0])
    assert before == ["the log"]
    assert (step.command, step.expected, step.line) == ("printf a \\\n  b", ["a…", "…"], 14)


@pytest.mark.parametrize(
    ("shown", "expected", "is_right"),
    [
        ("a b c\n", ["a … c"], True),
        ("a\n", ["a"], True),
        ("a  \n", ["a"], True),
        ("a\nb\n", ["a"], False),
        ("", ["a"], False),
        ("", [], True),
        ("a\n", [], False),
        ("a\nb\nc\n", ["a", "…", "c"], True),
        ("a\nc\n", ["a", "…", "c"], True),
        ("a\nb\n", ["a", "…", "c"], False),
        ("a\nb\n", ["a…b"], False),
        ("x.y\n", ["x.y"], True),
        ("x-y\n", ["x.y"], False),
    ],
)
def test_what_is_expected_is_all_that_is_shown(shown: str, expected: list[str], is_right: bool) -> None:
    assert bool(pattern_of(expected).fullmatch(shown)) is is_right


def test_a_server_runs_on_and_a_check_does_not() -> None:
    assert is_server("paceline serve app.py:x --framing line")
    assert not is_server("paceline serve app.py:x --check")
    assert not is_server("paceline connect :8888")


SERVE = Block("console", "$ paceline serve echo\n…listening on 127.0.0.1:8888 · …\n", 1)


@pytest.mark.parametrize(
    ("block", "said"),
    [
        (Block("console", "$ echo here\nthere\n", 7), "line 7: $ echo here\nshowed\nhere\n\nand not\nthere"),
        (Block("console", "$ echo why; false\nwhy\n", 7), "line 7: $ echo why; false\nended with 1 and showed\nwhy"),
        (Block("pycon", ">>> 1 + 1\n3\n", 7), "the block in line 7:"),
        (Block("python", "x = y\n", 7), "NameError: name 'y' is not defined"),
        (Block("python", "# app.py\nx = y\n", 7), "NameError: name 'y' is not defined"),
        (Block("perl", "1", 7), "line 7: nobody can run 'perl' blocks"),
        (Block("console", "what it says\n", 7), "line 7 shows the log of a server, but none runs"),
    ],
)
def test_a_page_that_is_wrong_is_found_by_its_line(block: Block, said: str) -> None:
    with walking({}) as walk, pytest.raises(AssertionError, match=re.escape(said)):
        walk.through([block])


def test_the_port_is_that_of_the_server_everywhere() -> None:
    ask = "bash -c \"exec 3<>/dev/tcp/127.0.0.1/8888; printf 'x\\n' >&3; head -n 1 <&3\""
    later = Block("toml", "# later.toml, port 8888\n", 5)
    shown = Block("console", f"$ {ask}\nx\n$ python early.py\n8888\n$ cat later.toml\n# later.toml, port 8888\n", 9)
    with walking({"early.py": "print(8888)"}) as walk:
        walk.through([SERVE])
        assert walk.server
        assert (walk.server.folder / "early.py").read_text() == f"print({walk.server.address[1]})"
        walk.through([later, shown])
        assert (walk.server.folder / "later.toml").read_text() == f"# later.toml, port {walk.server.address[1]}\n"


def test_without_a_server_nobody_listens() -> None:
    refused = "$ bash -c 'exec 3<>/dev/tcp/127.0.0.1/8888' || echo nobody\n…\n…/8888: Connection refused\nnobody\n"
    with walking({}) as walk:
        walk.through([Block("console", refused, 1)])


def test_a_session_may_leave_out_what_differs() -> None:
    session = ">>> print('a b', chr(0x2026))\na … …\n>>> [][1]\nTraceback (most recent call last):\n…\nIndexError: …\n"
    with walking({}) as walk:
        walk.through([Block("pycon", session, 1)])


def test_the_next_server_takes_the_place_of_the_last_one() -> None:
    with walking({}) as walk:
        walk.through([SERVE])
        first = walk.server
        walk.through([SERVE])
        assert first
        assert walk.server is not first
        assert first.process.returncode == 0


def test_a_log_goes_on_where_the_page_was(monkeypatch: pytest.MonkeyPatch) -> None:
    again = Block("console", "…listening on 127.0.0.1:8888 · …\n", 9)
    with walking({}) as walk:
        walk.through([SERVE])
        monkeypatch.setattr(walkthrough, "LOG_S", 0.1)
        with pytest.raises(AssertionError, match=r"0\.1 s have passed without"):
            walk.through([again])


@pytest.mark.parametrize(
    ("text", "is_there"),
    [("$ paceline serve app.py:x", True), (">>> import app", True), ("application", False), ("$ ls my-app", False)],
)
def test_a_file_is_used_where_its_name_is_a_word(text: str, is_there: bool) -> None:
    assert is_word_of(text, "app") is is_there


def test_languages_are_those_that_are_told_of() -> None:
    record = (ROOT / "docs" / "decisions" / "0014-docs-that-run.md").read_text("utf-8")
    assert all(f"`{language}`" in record for language in LANGUAGES)
