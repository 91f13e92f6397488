"""lab/witnesses.py: who lives answers; who has hung up, or says nothing, does not; nobody is left."""

import os
import signal
import socket
from collections.abc import Callable, Sequence

import pytest

from paceline.lab.witnesses import answers, as_processes, as_threads, wait_for_the_end

pytestmark = pytest.mark.usefixtures("nothing_left")


def test_who_has_hung_up_or_says_nothing_does_not_answer() -> None:
    gone, other = socket.socketpair()
    silent, listener = socket.socketpair()
    with gone, silent, listener:
        other.close()
        silent.settimeout(0.01)
        assert answers([gone, silent]) == 0


@pytest.mark.parametrize(("start", "left"), [(as_threads, 0), (as_processes, 1)])
def test_a_crash_ends_its_process(start: Callable[[Sequence[socket.socket], list[int]], None], left: int) -> None:
    pairs = [socket.socketpair() for _ in range(2)]
    pids: list[int] = []
    try:
        start([theirs for _, theirs in pairs], pids)
        for ours, theirs in pairs:
            ours.settimeout(30)
            theirs.close()
        assert answers([ours for ours, _ in pairs]) == 2
        pairs[0][0].sendall(b"crash")
        wait_for_the_end(pairs[0][0])
        assert answers([pairs[1][0]]) == left
    finally:
        for ours, _ in pairs:
            ours.close()
        for pid in pids:
            os.kill(pid, signal.SIGTERM)  # not reaped yet
        ends = [os.waitpid(pid, 0)[1] for pid in pids]
    assert [os.WTERMSIG(end) for end in ends] == [signal.SIGSEGV, *[signal.SIGTERM] * left]
    assert not any(map(os.WCOREDUMP, ends)), "no core dump is collected"
