"""The machine refuses: descriptors, memory, processes, threads, a place to write to; or the user's code rearranges it.

A system call is made to fail, in the running process, by strace(1) or by its resource limit; afterwards it works again,
and so must the server, by itself.
"""

import os
import resource
import select
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from calm import cpu_share, descriptors_of
from leftovers import children_of, eventually, wait_gone
from logbed import CLOSED, answers, logging_to
from paceline.clock import now
from peer import Peer
from testbed import Server, running

APP = {
    "app.py": """
    import os
    import signal
    import socket
    import sys
    import time

    def answer(line):
        match line.split():
            case [b"wait", gate]:
                print(f"waits at {gate.decode()}")
                with open(gate) as opened:
                    opened.read()
            case [b"print", count]:
                for _ in range(int(count)):
                    print("x" * 99)
                raise ValueError("so that something is logged")
        return b"%d" % os.getpid()
    """
}
LINES = ("--framing", "line")


def ask(peer: Peer, line: bytes = b"who") -> int:
    """The process that answered."""
    peer.send(line + b"\n")
    return int(peer.line())


def ask_anew(server: Server, line: bytes = b"who") -> int:
    """The same on a new connection."""
    with Peer(server.places[0]) as peer:
        return ask(peer, line)


def is_quiet(peer: Peer) -> bool:
    """Nothing has come for it."""
    return not select.select([peer.socket], [], [], 0)[0]


@contextmanager
def limited(pid: int, descriptors: int) -> Iterator[None]:
    """The process may have so many descriptors open meanwhile."""
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (descriptors, before[1]))
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            resource.prlimit(pid, resource.RLIMIT_NOFILE, before)


@contextmanager
def injected(pid: int, what: str, trace: str) -> Iterator[None]:
    """These system calls of the process, in all its threads, fail meanwhile (strace(1), --inject)."""
    if shutil.which("strace") is None:
        pytest.skip("there is no strace(1) to make system calls fail with")
    words = ["strace", "-f", "-p", str(pid), "-o", os.devnull, "-e", f"trace={trace}", "-e", f"inject={trace}:{what}"]
    threads = len(os.listdir(f"/proc/{pid}/task"))
    with subprocess.Popen(words, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as strace:
        assert strace.stderr is not None
        try:
            line = strace.stderr.readline()
            if "ptrace" in line and "not permitted" in line:
                pytest.skip("this machine does not let us trace a process (CAP_SYS_PTRACE)")
            assert "attached" in line, line
            assert threads
            yield
        finally:
            strace.terminate()


# Accepting


def test_no_descriptors_are_left() -> None:
    """What is open is served, nothing spins, one line a second says so, and then accepting goes on by itself."""
    with running("app.py:answer", *LINES, "--workers", "1", files=APP) as server, server.connect() as old:
        pid = ask(old)
        before = descriptors_of(pid)
        begun = now()
        with limited(pid, 1 + max(int(name) for name in os.listdir(f"/proc/{pid}/fd"))):
            fresh = [server.connect() for _ in range(50)]
            for peer in fresh:
                peer.send(b"who\n")
            server.wait_for_log("no descriptors left for new connections (Too many open files)")
            assert cpu_share([pid], 1.5) < 0.5
            assert ask(old) == pid
            lines = server.log.count("no descriptors left")
        took_s = now() - begun
        assert all(int(peer.line()) == pid for peer in fresh)
        print(f"resumed after {now() - begun - took_s:.3f} s; {lines} lines in {took_s:.2f} s")
        assert lines <= took_s + 2
        for peer in fresh:
            peer.close()
        eventually(lambda: descriptors_of(pid) == before)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        ("ENFILE", "no descriptors left for new connections (Too many open files in system)"),
        ("ENOBUFS", "no descriptors left for new connections (No buffer space available)"),
        ("ENOMEM", "no descriptors left for new connections (Cannot allocate memory)"),
        ("EINVAL", "accepting failed: Invalid argument"),
    ],
)
def test_accept_fails(error: str, said: str) -> None:
    with running("app.py:answer", *LINES, "--workers", "1", files=APP) as server, server.connect() as old:
        pid = ask(old)
        with injected(pid, f"error={error}", "accept4"), server.connect() as fresh:
            fresh.send(b"who\n")
            server.wait_for_log(said)
            assert cpu_share([pid], 0.5) < 0.5
            assert ask(old) == pid
            assert is_quiet(fresh)
        assert ask_anew(server) == pid


