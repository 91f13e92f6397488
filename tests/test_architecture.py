"""The house keeps its order: which room may import which, what is pure, no cycles, one reader of the clock.

`ROOMS` is the table.  A room is a file or a folder of src/paceline; it stands on a line, and imports itself and the
lines above it (smaller numbers), never a neighbour on its own line, except those in `NEIGHBOURS`.  A file that is not
in the table fails the test: add it there, on purpose, as pure or not.

Everything is read from the source with `ast`; nothing of Paceline is imported.  The rules are functions of sources, so
that they are tested here, too, against houses that break them.
"""

import ast
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeGuard

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "paceline"
ANY = "*"


@dataclass(frozen=True)
class Room:
    """`pure` and `acts` name the files of a folder; ANY: all that the other one does not name."""

    line: int
    pure: str = ""
    acts: str = ""

    def is_pure(self, file: str) -> bool | None:
        """None: no such file in the table."""
        for names, answer in ((self.pure, True), (self.acts, False)):
            if file in names.split():
                return answer
        if ANY in (self.pure, self.acts):
            return self.pure == ANY
        return False if file == "__init__" else None


PURE, ACTS = ANY, ANY  # for rooms that are one file, or all of a kind

ROOMS: Mapping[str, Room] = {
    # what everybody uses
    "errors": Room(0, PURE),
    "addresses": Room(0, PURE),
    "events": Room(0, PURE),
    "handlers": Room(0, PURE),
    "networks": Room(0, PURE),
    "settings": Room(0, PURE, acts="__main__"),
    "stats": Room(0, PURE),
    "clock": Room(0, acts=ACTS),
    # the bytes, and the operating system
    "wire": Room(1, PURE),
    "host": Room(1, acts=ACTS),
    "scoreboard": Room(2, pure="fields layout snapshot", acts="board"),
    "worker": Room(
        3,
        pure="roles lifecycle deadlines estimate messages balance overdue overload packed record admission",
        acts="accepting assembly calls connection crew doorkeeper draining ending files gate giving held held_secure "
        "last_resort lookout loop naming nearby plan probe process pushing receiving relief reports requests securing "
        "serving shedding stacks tables target telling timing watcher worker writing",
    ),
    "supervisor": Room(
        4,
        pure="backoff backtraces beats lifecycle posts reloading replacing requests roster scaling sentences size "
        "steady stopping systemd testament vocabulary",
        acts="bulletin burying changing check child clients control dumping giving_up hands inquest loop opening "
        "presence rehearsal seats stacktaking start system upgrade upgrading watching",
    ),
    "wsgi": Room(4, acts=ACTS),
    "client": Room(4, acts=ACTS),
    "spoken": Room(4, acts=ACTS),
    "bench": Room(
        5,
        pure="comparison latency messages pacing patience plan replies report result tally troubles verdicts",
        acts="crew dialling effort engine fast link machine member places progress run traffic",
    ),
    "connect": Room(
        5,
        pure="commands endings escapes framed rendering session translation",
        acts="conversation dialogue history pipe plain prompting",
    ),
    "ctl": Room(5, pure="picture rendering", acts="asking finding looking"),
    "top": Room(5, acts=ACTS),
    "metrics": Room(5, acts=ACTS),
    "console": Room(5, acts=ACTS),
    "chaos": Room(
        6,
        pure="books catalogue figures judge messages plan report result schedule tally target",
        acts="abusing asking attackers attacks barren client crew disturbing drivers ending killing load log mob peers "
        "procfs renewing rig run scene siege starving stopping",
    ),
    "lab": Room(
        6,
        pure="columns experiment plots samples study style terminal texts wording",
        acts="catalogue children computing crew drawing experiments figures fitting layout listings load machine "
        "measuring memory page peers progress records results running spans starting waiting witnesses",
    ),
    "testing": Room(6, pure="terms", acts=ACTS),
    "cli": Room(7, acts=ACTS),
    "__main__": Room(8, acts=ACTS),
}

NEIGHBOURS = {
    ("settings", "addresses"): "the setting `bind` is an address, and is checked where the others are",
    ("settings", "networks"): "the settings that are networks are checked where the others are",
}
"""Imports within a line, and why.  `errors` needs no entry: whoever raises has to name whose mistake it was."""

