"""Witnesses of a crash: threads of one process, or processes, that answer whatever comes, each on a line of its own."""

import socket
from collections.abc import Iterable, Sequence

from paceline.lab.peers import crash


def bear_witness(line: socket.socket) -> None:
    """Answer whatever comes, until it is `crash`."""
    while message := line.recv(100):
        if message == b"crash":
            crash()
        line.sendall(message)


def as_threads(lines: Sequence[socket.socket], pids: list[int]) -> None:
    """One process, in it a thread for each line."""
    import os
    import signal
    import threading

    from paceline.host.processes import die_with_parent

    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        try:
            die_with_parent(parent, signal.SIGKILL)
            crew = [threading.Thread(target=bear_witness, args=(line,)) for line in lines]
            for thread in crew:
                thread.start()
            for thread in crew:
                thread.join()
        finally:
            os._exit(0)
    pids.append(pid)


def as_processes(lines: Sequence[socket.socket], pids: list[int]) -> None:
    """A process for each line."""
    import os
    import signal

    from paceline.host.processes import die_with_parent

    parent = os.getpid()
    for line in lines:
        pid = os.fork()
        if pid == 0:
            try:
                die_with_parent(parent, signal.SIGKILL)
                for other in lines:
                    if other is not line:
                        other.close()
                bear_witness(line)
            finally:
                os._exit(0)
        pids.append(pid)


def answers(lines: Iterable[socket.socket]) -> int:
    """How many answer; who does not has hung up, or says nothing for long."""
    count = 0
    for line in lines:
        try:
            line.sendall(b"are you there?")
            count += bool(line.recv(100))
        except OSError:
            pass
    return count


def wait_for_the_end(line: socket.socket) -> None:
    """Raises TimeoutError when it does not come."""
    from contextlib import suppress

    with suppress(ConnectionError):
        while line.recv(100):
            pass
