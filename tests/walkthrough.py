"""Walking through a page of the documentation as a reader does: its blocks are run, and show what the page says.

    for section in sections_of(page):
        with walking(folder_files) as walk:
            walk.through(section.blocks)

What a block is, its fence says; how it is run, docs/decisions/0014-docs-that-run.md explains:

    ```python    with `# name.py` as its first line it is that file of the reader's folder; without, it is executed
    ```toml      `# name.toml`: the same
    ```console   `$ command` and what a terminal shows then; without a `$`, lines that the server's terminal shows
    ```pycon     an interactive session, as doctest has it
    ```text      is not run

`$ paceline serve …` starts a server (tests/testbed.py) that runs until the next one or the end of the section.  The
page says 8888 everywhere; here that is the free port which the server got.  In what is expected, `…` stands for
anything on one line, and for any number of lines where it stands alone.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from testbed import Server, running

PROGRAMS = {"python": "", "paceline": "-P -m paceline", "pytest": "-m pytest -p no:cacheprovider"}
"""What a reader's environment has on its path, as arguments of the interpreter under test."""
PORT = "8888"
NOBODY = "1"
"""The port instead while no server runs: nobody listens there (tcpmux, RFC 1078)."""
COMMAND_S = 30.0
LOG_S = 10.0
ENDS_BY_ITSELF = {"--check", "--print-config", "--help", "-h", "--version"}
"""Options with which `paceline serve` shows something and serves nothing."""
LANGUAGES = {"python", "toml", "console", "pycon", "text"}

_FENCE = re.compile(r"^```(?P<language>\S*)\s*$")
_NAMED = re.compile(r"# (?P<name>[\w./-]+\.(?:py|toml))\b")
_DOCTEST = """if True:
    import doctest, sys
    doctest.ELLIPSIS_MARKER = r"\\u2026"
    sys.exit(doctest.testfile(sys.argv[1], False, optionflags=doctest.ELLIPSIS, encoding="utf-8").failed)"""
"""What doctest compares it has made ASCII before: there its marker is … as an escape."""
_SHOWN = """if True:
    import runpy, sys
    sys.path.insert(0, "")
    runpy.run_path(sys.argv[1], run_name="shown")"""
"""Not as __main__: a script that would serve for ever only defines what it defines."""


@dataclass(frozen=True)
class Block:
    """What stands between two fences.  `line` is that of its first line on the page, from 1."""

    language: str
    text: str
    line: int

    @property
    def name(self) -> str | None:
        """The file that it is, if it says so."""
        found = _NAMED.match(self.text)
        return found["name"] if found and self.language in ("python", "toml") else None


@dataclass(frozen=True)
class Section:
    """What stands under one heading of the second level; before the first one, the title is empty."""

    title: str
    blocks: Sequence[Block]


def sections_of(page: str) -> list[Section]:
    """All sections of a page, in order.  AssertionError for a fence that is not closed."""
    sections: list[tuple[str, list[Block]]] = [("", [])]
    begun: tuple[str, int] | None = None
    lines = page.splitlines()
    for number, line in enumerate(lines, 1):
        fence = _FENCE.match(line)
        if begun and line == "```":
            language, first = begun
            text = "".join(f"{line}\n" for line in lines[first - 1 : number - 1])
            sections[-1][1].append(Block(language, text, first))
            begun = None
        elif not begun and fence:
            begun = fence["language"], number + 1
        elif not begun and line.startswith("## "):
            sections.append((line.removeprefix("## ").strip(), []))
    assert begun is None, f"the block that begins in line {begun and begun[1]} has no end"
    return [Section(title, blocks) for title, blocks in sections]


@dataclass(frozen=True)
class Step:
    """A command as typed, and the lines that are to be seen then."""

    command: str
    expected: Sequence[str]
    line: int


def steps_of(block: Block) -> tuple[list[str], list[Step]]:
    r"""The lines of a console block before its first command, and its commands.  A command may end in `\` and go on."""
    before: list[str] = []
    steps: list[tuple[str, list[str], int]] = []
    for number, line in enumerate(block.text.splitlines(), block.line):
        if line.startswith("$ "):
            steps.append((line.removeprefix("$ "), [], number))
        elif steps and not steps[-1][1] and steps[-1][0].endswith("\\"):
            command, expected, first = steps.pop()
            steps.append((f"{command}\n{line}", expected, first))
        elif steps:
            steps[-1][1].append(line)
        else:
            before.append(line)
    return before, [Step(*step) for step in steps]


def pattern_of(lines: Sequence[str]) -> re.Pattern[str]:
    """What the whole output must match to be what a page shows; white space at the end of a line does not count."""
    return re.compile("".join(r"(?:.*\n)*?" if line.strip() == "…" else _of_line(line) + r"\s*\n" for line in lines))


def _of_line(line: str) -> str:
    return ".*?".join(re.escape(part) for part in line.rstrip().split("…"))


def is_server(command: str) -> bool:
    """Whether this command serves until it is told to stop."""
    words = command.split()
    return words[:2] == ["paceline", "serve"] and not ENDS_BY_ITSELF & set(words)


def is_word_of(text: str, word: str) -> bool:
    return re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", text) is not None


