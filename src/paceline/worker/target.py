"""From a target's text to the object it names: `module:attribute`, `path/to/file.py:attribute`, or a built-in name.

Runs once in each worker, on its main thread, before it serves; the supervisor never imports the user's code.  Two kinds of
failure are kept apart:

* the text names nothing: a TargetError (exit 3) that says what is there instead.  What a file holds is then read with
  `ast`, never by running it;
* the user's code fails while it runs: its exception passes through as it is, and `user_traceback` makes a report of it
  that begins at the user's own lines.

Where modules are looked for: as with `python file.py`, the folder of the file comes first; for a module, the current
directory, textually (so that behind a symlink `current -> releases/42` the link is followed anew after each deploy).  A
file inside a package (a folder with an __init__.py) is imported as part of it, so that `from . import neighbour` works:
then the folder that holds the package comes first.

Names that the standard library has too (a file `random.py` or `socket.py`): whoever is imported first wins, for the whole
process.  What Paceline itself still needs later is imported before the user's folder comes first, and a target file is
known by another name when its own is taken, so nothing of ours breaks.  What the user's code finds under such a name is
Python's ordinary rule; when it fails, the report says which file hides which module.
"""

import ast
import difflib
import importlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Iterable, Iterator
from types import ModuleType, TracebackType

import paceline
from paceline import handlers
from paceline.errors import TargetError

BUILT_IN = {"echo": handlers.echo}

_NEEDED_LATER = (
    "asyncio.coroutines", "concurrent.futures", "datetime", "encodings.idna", "inspect", "json", "linecache", "logging",
    "multiprocessing", "queue", "random", "subprocess", "textwrap", "tokenize", "traceback", "unittest.mock",
)  # fmt: skip
