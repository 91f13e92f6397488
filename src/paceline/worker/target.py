"""From a target's text to the object it names: `module:attribute`, `path/to/file.py:attribute`, or a built-in name.

`load_target` runs once in each worker, on its main thread, before it serves; the supervisor never imports the user's
code.  Two kinds of failure are kept apart:

* the text names nothing: a TargetError (exit 3) that says what is there instead (worker/nearby.py);
* the user's code fails while it runs: its exception passes through as it is, and `user_traceback` makes a report of it
  that begins at the user's own lines.  Only SystemExit and KeyboardInterrupt become a TargetError: the first would end
  the process in silence, the second is not what happened.

Where modules are looked for: as with `python file.py`, the folder of the file comes first; for a module, the current
directory, textually (behind a symlink `current -> releases/42` the link is followed anew after each deploy).  A file
inside a package (a folder with an __init__.py) is imported as part of it, so that `from . import neighbour` works; then
the folder that holds the package comes first, and the file's own folder last.

Names that the standard library has too (a file `random.py`, `json.py`): the first that is imported under a name has it,
in the whole process.  So what Paceline still needs later is imported before the user's folder comes first, and a target
file whose name is taken is known by another one; nothing of ours can get the user's file.  What the *user's* imports
find is Python's ordinary rule, and when one of them fails, the report says which file has whose name.
"""

import importlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib.machinery import (
    BYTECODE_SUFFIXES,
    EXTENSION_SUFFIXES,
    SOURCE_SUFFIXES,
    ExtensionFileLoader,
    FileFinder,
    SourceFileLoader,
    SourcelessFileLoader,
)
from itertools import dropwhile
from types import ModuleType
from typing import Any

from paceline import clock, handlers
from paceline.errors import TargetError
from paceline.worker import nearby

BUILT_IN = {"echo": handlers.echo}

_NEEDED_LATER = (
    "ast", "codeop", "json", "linecache", "random", "stringprep", "textwrap", "token", "tokenize", "traceback",
    "unicodedata",
)  # fmt: skip
"""What our own code, or what it calls, imports only when it is needed: to write JSON, to show a traceback."""

_OURS = (
    "<frozen importlib",
    *(os.path.join(os.path.dirname(str(module.__file__)), "") for module in (importlib, sys.modules["paceline"])),
)
"""How the file names of our frames and of importlib's begin."""

FRESH_S = 2.0


class FreshLoader(SourceFileLoader):
    """Loads a source file as it is, however soon it was changed after the last time.

    A file of bytecode counts as long as its source has the same size and the same whole second of change
    (importlib.abc.SourceLoader, PEP 552): of two edits within a second, the second would never be seen.  So bytecode of
    a source that is younger than that is neither read nor written.
    """

    def path_stats(self, path: str) -> Mapping[str, Any]:
        """What bytecode is compared with.  Raises OSError for "do not": there is no other way to say it."""
        stats = super().path_stats(path)
        if clock.wall_seconds() - stats["mtime"] < FRESH_S:
            raise OSError("it was changed just now")
        return stats


def see_every_edit() -> None:
    """From now on modules are loaded by `FreshLoader`."""
    bytecode, extensions = (SourcelessFileLoader, BYTECODE_SUFFIXES), (ExtensionFileLoader, EXTENSION_SUFFIXES)
    hook = FileFinder.path_hook(extensions, (FreshLoader, SOURCE_SUFFIXES), bytecode)
    sys.path_hooks.insert(max(0, len(sys.path_hooks) - 1), hook)
    sys.path_importer_cache.clear()


def load_target(text: str) -> object:
    """The object that `text` names.  Imports on the calling thread, and puts the user's folder first on sys.path.

    Raises TargetError when it names nothing, or ends the import by SystemExit or KeyboardInterrupt; what else the
    user's code raises passes through.
    """
    if text in BUILT_IN:
        return BUILT_IN[text]
    here = current_directory()
    place, colon, attribute = text.rpartition(":")
    if not (colon and place and attribute) or place.endswith(":"):
        raise nearby.not_a_target(text, here, BUILT_IN)
    if not all(part.isidentifier() for part in attribute.split(".")):
        raise nearby.not_a_name(place, attribute)
    if place.endswith(".py") or os.sep in place:
        module = _load_file(place, attribute, here)
    else:
        module = _load_module(place, attribute, here)
    found: object = module
    for part in attribute.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise nearby.no_attribute(module, found, part, place, attribute, here) from None
    return found


def current_directory() -> str:
    """As the shell shows it: $PWD if that is where we are, symlinks unresolved."""
    textual = os.environ.get("PWD", "")
    with suppress(OSError):
        if os.path.isabs(textual) and os.path.samefile(textual, os.curdir):
            return textual
    try:
        return os.getcwd()
    except OSError as error:
        raise TargetError(
            f"the current directory cannot be had ({error.strerror}); change to one that exists, or use --chdir"
        ) from None


def user_traceback(error: BaseException, text: str = "") -> str:
    """The report of what the user's code raised, without the frames that led there (ours and importlib's).

    `text` is the target: when a file beside it has the name of a standard module that failed the user, a note says so.
    """
    report = traceback.TracebackException.from_exception(error, compact=True)
    _begin_at_the_users(report, is_syntax=isinstance(error, SyntaxError))
    note = ""
    with suppress(TargetError):
        folder = os.path.dirname(os.path.join(current_directory(), text.rpartition(":")[0]))
        note = nearby.note_on_names(error, folder)
    return "".join(report.format()) + note


def _is_ours(frame: traceback.FrameSummary) -> bool:
    return frame.filename.startswith(_OURS)


