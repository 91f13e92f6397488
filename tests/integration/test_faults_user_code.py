"""The user's code at its worst, on a real server: every exception, recursion, no memory, replies that nobody takes."""

import pytest

from testbed import running

LINES = ("--framing", "line", "--workers", "1", "--threads", "4")

RAISING = {
    "app.py": '''
    import threading

    KINDS = {kind.__name__: kind for kind in (ValueError, SystemExit, KeyboardInterrupt, GeneratorExit, StopIteration,
                                              MemoryError, RecursionError, BrokenPipeError, TimeoutError)}

    class Answer:
        """Raises what it is asked to, where it is asked to: `hook Kind`."""

        def connected(self, connection):
            connection.state = ""

        def disconnected(self, connection):
            if connection.state:
                raise KINDS[connection.state]

        def __call__(self, line, connection):
            where, _, kind = line.decode().partition(" ")
            match where:
                case "call":
                    raise KINDS[kind]
                case "pieces":
                    return self.pieces(KINDS[kind])
                case "disconnected":
                    connection.state = kind
                case "threads":
                    return b"%d" % sum(thread.name.startswith("paceline-") for thread in threading.enumerate())
            return b"done"

        def pieces(self, kind):
            yield b"first"
            raise kind("no")
    '''
}
KINDS = ("ValueError", "SystemExit", "KeyboardInterrupt", "GeneratorExit", "StopIteration", "MemoryError",
         "RecursionError", "BrokenPipeError", "TimeoutError")  # fmt: skip


def test_whatever_is_raised_wherever_costs_its_connection_and_no_thread() -> None:
    with running("app.py:Answer", *LINES, files=RAISING) as server:
        pids = server.pids()
        for _ in range(10):
            for kind in KINDS:
                for where in ("call", "pieces", "disconnected"):
                    with server.connect() as peer:
                        peer.send(f"{where} {kind}\n".encode())
                        if where != "call":
                            assert peer.line() == (b"first\n" if where == "pieces" else b"done\n")
                        if where != "disconnected":
                            assert peer.ended()
        with server.connect() as peer:
            peer.send(b"threads\n")
            assert 1 <= int(peer.line()) <= 4
        assert server.pids() == pids
    assert "a bug in Paceline" not in server.log


STARVED = {
    "app.py": """
    import os
    import resource

    class Answer:
        def start(self):
            with open("/proc/self/statm") as file:
                used = int(file.read().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (used + 300 * 1024**2, resource.RLIM_INFINITY))

        def __call__(self, line):
            match line:
                case b"much":
                    return bytes(1024**3)
                case b"deep":
                    return self(line)
            return b"%d" % os.getpid()
    """
}


@pytest.mark.parametrize(("command", "error"), [(b"much", "MemoryError"), (b"deep", "RecursionError")])
def test_memory_or_stack_that_is_used_up_costs_one_connection(command: bytes, error: str) -> None:
    with running("app.py:Answer", *LINES, files=STARVED) as server:
        (pid,) = server.pids()
        for _ in range(5):
            with server.connect() as peer, server.connect() as other:
                peer.send(command + b"\n")
                assert peer.ended()
                other.send(b"who\n")
                assert int(other.line()) == pid
        server.wait_for_log(f"the handler raised {error}")


COUNTING = {
    "app.py": '''
    import atexit
    import itertools

    opened, closed, greeted, left = (itertools.count() for _ in range(4))

    def so_far(counter):
        return next(counter)

    class Pieces:
        """A reply without end."""

        def __init__(self):
            next(opened)

        def __iter__(self):
            return self

        def __next__(self):
            return b"x" * 100_000

        def close(self):
            next(closed)

    class Answer:
        def connected(self, connection):
            next(greeted)

        def disconnected(self, connection):
            next(left)

        def stop(self):
            print("counts", *(so_far(each) for each in (opened, closed, greeted, left)))

        def __call__(self, line):
            return Pieces() if line == b"pieces" else line

    atexit.register(print, "at exit")
    '''
}


def test_what_was_opened_is_closed_exactly_once_however_it_ends() -> None:
    """By a peer that resets or leaves, in the middle of a reply, and by the end of the server."""
    many = 200
    with running("app.py:Answer", *LINES, files=COUNTING) as server:
        for number in range(many):
            with server.connect() as peer:
                peer.send(b"pieces\n")
                assert peer.receive(1)
                if number % 2:
                    peer.reset()
        idle = server.connect()
        idle.send(b"x\n")
        assert idle.line() == b"x\n"
        assert server.stop() == 0
    counts = next(line for line in server.log.splitlines() if line.startswith("counts "))
    opened, closed, greeted, left = map(int, counts.split()[1:])
    assert opened == closed == many
    assert greeted == left == many + 1
    assert server.log.count("at exit") == 1
