"""As a container has it: process 1, a shell in between, limits of control groups.

PACELINE_LONG=1 makes it 10,000 orphans.
"""

import os
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from leftovers import children_of, eventually
from peer import Peer
from testbed import COMMAND, Server, running

LINES = ("--framing", "line")
IS_LONG = os.environ.get("PACELINE_LONG", "") not in ("", "0")
ORPHANS = 10_000 if IS_LONG else 256
APP = {
    "app.py": """
    import os

    def answer(line):
        match line.split():
            case [b"orphans", first, last]:
                for number in range(int(first), int(last)):
                    child = os.fork()
                    if not child:
                        if not os.fork():
                            os._exit(number % 256)
                        os._exit(0)
                    os.waitpid(child, 0)
            case [b"eat", mebibytes]:
                return b"%d" % len(b"x" * (int(mebibytes) << 20))
        return b"%d" % os.getpid()
    """
}
INIT = ("unshare", "-p", "-f", "--mount-proc", *COMMAND)

as_init = pytest.mark.skipif(
    shutil.which("unshare") is None or os.getuid() != 0, reason="only root, with unshare(1), may begin a namespace"
)


def ask(peer: Peer, line: bytes = b"who") -> bytes:
    peer.send(line + b"\n")
    return peer.line().strip()


def make_orphans(peer: Peer, count: int) -> None:
    """They exit with 0, 1, 2…; a few in each call, which is to be over in the time that a reply may take."""
    for first in range(0, count, 20):
        ask(peer, b"orphans %d %d" % (first, min(first + 20, count)))


def init_of(server: Server) -> int:
    """The supervisor's number out here: `unshare` is the process that was started."""
    (init,) = children_of(server.pid)
    return init


# Process 1


@as_init
@pytest.mark.timeout(600 if IS_LONG else 60)
def test_orphans_with_every_exit_code_are_reaped_and_mean_nothing() -> None:
    with running("app.py:answer", *LINES, "-w", "2", files=APP, command=INIT) as server:
        init = init_of(server)
        workers = children_of(init)
        assert len(workers) == 2
        with server.connect() as peer:
            before = ask(peer)
            make_orphans(peer, ORPHANS)
            eventually(lambda: children_of(init) == workers)
            assert ask(peer) == before
        os.kill(workers[0], signal.SIGKILL)
        server.wait_for_log("was killed by SIGKILL")
        eventually(lambda: len(children_of(init)) == 2)
        with server.connect() as peer:
            assert ask(peer)
        os.kill(init, signal.SIGTERM)
        assert server.wait() == 0
    assert server.log.count(" error ") == 1, "the worker that was killed"
    assert server.warnings == []
    assert server.log.count("left after") in (1, 2), "the workers, at the end, unless one was still starting"


@as_init
def test_a_reload_and_an_upgrade_as_process_1() -> None:
    with running("app.py:answer", *LINES, "-w", "1", files=APP, command=INIT) as server, server.connect() as peer:
        init = init_of(server)
        os.kill(init, signal.SIGHUP)
        server.wait_for_log("generation 2 serves")
        (server.folder / "app.py").write_text("raise ValueError('boom')\n")
        os.kill(init, signal.SIGUSR2)
        server.wait_for_log("no upgrade: the new version, when it was tried, exited with code 3", 30)
        (server.folder / "app.py").write_text("def answer(line):\n    return b'new'\n")
        os.kill(init, signal.SIGUSR2)
        server.wait_for_log("generation 3 serves", 30)
        eventually(lambda: ask(peer) == b"new")  # until it is handed over, the old worker answers
        assert init_of(server) == init
        eventually(lambda: len(children_of(init)) == 1)
        os.kill(init, signal.SIGTERM)
        assert server.wait() == 0


@as_init
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_process_1_hears_the_signals_of_docker_stop(number: signal.Signals) -> None:
    with running("app.py:answer", *LINES, "-w", "2", files=APP, command=INIT) as server:
        os.kill(init_of(server), number)
        assert server.wait() == 0