class Walk:
    """One reader's folder, and the server that runs in another terminal.  Made by `walking`."""

    def __init__(self, stack: ExitStack, folder: Path, files: Mapping[str, str], bin_: Path) -> None:
        self.files = dict(files)
        self.folder = folder
        self.server: Server | None = None
        self._shown = 0  # how many lines of its log come before what a later block shows
        self._of_server = stack.enter_context(ExitStack())
        settings = {name for name in os.environ if name.startswith("PACELINE_")} - {"PACELINE_RUNTIME_DIR"}
        self._environment = {name: value for name, value in os.environ.items() if name not in settings}
        self._environment |= {
            "PATH": f"{bin_}:{os.environ['PATH']}",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONUTF8": "1",
            "COLUMNS": "120",
            "NO_COLOR": "1",
            "TERM": "dumb",
        }
        self._write_all()

    def through(self, blocks: Sequence[Block]) -> None:
        """Run them in order; AssertionError, with the line of the page, for the first that is not as shown."""
        used = "\n".join(block.text for block in blocks if block.language in ("console", "pycon"))
        for block in blocks:
            assert block.language in LANGUAGES, f"line {block.line}: nobody can run {block.language!r} blocks"
            if block.name:
                self.files[block.name] = block.text
                self._write_all()
            match block.language:
                case "console":
                    self._console(block)
                case "pycon":
                    self._script(_DOCTEST, block, "session.txt")
                case "python" if not (block.name and is_word_of(used, Path(block.name).stem)):
                    self._script(_SHOWN, block, "shown.py")

    def _console(self, block: Block) -> None:
        seen_later, steps = steps_of(block)
        if seen_later:
            self._wait_for_log(seen_later, block.line)
        for step in steps:
            if is_server(step.command):
                self._serve(step)
            else:
                self._run(step)

    def _serve(self, step: Step) -> None:
        """A reader has one terminal for the server: the one before is stopped first, and must end cleanly."""
        self._of_server.close()
        self.server = None
        words = [re.sub(rf":{PORT}$", ":0", word) for word in shlex.split(step.command)[2:]]
        target = () if not words or words[0].startswith("-") else (words.pop(0),)
        made = {path.name: path.read_text("ascii") for path in self.folder.glob("*.pem")}  # by commands before it
        server = self._of_server.enter_context(running(*target, *words, files=self.files | made))
        self.server, self.folder, self._shown = server, server.folder, 0
        self._write_all()  # again: only now the port is known
        self._wait_for_log(step.expected, step.line)

    def _wait_for_log(self, lines: Sequence[str], line: int) -> None:
        """What this block shows comes behind what earlier blocks have shown."""
        assert self.server, f"line {line} shows the log of a server, but none runs"
        shown = self._shown
        for expected in lines:
            if expected.strip() != "…":
                # searched for, not matched: lines come from several processes, in no order that a page could promise
                sought = re.compile(_of_line(self._here(expected)))
                found = self.server.wait_for_log(sought, LOG_S, since=self._shown)
                shown = max(shown, self.server.log.split("\n").index(found, self._shown) + 1)
        self._shown = shown

    def _run(self, step: Step) -> None:
        done = subprocess.run(
            ["bash", "-c", self._here(step.command)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=self.folder,
            env=self._environment,
            timeout=COMMAND_S,
        )
        shown = done.stdout.decode("utf-8", "backslashreplace")
        shown += "" if shown.endswith("\n") or not shown else "\n"
        where = f"line {step.line}: $ {step.command}"
        assert done.returncode == 0, f"{where}\nended with {done.returncode} and showed\n{shown}"
        expected = [self._here(line) for line in step.expected]
        assert pattern_of(expected).fullmatch(shown), f"{where}\nshowed\n{shown}\nand not\n" + "\n".join(expected)

    def _script(self, runner: str, block: Block, name: str) -> None:
        path = self.folder / name
        path.write_text(self._here(block.text), "utf-8")
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", runner, name],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            cwd=self.folder,
            env=self._environment,
            timeout=COMMAND_S,
        )
        path.unlink()
        shown = (done.stdout + done.stderr).decode("utf-8", "backslashreplace")
        assert done.returncode == 0, f"the block in line {block.line}:\n{shown}"

    def _here(self, text: str) -> str:
        """The same with the port of the server that runs."""
        return re.sub(rf"\b{PORT}\b", str(self.server.address[1]) if self.server else NOBODY, text)

    def _write_all(self) -> None:
        for name, text in self.files.items():
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(self._here(text), "utf-8")


@contextmanager
def walking(files: Mapping[str, str]) -> Iterator[Walk]:
    """A reader who has these files from earlier sections; at the end the server has stopped cleanly."""
    place = Path(tempfile.mkdtemp(prefix="paceline-walk-"))
    try:
        folder, bin_ = place / "folder", place / "bin"
        folder.mkdir()
        bin_.mkdir()
        for name, words in {
            "python": "",
            "paceline": "-P -m paceline",
            "pytest": "-m pytest -p no:cacheprovider",
        }.items():
            script = bin_ / name
            script.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {words} "$@"\n')
            script.chmod(0o755)
        with ExitStack() as stack:
            yield Walk(stack, folder, files, bin_)
    finally:
        shutil.rmtree(place)