def _begin_at_the_users(report: traceback.TracebackException, *, is_syntax: bool = False) -> None:
    """Drop what comes before the user's first frame; a report that never gets there is about us, and stays whole."""
    for part in (report.__cause__, report.__context__, *(report.exceptions or ())):
        if part is not None:
            _begin_at_the_users(part)
    led_there = dropwhile(lambda frame: not _is_ours(frame), report.stack)
    users = [frame for frame in dropwhile(_is_ours, led_there) if not frame.filename.startswith("<frozen importlib")]
    if users:
        report.stack = traceback.StackSummary.from_list(users)
    elif is_syntax:
        # without frames there is no heading either: a syntax error shows its place itself
        report.stack = None  # type: ignore[assignment]
    # else: raised before any line of the user's ran, or a chained error that was never ours: as it is


def _run(load: Callable[[], ModuleType], what: str) -> ModuleType:
    """Let the user's module run; what must not pass through becomes a TargetError."""
    # The finders of a forked process may remember folders as they were long ago.  importlib.invalidate_caches() would
    # do it, too, but imports importlib.metadata for that, and all of email.
    sys.path_importer_cache.clear()
    try:
        return load()
    except (SystemExit, KeyboardInterrupt) as error:
        ended = "was interrupted (KeyboardInterrupt)"
        if isinstance(error, SystemExit):
            ended = f"called sys.exit({'' if error.code is None else nearby.shortened(repr(error.code))})"
        raise TargetError(
            f"the target {what} {ended} while it was imported{_where(error)}; "
            f'put what is not meant for serving under `if __name__ == "__main__":`'
        ) from error
    except TargetError as error:  # a decorator of ours in a wrong place
        raise TargetError(f"{error}{_where(error)}") from error


def _where(error: BaseException) -> str:
    """` (app.py, line 12)`: the last of the user's own lines, rather than of a library's."""
    library = os.path.join(os.path.dirname(os.__file__), "")
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not _is_ours(frame)]
    own = [
        frame
        for frame in frames
        if not frame.filename.startswith((library, "<")) and f"{os.sep}site-packages{os.sep}" not in frame.filename
    ]
    return f" ({os.path.basename(own[-1].filename)}, line {own[-1].lineno})" if own else ""


def _load_file(place: str, attribute: str, here: str) -> ModuleType:
    path = os.path.normpath(os.path.join(here, place))
    nearby.check_file(place, path, attribute)
    folder, name = os.path.dirname(path), os.path.basename(path).removesuffix(".py")
    package: list[str] = []
    root = folder
    while os.path.isfile(os.path.join(root, "__init__.py")) and os.path.basename(root).isidentifier():
        package.insert(0, os.path.basename(root))
        root = os.path.dirname(root)
    if package and name.isidentifier():
        return _load_in_package(place, path, root, [*package, *([] if name == "__init__" else [name])])
    return _load_alone(place, path, folder, name.replace(".", "_"))


def _load_in_package(place: str, path: str, root: str, names: list[str]) -> ModuleType:
    top = sys.modules.get(names[0])
    if top is not None and not _is_at(top, os.path.join(root, names[0], "__init__.py")):
        other = getattr(top, "__file__", None) or "part of Python"
        raise TargetError(
            f"{place} is in the package {names[0]!r} ({os.path.join(root, names[0])}), but another module of that name "
            f"is in use ({other}); rename the folder, or take its __init__.py away"
        )
    _come_first(root)
    folder = os.path.dirname(path)
    if folder not in sys.path:
        sys.path.append(folder)
    return _run(lambda: importlib.import_module(".".join(names)), place)


def _load_alone(place: str, path: str, folder: str, name: str) -> ModuleType:
    if name in sys.stdlib_module_names:
        with suppress(ImportError):  # from here on the name is the standard library's, whoever asks
            importlib.import_module(name)
    _come_first(folder)
    while name == "__main__" or name in sys.stdlib_module_names or name in sys.modules:
        if name in sys.modules and _is_at(sys.modules[name], path):
            return sys.modules[name]
        name += "_target"

    def load() -> ModuleType:
        spec = importlib.util.spec_from_file_location(name, path, loader=FreshLoader(name, path))
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module  # before it runs: dataclasses and pickle look their module up by name
        try:
            spec.loader.exec_module(module)
        except BaseException:
            sys.modules.pop(name, None)
            raise
        return sys.modules.get(name, module)

    return _run(load, place)


def _load_module(place: str, attribute: str, here: str) -> ModuleType:
    if not all(part.isidentifier() for part in place.split(".")):
        raise nearby.not_a_module(place, attribute, here)
    _come_first(here)
    try:
        return _run(lambda: importlib.import_module(place), place)
    except (ModuleNotFoundError, OSError) as error:
        if not all(_is_ours(frame) for frame in traceback.extract_tb(error.__traceback__)):
            raise  # a line of the user's asked for it
        if isinstance(error, ModuleNotFoundError):
            missing = error.name or place
            if not f"{place}.".startswith(f"{missing}."):
                raise  # an extension module asked for it
            raise nearby.no_module(place, attribute, missing, here) from None
        raise nearby.unreadable(f"the module {place!r} ({error.filename})", error) from None


def _come_first(folder: str) -> None:
    """Put `folder` first on sys.path, after what it would hide from us was imported."""
    for name in _NEEDED_LATER:
        if nearby.module_file(folder, name):
            importlib.import_module(name)
    sys.path[:] = [folder, *(other for other in sys.path if other != folder)]


def _is_at(module: ModuleType, path: str) -> bool:
    """Whether the module was loaded from this file."""
    file = getattr(module, "__file__", None)
    with suppress(OSError):
        return file is not None and os.path.samefile(file, path)
    return False