OF_THE_ROOT = {"__version__"}
"""What the rooms may take from paceline/__init__.py, which itself may name anything, lazily."""

ACTING = frozenset({
    "_socket", "_thread", "asyncio", "concurrent", "ctypes", "fcntl", "io", "logging", "mmap", "multiprocessing", "os",
    "pathlib", "resource", "select", "selectors", "shutil", "signal", "socket", "socketserver", "subprocess",
    "tempfile", "threading", "time",
})  # fmt: skip
"""Modules of the standard library that a pure file does not import."""

DOING = frozenset({"open", "print", "input", "exec", "eval", "__import__"})
"""Builtins that a pure file does not call."""


CONVERSIONS = {"gmtime": 1, "localtime": 1, "strftime": 2}
"""Functions of `time` that only convert, when they are given so many arguments: with fewer they read the clock."""


@dataclass(frozen=True)
class Import:
    """One import statement of one name, absolute."""

    by: str
    of: str
    line: int
    names: frozenset[str] = frozenset()
    """What is taken from `of`, when that is a module."""
    is_lazy: bool = False
    """Inside a function."""
    is_typing: bool = False
    """Under `if TYPE_CHECKING`."""

    def __str__(self) -> str:
        return f"{self.by} imports {self.of} (line {self.line})"


@dataclass(frozen=True)
class House:
    """All sources by the path below src/paceline."""

    sources: Mapping[str, str]
    trees: dict[str, ast.Module] = field(default_factory=dict)
    """By the dotted name."""

    def __post_init__(self) -> None:
        for path, source in self.sources.items():
            self.trees[module_of(path)] = ast.parse(source, path)

    def imports(self) -> Iterator[Import]:
        for path in self.sources:
            module = module_of(path)
            package = module if path.endswith("__init__.py") else module.rpartition(".")[0]
            yield from self._imports_below(self.trees[module], module, package)

    def _imports_below(
        self, node: ast.AST, by: str, package: str, is_lazy: bool = False, is_typing: bool = False
    ) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                for alias in child.names:
                    yield Import(by, alias.name, child.lineno, frozenset(), is_lazy, is_typing)
            elif isinstance(child, ast.ImportFrom):
                base = child.module or ""
                if child.level:
                    above = package.rsplit(".", child.level - 1)[0]
                    base = f"{above}.{base}" if base else above
                taken = frozenset(alias.name for alias in child.names)
                modules = {name for name in taken if f"{base}.{name}" in self.trees}
                for name in sorted(modules):
                    yield Import(by, f"{base}.{name}", child.lineno, frozenset(), is_lazy, is_typing)
                if taken - modules:
                    yield Import(by, base, child.lineno, taken - modules, is_lazy, is_typing)
            else:
                typing = is_typing or (isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test))
                lazy = is_lazy or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
                yield from self._imports_below(child, by, package, lazy, typing)


def module_of(path: str) -> str:
    parts = Path(path).with_suffix("").parts
    return ".".join(("paceline", *(parts[:-1] if parts[-1] == "__init__" else parts)))


def place_of(module: str) -> tuple[str, str]:
    """The room and the file in it: paceline.worker.loop is ("worker", "loop"), paceline.wire ("wire", "__init__")."""
    _, room, *below = [*module.split("."), ""][:3]
    return room, below[0] if below and below[0] else "__init__"


def is_ours(module: str) -> bool:
    return module == "paceline" or module.startswith("paceline.")


def is_pure(module: str) -> bool:
    room, file = place_of(module)
    return room in ROOMS and ROOMS[room].is_pure(file) is True


# The rules: each gives what is wrong, in sentences


def strangers(house: House) -> Iterator[str]:
    for module in house.trees:
        room, file = place_of(module)
        if module == "paceline":
            continue
        if room not in ROOMS:
            yield f"{module}: there is no room {room!r}; add it to ROOMS in tests/test_architecture.py, with its line"
        elif ROOMS[room].is_pure(file) is None:
            yield f"{module}: add {file!r} to {room!r} in ROOMS of tests/test_architecture.py, as pure or not"