@pytest.mark.parametrize("error", ["ECONNABORTED", "EPERM", "EPROTO", "ENETDOWN", "EINTR"])
def test_accept_says_that_the_peer_is_gone(error: str) -> None:
    """Again and again; that is nothing to talk about, and the next one is served."""
    with running("app.py:answer", *LINES, "--workers", "1", files=APP) as server, server.connect() as old:
        pid = ask(old)
        with injected(pid, f"error={error}:when=1+2", "accept4"):
            for _ in range(10):
                assert ask_anew(server) == pid
        assert ask(old) == pid
    assert server.warnings == []
    assert " error " not in server.log


# Processes and threads


def test_no_process_can_be_made() -> None:
    """The supervisor lives, says so, and is at full strength as soon as it is allowed to."""
    with running("app.py:answer", *LINES, "--workers", "2", files=APP) as server:
        victim, survivor = server.pids()
        with injected(server.pid, "error=EAGAIN", "clone,clone3,fork,vfork"):
            os.kill(victim, signal.SIGKILL)
            server.wait_for_log("no process could be made for worker", 10)
            for _ in range(20):
                assert ask_anew(server) == survivor
            assert cpu_share([server.pid], 0.5) < 0.5
        eventually(lambda: len(server.pids()) == 2)
        eventually(lambda: ask_anew(server) != survivor or len(server.pids()) == 2)


def test_the_supervisor_has_no_descriptors_left() -> None:
    """Then no worker can be made either."""
    with running("app.py:answer", *LINES, "--workers", "2", files=APP) as server:
        victim, survivor = server.pids()
        before = descriptors_of(server.pid)
        with limited(server.pid, 40):  # more than it waits for, fewer than it has
            os.kill(victim, signal.SIGKILL)
            server.wait_for_log("no process could be made for worker", 10)
            for _ in range(20):
                assert ask_anew(server) == survivor
            assert cpu_share([server.pid], 0.5) < 0.5
        eventually(lambda: len(server.pids()) == 2)
        eventually(lambda: descriptors_of(server.pid) == before)


def test_no_thread_can_be_made() -> None:
    """The worker goes on with those it has, and makes more as soon as it is allowed to."""
    with (
        running("app.py:answer", *LINES, "--workers", "1", files=APP) as server,
        gates(server, "first", "second") as open_gate,
        server.connect() as blocked,
        server.connect() as other,
    ):
        pid = ask(other)
        with injected(pid, "error=EAGAIN", "clone,clone3"):
            blocked.send(b"wait first\n")
            server.wait_for_log("waits at first")
            other.send(b"who\n")
            server.wait_for_log("no further thread could be made")
            assert cpu_share([pid], 2.5) < 0.5  # the watcher has looked at everything meanwhile
            assert is_quiet(other)
            open_gate("first")
            assert int(blocked.line()) == int(other.line()) == pid
        blocked.send(b"wait second\n")
        server.wait_for_log("waits at second")
        assert ask(other) == pid


@contextmanager
def gates(server: Server, *names: str) -> Iterator[Callable[[str], None]]:
    """Where `wait NAME` waits until `open_gate(NAME)`, or the end of the `with`."""
    held: dict[str, int] = {}

    def open_gate(name: str) -> None:
        door = server.folder / "door"
        door.touch()
        door.rename(server.folder / name)  # who comes from now on reads an empty file
        os.close(held.pop(name))  # who is there reads end-of-file

    for name in names:
        os.mkfifo(server.folder / name)
        held[name] = os.open(server.folder / name, os.O_RDWR | os.O_CLOEXEC)  # who opens it to read waits
    try:
        yield open_gate
    finally:
        for name in list(held):
            open_gate(name)


# Standard error


