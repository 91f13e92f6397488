"""Hostile clients and exhausted resources: each figure of docs/reliability.md in its short form.

As test_figures.py.  The long form is the same command with more attackers, and for longer.  What is asserted here are
counts; a time only breaks a promise at ten times the figure (src/paceline/chaos/figures.py).
"""

import shutil
import subprocess

import pytest

from faultbed import suffer
from paceline.chaos.figures import Figure
from paceline.chaos.result import Result

pytestmark = [pytest.mark.usefixtures("nothing_left"), pytest.mark.timeout(240)]


def figure(result: Result, fault: str, what: str) -> Figure:
    (found,) = [each for each in result.books.figures if (each.fault, each.what) == (fault, what)]
    return found


def nobody_noticed(result: Result) -> None:
    assert (result.lost, sum(result.books.cut_by.values())) == (0, 0)


def test_peers_that_are_slow_silent_or_do_not_go() -> None:
    """Each is ended at its time limit; none of them holds a thread."""
    result = suffer("drip mute linger", 3, attackers=300, deadline_s=1.5)
    nobody_noticed(result)
    for fault in ("drip", "mute", "linger"):
        assert figure(result, fault, "not ended").value == 0


def test_peers_that_do_not_read() -> None:
    """They cost what one piece of their reply is, and what they have sent."""
    result = suffer("unread pile", 2, attackers=100, deadline_s=1.5)
    nobody_noticed(result)
    for fault, most_kib in (("unread", 64), ("pile", 256)):
        assert figure(result, fault, "memory of each").value < most_kib


def test_quiet_connections() -> None:
    """Twenty thousand of them: each costs less than a kilobyte."""
    result = suffer("quiet", 1, attackers=20_000, hold_s=1.0)
    nobody_noticed(result)
    assert figure(result, "quiet", "disconnected").value == 0
    assert figure(result, "quiet", "not connected").value == 0
    assert figure(result, "quiet", "memory of each").value <= 0.75


def test_peers_that_break_off() -> None:
    """Nothing is said of them, and nothing is left of them."""
    nobody_noticed(suffer("churn tear", 2, attackers=3_000))


def test_a_flood_from_one_address() -> None:
    result = suffer("flood", 1, attackers=2_000, hold_s=2.0)
    nobody_noticed(result)
    assert figure(result, "flood", "of them refused").value > 0


def test_replies_that_come_before_all_was_sent_and_processes_that_keep_a_socket() -> None:
    nobody_noticed(suffer("early offspring", 2, attackers=40))


@pytest.mark.skipif(shutil.which("ss") is None, reason="there is no ss(8) to kill connections with")
def test_connections_that_the_kernel_kills() -> None:
    tried = subprocess.run(("ss", "-K", "dst", "127.255.255.254"), capture_output=True, check=False)
    if tried.returncode or b"not" in tried.stderr:
        pytest.skip("this machine does not let us kill sockets (CAP_NET_ADMIN, CONFIG_INET_DIAG_DESTROY)")
    nobody_noticed(suffer("sever", 1))


def test_workers_without_descriptors() -> None:
    """Who is there is served, and who comes is as soon as there are some again."""
    nobody_noticed(suffer("exhausted", 1))


@pytest.mark.skipif(shutil.which("strace") is None, reason="there is no strace(1) to make system calls fail with")
def test_system_calls_that_fail_now_and_then() -> None:
    """No byte is wrong, and nobody waits for ever."""
    result = suffer("errors", 1)
    nobody_noticed(result)
    assert figure(result, "errors", "answered").value > 100