@as_init
def test_process_numbers_that_are_used_again_hit_nobody(tmp_path: Path) -> None:
    """In a namespace with few numbers, each is somebody else's after a moment; workers die all the while."""
    limit = "/proc/sys/kernel/pid_max"  # each process namespace has its own since Linux 6.14
    few = f"import os, sys\nopen({limit!r}, 'w').write('400')\nos.execv(sys.argv[1], sys.argv[1:])\n"
    outside = Path(limit).read_text()
    release = tuple(int(part) for part in os.uname().release.split("-")[0].split(".")[:2])
    if release < (6, 14):
        pytest.skip("kernel.pid_max belongs to the whole machine before Linux 6.14")
    command = ("unshare", "-p", "-f", "--mount-proc", sys.executable, "-c", few, *COMMAND)
    with running("app.py:answer", *LINES, "-w", "2", files=APP, command=command) as server:
        init = init_of(server)
        assert Path(limit).read_text() == outside
        for _ in range(3):
            with server.connect() as peer:
                make_orphans(peer, 120)
            eventually(lambda: len(children_of(init)) == 2)  # the last of the orphans may not be reaped yet
            victim = children_of(init)[0]
            os.kill(victim, signal.SIGKILL)
            eventually(lambda victim=victim: victim not in children_of(init) and len(children_of(init)) == 2)  # type: ignore[misc]
        os.kill(init, signal.SIGTERM)
        assert server.wait() == 0
    assert server.log.count("was killed by SIGKILL") == 3
    assert server.log.count(" error ") == 3, "nobody else was hit"


# A shell in between


@pytest.mark.parametrize("script", ['exec "$@"', '"$@"', 'echo starting; exec "$@"'])
def test_a_shell_that_executes_the_server_passes_the_signal_by_being_it(script: str) -> None:
    with running("app.py:answer", *LINES, "-w", "1", files=APP, command=("sh", "-c", script, "sh", *COMMAND)) as server:
        if "exec" not in script and not children_of(server.pid):
            pytest.fail("nobody runs")
        is_itself = Path(f"/proc/{server.pid}/comm").read_text().strip() != "sh"
        if not is_itself:  # this shell does not execute a last command in its place: the signal is for its child
            os.kill(children_of(server.pid)[0], signal.SIGTERM)
        else:
            server.send_signal(signal.SIGTERM)
        assert server.wait() == 0


# Control groups


@contextmanager
def memory_group(limit_bytes: int) -> Iterator[Path]:
    """A control group with so much memory; version 1 or 2, whichever this machine lets us make."""
    name = f"paceline-test-{os.getpid()}"
    for root, limit in (("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")):
        group = Path(root) / name
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            if (group / limit).exists():
                (group / limit).write_text(str(limit_bytes))
                yield group
                return
        finally:
            eventually(lambda group=group: not _members(group))  # type: ignore[misc]
            group.rmdir()
    pytest.skip("no control group with a memory limit can be made here")


def _members(group: Path) -> list[str]:
    with suppress(OSError):
        return (group / "cgroup.procs").read_text().split()
    return []


@pytest.mark.skipif(os.getuid() != 0, reason="only root may make control groups")
def test_out_of_memory_costs_a_worker_and_is_named() -> None:
    with memory_group(200 << 20) as group:
        enter = f"open('{group}/cgroup.procs', 'w').write('0'); import os, sys; os.execv(sys.argv[1], sys.argv[1:])"
        command = (sys.executable, "-c", enter, *COMMAND)
        with running("app.py:answer", *LINES, "-w", "1", files=APP, command=command) as server:
            for _ in range(2):
                since = server.log_length()
                with server.connect() as peer:
                    peer.send(b"eat 1000\n")
                    died = server.wait_for_log("was killed by SIGKILL", 30, since=since)
                assert "the kernel counts out-of-memory kills in this control group" in died
                with server.connect() as peer:
                    assert ask(peer)
