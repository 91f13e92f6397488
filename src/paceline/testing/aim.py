"""By which name another process finds a handler, if it can at all.

`aim_at` is called on the thread of the test.  It imports nothing: it asks the finders of this process where a module
would be found, as they are asked in the server's process, which has the same sys.path.
"""

import importlib.machinery
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import ModuleType

from paceline.errors import TargetError


@dataclass(frozen=True, slots=True)
class Aim:
    """What is to be served.

    target    the text for `paceline serve`; None: no other process can find it
    identity  names the same handler in every process, however it is written
    """

    handler: object
    target: str | None = None
    identity: str = ""


def aim_at(handler: object, *, is_portable: bool = True) -> Aim:
    """Find the name.  A text is one already; else `is_portable` False says that this process must serve it.

    Raises TargetError: there is nothing to serve.
    """
    if handler is None:
        raise TargetError("running(None): the target must be a handler, or a text such as 'module:attribute'")
    if isinstance(handler, str):
        return Aim(handler, handler, handler)
    name, attribute = getattr(handler, "__module__", None), getattr(handler, "__qualname__", None)
    module = sys.modules.get(name) if isinstance(name, str) else None
    if not (is_portable and module is not None and isinstance(attribute, str) and _is_at(module, attribute, handler)):
        return Aim(handler)
    file = getattr(module, "__file__", None)
    path = os.path.abspath(file) if isinstance(file, str) else ""
    if is_found_by_name(module):
        target = f"{module.__name__}:{attribute}"
    elif path.endswith(".py") and os.path.isfile(path):  # the script itself; a module of pytest's importlib mode
        target = f"{path}:{attribute}"
    else:
        return Aim(handler)
    return Aim(handler, target, f"{os.path.realpath(path) if path else name}:{attribute}")


def _is_at(module: ModuleType, attribute: str, handler: object) -> bool:
    """Whether the attribute of the module is this object, rather than one that replaced it."""
    found: object = module
    for part in attribute.split("."):
        found = getattr(found, part, None)
    return found is handler


def is_found_by_name(module: ModuleType) -> bool:
    """Whether an import of its name finds this module, with the current directory before sys.path, where the server's
    process looks first (worker/target.py)."""
    name = module.__name__
    if name == "__main__":
        return False
    own = getattr(module, "__spec__", None)
    spec: importlib.machinery.ModuleSpec | None = None
    places: Sequence[str] | None = None
    walked = ""
    for part in name.split("."):
        walked = f"{walked}.{part}" if walked else part
        spec = _find_top(part) if places is None else importlib.machinery.PathFinder.find_spec(walked, places)
        if spec is None:
            return False
        places = list(spec.submodule_search_locations or ())
    file = getattr(module, "__file__", None)
    if spec is None or file is None:
        return spec is not None and own is not None and spec.origin == own.origin
    with suppress(OSError):
        return spec.origin is not None and os.path.samefile(spec.origin, file)
    return False


def _find_top(name: str) -> importlib.machinery.ModuleSpec | None:
    if name in sys.builtin_module_names:
        return importlib.machinery.BuiltinImporter.find_spec(name)
    here = None
    with suppress(OSError):  # the current directory is gone
        here = importlib.machinery.PathFinder.find_spec(name, [os.getcwd()])
    if here is not None and here.origin is not None:  # without: a folder of that name, which any module outdoes
        return here
    for finder in sys.meta_path:
        with suppress(Exception):  # of somebody else's finder
            found = finder.find_spec(name, None)
            if found is not None:
                return found
    return here