def wrong_ways(house: House) -> Iterator[str]:
    for found in house.imports():
        if not is_ours(found.of):
            continue
        (here, _), (there, _) = place_of(found.by), place_of(found.of)
        if found.by == "paceline":
            if not (found.is_lazy or found.is_typing):
                yield f"{found}: the package itself imports nothing when it is imported"
        elif found.of == "paceline":
            if found.names - OF_THE_ROOT:
                yield f"{found}: take {', '.join(sorted(found.names - OF_THE_ROOT))} from where it is made"
        elif here == there or there == "errors" or (here, there) in NEIGHBOURS:
            continue
        elif here in ROOMS and there in ROOMS and ROOMS[here].line == ROOMS[there].line:
            yield f"{found}: neighbours on line {ROOMS[here].line} do not import each other"
        elif here in ROOMS and there in ROOMS and ROOMS[here].line < ROOMS[there].line:
            yield f"{found}: line {ROOMS[here].line} imports line {ROOMS[there].line}, which is below it"


def impurities(house: House) -> Iterator[str]:
    for found in house.imports():
        if not is_pure(found.by):
            continue
        if is_ours(found.of):
            if found.of != "paceline" and not is_pure(found.of):
                yield f"{found}, which is not pure"
        elif found.of.partition(".")[0] in ACTING:
            yield f"{found}; but it is pure, so it must be given what that would fetch"
        elif found.of.partition(".")[0] not in sys.stdlib_module_names:
            yield f"{found}: a pure file needs nothing but the standard library"
    for module, tree in house.trees.items():
        if is_pure(module):
            for node in ast.walk(tree):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in DOING:
                    yield f"{module} calls {node.func.id} (line {node.lineno}); but it is pure"


def clock_readers(house: House) -> Iterator[str]:
    for found in house.imports():
        if (
            found.of == "time"
            and found.by != "paceline.clock"
            and not (found.names and found.names <= CONVERSIONS.keys())
        ):
            yield f"{found}: only paceline.clock reads clocks; take the time as an argument, or from there"
    for module, tree in house.trees.items():
        for node in ast.walk(tree):
            if is_reading_of_a_clock(node):
                yield f"{module} reads a clock by {ast.unparse(node)} (line {node.lineno}); see paceline.clock"


def is_reading_of_a_clock(node: ast.AST) -> TypeGuard[ast.expr]:
    match node:
        case ast.Attribute(value=owner, attr="now" | "utcnow" | "today"):
            return ast.unparse(owner).rpartition(".")[2] in {"datetime", "date"}
        case ast.Call(func=ast.Name(id=name), args=arguments):
            return len(arguments) < CONVERSIONS.get(name, 0)
    return False


def cycles(house: House) -> Iterator[str]:
    """One line for each import that closes a cycle; what only a type checker reads is not imported."""
    follows: dict[str, list[str]] = {module: [] for module in house.trees}
    for found in house.imports():
        if found.of in follows and not found.is_typing and "paceline" not in (found.by, found.of):
            follows[found.by].append(found.of)
    done: set[str] = set()

    def walk(module: str, path: list[str]) -> Iterator[str]:
        if module in path:
            yield " → ".join([*path[path.index(module) :], module])
        elif module not in done:
            for then in follows[module]:
                yield from walk(then, [*path, module])
            done.add(module)

    for module in follows:
        yield from walk(module, [])


def mislabelled(house: House) -> Iterator[str]:
    """A file opens with its theory, and says "Pure" there if it is, and only then."""
    for module, tree in house.trees.items():
        said = re.search(r"\bPure[.:;]", (ast.get_docstring(tree) or "").partition("\n\n")[0])
        if said and not is_pure(module):
            yield f"{module} says that it is pure; say so in ROOMS of tests/test_architecture.py, too"
        elif is_pure(module) and tree.body and not said:
            yield f"{module} is pure; its first paragraph should say so"


RULES = [strangers, wrong_ways, impurities, clock_readers, cycles, mislabelled]


@pytest.fixture(scope="module")
def house() -> House:
    paths = sorted(SOURCE.rglob("*.py"))
    assert paths
    return House({path.relative_to(SOURCE).as_posix(): path.read_text("utf-8") for path in paths})


@pytest.mark.parametrize("rule", RULES)
def test_the_house_keeps(house: House, rule: Callable[[House], Iterator[str]]) -> None:
    broken = list(rule(house))
    assert not broken, "\n" + "\n".join(broken)


def test_every_exception_to_the_order_of_a_line_is_used(house: House) -> None:
    used = {(place_of(found.by)[0], place_of(found.of)[0]) for found in house.imports() if is_ours(found.of)}
    assert used >= NEIGHBOURS.keys()


