"""Processes, with real ones: each child ends by itself or is killed here, and is reaped here."""

import os
import select
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from paceline.host import processes
from paceline.host.processes import UNKNOWN, cause_of

DEADLINE_MS = 10_000

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
"""The test runner has a thread for its time limit; the supervisor has none."""


@contextmanager
def child(life: Callable[[socket.socket], object]) -> Iterator[tuple[int, socket.socket]]:
    """(pid, our end of a channel) of a process that runs `life` with the other end; the result is its exit code."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        ours.settimeout(DEADLINE_MS / 1000)
        pid = processes.fork()
        if pid == 0:
            code = 99
            try:
                ours.close()
                code = int(life(theirs) or 0)  # type: ignore[call-overload]
            finally:
                os._exit(code)
        theirs.close()
        try:
            yield pid, ours
        finally:
            try:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
            except (ProcessLookupError, ChildProcessError):
                pass


def wait_ended(pid: int) -> None:
    """Until it has ended, without reaping it."""
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


def wait_told_to_end(channel: socket.socket) -> int:
    """The life of a child that waits for end-of-file."""
    channel.send(b"here")
    return len(channel.recv(1))


def test_a_pidfd_becomes_readable_when_its_process_ends() -> None:
    with child(wait_told_to_end) as (pid, channel):
        pidfd = processes.open_pidfd(pid)
        try:
            assert not os.get_inheritable(pidfd)
            poll = select.poll()
            poll.register(pidfd, select.POLLIN)
            assert channel.recv(10) == b"here"
            assert poll.poll(0) == []
            assert processes.reap(pid) is None, "it still runs"
            channel.shutdown(socket.SHUT_WR)
            assert poll.poll(DEADLINE_MS)
            assert processes.reap(pid) == 0
            assert not processes.send_signal(pidfd, signal.SIGTERM), "it is gone, and nobody else was hit"
        finally:
            os.close(pidfd)


def test_a_signal_reaches_the_process() -> None:
    with child(wait_told_to_end) as (pid, channel):
        pidfd = processes.open_pidfd(pid)
        try:
            assert channel.recv(10) == b"here"
            assert processes.send_signal(pidfd, signal.SIGKILL)
            assert cause_of(processes.reap_soon(pid)) == "was killed by SIGKILL"
        finally:
            os.close(pidfd)


def test_what_somebody_else_reaped_is_said_to_be_unknown() -> None:
    with child(lambda channel: 3) as (pid, _):
        os.waitpid(pid, 0)
        assert processes.reap(pid) == UNKNOWN
        assert processes.reap_soon(pid) == UNKNOWN


def test_an_ended_child_is_found_and_not_reaped() -> None:
    with child(lambda channel: 7) as (pid, _):
        wait_ended(pid)
        assert processes.find_ended() == pid
        assert processes.find_ended() == pid
        status = processes.reap(pid)
        assert status is not None
        assert cause_of(status) == "exited with code 7"


def test_running_children_are_not_found() -> None:
    with child(wait_told_to_end) as (_, channel):
        assert channel.recv(10) == b"here"
        assert processes.find_ended() is None


def test_no_children_at_all() -> None:
    assert processes.find_ended() is None


@pytest.mark.parametrize(
    ("life", "words"),
    [
        (lambda channel: 0, "exited with code 0"),
        (lambda channel: 3, "exited with code 3"),
        (lambda channel: os.kill(os.getpid(), signal.SIGTERM), "was killed by SIGTERM"),
        (lambda channel: os.kill(os.getpid(), signal.SIGRTMIN + 2), "was killed by SIGRTMIN+2"),
    ],
)
def test_the_cause_in_words(life: Callable[[socket.socket], object], words: str) -> None:
    with child(life) as (pid, _):
        assert cause_of(processes.reap_soon(pid)) == words


def test_a_core_dump_and_an_unknown_end_in_words() -> None:
    assert cause_of(signal.SIGSEGV | 0x80) == "was killed by SIGSEGV (core dumped)"
    assert cause_of(UNKNOWN) == "ended, and somebody else was told how"


def test_the_cause_of_what_subprocess_says() -> None:
    assert processes.cause_of_code(3) == "exited with code 3"
    assert processes.cause_of_code(0) == "exited with code 0"
    assert processes.cause_of_code(-signal.SIGKILL) == "was killed by SIGKILL"


def test_the_kernel_ends_a_child_whose_parent_ends() -> None:
    def parent(channel: socket.socket) -> int:
        middle = os.getpid()
        if processes.fork() == 0:
            assert processes.die_with_parent(middle, signal.SIGKILL)
            channel.send(str(os.getpid()).encode())
            signal.pause()
        signal.pause()
        return 0

    with child(parent) as (pid, channel):
        grandchild = processes.open_pidfd(int(channel.recv(20)))
        try:
            os.kill(pid, signal.SIGKILL)
            assert select.select([grandchild], [], [], DEADLINE_MS / 1000)[0]
        finally:
            os.close(grandchild)
        assert channel.recv(1) == b"", "nobody holds the channel any more"


def test_a_child_that_was_orphaned_before_it_asked_is_told_so() -> None:
    def orphan(channel: socket.socket) -> int:
        channel.send(str(processes.die_with_parent(os.getppid() + 1, signal.SIGKILL)).encode())
        return 0

    with child(orphan) as (_, channel):
        assert channel.recv(10) == b"False"


def oom_score() -> int:
    with open("/proc/self/oom_score_adj") as file:
        return int(file.read())


def test_a_volunteer_is_killed_first() -> None:
    def volunteer(channel: socket.socket) -> int:
        before = oom_score()
        processes.volunteer_for_oom(10)
        return min(1000, before + 10) == oom_score()

    with child(volunteer) as (pid, _):
        assert cause_of(processes.reap_soon(pid)) == "exited with code 1"


def test_start_ticks_name_a_process_whatever_it_is_called() -> None:
    mine = processes.start_ticks(os.getpid())
    assert 0 < mine == processes.start_ticks(os.getpid())

    def renamed(channel: socket.socket) -> int:
        with open("/proc/self/comm", "w") as name:
            name.write("a) b ( 9 9")
        channel.send(str(processes.start_ticks(os.getpid())).encode())
        return 0

    with child(renamed) as (_, channel):
        assert int(channel.recv(30)) >= mine


def test_start_ticks_of_nobody() -> None:
    with child(lambda channel: 0) as (pid, _):
        processes.reap_soon(pid)
        with pytest.raises(ProcessLookupError, match=f"no process {pid}"):
            processes.start_ticks(pid)
