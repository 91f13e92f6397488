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
import signal
import threading
import time
import warnings

from paceline import Close

VERSION = {version}
KEPT = []
signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # as some programs do: the server has to bear that
PIECE = b"x" * (32 << 10)
warnings.simplefilter("ignore", DeprecationWarning)  # that it forks with threads is what it is asked for


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
        case [b"!stream", size]:
            return (PIECE for _ in range(0, int(size), len(PIECE)))
        case [b"!early", size]:
            return Close(b"x" * int(size))
        case [b"!close"]:
            return Close(b"the end")
        case [b"!fork"]:
            return Close(b"%d" % forked())
    return b"%d %d" % (os.getpid(), VERSION)


def forked():
    """A process that has all that we have, for a while."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass  # those of before
    except ChildProcessError:
        pass
    pid = os.fork()
    if not pid:
        time.sleep(60)
        os._exit(0)
    return pid
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
