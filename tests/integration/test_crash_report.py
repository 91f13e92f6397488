"""What the log says when a worker ends: of what, what its threads were doing, where each of them was.

The cause is the kernel's word for it, never a guess.  A crash also shows the stacks of its threads, the one that
crashed first; a process that is killed, or that exits, has no chance to.
"""

import re
import signal
import sys
from pathlib import Path

import pytest

from paceline.clock import now
from testbed import Server, running

LINES = ("--framing", "line", "--workers", "1", "--threads", "8")

COUNTS_C_FRAMES = pytest.mark.skipif(sys.version_info >= (3, 12), reason="this Python counts C frames, and raises")

APP = {
    "app.py": '''
    import ctypes
    import os
    import sys
    import threading

    gate = threading.Event()

    def answer(line):
        match line:
            case b"segv":
                ctypes.string_at(0)
            case b"abort":
                os.abort()
            case b"exit":
                os._exit(7)
            case b"leave":
                sys.exit(5)
            case b"wait":
                print("a call waits")
                gate.wait()
            case b"kill":
                os.kill(os.getpid(), 9)
            case b"deep":
                overflow()
            case b"crowd":
                crowd(150)
        return line

    def overflow():
        """C code that recurses until the stack of this thread is used up."""
        nested = {}
        for _ in range(1_000_000):
            nested = {1: nested}
        sys.setrecursionlimit(100_000_000)
        repr(nested)

    def crowd(many):
        for _ in range(many):
            threading.Thread(target=gate.wait, daemon=True).start()
    '''
}


def ending(server: Server, command: bytes) -> tuple[str, str]:
    """Let a handler do it; the line that the supervisor says of it, and the detail below."""
    since = server.log_length()
    with server.connect() as peer:
        peer.send(command + b"\n")
        assert peer.ended()
    said = server.wait_for_log(re.compile(" error supervisor: worker 0 "), since=since)
    with server.connect() as peer:  # by now the detail is in the log, too
        peer.send(b"x\n")
        assert peer.line() == b"x\n"
    lines = server.log.split("\n")
    detail = []
    for line in lines[lines.index(said) + 1 :]:
        if line and not line.startswith("    "):
            break
        detail.append(line.removeprefix("    "))
    return said, "\n".join(detail).strip("\n")


@pytest.mark.parametrize(
    ("command", "cause", "title"),
    [
        (b"segv", "was killed by SIGSEGV", "Segmentation fault"),
        (b"abort", "was killed by SIGABRT", "Aborted"),
        pytest.param(b"deep", "was killed by SIGSEGV", "Segmentation fault", marks=COUNTS_C_FRAMES),
    ],
)
def test_a_crash(command: bytes, cause: str, title: str) -> None:
    with running("app.py:answer", *LINES, files=APP) as server:
        with server.connect() as blocked:
            blocked.send(b"wait\n")
            server.wait_for_log("a call waits")
            said, detail = ending(server, command)
            assert blocked.ended()
        assert f"{cause} after " in said
        assert re.search(r" while (2 threads were in calls|1 thread was in a call, 1 was serving)", said)
        assert said.endswith("; replaced at once")
        first, current, *others = detail.split("\n\n")
        assert first.endswith(f"Fatal Python error: {title}")
        assert current.startswith("Current thread 0x")
        assert current.endswith(" in answer"), "the stack ends at the user's first line"
        assert "app.py" in current
        waiting = [other for other in others if other.endswith(" in answer")]
        assert len(waiting) == 1, "the call that waited, which the crash took with it"


@pytest.mark.parametrize(
    ("command", "cause"), [(b"exit", "exited with code 7"), (b"kill", f"was killed by {signal.SIGKILL.name}")]
)
def test_an_end_without_a_report(command: bytes, cause: str) -> None:
    with running("app.py:answer", *LINES, files=APP) as server:
        said, detail = ending(server, command)
        assert f"{cause} after " in said
        assert re.search(r" while 1 thread was (in a call|serving)", said)
        assert not detail


def test_an_exit_of_a_handler_is_no_end_of_its_worker() -> None:
    with running("app.py:answer", *LINES, files=APP) as server:
        workers = server.pids()
        with server.connect() as peer:
            peer.send(b"leave\n")
            assert peer.ended()
        assert server.wait_for_log("the handler raised SystemExit: 5")
        assert server.pids() == workers


def test_of_more_than_a_hundred_threads_the_one_that_crashed_is_shown() -> None:
    with running("app.py:answer", *LINES, files=APP) as server:
        with server.connect() as peer:
            peer.send(b"crowd\n")
            assert peer.line() == b"crowd\n"
            ticks_until_seen(server)
        _, detail = ending(server, b"segv")
        title, crashed, why = detail.split("\n\n")
        assert title == "Fatal Python error: Segmentation fault"
        assert crashed.endswith(" in answer")
        assert why.startswith("only the thread that crashed is shown, because there were too many")


def ticks_until_seen(server: Server) -> None:
    """Wait until the watcher of the worker has looked at how many threads there are: it does once a second."""
    (worker,) = server.pids()
    with Path(f"/proc/{worker}/status").open() as status:
        assert int(next(line for line in status if line.startswith("Threads:")).split()[1]) > 100
    until = now() + 1.2
    with server.connect() as peer:
        while now() < until:
            peer.send(b"x\n")
            assert peer.line() == b"x\n"
