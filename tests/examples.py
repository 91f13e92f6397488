"""The files of examples/ as modules, for tests of what is in them."""

import importlib.util
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[1] / "examples"


def loaded(name: str) -> Any:
    """The module of examples/NAME.py, made anew."""
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
