"""Standard output and standard error of the command line, before and after there is a server with a log."""

import contextlib
import errno
import os
import sys

from paceline.errors import HostError


class NobodyReadsError(Exception):
    """Standard output is a pipe whose reader is gone: the ordinary end of `paceline --help | head`."""


def show(text: str, encoding: str | None = None) -> None:
    """Write a result to standard output; in this encoding, whatever a terminal would have.

    Raises NobodyReadsError, or HostError when it cannot be written.
    """
    check_output()
    try:
        if encoding is not None and hasattr(sys.stdout, "reconfigure"):
            sys.stdout.reconfigure(encoding=encoding)
        try:
            sys.stdout.write(text)
        except UnicodeEncodeError:  # a terminal that cannot show × shall at least show the rest
            sys.stdout.write(text.encode(sys.stdout.encoding, "backslashreplace").decode(sys.stdout.encoding))
        sys.stdout.flush()
    except OSError as error:
        _drop_standard_output()
        if error.errno == errno.EPIPE:
            raise NobodyReadsError from None
        raise HostError(f"standard output cannot be written: {error.strerror}; give it another place to go") from None


def check_output() -> None:
    """Raises HostError when standard output was closed from the beginning: before a result that nobody would see."""
    if sys.stdout is None:  # so Python has it then
        raise HostError("standard output is closed; nothing can be shown: open it (>/dev/null, or a file)")


def _drop_standard_output() -> None:
    """What is still buffered would fail again, with a traceback, at the interpreter's exit."""
    with contextlib.suppress(OSError, ValueError):  # ValueError: not a real file, as under a test
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def complain(text: str) -> None:
    """Write one paragraph to standard error; if that cannot be written, nobody is left to be told."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        sys.stderr.write(f"paceline: {text}\n")
        sys.stderr.flush()


def open_missing_standard_descriptors() -> None:
    """Descriptors 0, 1, 2 that were closed become /dev/null, lest a client's socket be taken for standard error."""
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            nowhere = os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free, which is fd
            os.set_inheritable(nowhere, True)
