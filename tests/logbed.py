"""A server whose standard error the test makes: a file, a pipe, nothing; for tests of where the log goes."""

import subprocess
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from leftovers import children_of, eventually, wait_gone
from peer import Peer
from testbed import COMMAND

CLOSED = ("sh", "-c", 'exec "$@" 2>&-', "sh")
"""A prefix for `logging_to`: there is no standard error."""


@contextmanager
def logging_to(
    stderr: int | None, folder: Path, source: str, *options: str, prefix: Sequence[str] = ()
) -> Iterator["subprocess.Popen[bytes]"]:
    """A server of `answer` in this source (dedented), of lines, at `unix:s` of this folder; `stderr` None: as ours.

    It must end well, and leave nothing.  `prefix`: what executes the command.
    """
    (folder / "app.py").write_text(textwrap.dedent(source))
    with subprocess.Popen(
        [*prefix, *COMMAND, "serve", "app.py:answer", "--framing", "line", "-b", "unix:s", *options],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=stderr,
        process_group=0,
    ) as process:
        try:
            eventually(lambda: answers(folder), 30)
            yield process
            workers = children_of(process.pid)
            process.terminate()
            assert process.wait(15) == 0
            wait_gone(workers)
        finally:
            process.kill()


def say(folder: Path, line: bytes) -> bytes:
    """The line that is answered, on a new connection."""
    with Peer(f"unix:{folder / 's'}") as peer:
        peer.send(line + b"\n")
        return peer.line()


def answers(folder: Path) -> bool:
    """Somebody answers there."""
    with suppress(OSError, AssertionError):
        return bool(say(folder, b"who"))
    return False
