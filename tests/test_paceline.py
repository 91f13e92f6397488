"""paceline/__init__.py: the public names, and that importing them costs nothing before they are used."""

import importlib
import subprocess
import sys

import pytest

import paceline


def test_importing_the_package_imports_nothing_else() -> None:
    code = (
        "import sys; before = set(sys.modules); import paceline; new = set(sys.modules) - before;"
        "assert new == {'paceline'}, new"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, timeout=30, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("name", paceline.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(paceline, name) is getattr(importlib.import_module("paceline"), name)
    assert name in dir(paceline)


def test_names_are_those_of_their_modules() -> None:
    assert paceline.UsageError is paceline.errors.UsageError
    assert paceline.Connection is importlib.import_module("paceline.worker.connection").Connection
    assert paceline.message is importlib.import_module("paceline.handlers").message
    assert paceline.Client is importlib.import_module("paceline.client").Client
    assert paceline.Lines is importlib.import_module("paceline.wire").Lines


def test_a_client_needs_no_server_to_be_imported() -> None:
    code = (
        "import sys, paceline; paceline.Client;"
        "servers = ('paceline.worker', 'paceline.supervisor', 'click');"
        "heavy = {name for name in sys.modules if name.startswith(servers)};"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, timeout=30, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


def test_the_text_of_the_package_names_what_it_exports() -> None:
    listed = paceline.__doc__ or ""
    errors = {name for name in paceline.__all__ if isinstance(getattr(paceline, name), type(Exception))}
    errors = {name for name in errors if issubclass(getattr(paceline, name), Exception)}
    assert {name for name in paceline.__all__ if name not in listed} - errors == {"__version__"}


def test_all_errors_are_public() -> None:
    found = vars(importlib.import_module("paceline.errors"))
    errors = {name for name, value in found.items() if isinstance(value, type) and issubclass(value, Exception)}
    assert errors <= set(paceline.__all__)


def test_another_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'paceline' has no attribute 'nonsense'"):
        paceline.nonsense  # noqa: B018 - the access is what is tested


def test_a_star_import_gives_the_public_names() -> None:
    names: dict[str, object] = {}
    exec("from paceline import *", names)
    assert set(paceline.__all__) <= names.keys()
