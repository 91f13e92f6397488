"""An empty folder to run the command line in, the command line in this process, and a supervisor that only records."""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import paceline.supervisor
from paceline.cli import main
from paceline.settings import Settings


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with nothing in it; nothing of ours in the environment."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PWD", str(tmp_path))
    for name in os.environ:
        if "PACELINE_" in name:
            monkeypatch.delenv(name)
    return tmp_path


@pytest.fixture
def no_server(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A runtime folder with nothing in it."""
    (folder / "run").mkdir(0o700)
    monkeypatch.setenv("PACELINE_RUNTIME_DIR", str(folder / "run"))


@dataclass
class Ended:
    code: int
    out: str
    err: str


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    """Run a command line in this process."""

    def run(*arguments: str) -> Ended:
        code = main(arguments)
        out, err = capfd.readouterr()
        return Ended(code, out, err)

    return run


@pytest.fixture
def plans_of(run: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """`plans_of("bench", "paceline.bench.run.measure", *words)`: the plan that this command gives to that function.

    Nothing is carried out.
    """

    def plans_of(command: str, function: str, *words: str) -> Any:
        plans = []

        def stand_in(plan: object, *_: object) -> None:
            plans.append(plan)
            raise KeyboardInterrupt

        monkeypatch.setattr(function, stand_in)
        ended = run(command, *words)
        assert plans, ended.err
        return plans[0]

    return plans_of


@dataclass
class Called:
    name: str
    settings: Settings
    target: object
    folder: str


@dataclass
class Supervisor:
    """Stands in for paceline.supervisor.loop."""

    calls: list[Called] = field(default_factory=list)
    code: int = 0
    error: BaseException | None = None

    def serve(self, settings: Settings, target: object = None, look_again: object = None, start: object = None) -> int:
        return self._called("serve", settings, target)

    def check(self, settings: Settings, target: object = None) -> int:
        return self._called("check", settings, target)

    def _called(self, name: str, settings: Settings, target: object) -> int:
        self.calls.append(Called(name, settings, target, os.getcwd()))
        if self.error is not None:
            raise self.error
        return self.code

    @property
    def settings(self) -> Settings:
        (call,) = self.calls
        return call.settings


@pytest.fixture
def supervisor(monkeypatch: pytest.MonkeyPatch) -> Supervisor:
    fake = Supervisor()
    module = ModuleType("paceline.supervisor.loop")
    vars(module).update(serve=fake.serve, check=fake.check)
    monkeypatch.setitem(sys.modules, "paceline.supervisor.loop", module)
    monkeypatch.setattr(paceline.supervisor, "loop", module, raising=False)
    return fake
