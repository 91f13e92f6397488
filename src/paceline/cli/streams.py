"""The descriptors that the command line was started with: the standard ones, and what nobody meant for us."""

import contextlib
import errno
import os
import re
import sys
from contextlib import closing

from paceline.addresses import parse_address
from paceline.errors import HostError
from paceline.host import activation, descriptors
from paceline.settings import Settings


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


def close_inherited(settings: Settings, file: str) -> None:
    """Close what was left open for us and nobody names: whoever takes over a handler could read or write there.

    Named are those of `--bind fd://N`, what LISTEN_FDS says, and the `file` of the settings, where it is /dev/fd/N.
    """
    named = {address.fd for address in map(parse_address, settings.bind) if address.kind == "fd"}
    if found := re.fullmatch("/(?:dev|proc/self)/fd/([0-9]{1,9})", file):
        named.add(int(found[1]))
    closed = descriptors.close_inherited(named | activation.numbers(os.environ, os.getpid()))
    if closed:
        from paceline.host.output import Log

        with closing(Log("paceline", settings.log_format)) as log:
            log.say("inherited-closed", fds=", ".join(map(str, closed)))