@pytest.mark.parametrize("kind", ["closed", "full", "pipe", "broken"])
def test_a_log_that_nobody_takes(kind: str, tmp_path: Path) -> None:
    reader, writer = os.pipe()
    full = os.open("/dev/full", os.O_WRONLY)
    try:
        if kind == "broken":
            os.close(reader)
        stderr = {"closed": None, "full": full, "pipe": writer, "broken": writer}[kind]
        prefix = CLOSED if stderr is None else ()
        with logging_to(stderr, tmp_path, APP["app.py"], "--workers", "1", prefix=prefix) as process:
            slowest = 0.0
            with Peer(f"unix:{tmp_path / 's'}") as peer:
                for _ in range(50):
                    begun = now()
                    with Peer(f"unix:{tmp_path / 's'}") as noisy:
                        noisy.send(b"print 50\n")
                        assert noisy.ended()
                    ask(peer)
                    slowest = max(slowest, now() - begun)
            print(f"slowest {slowest:.3f} s")
            os.kill(children_of(process.pid)[0], signal.SIGKILL)
            eventually(lambda: answers(tmp_path))
    finally:
        os.close(full)
        os.close(writer)
        if kind != "broken":
            os.close(reader)


# Clocks


def test_the_wall_clock_is_set(tmp_path: Path) -> None:
    """By an hour, by years, forth and back: nobody is disconnected, no worker is replaced."""
    library = next(iter(sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))), None)
    if library is None:
        pytest.skip("there is no libfaketime to set the clock of one process with")
    stamp = tmp_path / "stamp"
    stamp.write_text("+0")
    env = {
        "LD_PRELOAD": str(library),
        "FAKETIME_TIMESTAMP_FILE": str(stamp),
        "DONT_FAKE_MONOTONIC": "1",
        "NO_FAKE_STAT": "1",
        "FAKETIME_NO_CACHE": "1",
    }
    options = ("--workers", "2", "--heartbeat", "3s", "--idle-timeout", "1m", "--message-timeout", "1m")
    with running("app.py:answer", *LINES, *options, files=APP, env=env) as server:
        workers = server.pids()
        quiet = [server.connect() for _ in range(10)]
        half = [server.connect() for _ in range(10)]
        for peer in half:
            peer.send(b"wh")
        with server.connect() as peer:
            for step in ("+3600", "-7200", "+315000000"):
                new = stamp.with_suffix(".new")
                new.write_text(step)
                new.rename(stamp)
                until = now() + 1.1  # everything has been looked at meanwhile
                while now() < until:
                    ask(peer)
        for each in quiet:
            assert ask(each) in workers
        for each in half:
            assert ask(each, b"o") in workers
        assert server.pids() == workers
    years = [int(line[:4]) for line in server.log.splitlines()]
    assert years[-1] - years[0] in (9, 10), "the server lived through it"
    assert server.warnings == []


# The user's code


REARRANGED = """
    import faulthandler
    import gc
    import locale
    import os
    import resource
    import signal
    import socket
    import sys
    import threading

    def rearrange():
        os.chdir("/")
        os.umask(0o777)
        socket.setdefaulttimeout(0.001)
        sys.setswitchinterval(0.5)
        sys.setrecursionlimit(300)
        gc.disable()
        gc.collect()
        faulthandler.disable()
        threading.excepthook = sys.excepthook = lambda *_: os._exit(9)
        sys.stdout = sys.stderr = None
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.environ.clear()

    def at_import():
        rearrange()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGPIPE, signal.SIGCHLD, signal.SIGHUP, signal.SIGALRM):
            signal.signal(number, signal.SIG_DFL)
        signal.set_wakeup_fd(-1)

    at_import()

    def answer(line):
        if line == b"again":
            rearrange()
            os.setsid()
        return b"%d" % os.getpid()
"""


def test_code_that_rearranges_its_process() -> None:
    with running("app.py:answer", *LINES, "--workers", "2", files={"app.py": REARRANGED}) as server:
        workers = server.pids()
        for _ in range(5):
            with server.connect() as peer, suppress(AssertionError, OSError):  # setsid works once only
                ask(peer, b"again")
        for _ in range(5):
            with server.connect() as peer:
                peer.send(b"who\n")
                peer.reset()  # its SIGPIPE would end the worker
        assert server.pids() == workers
        os.killpg(server.pid, signal.SIGHUP)
        os.kill(workers[0], signal.SIGINT)
        assert ask_anew(server) in workers
        os.kill(workers[0], signal.SIGKILL)
        wait_gone(workers[:1])
        eventually(lambda: len(server.pids()) == 2)
        assert ask_anew(server)
