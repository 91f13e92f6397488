"""The application in the box, as text: each version of it, and how it can be broken.  Pure.

It answers a line with the line, its process, its version, and the count of the connection.  A line that begins with `!`
tells it what to do; those are sent by the faults, each on a connection of its own.
"""

from collections.abc import Mapping

NAME = "app.py"
TARGET = f"{NAME}:answer"
PROBE, PROBE_REPLY = "?probe", "well"
"""The line and its answer, without their ends."""

_GOOD = '''\
import ctypes
import os
import threading
import time

VERSION = {version}
KEPT = []


def answer(line, connection):
    """The line, which process answers, in which version, and the how manieth line of its connection it was."""
    if line.startswith((b"!", b"?")):
        return told(bytes(line).split())
    count = connection.state = (connection.state or 0) + 1
    return b"%b %d %d %d" % (line, os.getpid(), VERSION, count)


def told(words):
    match words:
        case [b"?probe"]:
            return b"{probe_reply}"
        case [b"!block"]:
            threading.Event().wait()
        case [b"!sleep", seconds]:
            time.sleep(float(seconds))
        case [b"!hold", seconds]:
            ctypes.PyDLL(None).sleep(int(seconds))
        case [b"!crash"]:
            ctypes.string_at(0)
        case [b"!allocate", size]:
            bytearray(int(size))
        case [b"!grow", size]:
            KEPT.append(b"x" * int(size))
        case [b"!many", count]:
            return [b"x" * 1000] * int(count)
    return b"%d %d" % (os.getpid(), VERSION)
'''


def good(version: int) -> str:
    """A version that works."""
    return _GOOD.format(version=version, probe_reply=PROBE_REPLY)


BROKEN: Mapping[str, str] = {
    "syntax": "def answer(:\n",
    "import": "import a_module_that_is_nowhere\n",
    "raise": "raise RuntimeError('broken on purpose')\n",
    "exit": "import os\nos._exit(7)\n",
    "sys.exit": "import sys\nsys.exit('broken on purpose')\n",
    "missing": "def another(line):\n    return line\n",
    "probe": "def answer(line, connection):\n    return b'not well'\n",
    "hang": "import time\ntime.sleep(3600)\n",
}
"""Versions that do not, by the way in which."""
