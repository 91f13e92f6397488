"""Programs: replace this process's by another, or start one beside it (execve(2)).  One verb per function, no policy.

For a process with one thread.
"""

import contextlib
import os
import signal
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NoReturn

from paceline.host import processes, signals


def execute(
    command: Sequence[str],
    environment: Mapping[str, str],
    folder: str,
    keep: Iterable[int],
    take_received: Callable[[], Iterable[int]],
) -> NoReturn:
    """This process goes on as `command`, in `folder`, with the descriptors `keep` besides the standard ones.

    **All signals are blocked from here on**, which the exec keeps, until the new program has handlers and unblocks
    them: the handlers of a program go with it, and a signal between the two would end the process.  What is sent
    meanwhile waits in the kernel; what had arrived, and nobody has looked at (`take_received`), is sent once more.

    Raises OSError when it cannot be; then everything is as it was, and those signals are delivered again.
    """
    kept, before = list(keep), os.getcwd()
    with signals.blocked():
        for number in take_received():
            os.kill(os.getpid(), number)
        try:
            for fd in kept:
                os.set_inheritable(fd, True)
            os.chdir(folder)
            os.execve(command[0], list(command), environment)
        finally:  # only after an error
            for fd in kept:
                with contextlib.suppress(OSError):
                    os.set_inheritable(fd, False)
            with contextlib.suppress(OSError):
                os.chdir(before)


def start(
    command: Sequence[str],
    environment: Mapping[str, str],
    folder: str,
    output_fd: int,
    keep: Iterable[int] = (),
    fork: Callable[[], int] = processes.fork,
) -> int:
    """A child that runs `command` in `folder`, in a process group of its own; returns its pid.  Raises OSError.

    It is killed when this process ends, whatever ends it.
    What it writes goes to `output_fd`, and so does the reason if it cannot be executed: then it exits with 127.
    """
    parent = os.getpid()
    with signals.blocked():
        pid = fork()
        if pid == 0:
            _become(parent, command, environment, folder, output_fd, keep)
    return pid


def _become(
    parent: int,
    command: Sequence[str],
    environment: Mapping[str, str],
    folder: str,
    output_fd: int,
    keep: Iterable[int],
) -> NoReturn:
    try:
        signals.install_wakeup_fd(-1)
        if not processes.die_with_parent(parent, signal.SIGKILL):  # which exec keeps (prctl(2))
            os._exit(127)
        os.setpgid(0, 0)
        nowhere = os.open(os.devnull, os.O_RDONLY)
        for fd, number in ((nowhere, 0), (output_fd, 1), (output_fd, 2)):
            os.dup2(fd, number)
        for fd in keep:
            os.set_inheritable(fd, True)
        os.chdir(folder)
        signals.reset(*(number for number in signal.valid_signals() if number not in (signal.SIGKILL, signal.SIGSTOP)))
        signals.unblock_all()
        os.execve(command[0], list(command), environment)
    except OSError as error:
        os.write(2, f"{command[0]}: {error.strerror}\n".encode())
    finally:
        os._exit(127)