# The rules themselves


@pytest.mark.parametrize(
    ("rule", "sources", "said"),
    [
        (strangers, {"attic.py": ""}, "no room 'attic'; add it to ROOMS"),
        (strangers, {"attic/box.py": ""}, "no room 'attic'; add it to ROOMS"),
        (strangers, {"worker/brilliant.py": ""}, "add 'brilliant' to 'worker' in ROOMS"),
        (wrong_ways, {"wire/raw.py": "import paceline.worker.loop"}, "line 1 imports line 3"),
        (wrong_ways, {"wire/raw.py": "from paceline.host import memory"}, "neighbours on line 1"),
        (wrong_ways, {"stats/a.py": "from paceline.handlers import x"}, "neighbours on line 0"),
        (wrong_ways, {"errors.py": "from paceline import events", "events.py": ""}, "neighbours on line 0"),
        (wrong_ways, {"wire/raw.py": "def f():\n  from ..worker import loop", "worker/loop.py": ""}, "imports line 3"),
        (wrong_ways, {"wire/__init__.py": "from ..worker.loop import x"}, "paceline.worker.loop (line 1): line 1"),
        (wrong_ways, {"host/a.py": "if TYPE_CHECKING:\n  import paceline.worker"}, "line 1 imports line 3"),
        (wrong_ways, {"__init__.py": "from paceline.errors import UsageError"}, "imports nothing when it is imported"),
        (wrong_ways, {"worker/loop.py": "from paceline import Close"}, "take Close from where it is made"),
        (impurities, {"worker/roles.py": "import os.path"}, "imports os.path"),
        (impurities, {"worker/roles.py": "def f():\n  from threading import Lock"}, "imports threading (line 2)"),
        (impurities, {"worker/roles.py": "import click"}, "nothing but the standard library"),
        (impurities, {"worker/roles.py": "from paceline.worker.crew import Crew"}, "crew (line 1), which is not pure"),
        (impurities, {"settings/table.py": "def f():\n  print('hi')"}, "calls print (line 2)"),
        (clock_readers, {"worker/loop.py": "import time"}, "only paceline.clock reads clocks"),
        (clock_readers, {"host/a.py": "from time import sleep"}, "only paceline.clock reads clocks"),
        (clock_readers, {"host/a.py": "from datetime import date\nx = date.today()"}, "date.today (line 2)"),
        (clock_readers, {"host/a.py": "from time import localtime\nx = localtime()"}, "localtime() (line 2)"),
        (cycles, {"wire/a.py": "from . import b", "wire/b.py": "def f():\n  import paceline.wire.a"}, "wire.b → "),
        (mislabelled, {"worker/loop.py": '"""The loop.  Pure."""'}, "worker.loop says that it is pure"),
        (mislabelled, {"worker/roles.py": '"""Who leads."""'}, "roles is pure; its first paragraph should say so"),
    ],
)  # fmt: skip
def test_a_house_that_breaks_a_rule_is_told_so(
    rule: Callable[[House], Iterator[str]], sources: dict[str, str], said: str
) -> None:
    (only,) = rule(House(sources))
    assert said in only


@pytest.mark.parametrize(
    "sources",
    [
        {"__init__.py": "if TYPE_CHECKING:\n  from paceline.worker import loop\ndef f():\n  import paceline.cli"},
        {"cli/a.py": "from paceline import __version__\nfrom paceline.errors import UsageError"},
        {"settings/table.py": "from paceline.addresses import Address", "addresses.py": "import paceline.errors"},
        {"worker/roles.py": "from paceline.worker.lifecycle import State\nimport json", "worker/lifecycle.py": ""},
        {"wire/a.py": "if TYPE_CHECKING:\n  from . import b", "wire/b.py": "from . import a"},
        {"clock.py": "import time", "worker/crew.py": "import threading\nfrom paceline import clock\nx = clock.now()"},
        {"host/output.py": "from time import localtime, strftime\ndef f(at):\n  return strftime('%Y', localtime(at))"},
        {"__main__.py": "from paceline.cli import main", "cli/__init__.py": ""},
    ],
)
def test_a_house_in_order_has_nothing_to_be_told(sources: dict[str, str]) -> None:
    assert [said for rule in RULES if rule is not mislabelled for said in rule(House(sources))] == []
