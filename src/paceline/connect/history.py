"""What was typed, kept in a file: one line each, the newest last, for nobody else to read.

Under $XDG_STATE_HOME, or ~/.local/state (XDG Base Directory Specification 0.8).  Each line is appended when it is
typed, so that several sessions at a time lose nothing of each other; a file that has grown to twice the limit is cut
when it is read.  History is a convenience: what goes wrong with its file is told once, and never stops anything.
"""

import os
import stat
from collections.abc import Mapping

MOST_LINES = 1000
MOST_BYTES = 4096
"""Of one line: what is longer was pasted, and is not kept."""
NAME = "connect-history"


def place(environment: Mapping[str, str]) -> str:
    """The path of the file; empty when there is no home to put it in."""
    state = environment.get("XDG_STATE_HOME", "")
    if not os.path.isabs(state):  # which the specification wants to be ignored
        home = os.path.expanduser("~")
        if not os.path.isabs(home):
            return ""
        state = os.path.join(home, ".local", "state")
    return os.path.join(state, "paceline", NAME)


class History:
    """The lines of one file.  For one thread."""

    def __init__(self, path: str) -> None:
        self.trouble = ""
        """What keeps the lines from being remembered, for whoever may tell."""
        self._path = path
        self.lines = self._load() if path else []
        """Oldest first."""

    def add(self, line: str) -> None:
        """Remember a line; not one that repeats the last, is empty, begins with a space, or is very long."""
        encoded = line.encode("utf-8", "backslashreplace")
        if not line.strip() or line[0] == " " or "\n" in line or len(encoded) > MOST_BYTES or self.lines[-1:] == [line]:
            return
        self.lines.append(line)
        del self.lines[:-MOST_LINES]
        if self._path and not self.trouble:
            try:
                os.makedirs(os.path.dirname(self._path), mode=0o700, exist_ok=True)
                self._write(self._path, os.O_APPEND, encoded + b"\n")
            except OSError as error:
                self._complain(error)

    def _load(self) -> list[str]:
        try:
            with open(os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as file:
                status = os.fstat(file.fileno())
                if not stat.S_ISREG(status.st_mode):
                    self.trouble = f"{self._path} is no file; nothing typed is remembered there"
                    return []
                most = 2 * MOST_LINES * MOST_BYTES
                file.seek(max(0, status.st_size - most))
                found = file.read(most).decode("utf-8", "replace").split("\n")[:-1]
        except FileNotFoundError:
            return []
        except OSError as error:
            self._complain(error)
            return []
        kept = [line for line in found[-MOST_LINES:] if line.isprintable()]
        if len(found) > 2 * MOST_LINES or status.st_size > most:
            self._cut(kept)
        return kept

    def _cut(self, lines: list[str]) -> None:
        temporary = f"{self._path}.{os.getpid()}"
        try:
            self._write(temporary, os.O_TRUNC, "".join(f"{line}\n" for line in lines).encode())
            os.replace(temporary, self._path)
        except OSError as error:
            self._complain(error)

    def _write(self, path: str, how: int, content: bytes) -> None:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | how, 0o600)
        try:
            if stat.S_IMODE(os.fstat(fd).st_mode) & 0o077:
                os.fchmod(fd, 0o600)
            os.write(fd, content)  # in one piece, so that two sessions do not mix their lines
        finally:
            os.close(fd)

    def _complain(self, error: OSError) -> None:
        self.trouble = f"what is typed is not remembered in {self._path}: {error.strerror}"
