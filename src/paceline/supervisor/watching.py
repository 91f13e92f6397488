"""Watching the user's files (`--dev`): a process of its own, because the library that does it starts threads.

The supervisor must have one thread when it forks.  So `python -m paceline.supervisor.watching FOLDER…` watches, and
writes one line for each batch of changes: the files' names, with tabs between them.  It is killed at our end, whichever
that is: by us, or by the kernel (PR_SET_PDEATHSIG, prctl(2)).

`Watching` is the supervisor's side of that: a descriptor to wait for, and what changed.  `Edits` is what its loop has
of it.  Neither waits.
"""

import contextlib
import os
import select
import signal
import sys
from collections.abc import Iterator, Sequence

from paceline.errors import HostError
from paceline.host import processes
from paceline.supervisor.seats import Hear, Sources
from paceline.supervisor.system import Says

SETTLE_MS = 200
"""Changes so close together are one: an editor writes a file in several steps, a checkout writes many files."""
SHOWN = 3
"""So many changed files are named in the log."""
SUFFIXES = (".py", ".toml")
_LINE_BYTES = 64 * 1024


class Watching:
    """The process that watches these folders.  Raises HostError when it cannot be started."""

    def __init__(self, folders: Sequence[str]) -> None:
        import subprocess

        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", __name__, str(os.getpid()), *folders],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
            )
        except OSError as error:
            raise HostError(f"no process can be made to watch the files: {error.strerror}; leave --dev out") from error
        assert self._process.stdout is not None
        self.fd = self._process.stdout.fileno()
        self.pid = self._process.pid
        os.set_blocking(self.fd, False)
        self._rest = b""
        self.has_ended = False

    def take(self) -> list[str]:
        """The files that changed since the last time, each once; sets `has_ended` when nobody watches any more."""
        changed: dict[str, None] = {}
        with contextlib.suppress(BlockingIOError):
            while True:
                piece = os.read(self.fd, _LINE_BYTES)
                if not piece:
                    self.has_ended = True
                    break
                *lines, self._rest = (self._rest + piece).split(b"\n")
                for line in lines:
                    changed |= dict.fromkeys(os.fsdecode(line).split("\t"))
        return list(changed)

    def fds(self) -> list[int]:
        """Its pipe."""
        return [self.fd]

    def close(self) -> None:
        """End it, and wait for that."""
        if self._process.stdout is not None:
            with contextlib.suppress(OSError):
                self._process.stdout.close()
        self._process.kill()
        self._process.wait()


class Edits:
    """What the loop has of `Watching`: nothing where no folders are watched."""

    def __init__(self, folders: Sequence[str], log: Says) -> None:
        self._folders = folders
        self._log = log
        self._watching = Watching(folders) if folders else None

    def begin(self) -> None:
        """Watch again, after `close`; if no process can be made for it, the log says that nobody watches."""
        if self._folders and self._watching is None:
            try:
                self._watching = Watching(self._folders)
            except HostError:
                self._log.say("not-watched")

    def fds(self) -> list[int]:
        """What no worker may keep."""
        return self._watching.fds() if self._watching is not None else []

    def sources(self, hear: Hear) -> Sources:
        """What is to be waited for, and who is to be called then."""
        return {self._watching.fd: (select.POLLIN, hear, None)} if self._watching is not None else {}

    def hear(self) -> bool:
        """Files have changed: the log says which."""
        assert self._watching is not None
        changed = self._watching.take()
        if changed:
            more = f" and {len(changed) - SHOWN} more" if len(changed) > SHOWN else ""
            self._log.say("changed", files=f"{', '.join(changed[:SHOWN])}{more}")
        if self._watching.has_ended:
            self.close()
            self._log.say("not-watched")
        return bool(changed)

    def close(self) -> None:
        watching, self._watching = self._watching, None
        if watching is not None:
            watching.close()


def watch(folders: Sequence[str]) -> Iterator[list[str]]:
    """The names of what changed, batch by batch.  Raises ImportError where watchfiles is not installed."""
    from watchfiles import Change, DefaultFilter
    from watchfiles import watch as changes_in

    class OnlySources(DefaultFilter):
        """What a worker imports, and where settings are."""

        def __call__(self, change: Change, path: str) -> bool:
            return path.endswith(SUFFIXES) and super().__call__(change, path)

    for changes in changes_in(*folders, watch_filter=OnlySources(), debounce=SETTLE_MS, step=SETTLE_MS // 4):
        yield sorted({os.path.relpath(path, folders[0]) for _, path in changes})


def main(supervisor_pid: int, folders: Sequence[str]) -> None:
    """Be that process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the supervisor ends us
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    if not processes.die_with_parent(supervisor_pid, signal.SIGKILL):
        return
    for names in watch(folders):
        os.write(1, os.fsencode("\t".join(names)) + b"\n")


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
