"""What is there instead of what a target's text names: the errors of worker/target.py.

Files are read with `ast`, never run.  Called on the worker's main thread, once, when the target cannot be had; reads
only folders and files beside the one that was named.  Each function gives (or raises) a TargetError of one paragraph:
what was looked for, where, and the nearest right thing, written as it would be typed.
"""

import ast
import difflib
import importlib.util
import os
import sys
from collections.abc import Iterable, Sequence
from types import ModuleType

from paceline.errors import TargetError

_FORMS = "a target is module:attribute, path/to/file.py:attribute, or the built-in echo"
_USUAL_NAMES = ("handle", "handler", "serve", "app", "main")
_MOST_NAMES = 6
_MOST_BYTES = 1 << 20


def shortened(text: str, limit: int = 80) -> str:
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def nearest(wanted: str, names: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The name that was probably meant, whatever its case."""
    folded = {name.casefold(): name for name in names}
    close = difflib.get_close_matches(wanted.casefold(), folded, n=1, cutoff=cutoff)
    return folded[close[0]] if close else None


def _listed(names: Sequence[str]) -> str:
    """The first of them, and how many are left out."""
    more = len(names) - _MOST_NAMES
    return ", ".join(names[:_MOST_NAMES]) + (f" … and {more} more" if more > 0 else "")


def _there(names: Sequence[str]) -> str:
    return f"there {'is' if len(names) == 1 else 'are'} {_listed(names)}"


def module_file(folder: str, name: str) -> str | None:
    """The file that `import name` would run if `folder` came first, if there is one."""
    base = os.path.join(folder, *name.split("."))
    return next((path for path in (os.path.join(base, "__init__.py"), f"{base}.py") if os.path.isfile(path)), None)


def modules_in(folder: str) -> list[str]:
    """The names of the modules and packages in a folder; none if it cannot be read."""
    try:
        entries = sorted(os.listdir(folder))
    except OSError:
        return []
    names = (entry.removesuffix(".py") for entry in entries if entry.endswith(".py") or "." not in entry)
    return [name for name in names if name.isidentifier() and name != "__init__" and module_file(folder, name)]


def _files_in(folder: str) -> list[str]:
    """The names of the Python files in a folder; none if it cannot be read."""
    try:
        entries = sorted(os.listdir(folder))
    except OSError:
        return []
    return [
        entry
        for entry in entries
        if entry.endswith(".py") and entry != "__init__.py" and os.path.isfile(os.path.join(folder, entry))
    ]


def _installed() -> set[str]:
    """The names of the modules that can be imported from elsewhere than the user's own folder."""
    names = {name for name in sys.stdlib_module_names if not name.startswith("_")}
    return names.union(*(modules_in(folder) for folder in sys.path if os.path.isdir(folder)))


def handlers_in(path: str) -> list[str]:
    """What a file defines that may be a handler, the likeliest first; none if it cannot be read as Python."""
    try:
        with open(path, "rb") as file:
            tree = ast.parse(file.read(_MOST_BYTES))
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    stem = os.path.basename(path).removesuffix(".py")
    ranked: dict[str, int] = {}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            marked = any("paceline" in ast.dump(decorator) for decorator in node.decorator_list)
            ranked[node.name] = 0 if marked else 1 if node.name in (stem, *_USUAL_NAMES) else 2
        elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
            ranked |= {name.id: 3 for name in node.targets if isinstance(name, ast.Name) and name.id[0] != "_"}
    return sorted(ranked, key=ranked.__getitem__)


def _holds(place: str, path: str) -> str:
    """`; did you mean app.py:handle?`, from what the file at `path` defines."""
    names = handlers_in(path)
    if not names:
        return f"; {place} defines no function or class"
    if len(names) == 1:
        return f"; did you mean {place}:{names[0]}?"
    return f"; in it are {_listed([f'{place}:{name}' for name in names])}"


def not_a_target(text: str, here: str, built_in: Iterable[str]) -> TargetError:
    """It has no colon, or nothing on one side of it."""
    place, colon, attribute = text.rpartition(":")
    what = f"the target {text!r}"
    if not text.strip(": "):
        return TargetError(f"{what} is empty; {_FORMS}")
    if colon and place.endswith(":"):
        return TargetError(f"{what} has more than one colon; did you mean {place.rstrip(':')}:{attribute}?")
    if colon and attribute:
        return TargetError(f"{what} names no module before its colon; {_FORMS}")
    place = place if colon else text
    said = f"{what} names nothing after its colon" if colon else f"{what} has no colon"
    path = os.path.normpath(os.path.join(here, place))
    if place.endswith(".py") and not os.path.isdir(path):
        check_file(place, path, "NAME")
        return TargetError(f"{said}{_holds(place, path)}")
    file = module_file(here, place) if os.sep not in place else None
    if file:
        return TargetError(f"{said}{_holds(place, file)}")
    if os.path.isdir(path):
        return _a_folder(place, path)
    if os.path.isfile(f"{path}.py"):
        return TargetError(f"{said}{_holds(f'{place}.py', f'{path}.py')}")
    module, dot, name = place.rpartition(".")
    file = module_file(here, module) if dot else None
    if file and name in handlers_in(file):
        return TargetError(f"{said}; did you mean {module}:{name}?")
    if os.path.isfile(path):
        return _without_suffix(place, path, "NAME")
    close = None if colon else nearest(text, built_in)
    return TargetError(f"{said}; " + (f"did you mean {close}?" if close else _FORMS))


def not_a_name(place: str, attribute: str) -> TargetError:
    """What follows the colon is no attribute: `app:make()`."""
    bare = attribute.partition("(")[0].strip()
    remedy = f"did you mean {place}:{bare}?" if bare.isidentifier() else _FORMS
    if attribute.isdigit():
        remedy += "; an address to listen on is given with --bind"
    return TargetError(f"{attribute!r} in the target {place}:{attribute} is not a name; {remedy}")


def not_a_module(place: str, attribute: str, here: str) -> TargetError:
    """What stands before the colon is neither a module's name nor a file that ends in .py."""
    path = os.path.join(here, place)
    for candidate, candidate_path in ((f"{place}.py", f"{path}.py"), (place, path)):
        if os.path.isfile(candidate_path):
            check_file(candidate, candidate_path, attribute)
            return TargetError(f"{place!r} is no module's name; did you mean {candidate}:{attribute}?")
    if os.path.isdir(path):
        return _a_folder(place, path)
    return TargetError(f"{place!r} is neither a module's name nor a file; {_FORMS}")


def check_file(place: str, path: str, attribute: str) -> None:
    """Raises the TargetError that says what is wrong with the file at `path`, which was named `place`."""
    if os.path.isdir(path):
        raise _a_folder(place, path)
    if not os.path.exists(path):
        raise _no_file(place, path, attribute)
    if not os.path.isfile(path):
        raise TargetError(f"{place} is not a regular file; {_FORMS}")
    if not path.endswith(".py"):
        raise _without_suffix(place, path, attribute)
    try:
        with open(path, "rb"):
            pass
    except OSError as error:
        raise unreadable(place, error) from None


def unreadable(what: str, error: OSError) -> TargetError:
    """`what` is there and cannot be read."""
    return TargetError(
        f"cannot read {what}: {error.strerror}; it must be readable for user {os.geteuid()}, who serves it"
    )


def _a_folder(place: str, path: str) -> TargetError:
    found = [
        f"{os.path.join(place, file)}:{name}"
        for file in _files_in(path)
        for name in handlers_in(os.path.join(path, file))[:1]
    ]
    remedy = f"; name a file in it: {_listed(found)}" if found else f"; {_FORMS}"
    return TargetError(f"{place} is a directory{remedy}")


def _no_file(place: str, path: str, attribute: str) -> TargetError:
    folder = os.path.dirname(path)
    if not os.path.isdir(folder):
        return TargetError(f"no such file: {place} (there is no directory {folder})")
    if os.path.isfile(f"{path}.py"):
        return TargetError(f"no such file: {place}; did you mean {place}.py:{attribute}?")
    name, files = os.path.basename(path), _files_in(folder)
    close = nearest(name.removesuffix(".py"), (file.removesuffix(".py") for file in files))
    if close:
        meant = os.path.join(os.path.dirname(place), f"{close}.py")
        return TargetError(f"no such file: {name} in {folder}; did you mean {meant}:{attribute}?")
    there = f"; {_there(files)}" if files else ", which holds no Python file"
    return TargetError(f"no such file: {name} in {folder}{there}")


def _without_suffix(place: str, path: str, attribute: str) -> TargetError:
    if os.path.isfile(f"{path}.py"):
        return TargetError(f"{place} is a file without .py; did you mean {place}.py:{attribute}?")
    return TargetError(f"{place} is a file without .py; Python imports files that end in .py: rename it, or link to it")


def no_module(place: str, attribute: str, missing: str, here: str) -> TargetError:
    """`missing` is `place` or one of its parents."""
    parent, _, last = missing.rpartition(".")
    if parent:
        holder = sys.modules.get(parent)
        paths = list(getattr(holder, "__path__", ()))
        if not paths:
            rest = ".".join((place.removeprefix(f"{parent}."), attribute))
            return TargetError(
                f"no module {missing!r}: {parent} is a module, not a package; did you mean {parent}:{rest}?"
            )
        where, names = f"the package {parent} ({paths[0]})", modules_in(paths[0])
    else:
        where, names = f"{here} or among the installed packages", modules_in(here)
        elsewhere = _in_a_folder_below(here, place)
        if elsewhere:
            return TargetError(f"no module named {missing!r} in {where}; did you mean {elsewhere}:{attribute}?")
        if os.path.isfile(os.path.join(here, place)):
            return _without_suffix(place, os.path.join(here, place), attribute)
    close = nearest(last, names) or (None if parent else nearest(last, _installed(), cutoff=0.75))
    if close:
        meant = ".".join((*([parent] if parent else []), close))
        return TargetError(f"no module named {missing!r} in {where}; did you mean {meant}:{attribute}?")
    there = f"; {_there(names)}" if names else ""
    return TargetError(f"no module named {missing!r} in {where}{there}")


def _in_a_folder_below(here: str, place: str) -> str | None:
    """`src/app.py`, when `app` was named one folder too high."""
    try:
        folders = sorted(entry.name for entry in os.scandir(here) if entry.is_dir() and entry.name[0] not in "._")
    except OSError:
        return None
    relative = f"{place.replace('.', os.sep)}.py"
    below = (os.path.join(folder, relative) for folder in folders[:100])
    return next((path for path in below if os.path.isfile(os.path.join(here, path))), None)


def no_attribute(module: ModuleType, holder: object, part: str, place: str, attribute: str, here: str) -> TargetError:
    """`holder`, the module or something in it, has no `part`."""
    before = attribute[: attribute.rfind(part)] if holder is not module else ""
    file = getattr(module, "__file__", None)
    is_file = place.endswith(".py")
    folder = next(iter(getattr(module, "__path__", ())), None) if file is None else None
    source = "" if is_file else f" ({file or folder or 'part of Python'})"
    said = f"{place}{source} has no {before + part!r}"
    own = None if is_file else module_file(here, place)
    if own and not (file and os.path.samefile(own, file)):
        return TargetError(
            f"{said}; your {os.path.relpath(own, here)} has the same name and was not imported: "
            f"rename it, or serve {os.path.relpath(own, here)}:{attribute}"
        )
    if holder is module and hasattr(module, "__path__") and importlib.util.find_spec(f"{module.__name__}.{part}"):
        return TargetError(f"{said}; {place}.{part} is a module: name what is in it, {place}.{part}:NAME")
    if holder is module and folder is not None:  # a namespace package: no line of the user's is in it
        written = place.replace(".", os.sep)
        return _a_folder(written if os.path.isdir(os.path.join(here, written)) else folder, folder)
    close = nearest(part, (name for name in dir(holder) if not name.startswith("_")))
    defined = [
        name
        for name, value in vars(holder).items()
        if not name.startswith("_") and callable(value) and getattr(value, "__module__", None) == module.__name__
    ] if holder is module else []  # fmt: skip
    if close:
        return TargetError(f"{said}; did you mean {place}:{before}{close}?")
    there = f"; it defines {_listed(defined)}" if defined else ""
    if holder is module and not defined:
        there = "; it defines no function or class"
    return TargetError(f"{said}{there}")


def note_on_names(error: BaseException, folder: str) -> str:
    """A line about a file of the user's with the name of a standard module, when that may be why `error` was raised."""
    named: object = None
    if isinstance(error, ImportError):
        named = error.name
    elif isinstance(error, AttributeError) and isinstance(error.obj, ModuleType):
        named = error.obj.__name__
    top = named.partition(".")[0] if isinstance(named, str) else ""
    own = module_file(folder, top) if top in sys.stdlib_module_names else None
    if own is None:
        return ""
    used = getattr(sys.modules.get(top), "__file__", None) or "the one that is part of Python"
    return (
        f"note: {own} has the name of a module of the standard library, and only one of them can be imported as "
        f"{top!r} (now: {used}); rename yours\n"
    )
