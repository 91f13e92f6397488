"""By which name another process finds a handler."""

import functools
import importlib.util
import json
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from paceline.errors import TargetError
from paceline.testing.aim import aim_at, is_found_by_name


class Handler:
    def __call__(self, message: bytes) -> bytes:
        return message

    @staticmethod
    def static(message: bytes) -> bytes:
        return message


def named(message: bytes) -> bytes:
    return message


def load(path: Path, name: str) -> ModuleType:
    """As pytest's importlib mode does: the module is known by a name under which nobody would find it."""
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], ModuleType]:
    """A new module: where its file is, below the folder of the test, and its name."""

    def make(file: str, name: str) -> ModuleType:
        path = tmp_path / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("def handler(message):\n    return message\n")
        monkeypatch.setitem(sys.modules, name, None)  # taken out again at the end
        return load(path, name)

    return make


def test_a_text_is_the_name() -> None:
    assert aim_at("app:f").target == "app:f"


def test_nothing_is_refused() -> None:
    with pytest.raises(TargetError, match="must be a handler, or a text"):
        aim_at(None)


@pytest.mark.parametrize("handler", [named, Handler, Handler.static])
def test_what_stands_in_a_module_is_found(handler: Callable[..., object]) -> None:
    target = aim_at(handler).target
    assert target is not None
    assert target.endswith(f":{handler.__qualname__}")


@pytest.mark.parametrize(
    ("handler", "target"),
    [(json.dumps, "json:dumps"), (zlib.crc32, "zlib:crc32"), (sys.getsizeof, "sys:getsizeof"), (len, "builtins:len")],
)
def test_modules_of_every_sort(handler: object, target: str) -> None:
    assert aim_at(handler).target == target


@pytest.mark.parametrize(
    "handler",
    [lambda m: m, Handler(), Handler().__call__, functools.partial(named), bytes.upper, 5, type("Made", (), {})],
)
def test_what_has_no_name_is_not(handler: object) -> None:
    assert aim_at(handler).target is None


def test_what_another_stands_for_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    handler = named
    monkeypatch.setattr(sys.modules[__name__], "named", lambda message: message)
    assert aim_at(handler).target is None


def test_what_only_this_process_can_serve_is_not() -> None:
    assert aim_at(named, is_portable=False).target is None


def test_the_same_handler_has_the_same_identity_by_any_name(made: Callable[[str, str], ModuleType]) -> None:
    ours, theirs = made("aimed.py", "aimed_by_pytest"), made("aimed.py", "aimed")
    assert aim_at(ours.handler).identity == aim_at(theirs.handler).identity != ""


def test_a_module_that_nobody_finds_is_named_by_its_file(
    made: Callable[[str, str], ModuleType], tmp_path: Path
) -> None:
    assert aim_at(made("aimed.py", "aimed").handler).target == f"{tmp_path}/aimed.py:handler"


def test_a_module_in_the_current_directory_is_found(
    made: Callable[[str, str], ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert aim_at(made("aimed.py", "aimed").handler).target == "aimed:handler"
    assert aim_at(made("folder/aimed.py", "folder.aimed").handler).target == "folder.aimed:handler"
    assert aim_at(made("package/__init__.py", "package").handler).target == "package:handler"
    assert aim_at(made("package/aimed.py", "package.aimed").handler).target == "package.aimed:handler"


def test_one_of_that_name_in_the_current_directory_would_be_found_instead(
    made: Callable[[str, str], ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path / "lib")
    module = made("lib/aimed.py", "aimed")
    assert aim_at(module.handler).target == "aimed:handler"
    made("aimed.py", "aimed_elsewhere")
    monkeypatch.chdir(tmp_path)
    assert aim_at(module.handler).target == f"{tmp_path}/lib/aimed.py:handler"


def test_the_script_is_never_found_by_its_name(made: Callable[[str, str], ModuleType], tmp_path: Path) -> None:
    assert not is_found_by_name(sys.modules["__main__"])


def test_a_finder_of_somebody_else_may_fail(
    made: Callable[[str, str], ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken:
        @staticmethod
        def find_spec(name: str, path: object, target: object = None) -> None:
            raise RuntimeError(name)

    module = made("lib/aimed.py", "aimed")
    monkeypatch.syspath_prepend(tmp_path / "lib")
    monkeypatch.setattr(sys, "meta_path", [Broken, *sys.meta_path])
    assert aim_at(module.handler).target == "aimed:handler"
